"""How fast byzbench, its peers and a C program do the same work on one core: the first table of docs/speed.md.

    python benchmarks/peers.py [--python PYTHON]             # the table; peers run in the environment of PYTHON
    PYTHON benchmarks/peers.py --run PEER EPISODES THETA     # one peer, in this process: a line of JSON

The work: each of 13 agents samples some complete episodes of CartPole by its own policy of 4-16-16-2 tanh units, and
takes one policy gradient of them. Each peer runs in a process of its own, pinned to one core, with one thread. Peers
that are not byzbench import nothing of it. An environment for them:

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install -c constraints.txt jax==0.10.2 stable-baselines3 gymnasium envpool torch
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
AGENTS, HORIZON, DISCOUNT = 13, 500, 0.999
SIZES = (4, 16, 16, 2)
FULL, FIRST = 50, 4
"""Episodes of an agent: by a policy that balances for all 500 steps, and by an untrained policy that falls soon."""

BLOCKS, BLOCK_SECONDS, TURNS = 7, 0.2, 2
BLOCK = 20
"""Steps that JAX differentiates together: of 10, 20, 50, 125 and 500 the fastest in both settings."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
COMPILER_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One piece of work.

    Attributes:
        steps: the steps inside of episodes.
        simulated: the steps of all rows, those after the end of their episodes included.
        episodes: the number of episodes that ended.
        gradient: the mean of the agents' gradients [d], where it can be had.
    """

    steps: int
    simulated: int
    episodes: int
    gradient: np.ndarray | None


Work = Callable[[], Sample]


def byzbench(theta: np.ndarray, episodes: int) -> Sequence[Work]:
    """`Federation.sample`, random numbers included, and the gradient that the methods take."""
    import torch

    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.runner import Training
    from byzbench.rl.gradients import gpomdp

    options = {"algo": {"N": episodes, "p": 1.0}}
    todo = Experiment.create(env="cartpole", agents=AGENTS, byzantine=0, trajectories=10**6, parameters=options)
    federation, policy, rounds = Training(todo).federation, todo.trained_policy, iter(range(10**9))
    rows = torch.from_numpy(theta).repeat(AGENTS, 1)

    def work() -> Sample:
        federation.begin(next(rounds), 0.0)
        batch = federation.sample(rows, episodes)
        gradient = gpomdp(policy, rows, batch, DISCOUNT)
        steps = int(batch.steps.sum())
        return Sample(steps, steps, AGENTS * episodes, gradient.mean(0).numpy())

    return [work]


def gymnasium(theta: np.ndarray, episodes: int) -> Sequence[Work]:
    """Gymnasium's vector environment of CartPole, which is NumPy's, and torch."""
    import gymnasium as library

    rows = AGENTS * episodes
    environments = library.make_vec("CartPole-v1", rows, vectorization_mode="vector_entry_point")
    return [_with_torch(theta, episodes, environments)]


def envpool(theta: np.ndarray, episodes: int) -> Sequence[Work]:
    """EnvPool's environments in C++, and torch."""
    import envpool as library

    with warnings.catch_warnings(action="ignore"):  # about its own bounds
        environments = library.make_gymnasium("CartPole-v1", num_envs=AGENTS * episodes, num_threads=1, seed=0)
    return [_with_torch(theta, episodes, environments)]


