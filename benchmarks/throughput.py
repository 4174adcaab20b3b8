"""How fast byzbench is, beside what bounds it, in one run on one core: makes docs/speed.md.

    python benchmarks/throughput.py [--trajectories 8000] [--write]
    python benchmarks/throughput.py --tasks [TASK ...]      # these rows only; all tasks if none is named

Rows: the training loop of the paper's setting against the raw cost of stepping the environment, of the policy's
forward pass, and of both with the gradient; the share of exchange, aggregation and agreement; exact minimum-diameter
averaging; start-up of the command line; every task of the catalogue, on each of its back ends. Ratios hold across
machines better than the figures themselves.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aggregators
import numpy as np
import torch

import byzbench
from byzbench import registry
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep
from byzbench.federation.federation import Federation
from byzbench.learning.gradients import gpomdp
from byzbench.learning.policies import CategoricalMlp
from byzbench.learning.rollouts import rollout
from byzbench.randomness import Streams
from byzbench.tasks.cartpole import CartPole

K, HORIZON = 13, 500
ATTACKS = ("avg_zero", "large_noise(relative=False)")
_PARTS = {"env": "stepping the environments", "policy": "the policy's forward pass", "all": "both, and the gradient"}
_READING = (
    "The raw limit is a loop that samples full-length episodes and takes one gradient of each, and does nothing else: "
    "large and small\nbatches in the method's proportion. Small batches take a second gradient, and early episodes are "
    "short, so the whole\nmethod stays below it. `large_noise` says something else to every receiver, so each has an "
    "aggregation of its own."
)


def median(work: Callable[[], Any], repeats: int = 5, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of a call, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return statistics.median(times)


class _Endless:
    """Cart poles whose episodes never end: every row costs the full horizon, and every step counts."""

    def __init__(self, count: int) -> None:
        self.batch = CartPole().make(K, count)
        self.batch._vector.theta_threshold_radians = self.batch._vector.x_threshold = 1e9
        self.batch._vector.max_episode_steps = 10**9

    def reset(self, generators: Any) -> np.ndarray:
        return self.batch.reset(generators)

    def step(self, actions: np.ndarray) -> Any:
        return self.batch.step(actions)


def raw(count: int) -> dict[str, float]:
    """Steps per second of each part alone, and of all parts, with K * count environments."""
    policy = CategoricalMlp((4, 16, 16, 2))
    theta = policy.initial(Streams(0).generator("init")).repeat(K, 1)
    environments = _Endless(count)
    generators = [Streams(0).generator("environment", 0, a) for a in range(K)]
    uniforms = torch.rand(K, HORIZON, count, generator=torch.Generator().manual_seed(0))
    sampler, actions = policy.sampler(theta, uniforms), np.zeros(K * count, np.int64)
    observations = torch.zeros(K, count, 4)
    counts = torch.full((K,), count)

    def step() -> None:
        environments.reset(generators)
        for _ in range(HORIZON):
            environments.step(actions)

    def forward() -> None:
        with torch.inference_mode():
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
    with tempfile.TemporaryDirectory() as out, Stopwatch(Federation, "exchange", "aggregate", "agree") as watch:
        result = byzbench.run(algo="decbyzpg", attack=attack, topology="complete", trajectories=trajectories, out=out)
    seconds = result.steps / result.steps_per_second
    final = result.final["mean"] or 0.0
    return {"speed": result.steps_per_second, "steps": result.steps, "share": watch.seconds / seconds, "return": final}


def task_rows(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The training loop on each task and back end against the smaller of its two limits."""
    for name in names or [n for n in registry.origins("task") if n not in ("gymnasium", "pettingzoo")]:
        fields = dataclasses.fields(registry.find("task", name))
        for backend in ("gymnasium", "envpool") if any(f.name == "backend" for f in fields) else ("",):
            text = f"{name}:backend={backend}" if backend else name
            raw, ceiling, useful = task_speeds(text)
            shares = (f"{useful / limit:.0%}" for limit in (min(raw, ceiling), 1 / (1 / raw + 1 / ceiling)))
            yield (text, *(f"{speed:,.0f}" for speed in (raw, ceiling, useful)), *shares)


