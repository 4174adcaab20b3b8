"""Breakdown by the number of Byzantine agents, and by a wrong assumed number."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench.reports.plot_style import COLOURS, DASHES, MARKERS, STYLE
from byzbench.reports.sheets import Table
from byzbench.reports.statistics import mean_interval
from byzbench.reproduce.small_batches import AGENTS, DESCRIPTION, SETTING, ScoreStudy, mean_score, scores
from byzbench.reproduce.study import MeasuredRow, Options, StudyResult

RULES = ("rfa", "krum", "trimmed_mean", "nnm+trimmed_mean", "geometric_median", "mean")
TRUE = tuple(range(7))
ASSUMED = (1, 3, 5)
ALGORITHM = "byzpg(N=8, p=1, lr=0.01)"

INTRODUCTION = f"""{DESCRIPTION} Here the method is `{ALGORITHM}`, with a server; f agents attack by `rop`, of which
the rules assume another number. Krum needs K >= 2f + 3, so no larger number than 5 can be assumed of {AGENTS} agents;
`geometric_median` and `rfa` do not use it, so their columns have the same runs."""


@dataclass(frozen=True)
class WrongFStudy(ScoreStudy):
    """Scores of rules by the true and the assumed number of Byzantine agents."""

    def rows(self) -> dict[str, list[Options]]:
        """Return the rows of every rule, true and assumed number."""
        return {
            _name(rule, true, assumed): [
                {
                    **SETTING,
                    "algo": ALGORITHM,
                    "aggregator": rule,
                    "attack": "rop" if true else "none",
                    "byzantine": true,
                    "assumed_byzantine": assumed,
                }
            ]
            for rule, true, assumed in product(RULES, TRUE, ASSUMED)
        }

    def tables(self, result: StudyResult) -> list[Table]:
        """Return a table for each assumed number."""
        return [_table(assumed, result) for assumed in ASSUMED]

    def findings(self, result: StudyResult) -> list[str]:
        """Return where the best rule breaks down, and what a wrong assumed number costs it."""
        rule = max(RULES, key=lambda name: float(scores(_row(result, name, 3, 3)).mean()))
        within, beyond = (mean_score(_row(result, rule, true, 3)) for true in (3, 5))
        under, over = (mean_interval(_loss(result, rule, true=3, right=3, wrong=wrong)) for wrong in (1, 5))
        alone = mean_interval(_loss(result, rule, true=0, right=1, wrong=5))
        return [
            f"With 3 assumed, the best rule under rop, {rule}, scores {within} for f = 3 and {beyond} for f = 5.",
            f"For f = 3 it loses {under} of its score with 1 assumed in place of 3, and {over} with 5; where nobody is "
            f"Byzantine it loses {alone} with 5 assumed in place of 1.",
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw scores against the true number: a panel for each assumed one, a line for each rule."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 2.6), layout="constrained")
            for axes, assumed in zip(figure.subplots(1, len(ASSUMED), sharey=True), ASSUMED, strict=True):
                for i, rule in enumerate(RULES):
                    means = [scores(_row(result, rule, true, assumed)).mean() for true in TRUE]
                    look: Any = {"color": COLOURS[i], "marker": MARKERS[i], "ls": DASHES[i % 2], "ms": 4}
                    axes.plot(TRUE, means, label=rule, **look)
                axes.axvline(assumed, color="0.8", lw=0.8, zorder=0)
                axes.set(xlabel="Byzantine agents f", xticks=TRUE, title=f"{assumed} assumed")
            figure.axes[0].set_ylabel("score under rop")
            figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=6.5)
        return figure


def _name(rule: str, true: int, assumed: int) -> str:
    return f"{rule}, f={true}, assumed={assumed}"


def _row(result: StudyResult, rule: str, true: int, assumed: int) -> MeasuredRow:
    return result.rows[_name(rule, true, assumed)]


def _loss(result: StudyResult, rule: str, *, true: int, right: int, wrong: int) -> np.ndarray:
    """Return by seed how much less a rule scores with a wrong assumed number than with the right one."""
    return scores(_row(result, rule, true, right)) - scores(_row(result, rule, true, wrong))


def _table(assumed: int, result: StudyResult) -> Table:
    records: list[dict[str, Any]] = []
    cells = []
    for rule in RULES:
        means = {true: mean_score(_row(result, rule, true, assumed)) for true in TRUE}
        records.append({"rule": rule, "assumed": assumed, **{f"f={true}": mean.value for true, mean in means.items()}})
        cells.append([rule, *(f"{mean.value:.2f}" for mean in means.values()), str(means[assumed])])
    head = ["rule", *(f">f = {true}" for true in TRUE), f"f = {assumed}"]
    return Table(f"assumed{assumed}", f"Mean scores with {assumed} assumed", records, head, cells)


WRONG_F = WrongFStudy(
    name="wrong_f",
    title="Breakdown by the number of Byzantine agents, true and assumed",
    text=INTRODUCTION,
    source="this project: rules are told a number of Byzantine agents that nobody knows",
    cost="10 minutes of two cores",
    num_seeds=6,
    first_seed=7300,
)
