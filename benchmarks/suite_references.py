"""The constants that a suite measures returns by: what fed_page_pg reaches on its star when nobody lies.

    python benchmarks/suite_references.py smoke-v1 --seeds 8

For every task, budget and number of agents of the suite: the interquartile mean over seeds of the last evaluation
return, which is copied into the suite before it is frozen, and never again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from byzbench.experiments.executors import executor
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.suite import Plan
from byzbench.experiments.sweep import sweep
from byzbench.leaderboard.suites import suite
from byzbench.reports.statistics import estimate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    for env, agents, trajectories in sorted({(s.env, s.agents, s.trajectories) for s in suite(given.suite).strata}):
        cells = {
            f"seed {seed}": Experiment.create(
                "fed_page_pg", "none", "star", env, agents=agents, byzantine=0, trajectories=trajectories, seed=seed
            )
            for seed in range(given.seeds)
        }
        with executor("process", given.out, jobs=given.jobs) as workers:
            done = sweep(Plan("references", cells, {}), given.out, workers).outcomes
        returns = [outcome.result["evaluation"]["evaluation"] for outcome in done.values()]
        found = estimate(returns)
        random = next(iter(cells.values())).task.worth("random")
        print(
            f"{env}, K={agents}, {trajectories} trajectories: reference {found.value:.1f} "
            f"({found.low:.1f} to {found.high:.1f}, n={found.n}), random {random}; "
            f"seeds {', '.join(f'{r:.1f}' for r in sorted(returns))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
