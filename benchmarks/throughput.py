"""How fast byzbench is, beside what bounds it, in one run on one core: makes docs/speed.md.

    python benchmarks/throughput.py [--trajectories 8000] [--peers PYTHON] [--write]
    python benchmarks/throughput.py --tasks [TASK ...] [--backend envpool]     # only these rows; all if none is named

PYTHON is that of the peers' environment (benchmarks/peers.py says how it is made); those that it lacks are left out.

Tables: byzbench, its peers and a C program at the same work; the training loop of the paper's setting against the raw
cost of stepping the environment, of the policy's forward pass, and of both with the gradient, and the share of
exchange, aggregation and agreement; rounds by the numbers of agents and of parameters; exact minimum-diameter
averaging; start-up of the command line; every task of the catalogue, on each of its back ends. Ratios hold across
machines better than the figures themselves.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import aggregators
import gymnasium
import numpy as np
import peers
import scale
import torch

import byzbench
from byzbench import registry
from byzbench.core import Task
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training
from byzbench.federation.federation import SimulatedFederation
from byzbench.identity import ENGINE
from byzbench.randomness import Streams
from byzbench.rl.gradients import gpomdp
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import CategoricalPolicy
from byzbench.rl.rollouts import Trajectories, rollout
from byzbench.rl.simulations import Simulated
from byzbench.tasks.cartpole import CartPole

K, HORIZON = peers.AGENTS, peers.HORIZON
AGENTS, WIDTHS = (13, 50, 200), (16, 96, 312)
"""Of the table of growth; two hidden layers of a width have 386, 9,986 and 99,842 parameters."""

ATTACKS = ("avg_zero", "large_noise(relative=False)")
_PARTS = {"env": "stepping the environments", "policy": "the policy's forward pass", "all": "both, and the gradient"}
_TRAINING = """\
The raw limit is a loop that samples full-length episodes and takes one gradient of each, and does nothing else: large
and small batches in the method's proportion, with random numbers made beforehand. Small batches take a second
gradient, and early episodes are short, so the whole method stays below it. `large_noise` sends every receiver another
vector, so each has an aggregation of its own."""
_GROWTH = """\
DecByzPG, complete graph, avg_zero: the second round, in which each agent samples {episodes} episodes and takes their
gradient, and all aggregate and agree. Rounds per second of processor time; in brackets is the share of exchange,
aggregation and agreement. [The cost of a round](scale.md) of gossip is measured up to 10,000 agents."""
_TASKS = """\
*Sampling* counts steps of episodes alone, by the first policy. *Back end* and *policy* are each without the other,
with all rows busy: random actions, and new episodes where one ends (EnvPool's pool is made first, as it takes seeds
at no other time); noise, forward pass and choice. *Inside*: the part of the rows' steps that episodes fill, as
exactly N of them run until the longest has ended; cart poles and acrobots of our own take no other steps. Their
policy and simulator run together as machine code, and what stands beside them is NumPy's policy, and Gymnasium's
vector environment or our code that steps rows alone. *In turn*: what would be left of the smaller limit if both had
to be done, and nothing else."""


def median(work: Callable[[], Any], repeats: int = 5, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of a call, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return statistics.median(times)


def endless(agents: int, count: int) -> Any:
    """Cart poles that hang and are not pushed, so that no episode ends: every row costs the full horizon."""
    batch = CartPole().make(agents, count)
    batch.scale_dynamics({"gravity": np.full(agents, -0.1), "force_mag": np.zeros(agents)})
    batch.scale_dynamics = lambda factors: None  # type: ignore[method-assign]
    return batch


def raw(count: int) -> dict[str, float]:
    """Steps per second of each part alone, and of all parts, with K * count environments."""
    policy = CategoricalPolicy(FeedForward((4, 16, 16, 2)))
    theta = policy.initial(Streams(0).generator("init")).repeat(K, 1)
    environments = endless(K, count)
    generators = [Streams(0).generator("environment", 0, a) for a in range(K)]
    uniforms = torch.rand(K, HORIZON, count, generator=torch.Generator().manual_seed(0))
    sampler, actions = policy.sampler(theta, uniforms), np.zeros(K * count, np.int64)
    observations = np.zeros((K, count, 4), np.float32)
    counts = torch.full((K,), count)

    def step() -> None:
        environments.reset(generators)
        for _ in range(HORIZON):
            environments.step(actions)

    def forward() -> None:
        for t in range(HORIZON):
            sampler(t, observations)

    def whole() -> None:
        batch = rollout(policy, theta, environments, generators, uniforms, counts)
        gpomdp(policy, theta, batch, 0.999)

    steps = K * count * HORIZON
    return {name: steps / median(f, 3) for name, f in (("env", step), ("policy", forward), ("all", whole))}


class Stopwatch:
    """Seconds inside some methods of a class, of which one may call another."""

    def __init__(self, cls: type, *names: str) -> None:
        self.seconds, self._depth, self._start = 0.0, 0, 0.0
        self._cls, self._originals = cls, {name: getattr(cls, name) for name in names}

    def __enter__(self) -> Stopwatch:
        for name, method in self._originals.items():
            setattr(self._cls, name, self._timed(method))
        return self

    def __exit__(self, *_: object) -> None:
        for name, method in self._originals.items():
            setattr(self._cls, name, method)

    @contextmanager
    def _running(self) -> Iterator[None]:
        if self._depth == 0:
            self._start = time.perf_counter()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.perf_counter() - self._start

    def _timed(self, method: Any) -> Any:
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            with self._running():
                return await method(*args, **kwargs)

        def plain(*args: Any, **kwargs: Any) -> Any:
            with self._running():
                return method(*args, **kwargs)

        return waiting if inspect.iscoroutinefunction(method) else plain


def training(attack: str, trajectories: int) -> dict[str, float]:
    """The training loop of DecByzPG in the paper's setting: its speed, and the share of what agents do together."""
    with (
        tempfile.TemporaryDirectory() as out,
        Stopwatch(SimulatedFederation, "exchange", "aggregate", "agree") as watch,
    ):
        options = {"algo": "decbyzpg", "attack": attack, "topology": "complete", "preset": "paper"}
        result = byzbench.run(**options, trajectories=trajectories, out=out)
    seconds = result.steps / result.steps_per_second
    final = result.final["mean"] or 0.0
    return {"speed": result.steps_per_second, "steps": result.steps, "share": watch.seconds / seconds, "return": final}


