"""Measure what plain averaging loses where agents differ, without an attack: makes docs/heterogeneity.md.

    python benchmarks/heterogeneity.py [--jobs 2] [--seeds 8]

K=13 honest agents, and rules that assume f=3. A run that is already in `runs/` is not repeated. About a quarter of an
hour on two cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _cells import options, results

from byzbench import registry
from byzbench.core import Task
from byzbench.experiments.experiment import Experiment
from byzbench.reports.statistics import difference_interval

STEP = "p=1, N=8, lr=0.01"
METHODS: dict[str, dict[str, Any]] = {
    "mean": {"algo": f"decbyzpg({STEP})", "aggregator": "mean", "agreement": "mean"},
    "krum": {"algo": f"decbyzpg({STEP})", "aggregator": "krum", "agreement": "mda"},
    "rfa": {"algo": f"decbyzpg({STEP})", "aggregator": "rfa", "agreement": "mda"},
    "nnm+trimmed_mean": {"algo": f"decbyzpg({STEP})", "aggregator": "nnm+trimmed_mean", "agreement": "mda"},
    "nna": {"algo": "nna(N=8, lr=0.01)"},
    "solo": {"algo": "solo(p=1, N=8, lr=0.003)"},
}
"""The panel of the pilot of smoke-v2 with its parameters; the first is plain averaging.

The parameters that these leave out are those of the preset `paper`, as recommendations change.
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "all agents alike": {},
    "physics": {"scenario": "heterogeneous(spread=1)"},
    "rewards": {"scenario": "heterogeneous(spread=1, of=rewards)"},
    "physics and rewards": {"scenario": "heterogeneous(spread=1)+heterogeneous(spread=1, of=rewards)"},
    "starts": {"scenario": "heterogeneous(spread=1, of=starts)"},
    "physics, rewards and starts": {
        "scenario": "heterogeneous(spread=1)+heterogeneous(spread=1, of=rewards)+heterogeneous(spread=1, of=starts)"
    },
}
"""Five heterogeneous settings, and one without differences."""
MARK = 0.1
"""The loss that would count, as a share of the scale from random to solved."""

PAGE = """# What averaging loses where agents differ

Made by `{command}`.

K = 13 honest agents, no attack, complete graph, {trajectories} trajectories, {seeds} seeds; rules assume f = 3. The
task is CartPole; the methods and their parameters are the panel of the pilot of smoke-v2. Every scenario has spread 1.
Cells are areas under the evaluation curves of agents in their own environments, the mean over seeds. The second number
is the loss of plain averaging: the paired difference between the method and the mean, as a share of the scale from the
random to the solved return, with Student's 95 % interval. It is positive where the method is better than the mean.

{table}

{verdict}

## What was not shown

- Longer budgets. After {trajectories} trajectories an agent alone has hardly begun to learn; that it would overtake a
  common policy later is possible.
- Tuned methods: the parameters are those of the pilot, which were chosen where all agents are alike.
- Byzantine agents that use the differences as cover.
- Tasks whose optimal policies conflict. In all of these one policy can be good for every agent.
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = options(__doc__, seeds=8, trajectories=300)
    args = parser.parse_args()
    cells = {
        (row, method, seed): Experiment.create(
            **chosen,
            **setting,
            preset="paper",
            agents=13,
            byzantine=0,
            assumed_byzantine=0 if method == "solo" else 3,
            trajectories=args.trajectories,
            evaluations=15,
            evaluation_episodes=3,
            seed=2000 + seed,
        )
        for row, setting in SETTINGS.items()
        for method, chosen in METHODS.items()
        for seed in range(args.seeds)
    }
    areas = {key: result.evaluation["evaluation_auc"] for key, result in results("heterogeneity", cells, args).items()}
    lines = ["| what differs | " + " | ".join(METHODS) + " |", "|---" + "|--:" * len(METHODS) + "|"]
    possible, certain = [], []
    for row, setting in SETTINGS.items():
        task = registry.make("task", setting.get("env", "cartpole"))
        assert isinstance(task, Task)
        scale = (task.reference_score("solved") or 0.0) - (task.reference_score("random") or 0.0)
        area = {m: np.array([areas[row, m, seed] for seed in range(args.seeds)], float) for m in METHODS}
        texts = [f"{values.mean():.1f}" for values in area.values()]
        for number, (method, values) in enumerate(list(area.items())[1:], start=1):
            loss = difference_interval((values - area["mean"]) / scale, scale=1.0)
            assert loss.low is not None
            assert loss.high is not None
            texts[number] += f"; {loss.value:+.2f} ({loss.low:+.2f} to {loss.high:+.2f})"
            possible += [f"{method} ({row})"] if loss.high >= MARK else []
            certain += [f"{method} ({row})"] if loss.low >= MARK else []
        lines.append(f"| {row} | " + " | ".join(texts) + " |")
    verdict = (
        f"Averaging loses at least {MARK} of the scale to: {', '.join(certain)}."
        if certain
        else f"In none of these settings does plain averaging certainly lose {MARK} of the scale to another method. "
        + (f"An interval reaches {MARK} for: {', '.join(possible)}." if possible else f"No interval reaches {MARK}.")
    )
    command = f"python benchmarks/heterogeneity.py --seeds {args.seeds} --trajectories {args.trajectories}"
    page = PAGE.format(
        command=command, trajectories=args.trajectories, seeds=args.seeds, table="\n".join(lines), verdict=verdict
    )
    (args.docs / "heterogeneity.md").write_text(page)


if __name__ == "__main__":
    main()
