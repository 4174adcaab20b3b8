"""How much of its back end's speed training on LunarLander keeps, in one run on one core.

    python benchmarks/lunarlander.py [--trajectories 300] [--repeats 3]

The raw speed is that of the back end alone under random actions, on as many rows as a batch has, every row stepped and
started over when its episode ends. The useful speed counts the steps that stand in a trajectory, over the time of the
training loop, of which sampling takes a share. They are measured in turn, and every figure is the median of all turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import envpool
import gymnasium
import numpy as np
import torch
from throughput import Stopwatch

import byzbench
from byzbench.federation.federation import SimulatedFederation
from byzbench.tasks import lunarlander

K, STEPS = 13, 100
LARGE, SMALL = (int(K * lunarlander.LunarLander.suggested[size]) for size in "NB")


def gymnasium_alone(rows: int) -> Callable[[np.ndarray], None]:
    """One step of a list of Gymnasium's landers."""
    landers = [gymnasium.make("LunarLander-v3").unwrapped for _ in range(rows)]
    for seed, lander in enumerate(landers):
        lander.reset(seed=seed)

    def step(actions: np.ndarray) -> None:
        for lander, action in zip(landers, actions.tolist(), strict=True):
            if lander.step(action)[2]:
                lander.reset()

    return step


def envpool_alone(rows: int) -> Callable[[np.ndarray], None]:
    """One step of a pool, which starts rows over by itself."""
    pool = envpool.make_gymnasium("LunarLander-v3", num_envs=rows, num_threads=1, seed=0)
    pool.reset()
    return pool.step


ALONE = {"gymnasium": gymnasium_alone, "envpool": envpool_alone}


def raw(backend: str, rows: int) -> float:
    """Steps per second of a back end alone."""
    step, actions = ALONE[backend](rows), np.random.default_rng(0).integers(4, size=(STEPS, rows))
    start = time.perf_counter()
    for chosen in actions:
        step(chosen)
    return actions.size / (time.perf_counter() - start)


def training(backend: str, trajectories: int) -> tuple[float, float]:
    """Useful steps per second of DecByzPG, and the share of its time that sampling takes."""
    with tempfile.TemporaryDirectory() as out, Stopwatch(SimulatedFederation, "sample") as watch:
        result = byzbench.run(
            algo="decbyzpg",
            env=f"lunarlander:backend={backend}",
            attack="avg_zero",
            topology="complete",
            trajectories=trajectories,
            out=out,
        )
    return result.steps_per_second, watch.seconds * result.steps_per_second / result.steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("back end", f"raw, {SMALL} rows", f"raw, {LARGE} rows", "useful", "ratio", "sampling")
    print("{:10} {:>14} {:>14} {:>8} {:>6} {:>9}".format(*columns))
    for backend in ALONE:
        turns = []
        for _ in range(args.repeats):
            small, large = raw(backend, SMALL), raw(backend, LARGE)
            useful, sampling = training(backend, args.trajectories)
            turns.append((small, large, useful, useful / max(small, large), sampling))
        small, large, useful, ratio, sampling = map(statistics.median, zip(*turns, strict=True))
        print(f"{backend:10} {small:14,.0f} {large:14,.0f} {useful:8,.0f} {ratio:6.0%} {sampling:9.0%}")


if __name__ == "__main__":
    main()