@dataclasses.dataclass(frozen=True)
class Speeds:
    """Measure one task, in steps per second.

    Attributes:
        back_end: the simulators alone.
        policy: the policy alone.
        useful: steps of episodes that `Federation.sample` returns.
        inside: what share these are of all steps of all rows until the longest episode has ended.
    """

    back_end: float
    policy: float
    useful: float
    inside: float

    @property
    def cells(self) -> list[str]:
        """The speeds, and as shares of the smaller limit: what was reached, and what both in turn leave of it."""
        smaller, turn = min(self.back_end, self.policy), 1 / (1 / self.back_end + 1 / self.policy)
        speeds = (self.back_end, self.policy, self.useful)
        shares = (self.inside, turn / smaller, self.useful / smaller)
        return [*(f"{speed:,.0f}" for speed in speeds), *(f"{share:.0%}" for share in shares)]


def task_rows(names: Sequence[str], backend: str = "") -> Iterator[tuple[str, ...]]:
    """Sampling on each task and back end against the smaller of its two limits."""
    for name in names or [n for n in registry.origins("task") if n not in ("gymnasium", "pettingzoo")]:
        fields = dataclasses.fields(registry.find("task", name))
        several = any(f.name == "backend" for f in fields)
        for each in [backend] if backend else ("gymnasium", "envpool") if several else ("",):
            text = f"{name}:backend={each}" if each and several else name
            yield text, *task_speeds(text).cells
        if name == "cartpole":
            yield "cartpole, whole horizon", *task_speeds(name, whole=True).cells


