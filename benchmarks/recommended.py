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
from byzbench.experiments.result import Result
from byzbench.identity import ENGINE
from byzbench.records.run_folder import RunFolder

HEAD = """# Recommended parameters

Made by `python benchmarks/recommended.py`, at engine {engine}.

CartPole, {trajectories} trajectories per agent, K=13 (f=3 under ALIE). The complete graph and the ring for DecByzPG,
the complete graph for its variants without variance reduction (`dec_pg`) and without Byzantine agents (`dec_page_pg`),
a server for ByzPG. The schedule `linear` lowers the step to zero over the budget, `inverse_sqrt` with the square root
of the number of rounds. `baseline=others` subtracts from returns the mean of the agent's other episodes.

*area* is the mean area under the evaluation curve; *end* the mean evaluation at the end, and the lowest; *stayed* the
number of runs that were above {stay} in each of the last three evaluations. {seeds} seeds from {first} on, which no
table of another page has. `>` marks the setting of a group that stays most often and, of those, has the largest area.
A method has one recommendation for all groups, so of a group that separates two settings less, another may be marked.
Longer runs, and seeds that no choice has used, are in [stability](stability.md).

"""
FIRST, STAY = 9100, 400
"""The first seed; the evaluation above which a run has learned the task."""

PAGE = (
    "N=10,B=5,p=0.5,lr=0.015,lr_schedule=linear",
    "N=10,B=5,p=0.5,lr=0.05,lr_schedule=inverse_sqrt",
    "N=10,B=5,p=0.5,lr=0.05,lr_schedule=inverse_sqrt,baseline=others",
    "N=10,B=5,p=0.5,lr=0.03,lr_schedule=inverse_sqrt,baseline=others",
    "N=16,B=8,p=0.5,lr=0.05,lr_schedule=inverse_sqrt,baseline=others",
)
RINGS = PAGE[1:]
ONE_BATCH = (
    "N=8,lr=0.02,lr_schedule=linear",
    "N=8,lr=0.05,lr_schedule=inverse_sqrt,baseline=others",
    "N=8,lr=0.03,lr_schedule=inverse_sqrt,baseline=others",
    "N=6,lr=0.05,lr_schedule=inverse_sqrt,baseline=others",
)
ALONE = (
    "N=1,p=1,lr=0.003,lr_schedule=linear",
    "N=2,p=1,lr=0.01,lr_schedule=linear,baseline=others",
    "N=2,p=1,lr=0.02,lr_schedule=inverse_sqrt,baseline=others",
    "N=4,p=1,lr=0.02,lr_schedule=inverse_sqrt,baseline=others",
    "N=4,p=1,lr=0.04,lr_schedule=inverse_sqrt,baseline=others",
    "N=4,p=1,lr=0.06,lr_schedule=inverse_sqrt,baseline=others",
    "N=4,B=2,p=0.5,lr=0.04,lr_schedule=inverse_sqrt,baseline=others",
)
GROUPS: Mapping[tuple[str, str, str], Sequence[str]] = {
    ("decbyzpg", "complete", "none"): PAGE,
    ("decbyzpg", "complete", "alie"): PAGE,
    ("decbyzpg", "ring", "alie"): RINGS,
    ("dec_pg", "complete", "alie"): ONE_BATCH,
    ("dec_pg", "ring", "alie"): ONE_BATCH,
    ("dec_page_pg", "complete", "none"): RINGS,
    ("byzpg", "star", "none"): RINGS,
    ("solo", "complete", "none"): ALONE,
}
"""The parameters that are compared, by method, topology and attack."""


def experiment(algo: str, topology: str, attack: str, parameters: str, seed: int, trajectories: int) -> Experiment:
    """The experiment of one run."""
    return Experiment.create(
        f"{algo}({parameters})",
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


def table(runs: Mapping[str, Sequence[Result]]) -> list[str]:
    """The lines of a group: one for each setting, with a mark at the best."""
    facts = {}
    for setting, group in runs.items():
        curves = [curve(Path(str(result.run))) for result in group]
        areas = [result.evaluation["evaluation_auc"] for result in group]
        ends, stayed = [curve[-1] for curve in curves], sum(bool((curve[-3:] > STAY).all()) for curve in curves)
        facts[setting] = stayed, float(np.mean(areas)), float(np.mean(ends)), float(np.min(ends))
    best = max(facts, key=lambda setting: facts[setting][:2])
    width = max(map(len, facts))
    lines = [f"    {'':{width}}  area  end (lowest)    stayed"]
    for setting, (stayed, area, end, lowest) in facts.items():
        mark, ends, count = ">" if setting == best else " ", f"{end:.0f} ({lowest:.0f})", len(runs[setting])
        lines.append(f"  {mark} {setting:{width}}  {area:4.0f}  {ends:12}  {stayed:2} of {count}")
    return lines


def main() -> None:
    """Run what is missing, and write the page."""
    args: argparse.Namespace = options(__doc__, seeds=10, trajectories=500).parse_args()
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