def task_speeds(text: str) -> tuple[float, float, float]:
    """Steps per second of K=4 agents with 64 episodes each: simulators alone, policy alone, the training loop.

    Gymnasium's simulators are stepped one by one, so 16 episodes tell as much.

    Only steps inside episodes count, and episodes are as long as those of the first policy. The policy's ceiling is its
    forward pass over every step and one gradient of the same episodes. In seconds of the processor, which neighbours on
    the machine change less than those of the clock.
    """
    agents, rows = 4, 16 if "gymnasium" in text else 64
    options = {"algo": {"N": rows, "p": 1.0}}
    todo = Experiment.create(env=text, agents=agents, byzantine=0, trajectories=10**6, parameters=options)
    training = Training(todo)
    federation, task, policy = training.federation, todo.task, training.federation.policy
    federation.begin(0, 0.0)
    batch = federation.sample(federation.theta0, rows)
    steps = int(batch.steps.sum())
    environments = task.make(agents, rows)
    done = [policy.executed(batch.actions[:, t]) for t in range(batch.mask.shape[1])]

    def simulate() -> None:
        # The episodes of the batch, step by step: they end where they ended in it.
        environments.reset([federation._streams.generator("environment", 0, a) for a in range(agents)])
        for actions in done:
            environments.step(actions)

    noise = np.empty((agents, rows, task.horizon, *policy.action_shape), np.float32)

    def think() -> None:
        for a, out in enumerate(noise):
            policy.draw(np.random.default_rng(a), out)
        act = policy.sampler(federation.theta0, torch.from_numpy(noise).transpose(1, 2))
        with torch.inference_mode():
            for t in range(batch.mask.shape[1]):
                act(t, batch.observations[:, t])
        gpomdp(policy, federation.theta0, batch, task.discount)

    def train() -> float:
        before, start = int(federation.ledger.steps.sum()), time.process_time()
        lockstep(training.advance())
        return (int(federation.ledger.steps.sum()) - before) / (time.process_time() - start)

    repeats = 9 if steps < 10_000 else 3
    raw, ceiling = (steps / median(work, repeats, time.process_time) for work in (simulate, think))
    train()
    return raw, ceiling, statistics.median(train() for _ in range(repeats))


def start_up(*arguments: str) -> float:
    """Median wall seconds of a whole process."""
    command = [sys.executable, "-m", "byzbench", *arguments]
    return median(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", *("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))]


def main() -> None:
    """Measure, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=8000)
    parser.add_argument("--tasks", nargs="*", metavar="TASK", help="only the rows of tasks")
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    given = parser.parse_args()
    torch.set_num_threads(1)

    head = ("steps per second, K=4", "simulators", "policy", "training loop", "of the smaller", "of both in turn")
    if given.tasks is not None:
        print("\n".join(_table(head, list(task_rows(given.tasks)))))
        return

    lines = [f"One core of {os.cpu_count()}, {platform.machine()}, torch {torch.__version__}, one thread."]
    small, large = raw(4), raw(50)
    lines += _table(
        ("environment steps per second, K=13", "N=4 (52 environments)", "N=50 (650 environments)"),
        [(label, f"{small[key]:,.0f}", f"{large[key]:,.0f}") for key, label in _PARTS.items()],
    )
    # The share of large batches in the steps of full-length episodes, for N/B/p = 50/4/0.2.
    share = 0.2 * 50 / (0.2 * 50 + 0.8 * 4)
    limit = 1 / (share / large["all"] + (1 - share) / small["all"])
    found = {attack: training(attack, given.trajectories) for attack in ATTACKS}
    setting = f"DecByzPG, MDA + RFA, complete graph, K=13, f=3, {given.trajectories:,} trajectories per agent"
    lines += _table(
        (setting, "steps per second", "of the raw limit", "exchange + aggregate + agree", "final return"),
        [
            (attack, f"{f['speed']:,.0f}", f"{f['speed'] / limit:.0%}", f"{f['share']:.1%}", f"{f['return']:.0f}")
            for attack, f in found.items()
        ],
    )
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
    lines += _table(head, list(task_rows(())))
    print("\n".join(lines))
    if given.write:
        title = ["# Speed", "", "Made by `python benchmarks/throughput.py --write`.", "", _READING, ""]
        Path("docs/speed.md").write_text("\n".join([*title, *lines, ""]))


if __name__ == "__main__":
    main()
