"""The policy of the attack `learned`: trains it, then measures it and makes docs/attacker.md.

    python benchmarks/attacker.py train [--processes 1]      # -> attacks/learned_cartpole.safetensors
    python benchmarks/attacker.py measure [--processes 1]    # -> docs/attacker.md

Training is the cross-entropy method over one layer: a = tanh(W o + b). The seeds of training and of measurement are
disjoint. Both are deterministic, whatever the number of processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import textwrap
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from byzbench.envs import AttackEnv
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep, one_thread
from byzbench.reports.statistics import difference_interval

SCALE = 475.0 - 22.3
"""Return of the solved task minus that of a random policy, CartPole."""

Weights = npt.NDArray[np.float32]
Returns = npt.NDArray[np.float64]

POLICY = Path(__file__).resolve().parents[1] / "attacks" / "learned_cartpole.safetensors"
SMALL = "(N=8, B=4, p=0.3, lr=0.01)"
"""Small batches and a large step: a short run learns something, and gradients vary enough for an attack to act."""
SETTING = {"agents": 7, "byzantine": 2, "trajectories": 120}
TRAINED: dict[str, dict[str, Any]] = {
    "decbyzpg, rfa": {"algo": f"decbyzpg{SMALL}", **SETTING},
    "dec_page_pg, trimmed_mean": {"algo": f"dec_page_pg{SMALL}", "aggregator": "trimmed_mean", **SETTING},
    "dec_page_pg, krum": {"algo": f"dec_page_pg{SMALL}", "aggregator": "krum", **SETTING},
}
UNSEEN: dict[str, dict[str, Any]] = {
    "decbyzpg, rfa; 300 trajectories": {**TRAINED["decbyzpg, rfa"], "trajectories": 300},
    "dec_page_pg, nnm+trimmed_mean": {"algo": f"dec_page_pg{SMALL}", "aggregator": "nnm+trimmed_mean", **SETTING},
    "byzpg, mda": {"algo": f"byzpg{SMALL}", "aggregator": "mda", **SETTING},
    "decbyzpg, rfa; K=13, f=3, paper's batches, lr 0.005, 300 trajectories": {
        "algo": "decbyzpg(lr=0.005)",
        "preset": "paper",
        "agents": 13,
        "byzantine": 3,
        "trajectories": 300,
    },
}
RANDOM = "random"
ATTACKERS = ("none", "sign_flip", "alie(z=1.5)", "min_max", RANDOM, "learned")
TRAINING = 10_000
"""Seeds of training from here on, one an iteration; those of measurement are below."""
READING = (
    """The agreement of DecByzPG is MDA, which needs n > 4f. This does not hold for K=7 and f=2, so the rows of
    `decbyzpg` with these numbers are outside the bound of the method. The row with K=13 and f=3 is inside; 300
    trajectories are few there: the return is far below 500 without an attack, too, and the differences between
    attacks are small. `dec_page_pg` and `byzpg` have no agreement.""",
    """A separate small probe, not made by a committed command, looked inside the bound: on CartPole, with K=9 and
    f=2, the learned policy lowered the return from 500 to 476 and from 498 to 475. Its other settings and its seeds
    are not recorded. Large harm of this policy to DecByzPG is therefore shown outside its bound only.""",
    """Where the interval contains zero, no difference from random actions is shown. On federations that the policy
    was not trained on, attacks with a fixed formula can do more harm: compare the columns. Train a policy for the
    rule that is to be attacked.""",
)
"""The text after the table."""
POPULATION, ELITE, ITERATIONS, WIDTH, LEAST = 24, 6, 10, 0.5, 0.1
EXAMPLE = '''\
## Train an attacker

Any learner of Gymnasium can train here. This is the cross-entropy method for the weights of a linear policy, on a
federation whose rounds are short:

```python
import numpy as np

from byzbench.envs import AttackEnv

env = AttackEnv(algo="decbyzpg(N=8, B=4)", policy="linear", agents=7, byzantine=2, trajectories=40)
shape = (*env.action_space.shape, *env.observation_space.shape)


def play(weights, seed):
    """Return the sum of rewards of one training under the attack of a policy."""
    observation, info = env.reset(seed=seed)
    total, truncated = 0.0, False
    while not truncated:
        action = np.tanh(weights @ observation)
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
    return total


rng = np.random.default_rng(0)
centre, width = np.zeros(shape), 1.0
for iteration in range(3):
    tried = centre + width * rng.standard_normal((8, *shape))
    rewards = np.array([play(weights, seed=iteration) for weights in tried])
    centre, width = tried[rewards.argsort()[-2:]].mean(0), 0.7 * width
    print(f"iteration {iteration}: mean {rewards.mean():.2f}, best {rewards.max():.2f}")
```

Stable-Baselines3, which byzbench neither needs nor installs, takes the environment as it is:
`PPO("MlpPolicy", env).learn(10_000)`. A step costs what a round of a run costs (`python benchmarks/environments.py`).
'''
"""The section of docs/attacker.md on training; tests/test_readme.py runs its code."""


def harm(cell: dict[str, Any], seed: int, policy: Weights | None) -> tuple[float, float]:
    """Return mean reward and final evaluation of an episode of a cell, by a policy [m, n + 1] or at random."""
    env = AttackEnv(**cell)
    form, rng, rewards = env.action_space.shape, np.random.default_rng(seed), []
    observation, _ = env.reset(seed=seed)
    while True:
        action = rng.uniform(-1, 1, form) if policy is None else np.tanh(policy[:, :-1] @ observation + policy[:, -1])
        observation, reward, _, over, info = env.step(action.astype(np.float32))
        rewards.append(reward)
        if over:
            return float(np.mean(rewards)), info["evaluation"]


def train(pool: ProcessPoolExecutor) -> None:
    """The cross-entropy method, from minus the mean on. Rewards are compared within a cell, on one seed for all."""
    env = AttackEnv(**next(iter(TRAINED.values())))
    (n,), (m,) = env.observation_space.shape or (0,), env.action_space.shape or (0,)
    rng = np.random.default_rng(0)
    centre, width = np.zeros((m, n + 1)), np.full((m, n + 1), WIDTH)
    centre[1, -1] = 1.0
    for iteration in range(ITERATIONS):
        tried = (centre + width * rng.standard_normal((POPULATION, m, n + 1))).astype(np.float32)
        jobs = [pool.submit(harm, cell, TRAINING + iteration, w) for cell in TRAINED.values() for w in tried]
        rewards = np.array([job.result()[0] for job in jobs]).reshape(len(TRAINED), POPULATION)
        ranked = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, keepdims=True) + 1e-9)
        best = np.argsort(-ranked.sum(0), kind="stable")[:ELITE]
        centre = tried[best].mean(0)
        width = np.maximum((width + tried[best].std(0)) / 2, LEAST)
        print(f"{iteration:3}  all {rewards.mean(1).round(3)}  best {rewards[:, best].mean(1).round(3)}", flush=True)
    layer = torch.from_numpy(centre.astype(np.float32))
    save_file({"0.weight": layer[:, :-1].contiguous(), "0.bias": layer[:, -1].contiguous()}, POLICY)
    print(np.array2string(centre, precision=2, suppress_small=True))


def left(cell: dict[str, Any], seed: int, attacker: str) -> float:
    """Return the final evaluation of a training under an attack, or under random actions of `AttackEnv`."""
    if attacker == RANDOM:
        return harm(cell, seed, None)[1]
    with one_thread():
        training = Training(Experiment.create(**cell, attack=attacker, seed=seed))
        while not training.is_finished:
            lockstep(training.advance())
        return training.evaluate(training.todo.evaluations)["evaluation"]


def measure(pool: ProcessPoolExecutor, seeds: int, docs: Path) -> None:
    """Every cell under every attacker, on seeds of which training had none."""
    jobs = {
        (name, who): [pool.submit(left, cell, seed, who) for seed in range(seeds)]
        for name, cell in {**TRAINED, **UNSEEN}.items()
        for who in ATTACKERS
    }
    returns_of = {}
    for (name, who), row in jobs.items():
        returns_of[name, who] = np.array([job.result() for job in row])
        print(f"{name:40} {who:12} {returns_of[name, who].mean():6.1f}", flush=True)
    (docs / "attacker.md").write_text("\n".join(page(returns_of, seeds)) + "\n", encoding="utf-8")


def page(returns_of: dict[tuple[str, str], Returns], seeds: int) -> list[str]:
    """docs/attacker.md."""
    gaps = {
        name: difference_interval(returns_of[name, "learned"] - returns_of[name, RANDOM], SCALE)
        for name in (*TRAINED, *UNSEEN)
    }
    lines = [
        "# Learned attacks",
        "",
        *wrapped(
            """`byzbench.envs.AttackEnv` is a federation as a Gymnasium environment for one attacker who controls
            all Byzantine agents. An episode is one training run, and a step is one round. An action is what the
            Byzantine agents send in this round; the reward is minus the honest agents' return. Observations and
            actions are those of the attack [`learned`](attacks.md#learned), which plays a policy that was trained
            here."""
        ),
        "",
        "```python",
        "from byzbench.envs import AttackEnv",
        "",
        'env = AttackEnv(algo="decbyzpg", agents=9, byzantine=2, trajectories=300)',
        "observation, info = env.reset(seed=0)",
        "observation, reward, terminated, truncated, info = env.step(env.action_space.sample())",
        "```",
        "",
        *wrapped(
            f"""The shipped policy, `learned(policy=cartpole)`, is one layer of tanh from 8 numbers to 5, found by the
            cross-entropy method in {POPULATION * ITERATIONS * len(TRAINED):,} episodes of the first
            {len(TRAINED)} rows below, on other seeds (`python benchmarks/attacker.py train`). It observes neither
            the rule nor the method."""
        ),
        "",
        *EXAMPLE.splitlines(),
        "",
        "## Harm",
        "",
        *wrapped(
            f"""CartPole; evaluation return of the honest agents' policies at the end of training, mean
            over {seeds} seeds that the policy's training has not used: the lower, the more harm. `random` draws
            actions of the same environment uniformly. The last column is the mean of the differences of the two,
            paired by seed, with a 95 % interval. K=7, f=2, batches {SMALL} and {SETTING["trajectories"]} trajectories
            unless the row names others. Made by `python benchmarks/attacker.py measure`."""
        ),
        "",
        f"| | {' | '.join(f'`{who}`' if who != RANDOM else who for who in ATTACKERS)} | learned - random |",
        f"|---|{'--:|' * (len(ATTACKERS) + 1)}",
    ]
    for title, cells in (("trained on", TRAINED), ("not trained on", UNSEEN)):
        lines.append(f"| *{title}* |{' |' * (len(ATTACKERS) + 1)}")
        for name in cells:
            returns = [f"{returns_of[name, who].mean():.0f}" for who in ATTACKERS]
            gap = gaps[name]
            lines.append(f"| {name} | {' | '.join(returns)} | {gap.value:.0f} [{gap.low:.0f}, {gap.high:.0f}] |")
    lines += ["", *wrapped(verdict({name: gap.high for name, gap in gaps.items()}))]
    for paragraph in READING:
        lines += ["", *wrapped(paragraph)]
    return lines


def verdict(highs: dict[str, float | None]) -> str:
    """Return the sentence on the upper ends of the differences."""
    old, new = ([high is not None and high < 0 for name, high in highs.items() if name in c] for c in (TRAINED, UNSEEN))
    return f"""The interval lies below zero, so that the learned policy does more harm than the random one, in
        {sum(old)} of the {len(old)} federations that it was trained on and in {sum(new)} of the {len(new)} others."""


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Train, or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=8, help="of measurement")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        if args.what == "train":
            train(pool)
        else:
            measure(pool, args.seeds, args.docs)


if __name__ == "__main__":
    main()
