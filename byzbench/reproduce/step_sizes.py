"""Step size and rank: how far the order of methods under attack depends on a common step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from byzbench.reports.plot_style import COLOURS, DASHES, MARKERS, STYLE
from byzbench.reports.sheets import Table
from byzbench.reproduce.small_batches import DESCRIPTION, SETTING, ScoreStudy, bootstrap_interval, mean_score, scores
from byzbench.reproduce.study import Options, StudyResult

STEPS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
ATTACKS: Mapping[str, str] = {"none": "none", "rop": "rop(on=both)"}
METHODS: Mapping[str, Options] = {
    "decbyzpg, rfa": {"algo": "decbyzpg", "aggregator": "rfa"},
    "decbyzpg, krum": {"algo": "decbyzpg", "aggregator": "krum"},
    "decbyzpg, trimmed_mean": {"algo": "decbyzpg", "aggregator": "trimmed_mean"},
    "decbyzpg, nnm+trimmed_mean": {"algo": "decbyzpg", "aggregator": "nnm+trimmed_mean"},
    "clipped_gossip": {"algo": "clipped_gossip"},
    "nna": {"algo": "nna"},
    "ios": {"algo": "ios"},
    "gts": {"algo": "gts"},
}
"""The methods: batches of 8 episodes, p = 1, Adam with a constant step."""

INTRODUCTION = f"""{DESCRIPTION} All methods have N = 8, p = 1 and Adam with a constant step, and differ in how they
aggregate. *Tuned* is the step of the highest mean score under `rop` on the seeds of a search, which no row is scored
on. Intervals allow for a failure that no seed has shown."""


@dataclass(frozen=True)
class StepSizeStudy(ScoreStudy):
    """Scores of methods by step, with the step chosen for each method beside them."""

    def rows(self) -> dict[str, list[Options]]:
        """Return the rows of every method and attack, by step and tuned."""
        rows: dict[str, list[Options]] = {}
        for (method, options), (attack, spec) in product(METHODS.items(), ATTACKS.items()):
            steps = [_with_step({**SETTING, **options, "attack": spec}, lr) for lr in STEPS]
            rows |= {_name(method, attack, lr): [step] for lr, step in zip(STEPS, steps, strict=True)}
            rows[_name(method, attack)] = steps
        return rows

    def choice_of(self, row: str) -> str:
        """Return the row under `rop` of the method of a row: tuned runs without an attack have its step."""
        method = row.partition(": ")[0]
        return _name(method, "rop") if row == _name(method, "none") else row

    def tables(self, result: StudyResult) -> list[Table]:
        """Return a table for each attack, with a row for each method."""
        return [_table(attack, result) for attack in ATTACKS]

    def findings(self, result: StudyResult) -> list[str]:
        """Return how much of the spread of scores is due to steps, and how far a common step keeps the order."""
        runs = _under_attack(result)
        of_step, of_method = (bootstrap_interval(runs[:, :-1], share) for share in (_step_share, _method_share))
        worst = min(range(len(STEPS)), key=lambda i: _agreement(runs, i))
        order = bootstrap_interval(runs, lambda drawn: _agreement(drawn, worst))
        return [
            f"Under rop the step explains {of_step} of the variance of mean scores over {len(METHODS)} methods and "
            f"{len(STEPS)} steps, the method {of_method}.",
            f"The order of the methods at the common step {STEPS[worst]:g} agrees with that at their tuned steps by "
            f"Kendall's tau {order}.",
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw scores against steps: a panel for each attack, a line for each method."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 3.0), layout="constrained")
            for axes, attack in zip(figure.subplots(1, len(ATTACKS), sharey=True), ATTACKS, strict=True):
                for i, method in enumerate(METHODS):
                    means = [mean_score(result.rows[_name(method, attack, lr)]).value for lr in STEPS]
                    look: Any = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "ms": 4}
                    axes.plot(STEPS, means, ls=DASHES[i // len(COLOURS)], label=method, **look)
                axes.set(xscale="log", xlabel="step size", title=f"attack {attack}")
            figure.axes[0].set_ylabel("score")
            figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=6.5)
        return figure


def _with_step(options: Options, lr: float) -> Options:
    batch: dict[str, Any] = {"N": 8, "lr": lr} | ({"p": 1.0} if options["algo"] == "decbyzpg" else {})
    return {**options, "parameters": {"algorithm": batch}}


def _name(method: str, attack: str, lr: float | None = None) -> str:
    return f"{method}: {attack}, {'tuned' if lr is None else f'lr={lr:g}'}"


def _under_attack(result: StudyResult) -> np.ndarray:
    """Return the scores under rop, float64 [methods, steps + 1, seeds]; the last column is tuned."""
    return np.array([[scores(result.rows[_name(m, "rop", lr)]) for lr in (*STEPS, None)] for m in METHODS])


def _step_share(runs: np.ndarray) -> float:
    """Return the share of the variance of mean scores [methods, steps, seeds] that the step explains."""
    means = runs.mean(-1)
    return float(means.mean(0).var() / means.var()) if np.ptp(means) else 0.0


def _method_share(runs: np.ndarray) -> float:
    """Return the share of the variance of mean scores [methods, steps, seeds] that the method explains."""
    return _step_share(runs.swapaxes(0, 1))


def _agreement(runs: np.ndarray, step: int) -> float:
    """Return Kendall's tau of the methods' orders at a step and at the tuned steps, the last column."""
    means = runs.mean(-1)
    return float(np.nan_to_num(stats.kendalltau(means[:, step], means[:, -1]).statistic))


def _table(attack: str, result: StudyResult) -> Table:
    records: list[dict[str, Any]] = []
    cells = []
    for method in METHODS:
        tuned = result.rows[_name(method, attack)]
        means = {lr: mean_score(result.rows[_name(method, attack, lr)]) for lr in STEPS}
        lr, best = tuned.options["parameters"]["algorithm"]["lr"], mean_score(tuned)
        records.append({"method": method, **{f"lr={lr:g}": mean.value for lr, mean in means.items()}})
        records[-1] |= {"tuned": best.value, "tuned_low": best.low, "tuned_high": best.high, "tuned_lr": lr}
        cells.append([method, *(f"{mean.value:.2f}" for mean in means.values()), str(best), f"{lr:g}"])
    head = ["method", *(f">{lr:g}" for lr in STEPS), "tuned", ">tuned step"]
    return Table(attack, f"Mean scores by step, attack {attack}", records, head, cells)


STEP_SIZES = StepSizeStudy(
    name="step_sizes",
    title="Step size and rank",
    text=INTRODUCTION,
    source="this project: does a common step order methods as their own best steps do?",
    cost="half an hour of two cores, estimated",
    first_seed=7000,
    search_seeds=(7900, 7901, 7902),
)
