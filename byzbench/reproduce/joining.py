"""Is joining worth it: honest agents in a federation under attack against the same agents alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from byzbench.reports.ordering import Difference, paired_difference
from byzbench.reports.plot_style import COLOURS, GREY, STYLE
from byzbench.reports.sheets import Table
from byzbench.reproduce.small_batches import DESCRIPTION, SETTING, ScoreStudy, mean_score, scores
from byzbench.reproduce.study import MeasuredRow, Options, StudyResult

STEPS = (1e-3, 3e-3, 1e-2, 3e-2)
BATCHES = (4, 8, 16)
ATTACKS: Mapping[str, str] = {
    "none": "none",
    **{name: f"{name}(on=both)" for name in ("rop", "agr_tailored", "avg_zero", "ipm")},
}
ALONE = "solo"
METHODS: Mapping[str, Options] = {
    "decbyzpg, rfa": {"algo": "decbyzpg", "aggregator": "rfa"},
    "decbyzpg, nnm+trimmed_mean": {"algo": "decbyzpg", "aggregator": "nnm+trimmed_mean"},
    "decbyzpg, krum": {"algo": "decbyzpg", "aggregator": "krum"},
    "clipped_gossip": {"algo": "clipped_gossip"},
    "nna": {"algo": "nna"},
    "decbyzpg, mean": {"algo": "decbyzpg", "aggregator": "mean", "agreement": "mean"},
}
CHOOSING = "rop"
"""The attack under which the batch and the step of a federation are chosen."""

INTRODUCTION = f"""{DESCRIPTION} An agent alone is `solo`, which samples as much as each agent of a federation and does
not communicate. N of {", ".join(map(str, BATCHES))} and a step of {", ".join(f"{lr:g}" for lr in STEPS)} are chosen by
the same search for each row, on seeds that no row is scored on: of `solo` by its score, of federations by their score
under `{CHOOSING}`, and kept under the other attacks. p = 1, Adam with a constant step. *Gain* is the score under the
worst attack, that of the lowest mean, less that of `solo`, paired by seed, with Student's 95 % interval. No
attack reaches `solo`."""


@dataclass(frozen=True)
class JoiningStudy(ScoreStudy):
    """Scores of federations under attack, and their gain over agents alone."""

    def rows(self) -> dict[str, list[Options]]:
        """Return the row of agents alone, and those of each federation and attack."""
        rows = {ALONE: _candidates({"algo": ALONE, "attack": "none"})}
        for (method, options), (attack, spec) in product(METHODS.items(), ATTACKS.items()):
            rows[_name(method, attack)] = _candidates({**options, "attack": spec})
        return rows

    def choice_of(self, row: str) -> str:
        """Return the row of the same method under the attack of the search."""
        return row if row == ALONE else _name(row.partition(": ")[0], CHOOSING)

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the table of all methods."""
        alone = mean_score(result.rows[ALONE])
        records: list[dict[str, Any]] = [{"method": ALONE, "none": alone.value}]
        cells = [[ALONE, _setting(result.rows[ALONE]), f"{alone.value:.2f}", *[""] * (len(ATTACKS) - 1), "", ""]]
        for method in METHODS:
            means = {attack: scores(result.rows[_name(method, attack)]).mean() for attack in ATTACKS}
            worst, gain = _worst(result, method), _gain(result, method)
            records.append({"method": method, **means, "worst": worst, "gain": gain.value})
            records[-1] |= {"gain_low": gain.low, "gain_high": gain.high}
            setting = _setting(result.rows[_name(method, CHOOSING)])
            cells.append([method, setting, *(f"{mean:.2f}" for mean in means.values()), worst, str(gain)])
        head = ["method", "N/step", *(f">{attack}" for attack in ATTACKS), "worst", "gain over solo"]
        return [Table("joining", "Mean scores, and the gain of joining under the worst attack", records, head, cells)]

    def findings(self, result: StudyResult) -> list[str]:
        """Return which federations gain under their worst attack, and which lose."""
        gains = {method: _gain(result, method) for method in METHODS}
        above = [method for method, gain in gains.items() if gain.low is not None and gain.low > 0]
        below = [method for method, gain in gains.items() if gain.high is not None and gain.high < 0]
        best, least = (choose(gains, key=lambda method: gains[method].value) for choose in (max, min))
        return [
            f"Under its worst attack {best} scores {gains[best]} more than agents alone, the most of "
            f"{len(METHODS)} methods; {len(above)} of them gain with their whole interval.",
            f"{least} gains least, {gains[least]}; {len(below)} lose with their whole interval.",
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw the scores of each method by attack, and that of agents alone as a line."""
        alone = mean_score(result.rows[ALONE])
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 2.8), layout="constrained")
            axes = figure.add_subplot()
            for (i, method), (j, attack) in product(enumerate(METHODS), enumerate(ATTACKS)):
                mean = mean_score(result.rows[_name(method, attack)])
                at = i + 0.16 * (j - 2)
                axes.bar(at, mean.value, 0.14, color=[GREY, *COLOURS][j], label=attack if i == 0 else None)
                if mean.low is not None and mean.high is not None:
                    axes.plot([at, at], [mean.low, mean.high], color="black", lw=0.7)
            axes.axhline(alone.value, color="black", ls="--", lw=0.9, label=ALONE)
            names = [method.replace(", ", ",\n") for method in METHODS]
            axes.set_xticks(range(len(METHODS)), names, fontsize=7)
            axes.set_ylabel("score")
            axes.legend(fontsize=6.5, ncols=2)
        return figure


def _candidates(options: Options) -> list[Options]:
    p = {} if options["algo"] in ("clipped_gossip", "nna") else {"p": 1.0}
    return [
        {**SETTING, **options, "parameters": {"algorithm": {"N": n, "lr": lr, **p}}}
        for n, lr in product(BATCHES, STEPS)
    ]


def _name(method: str, attack: str) -> str:
    return f"{method}: {attack}"


def _setting(row: MeasuredRow) -> str:
    chosen = row.options["parameters"]["algorithm"]
    return f"{chosen['N']}/{chosen['lr']:g}"


def _worst(result: StudyResult, method: str) -> str:
    """Return the attack of the lowest mean score of a method."""
    attacks = [attack for attack in ATTACKS if attack != "none"]
    return min(attacks, key=lambda attack: float(scores(result.rows[_name(method, attack)]).mean()))


def _gain(result: StudyResult, method: str) -> Difference:
    """Return the score of a method under its worst attack less that of agents alone, paired by seed."""
    return paired_difference(scores(result.rows[_name(method, _worst(result, method))]) - scores(result.rows[ALONE]))


JOINING = JoiningStudy(
    name="joining",
    title="Is joining worth it?",
    text=INTRODUCTION,
    source="this project: a federation under attack against the same agents alone",
    cost="half an hour of two cores, estimated",
    first_seed=7400,
    search_seeds=(7950, 7951, 7952),
)