def _with_torch(theta: np.ndarray, episodes: int, environments: Any) -> Work:
    """Act by batched products until the last episode has ended, and differentiate the steps inside of episodes."""
    import torch

    torch.set_num_threads(1)
    parameters = torch.from_numpy(theta).repeat(AGENTS, 1)

    def logits(theta: torch.Tensor, observations: torch.Tensor) -> torch.Tensor:
        hidden, at = observations, 0
        for inputs, units in pairwise(SIZES):
            weights = theta[:, at : at + inputs * units].view(-1, inputs, units)
            inner = hidden.tanh() if at else hidden
            at += inputs * units
            hidden = torch.baddbmm(theta[:, None, at : at + units], inner, weights)
            at += units
        return hidden

    def work() -> Sample:
        observations, _ = environments.reset()
        shown, taken, masks = [], [], []
        alive = np.ones(AGENTS * episodes, bool)
        with torch.inference_mode():
            while alive.any():
                batch = torch.from_numpy(observations).view(AGENTS, episodes, 4)
                outputs = logits(parameters, batch)
                right = torch.sigmoid(outputs[..., 1] - outputs[..., 0])
                actions = (torch.rand(AGENTS, episodes) < right).long()
                shown.append(batch)
                taken.append(actions)
                masks.append(alive)
                observations, _, ended, cut, _ = environments.step(actions.flatten().numpy())
                alive = alive & ~(ended | cut)
        mask = torch.from_numpy(np.stack(masks)).view(-1, AGENTS, episodes)
        # With reward 1 in each step, the discounted reward to go is a sum of the powers from now to the end.
        powers = DISCOUNT ** torch.arange(len(mask), dtype=torch.float32).view(-1, 1, 1)
        coefficients = (powers * mask).flip(0).cumsum(0).flip(0)
        states, actions = torch.stack(shown), torch.stack(taken)
        gradients = []
        for agent in range(AGENTS):  # one after another, as their intermediate results then stay in the caches
            inside = mask[:, agent]
            leaf = parameters[agent : agent + 1].clone().requires_grad_()
            log_probs = logits(leaf, states[:, agent][inside].unsqueeze(0)).log_softmax(2)
            chosen = log_probs[0].gather(1, actions[:, agent][inside].unsqueeze(1)).squeeze(1)
            total = (chosen * coefficients[:, agent][inside]).sum() / episodes
            gradients.append(torch.autograd.grad(total, leaf)[0])
        gradient = torch.cat(gradients).mean(0).numpy()
        return Sample(int(mask.sum()), mask.numel(), AGENTS * episodes, gradient)

    return work