def task_speeds(text: str, whole: bool = False) -> Speeds:
    """K=4 agents with 64 episodes each of the first policy; with `whole`, of cart poles that never fall.

    Where simulators are stepped one by one, 16 episodes are as informative. The back end and the policy alone take
    as many steps as the episodes have together, all rows at once. The least seconds of the processor of some repeats in
    turn, which neighbours on the machine change less than those of the clock.
    """
    ours = isinstance(registry.make("task", text).make(1, 1), Simulated)
    agents, rows = 4, 16 if "gymnasium" in text and not ours else 64
    options = {"algo": {"N": rows, "p": 1.0}}
    todo = Experiment.create(env=text, agents=agents, byzantine=0, trajectories=10**6, parameters=options)
    federation, policy = Training(todo).federation, todo.trained_policy
    if whole:
        federation._environments[agents, rows] = endless(agents, rows)

    def sample() -> Trajectories:
        federation.begin(0, 0.0)
        return federation.sample(federation.theta0, rows)

    batch = sample()
    useful = int(batch.steps.sum())
    steps = math.ceil(useful / (agents * rows))
    shown = batch.observations.numpy()

    def think() -> None:
        noise = np.empty((agents, rows, steps, *policy.action_shape), np.float32)
        for a, out in enumerate(noise):
            policy.sample_noise(np.random.default_rng(a), out)
        act = policy.sampler(federation.theta0, torch.from_numpy(noise).transpose(1, 2))
        for t in range(steps):
            act(t, shown[:, t])

    works = (alone(todo.task, agents * rows, steps), think, sample)
    least = [math.inf] * len(works)
    for _ in range(9 if useful < 10_000 else 3):
        for i, work in enumerate(works):
            start = time.process_time()
            work()
            least[i] = min(least[i], time.process_time() - start)
    everything = steps * agents * rows
    return Speeds(everything / least[0], everything / least[1], useful / least[2], useful / batch.mask.numel())


def alone(task: Task, rows: int, steps: int) -> Callable[[], None]:
    """A back end without us: random actions, made beforehand, in all copies; where an episode ends, a new one starts.

    Gymnasium's vector environment where there is one, else our machine code where there is any, else Gymnasium's
    environments one by one, without wrappers; what they show is put together, as any policy needs it. EnvPool's pool is
    made first, as it takes seeds at no other time.
    """
    task.action_space.seed(0)
    drawn = [np.stack([task.action_space.sample() for _ in range(rows)]) for _ in range(steps)]
    if getattr(task, "backend", "") == "envpool":
        library = import_module("envpool")

        def pool() -> None:
            with warnings.catch_warnings(action="ignore"):  # about its own bounds
                copies = library.make_gymnasium(task.gymnasium_id, num_envs=rows, num_threads=1, seed=0)
            copies.reset()
            for actions in drawn:
                copies.step(actions)

        return pool

    environments = task.make(rows, 1)
    if isinstance(environments, Simulated) and not isinstance(task, CartPole):

        def machine_code() -> None:
            environments.reset([np.random.default_rng(row) for row in range(rows)])
            for actions in drawn:
                environments.step(actions)

        return machine_code

    if isinstance(task, CartPole):
        vector = gymnasium.make_vec(task.gymnasium_id, rows, vectorization_mode="vector_entry_point")

        def vectors() -> None:
            vector.reset(seed=0)
            for actions in drawn:
                vector.step(actions)

        return vectors

    copies = [gymnasium.make(task.gymnasium_id, disable_env_checker=True).unwrapped for _ in range(rows)]

    def one_by_one() -> None:
        for row, copy in enumerate(copies):
            copy.reset(seed=row)
        for actions in drawn:
            observations = []
            for copy, action in zip(copies, actions, strict=True):
                shown, _, ended, _, _ = copy.step(action)
                observations.append(copy.reset()[0] if ended else shown)
            np.stack(observations)

    return one_by_one


