"""Cost of a step of an attacker's environment, relative to a round of a run: prints a table.

    python benchmarks/environments.py [--repeats 5]

Every row is one experiment, which is run, and then played with the same messages: `FederationEnv` with those of
`sign_flip`, `AttackEnv` with those of `learned`. Processor seconds of a whole training with the evaluation at its end,
spread over its rounds; the least of the repeats, which take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from byzbench.attacks.learned import Learned
from byzbench.envs import AttackEnv, FederationEnv
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep, one_thread

ROWS: dict[str, dict[str, Any]] = {
    "decbyzpg, K=7, f=2": {"algo": "decbyzpg", "agents": 7, "byzantine": 2, "trajectories": 150},
    "decbyzpg, K=7, f=2, N=4, linear": {
        "algo": "decbyzpg(N=4, B=2, p=0.5)",
        "policy": "linear",
        "agents": 7,
        "byzantine": 2,
        "trajectories": 120,
    },
    "byzpg, K=7, f=2, N=4, linear": {
        "algo": "byzpg(N=4, B=2, p=0.5)",
        "policy": "linear",
        "agents": 7,
        "byzantine": 2,
        "trajectories": 120,
    },
    "dec_page_pg, K=13, f=3": {"algo": "dec_page_pg", "agents": 13, "byzantine": 3, "trajectories": 150},
}


def round_of_run(attack: str, options: dict[str, Any]) -> float:
    """Processor seconds of a round of a run."""
    experiment = Experiment.create(attack=attack, seed=0, **options)
    start = time.process_time()
    with one_thread():
        training = Training(experiment)
        while not training.is_finished:
            training.trace(lockstep(training.advance()))
        training.evaluate(experiment.evaluations)
    return (time.process_time() - start) / training.round


def round_of_players(env: FederationEnv) -> float:
    """Processor seconds of a round in which players send what `sign_flip` sends."""
    start = time.process_time()
    observations, infos = env.reset(seed=0)
    while env.agents:
        observations, _, _, _, infos = env.step({agent: -vector for agent, vector in observations.items()})
    return (time.process_time() - start) / (infos["attacker_0"]["round"] + 1)


def round_of_attacker(env: AttackEnv, attack: Learned) -> float:
    """Processor seconds of a round in which an attacker acts as `learned` does."""
    memory = attack.start(None)
    start = time.process_time()
    observation, info = env.reset(seed=0)
    truncated = False
    while not truncated:
        action = attack.act(torch.from_numpy(observation), memory).numpy()
        observation, _, _, truncated, info = env.step(action)
    return (time.process_time() - start) / (info["round"] + 1)


def main() -> None:
    """Measure every row, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print("milliseconds of a round\n")
    print("| | run, `sign_flip` | FederationEnv | ratio | run, `learned` | AttackEnv | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, options in ROWS.items():
        players, attacker, attack = FederationEnv(**options), AttackEnv(**options), Learned()
        work: list[Callable[[], float]] = [
            partial(round_of_run, "sign_flip", options),
            partial(round_of_players, players),
            partial(round_of_run, "learned", options),
            partial(round_of_attacker, attacker, attack),
        ]
        times = [[measure() for measure in work] for _ in range(repeats + 1)]
        least = 1000 * np.array(times[1:]).min(0)  # the first of each compiles
        cells = [f"{run:.1f} | {env:.1f} | {env / run:.2f}" for run, env in least.reshape(2, 2)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