def jax(theta: np.ndarray, episodes: int) -> Sequence[Work]:
    """CartPole written out: a scan over the horizon, and a loop that stops when the last episode has ended."""
    import jax as library
    import jax.numpy as jnp
    from jax import lax

    def logit(theta: Any, observations: Any) -> Any:
        """The difference of the two logits, [N] of [N, 4]."""
        hidden, at = observations, 0
        for layer, (inputs, units) in enumerate(pairwise(SIZES)):
            weights = theta[at : at + inputs * units].reshape(inputs, units)
            at += inputs * units
            hidden = (jnp.tanh(hidden) if layer else hidden) @ weights + theta[at : at + units]
            at += units
        return hidden[..., 1] - hidden[..., 0]

    logits = library.vmap(logit)

    def advance(state: Any, action: Any) -> Any:
        _, speed, angle, turning = (state[..., i] for i in range(4))
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        push = (jnp.where(action, 10.0, -10.0) + 0.05 * turning**2 * sine) / 1.1
        turn = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        changes = (speed, push - 0.05 * turn * cosine / 1.1, turning, turn)
        return state + 0.02 * jnp.stack(changes, -1)

    def step(thetas: Any, state: Any, alive: Any, noise: Any) -> Any:
        action = noise < library.nn.sigmoid(logits(thetas, state))
        following = advance(state, action)
        fallen = (jnp.abs(following[..., 0]) > 2.4) | (jnp.abs(following[..., 2]) > np.radians(12))
        return jnp.where(alive[..., None], following, state), alive & ~fallen, action

    def objective(thetas: Any, states: Any, actions: Any, coefficients: Any) -> Any:
        """The sum over steps of c log pi(a|s) of [T, K, N, ...]."""
        difference = library.vmap(logits, (None, 0))(thetas, states)
        return (coefficients * library.nn.log_sigmoid(jnp.where(actions, difference, -difference))).sum()

    def draw(key: Any) -> Any:
        start, actions = library.random.split(key)
        state = library.random.uniform(start, (AGENTS, episodes, 4), minval=-0.05, maxval=0.05)
        return state, library.random.uniform(actions, (HORIZON, AGENTS, episodes))

    gradient_of = library.grad(objective)

    def differentiate(thetas: Any, states: Any, actions: Any, mask: Any, length: Any) -> Any:
        """The gradients, by blocks of steps that fit in the caches, until `length`."""
        powers = DISCOUNT ** jnp.arange(HORIZON, dtype=jnp.float32)
        coefficients = lax.cumsum(powers[:, None, None] * mask, 0, reverse=True) * mask

        def part(index: Any, total: Any) -> Any:
            arrays = (states, actions, coefficients)
            return total + gradient_of(thetas, *(lax.dynamic_slice_in_dim(a, index * BLOCK, BLOCK) for a in arrays))

        return lax.fori_loop(0, (length + BLOCK - 1) // BLOCK, part, jnp.zeros_like(thetas))

    def whole_horizon(thetas: Any, key: Any) -> Any:
        def body(carry: Any, noise: Any) -> Any:
            state, alive = carry
            following, still, action = step(thetas, state, alive, noise)
            return (following, still), (state, action, alive)

        state, noise = draw(key)
        _, (states, actions, mask) = lax.scan(body, (state, jnp.ones(state.shape[:2], bool)), noise)
        return mask.sum(), jnp.array(HORIZON), differentiate(thetas, states, actions, mask, HORIZON)

    def early_exit(thetas: Any, key: Any) -> Any:
        def body(carry: Any) -> Any:
            t, state, alive, states, actions, mask = carry
            following, still, action = step(thetas, state, alive, noise[t])
            return t + 1, following, still, states.at[t].set(state), actions.at[t].set(action), mask.at[t].set(alive)

        state, noise = draw(key)
        shape = (HORIZON, *state.shape[:2])
        empty = (jnp.zeros((*shape, 4)), jnp.zeros(shape, bool), jnp.zeros(shape, bool))
        first = (0, state, jnp.ones(shape[1:], bool), *empty)
        length, _, _, states, actions, mask = lax.while_loop(lambda c: (c[0] < HORIZON) & c[2].any(), body, first)
        return mask.sum(), length, differentiate(thetas, states, actions, mask, length)

    def works(function: Any) -> Work:
        compiled, numbers = library.jit(function), iter(range(10**9))
        thetas, base = jnp.tile(theta, (AGENTS, 1)), library.random.key(0, impl="rbg")  # faster than the default

        def work() -> Sample:
            steps, length, gradient = compiled(thetas, library.random.fold_in(base, next(numbers)))
            rows = AGENTS * episodes
            return Sample(int(steps), int(length) * rows, rows, np.asarray(gradient).mean(0) / episodes)

        return work

    return [works(whole_horizon), works(early_exit)]


def stable_baselines3(theta: np.ndarray, episodes: int) -> Sequence[Work]:
    """A2C's `learn` as it comes, by as many environments, with these weights and a learning rate of 0."""
    import torch
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    rows = AGENTS * episodes
    architecture = {"pi": list(SIZES[1:-1]), "vf": list(SIZES[1:-1])}
    model = A2C(
        "MlpPolicy",
        make_vec_env("CartPole-v1", rows, seed=0),
        learning_rate=0.0,
        policy_kwargs={"net_arch": architecture},
        device="cpu",
    )
    layers = [
        model.policy.mlp_extractor.policy_net[0],
        model.policy.mlp_extractor.policy_net[2],
        model.policy.action_net,
    ]
    at = 0
    for layer, inputs, units in zip(layers, SIZES[:-1], SIZES[1:], strict=True):
        weights = torch.from_numpy(theta[at : at + inputs * units].reshape(inputs, units))
        at += inputs * units
        with torch.no_grad():
            layer.weight.copy_(weights.T)
            layer.bias.copy_(torch.from_numpy(theta[at : at + units]))
        at += units

    def work() -> Sample:
        before = model.num_timesteps
        model.learn(rows * model.n_steps, reset_num_timesteps=False)
        steps = model.num_timesteps - before
        return Sample(steps, steps, 0, None)

    return [work]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A row of the table: its label, the packages whose versions are named, and a function that prepares its work."""

    label: str
    packages: tuple[str, ...]
    prepare: Callable[[np.ndarray, int], Sequence[Work]]


PEERS = {
    "byzbench": Peer("**byzbench**", ("numba", "torch"), byzbench),
    "jax": Peer("JAX, written out", ("jax",), jax),
    "gymnasium": Peer("Gymnasium's vector environment and torch", ("gymnasium", "torch"), gymnasium),
    "envpool": Peer("EnvPool and torch", ("envpool", "torch"), envpool),
    "stable_baselines3": Peer("Stable-Baselines3, A2C's `learn`", ("stable-baselines3", "torch"), stable_baselines3),
}
HEAD = ("steps per second", "full episodes", "of byzbench", "first policy", "of byzbench", "first call, s")
READING = """\
Each of 13 agents samples N complete episodes of CartPole by its own policy of 4-16-16-2 tanh units, and takes one
policy gradient of them. *Full episodes*: N=50 (650 rows), by a policy that balances for all 500 steps. *First policy*:
N=4 (52 rows), by an untrained policy that falls after some 23 steps. Only steps inside of episodes count. *Of
byzbench* is the speed as a multiple of byzbench's. Each row is a process of its own on one core, with one thread: the
best of {blocks} blocks of {seconds} s of processor time, in {turns} turns. *First call* is compilation, or loading
what an earlier process compiled, and is in no other column; of the C program, it is what its compiler took.

- *The limit* is `benchmarks/limit.c`: this task and network alone, 16 episodes side by side by one policy. All agents
  share its parameters, and rows are rounded up to whole vectors.
- *byzbench* is `Federation.sample` and the gradient that the methods take. The random numbers of every episode's whole
  horizon, from streams by agent and round, are drawn in this time.
- *JAX*: environment, network, random numbers and gradient are one compiled function, the faster of two: a scan over
  the whole horizon, and a loop that ends with the longest episode.{inside}
- *Gymnasium* and *EnvPool* step all rows until the longest episode has ended. Torch chooses all agents' actions at
  once, and differentiates the steps inside of episodes, agent by agent.
- *Stable-Baselines3* is used as it comes, with a learning rate of 0. It does more: values, advantages, a step of the
  optimizer every 5 steps of the rows, and records. It does less: one policy acts in all rows, and none waits.

Rows whose work can be compared did the same: lengths of episodes agree within 5 %, and mean gradients by the first
policy within a quarter of their norm; the C program first compares its gradient with finite differences. The released
code of DecByzPG was not run here, as it takes torch 1.12 and gym 0.23.

`benchmarks/peers.py` says how the peers' environment is made, and makes this table alone.

Not shown: peers on accelerators or several cores, larger networks, and what methods do around this work. The last
follows."""


def measure(works: Sequence[Work]) -> dict[str, Any]:
    """The most steps in a second of processor time, over blocks of it, by the fastest form of the work."""
    best: dict[str, Any] = {"speed": 0.0}
    forms = []
    for work in works:
        start = time.process_time()
        work()
        first = time.process_time() - start
        samples, speed = [], 0.0
        for _ in range(BLOCKS):
            start, steps = time.process_time(), 0
            while (seconds := time.process_time() - start) < BLOCK_SECONDS:
                samples.append(work())
                steps += samples[-1].steps
            speed = max(speed, steps / seconds)
        forms.append(speed)
        if speed > best["speed"]:
            steps, simulated, episodes = (
                sum(getattr(sample, name) for sample in samples) for name in ("steps", "simulated", "episodes")
            )
            best = {"speed": speed, "first": first, "inside": steps / simulated}
            if episodes:
                gradients = [sample.gradient for sample in samples if sample.gradient is not None]
                best |= {"length": steps / episodes, "gradient": np.mean(gradients, 0).tolist()}
    return best | {"forms": forms}


def run(name: str, episodes: int, path: Path) -> dict[str, Any]:
    """Measure one peer in this process, on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        measured = measure(PEERS[name].prepare(np.fromfile(path, np.float32), episodes))
        return measured | {"versions": {package: metadata.version(package) for package in PEERS[name].packages}}
    except ImportError as error:
        return {"missing": f"not installed ({error.name})"}


def policies() -> dict[str, tuple[int, np.ndarray]]:
    """Each setting's episodes of an agent and parameters: a policy that balances, and an untrained one."""
    from byzbench.randomness import Streams
    from byzbench.rl.networks import FeedForward
    from byzbench.rl.policies import CategoricalPolicy

    untrained = CategoricalPolicy(FeedForward(SIZES)).initial(Streams(0).generator("init")).flatten().numpy()
    balancing = untrained.copy()
    first, second, last = balancing[:64].reshape(4, 16), balancing[80:336].reshape(16, 16), balancing[352:384]
    # A linear controller of the state in the first unit of each layer, which push to the side where the pole leans.
    first[:, 0] = 0.2, 0.4, 4.0, 2.0
    second[:, 0], second[0, 0] = 0.0, 2.0
    last[:2] = -5.0, 5.0
    return {"full": (FULL, balancing), "first": (FIRST, untrained)}


def compare(python: str, callback: Callable[[str], None] = print) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure all rows in turn, twice: for each setting and row what `measure` returns, or what is missing.

    Raises:
        RuntimeError: byzbench was not measured, or a row did other work by its episodes' lengths or its gradient.
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        compiled = compile_limit(Path(folder))
        for _ in range(TURNS):
            for setting, (episodes, parameters) in policies().items():
                theta, rows = Path(folder) / setting, results.setdefault(setting, {})
                parameters.tofile(theta)
                for name in ("limit", *PEERS):
                    new = measure_apart(name, python if name != "byzbench" else sys.executable, episodes, theta)
                    old = rows.get(name, new)
                    rows[name] = new if new.get("speed", 0) > old.get("speed", 0) else old
                    if "first" in new and "first" in old:
                        rows[name]["first"] = min(new["first"], old["first"])
                    callback(f"{setting}, {name}: {new.get('missing') or format(new['speed'], ',.0f')}")
        for rows in results.values():
            rows["limit"] |= {"first": compiled} if "speed" in rows["limit"] else {}
    for setting, rows in results.items():
        if "missing" in rows["byzbench"]:
            raise RuntimeError(f"byzbench, {setting}: {rows['byzbench']['missing']}")
        for name, row in rows.items():
            require_equal_work(f"{name}, {setting}", row, rows["byzbench"], with_gradient=setting == "first")
    return results


def compile_limit(folder: Path) -> float:
    """Compile the C program into a folder, if there is a compiler; the seconds it took."""
    compiler = shutil.which("cc")
    start = time.perf_counter()
    if compiler:
        command = [compiler, *COMPILER_FLAGS, str(HERE / "limit.c"), "-o", str(folder / "limit"), "-lm"]
        subprocess.run(command, check=False)  # a compiler that does not take it leaves a row that is not measured
    return time.perf_counter() - start


def measure_apart(name: str, python: str, episodes: int, theta: Path) -> dict[str, Any]:
    """Measure one row in a process of its own."""
    command: list[str | Path] = [python, Path(__file__), "--run", name, str(episodes), theta]
    if name == "limit":
        command = [theta.with_name("limit"), theta, str(AGENTS * episodes)]
        if not Path(command[0]).exists():
            return {"missing": "no C compiler that compiles it"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def require_equal_work(label: str, row: Mapping[str, Any], ours: Mapping[str, Any], with_gradient: bool) -> None:
    """Raise an error if a row's episodes or mean gradient are not those of byzbench, up to the noise of sampling."""
    if "length" not in row:  # missing, or counts no episodes
        return
    if abs(row["length"] / ours["length"] - 1) > 0.05:
        raise RuntimeError(f"{label}: episodes take {row['length']:.1f} steps, byzbench's {ours['length']:.1f}")
    # Where all episodes have one return, the expected gradient is zero, and there is only noise to compare.
    distance = np.linalg.norm(np.subtract(row["gradient"], ours["gradient"])) / np.linalg.norm(ours["gradient"])
    if with_gradient and distance > 0.25:
        raise RuntimeError(f"{label}: the mean gradient differs from byzbench's by {distance:.0%} of its norm")


def table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[list[str]]:
    """The rows of the table, below `HEAD`."""
    labels = {"limit": "the limit: C", **{name: peer.label for name, peer in PEERS.items()}}
    lines = []
    for name, label in labels.items():
        cells = [label]
        for rows in results.values():
            speed, ours = rows[name].get("speed"), rows["byzbench"]["speed"]
            cells += (
                [f"{speed:,.0f}", f"{speed / ours:.2f}"] if speed else [f"not measured: {rows[name]['missing']}", ""]
            )
        lines.append([*cells, f"{results['full'][name]['first']:.1f}" if "first" in results["full"][name] else ""])
    return lines


def versions(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The versions of the packages of all rows."""
    found = {name: version for row in results["full"].values() for name, version in row.get("versions", {}).items()}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def reading(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The text below the table."""
    jax, inside = results["first"]["jax"], ""
    if "speed" in jax:
        inside = f"""
  By the first policy, {jax["inside"]:.0%} of the steps that the faster one simulates are inside of episodes, and the
  scan makes {jax["forms"][0]:,.0f} steps per second."""
    return READING.format(blocks=BLOCKS, seconds=BLOCK_SECONDS, turns=TURNS, inside=inside)


def main() -> None:
    """Run one peer, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="of the peers' environment")
    parser.add_argument("--run", nargs=3, metavar=("PEER", "EPISODES", "THETA"))
    args = parser.parse_args()
    if args.run:
        name, episodes, path = args.run
        print(json.dumps(run(name, int(episodes), Path(path))))
        return
    results = compare(args.python)
    for line in (HEAD, *table(results)):
        print(" | ".join(line))


if __name__ == "__main__":
    main()
