"""Compare step sizes, batches and schedules on CartPole, from which the recommended parameters come.

    python benchmarks/recommended.py [--seeds 16] [--jobs 2]

Makes docs/recommended.md. A run that is already in `runs/` is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from _cells import options, results

from byzbench.experiments.experiment import Experiment
from byzbench.identity import ENGINE
from byzbench.records.result import Result
from byzbench.records.run_folder import RunFolder

HEAD = """# Recommended parameters

Made by `python benchmarks/recommended.py`, at engine {engine}.

CartPole, {trajectories} trajectories per agent, K=13 (f=3 under ALIE), p=1: every round takes a large batch of N
episodes, so there is no variance reduction, and B has no effect. The complete graph and the ring for DecByzPG, the
complete graph for its variant without Byzantine agents, a server for ByzPG. The schedule `linear` lowers the step to
zero over the budget.

*area* is the mean area under the evaluation curve; *end* the mean evaluation at the end, and the lowest; *stayed* the
number of runs that were above {stay} in each of the last three evaluations. {seeds} seeds from {first} on, which no
table of another page has. `>` marks the setting of a group that stays most often and, of those, has the largest area.

"""
FIRST, STAY = 9100, 400
"""The first seed; the evaluation above which a run has learned the task."""

CONSTANT = [(8, lr, "constant") for lr in (0.005, 0.007, 0.01)]
FEDERATED = [*CONSTANT, (8, 0.01, "linear"), (8, 0.015, "linear"), (8, 0.02, "linear"), (6, 0.02, "linear")]
FEW = [(8, 0.01, "constant"), (8, 0.015, "linear"), (8, 0.02, "linear")]
ALONE = [(2, 0.005, "constant"), (1, 0.003, "constant"), (1, 0.003, "linear"), (1, 0.005, "linear")]
ALONE += [(2, 0.005, "linear"), (2, 0.007, "linear"), (4, 0.01, "linear")]
Setting = tuple[int, float, str]
GROUPS: Mapping[tuple[str, str, str], Sequence[Setting]] = {
    ("decbyzpg", "complete", "none"): FEDERATED,
    ("decbyzpg", "complete", "alie"): FEDERATED,
    ("decbyzpg", "ring", "alie"): FEW,
    ("dec_page_pg", "complete", "none"): FEW,
    ("byzpg", "star", "none"): FEW,
    ("solo", "complete", "none"): ALONE,
}
"""The settings N, lr and schedule that are compared, by method, topology and attack."""


def experiment(algo: str, topology: str, attack: str, setting: Setting, seed: int, trajectories: int) -> Experiment:
    """The experiment of one run."""
    N, lr, schedule = setting
    return Experiment.create(
        f"{algo}(N={N},p=1,lr={lr},lr_schedule={schedule})",
        attack,
        topology,
        agents=13,
        byzantine=3,
        trajectories=trajectories,
        seed=seed,
        preset="paper",
    )


def curve(run: Path) -> np.ndarray:
    """The evaluations of a run."""
    lines = RunFolder(run).metrics()
    return np.array([line["evaluation"] for line in lines if line.get("evaluation") is not None])


def table(runs: Mapping[Setting, Sequence[Result]]) -> list[str]:
    """The lines of a group: one for each setting, with a mark at the best."""
    facts = {}
    for setting, group in runs.items():
        curves = [curve(Path(str(result.run))) for result in group]
        areas = [result.evaluation["evaluation_auc"] for result in group]
        ends, stayed = [curve[-1] for curve in curves], sum(bool((curve[-3:] > STAY).all()) for curve in curves)
        facts[setting] = stayed, float(np.mean(areas)), float(np.mean(ends)), float(np.min(ends))
    best = max(facts, key=lambda setting: facts[setting][:2])
    lines = ["    N   lr      schedule   area    end (lowest)   stayed"]
    for setting, (stayed, area, end, lowest) in facts.items():
        N, lr, schedule = setting
        mark, of = ">" if setting == best else " ", len(runs[setting])
        lines.append(f"  {mark} {N:<3} {lr:<7g} {schedule:<9} {area:6.0f} {end:6.0f} ({lowest:.0f}){stayed:12} of {of}")
    return lines


def main() -> None:
    """Run what is missing, and write the page."""
    args: argparse.Namespace = options(__doc__, seeds=16, trajectories=500).parse_args()
    seeds = range(FIRST, FIRST + args.seeds)
    keys = [(group, setting, seed) for group, settings in GROUPS.items() for setting in settings for seed in seeds]
    done = results("recommended", {key: experiment(*key[0], *key[1:], args.trajectories) for key in keys}, args)
    parts = []
    for group, settings in GROUPS.items():
        runs = {setting: [done[group, setting, seed] for seed in seeds] for setting in settings}
        algo, topology, attack = group
        where = f"{algo}, alone" if algo == "solo" else f"{algo}, {topology}, {attack}"
        parts.append("\n".join([where, *table(runs)]))
    head = HEAD.format(engine=ENGINE, trajectories=args.trajectories, stay=STAY, seeds=args.seeds, first=FIRST)
    page = Path(args.docs) / "recommended.md"
    page.write_text(head + "```text\n" + "\n\n".join(parts) + "\n```\n", encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
