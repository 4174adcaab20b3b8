"""All rules in training: each aggregation rule without an attack and under four attacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench import registry
from byzbench.reports.ordering import paired_difference
from byzbench.reports.paired_tests import holm
from byzbench.reports.plot_style import COLOURS, GREY, STYLE
from byzbench.reports.sheets import Table
from byzbench.reports.statistics import mean_interval
from byzbench.reproduce.small_batches import DESCRIPTION, SETTING, ScoreStudy, mean_score, scores
from byzbench.reproduce.study import MeasuredRow, Options, StudyResult

AGENTS = 15
"""K: Bulyan needs K >= 4f + 3."""
ALGORITHM = "decbyzpg(N=8, p=1, lr=0.01)"
ATTACKS: Mapping[str, str] = {name: f"{name}(on=both)" for name in ("rop", "agr_tailored", "avg_zero", "ipm")}
ORACLE = "honest_mean"

INTRODUCTION = f"""{DESCRIPTION} Here K = {AGENTS}, since Bulyan needs K >= 4f + 3. The method is `{ALGORITHM}` with
Adam for every rule; no parameter is tuned to any of them, and the rules have their default parameters. Rules aggregate
gradients, and agents have equal parameters without an agreement. Rules that start from the receiver's own vector,
marked with *, also mix parameters (`gossip+rule`), since they give every agent another vector. `{ORACLE}` is the
reference, which knows who is honest; `ubar` is left out, since no attack can evaluate policies as it does. Rows are in
the order of their worst mean score."""


@dataclass(frozen=True)
class RuleStudy(ScoreStudy):
    """Scores of every rule by attack."""

    def rows(self) -> dict[str, list[Options]]:
        """Return the rows of every built-in rule, without an attack and under each."""
        rows: dict[str, list[Options]] = {}
        for rule in rules():
            shared: Options = {**SETTING, "agents": AGENTS, "algo": ALGORITHM}
            shared = {**shared, "aggregator": rule, "agreement": f"gossip+{rule}" if is_own(rule) else "none"}
            rows |= {_name(rule, name): [{**shared, "attack": spec}] for name, spec in _attacks().items()}
        return rows

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the table of all rules."""
        records: list[dict[str, Any]] = []
        cells = []
        for rule in _ordered(result):
            means = {attack: mean_interval(scores(_row(result, rule, attack))) for attack in _attacks()}
            worst = _worst(result, rule)
            score = mean_score(_row(result, rule, worst))
            records.append({"rule": rule, **{attack: mean.value for attack, mean in means.items()}, "worst": worst})
            records[-1] |= {"low": score.low, "high": score.high}
            name = f"{rule} *" if is_own(rule) else rule
            cells.append([name, *(f"{mean.value:.2f}" for mean in means.values()), worst, str(score)])
        head = ["rule", *(f">{attack}" for attack in _attacks()), "worst attack", "worst score"]
        return [Table("rules", "Mean scores by rule and attack", records, head, cells)]

    def findings(self, result: StudyResult) -> list[str]:
        """Return which rule has the best worst score, how many it is better than, and what rules cost."""
        known = [rule for rule in _ordered(result) if rule != ORACLE]
        best, others = known[0], known[1:]
        gaps = [paired_difference(_worst_scores(result, best) - _worst_scores(result, rule)) for rule in others]
        num_better = int(holm([1.0 if gap.p is None else gap.p for gap in gaps]).sum())
        clean, worst = _row(result, best, "none"), _row(result, best, _worst(result, best))
        cost = mean_interval(
            np.mean([scores(_row(result, "mean", "none")) - scores(_row(result, rule, "none")) for rule in known], 0)
        )
        return [
            f"The best worst score, {mean_score(worst)} under {_worst(result, best)}, is that of {best}, which scores "
            f"{mean_score(clean)} without an attack; {num_better} of the {len(others)} other rules are certainly worse "
            "(paired t-tests, Holm's correction).",
            f"Without an attack the rules score {cost} less than plain averaging in the mean.",
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw the clean and the worst score of each rule."""
        order = _ordered(result)[::-1]
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(5.2, 0.8 + 0.15 * len(order)), layout="constrained")
            axes = figure.add_subplot()
            for y, rule in enumerate(order):
                clean = scores(_row(result, rule, "none")).mean()
                worst = mean_score(_row(result, rule, _worst(result, rule)))
                axes.plot([worst.value, clean], [y, y], color="0.85", lw=1, zorder=0)
                axes.plot(clean, y, "o", ms=4, color=GREY, label="none" if y == 0 else None)
                axes.plot(worst.value, y, "D", ms=4, color=COLOURS[1], label="worst attack" if y == 0 else None)
                if worst.low is not None and worst.high is not None:
                    axes.plot([worst.low, worst.high], [y, y], color=COLOURS[1], lw=0.8)
            axes.set_yticks(range(len(order)), order, fontsize=6.5)
            axes.set(xlabel="score", ylim=(-0.8, len(order) - 0.2))
            axes.legend(loc="lower right", fontsize=6.5)
        return figure


def rules() -> list[str]:
    """Return the built-in aggregation rules by name, without those that evaluate policies."""
    names = [name for name, origin in registry.origins("aggregator").items() if origin.module.startswith("byzbench.")]
    return [name for name in names if "evaluator" not in registry.make("aggregator", name).required_inputs]


def is_own(rule: str) -> bool:
    """Return whether a rule starts from the receiver's own vector, so that agents get different ones."""
    return bool(registry.make("aggregator", rule).traits.self_centered)


def _attacks() -> dict[str, str]:
    return {"none": "none", **ATTACKS}


def _name(rule: str, attack: str) -> str:
    return f"{rule}: {attack}"


def _row(result: StudyResult, rule: str, attack: str) -> MeasuredRow:
    return result.rows[_name(rule, attack)]


def _worst(result: StudyResult, rule: str) -> str:
    """Return the attack of the lowest mean score of a rule."""
    return min(ATTACKS, key=lambda attack: float(scores(_row(result, rule, attack)).mean()))


def _worst_scores(result: StudyResult, rule: str) -> np.ndarray:
    """Return the scores of a rule under its worst attack, by seed."""
    return scores(_row(result, rule, _worst(result, rule)))


def _ordered(result: StudyResult) -> list[str]:
    """Return the rules of a result in the order of their worst mean score."""
    names = dict.fromkeys(name.partition(": ")[0] for name in result.rows)
    return sorted(names, key=lambda rule: -float(_worst_scores(result, rule).mean()))


RULES = RuleStudy(
    name="rules",
    title="Rules in training",
    text=INTRODUCTION,
    source="the rules' papers are named by `byzbench show aggregator NAME`",
    cost="an hour of two cores, estimated",
    num_seeds=5,
    first_seed=7200,
)