def growth() -> Iterator[tuple[str, ...]]:
    """Rounds of DecByzPG per second of the processor, and the share of what agents do together."""
    for agents in AGENTS:
        cells = []
        for width in WIDTHS:
            todo = Experiment.create(
                "decbyzpg",
                attack="avg_zero",
                topology="complete",
                agents=agents,
                byzantine=3 * agents // 13,
                trajectories=10**6,
                policy=f"mlp(hidden=[{width}, {width}])",
                parameters={"algo": {"N": peers.FIRST, "p": 1.0}},
            )
            whole, _ = scale.second_round(todo)
            seconds = scale.least(whole, 5)
            start = time.perf_counter()
            with Stopwatch(SimulatedFederation, "exchange", "aggregate", "agree") as watch:
                whole()
            share = watch.seconds / (time.perf_counter() - start)
            cells.append(f"{1 / seconds:.3g} ({share:.0%})")
        yield f"K={agents}, f={3 * agents // 13}", *cells


def start_up(*arguments: str) -> float:
    """Median wall seconds of a whole process."""
    command = [sys.executable, "-m", "byzbench", *arguments]
    return median(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", *map(_line, (head, ["---"] * len(head), *rows))]


def _line(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"


def main() -> None:
    """Measure, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=8000)
    parser.add_argument("--tasks", nargs="*", metavar="TASK", help="only the rows of tasks")
    parser.add_argument("--backend", choices=("gymnasium", "envpool"), default="", help="with --tasks: only on this")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="of the peers' environment")
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    args = parser.parse_args()
    torch.set_num_threads(1)

    head = ("steps per second, K=4", "back end", "policy", "sampling", "inside", "in turn", "of the smaller")
    if args.tasks is not None:
        print("\n".join(_table(head, ())))
        for row in task_rows(args.tasks, args.backend):
            print(_line(row), flush=True)
        return

    compared = peers.compare(args.peers, callback=partial(print, file=sys.stderr))
    machine = f"One core of {os.cpu_count()}, {platform.machine()}, one thread; {peers.versions(compared)}."
    lines = [machine, *_table(peers.HEAD, peers.table(compared)), "", peers.reading(compared)]
    lines += ["", "## Training against its raw limit", "", _TRAINING]
    small, large = raw(4), raw(50)
    lines += _table(
        ("environment steps per second, K=13", "N=4 (52 environments)", "N=50 (650 environments)"),
        [(label, f"{small[key]:,.0f}", f"{large[key]:,.0f}") for key, label in _PARTS.items()],
    )
    # The share of large batches in the steps of full-length episodes, for N/B/p = 50/4/0.2.
    share = 0.2 * 50 / (0.2 * 50 + 0.8 * 4)
    limit = 1 / (share / large["all"] + (1 - share) / small["all"])
    trainings = {attack: training(attack, args.trajectories) for attack in ATTACKS}
    setting = f"DecByzPG, MDA + RFA, complete graph, K=13, f=3, {args.trajectories:,} trajectories per agent"
    lines += _table(
        (setting, "steps per second", "of the raw limit", "exchange + aggregate + agree", "final return"),
        [
            (attack, f"{f['speed']:,.0f}", f"{f['speed'] / limit:.0%}", f"{f['share']:.1%}", f"{f['return']:.0f}")
            for attack, f in trainings.items()
        ],
    )
    lines += ["", "## Rounds by agents and parameters", "", _GROWTH.format(episodes=peers.FIRST)]
    lines += _table(("rounds per second", "d = 386", "d = 9,986", "d = 99,842"), list(growth()))
    lines += ["", "## Parts"]
    lines += _table(
        ("exact minimum-diameter averaging", "ms", "exact"),
        [
            (label, f"{took:.2f}", "yes" if exact else "no: stopped by its cap")
            for label, took, exact in aggregators.rows()
        ],
    )
    bare = median(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    lines += _table(
        ("start-up", "seconds", "python alone"),
        [(f"byzbench {' '.join(a)}", f"{start_up(*a):.2f}", f"{bare:.2f}") for a in (("--help",), ("list", "attacks"))],
    )
    lines += ["", "## Tasks", "", _TASKS]
    lines += _table(head, list(task_rows(())))
    print("\n".join(lines))
    if args.write:
        made = f"Made by `python benchmarks/throughput.py --write --peers PYTHON`, at engine {ENGINE}."
        Path("docs/speed.md").write_text("\n".join(["# Speed", "", made, "", *lines, ""]))


if __name__ == "__main__":
    main()
