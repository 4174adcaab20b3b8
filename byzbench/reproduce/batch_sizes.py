"""Where Byzantine agents matter: retention under attack by batch and step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench.reports.estimators import Interval
from byzbench.reports.plot_style import STYLE
from byzbench.reports.scoring import LEARNS
from byzbench.reports.sheets import Table
from byzbench.reproduce.small_batches import DESCRIPTION, SETTING, ScoreStudy, mean_score, retained
from byzbench.reproduce.study import Options, StudyResult

BATCHES = (1, 2, 4, 8, 16, 32)
STEPS = (1e-3, 3e-3, 1e-2, 3e-2)
ATTACK = "rop(on=both)"

INTRODUCTION = f"""{DESCRIPTION} DecByzPG with `rfa` and `mda`, p = 1, so every round has one batch of N episodes, and
Adam with a constant step. *Retention* is the score under `rop` over that of the same seeds without an attack, with
Fieller's interval, which allows for a failure that no seed has shown. It is in brackets where the mean score without an
attack is below {LEARNS:g}: an attack cannot take what has not been learned."""


@dataclass(frozen=True)
class BatchSizeStudy(ScoreStudy):
    """Retention of DecByzPG by batch and step."""

    def rows(self) -> dict[str, list[Options]]:
        """Return the rows of every batch and step, with and without the attack."""
        shared: Options = {**SETTING, "algo": "decbyzpg", "aggregator": "rfa", "agreement": "mda"}
        return {
            _name(n, lr, attack): [
                {**shared, "attack": attack, "parameters": {"algorithm": {"N": n, "p": 1.0, "lr": lr}}}
            ]
            for n, lr, attack in product(BATCHES, STEPS, ("none", ATTACK))
        }

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the table of all batches and steps."""
        records: list[dict[str, Any]] = []
        cells = []
        for n, lr in product(BATCHES, STEPS):
            clean, attacked = (mean_score(result.rows[_name(n, lr, attack)]) for attack in ("none", ATTACK))
            left = _retention(result, n, lr)
            share = "-" if left is None else str(left) if clean.value >= LEARNS else f"[{left}]"
            records.append({"N": n, "lr": lr, "clean": clean.value, "attacked": attacked.value})
            records[-1] |= {"retention": left and left.value, "low": left and left.low, "high": left and left.high}
            cells.append([str(n), f"{lr:g}", str(clean), str(attacked), share])
        return [
            Table("retention", "By batch and step", records, [">N", ">step", "none", "rop", "retention"], cells),
        ]

    def findings(self, result: StudyResult) -> list[str]:
        """Return the least and the largest retention of the settings that learn."""
        learned = {
            (n, lr): left
            for n, lr in product(BATCHES, STEPS)
            if mean_score(result.rows[_name(n, lr, "none")]).value >= LEARNS
            and (left := _retention(result, n, lr)) is not None
        }
        least, most = (choose(learned, key=lambda key: learned[key].value) for choose in (min, max))
        return [
            f"Of the {len(learned)} of {len(BATCHES) * len(STEPS)} settings that learn without an attack, rop leaves "
            f"least, {learned[least]} of the score, at N = {least[0]} and step {least[1]:g}.",
            f"It leaves most, {learned[most]}, at N = {most[0]} and step {most[1]:g}.",
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw retention as a map of batch and step; grey where runs do not learn without an attack."""
        values = np.full((len(STEPS), len(BATCHES)), np.nan)
        for (i, lr), (j, n) in product(enumerate(STEPS), enumerate(BATCHES)):
            left = _retention(result, n, lr)
            if left is not None and mean_score(result.rows[_name(n, lr, "none")]).value >= LEARNS:
                values[i, j] = left.value
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.6, 2.8), layout="constrained")
            axes = figure.add_subplot(facecolor="0.85")
            image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.6 else "k")
            axes.set_xticks(range(len(BATCHES)), [str(n) for n in BATCHES])
            axes.set_yticks(range(len(STEPS)), [f"{lr:g}" for lr in STEPS])
            axes.set(xlabel="episodes of a batch, N", ylabel="step size")
            figure.colorbar(image, label="retention under rop")
        return figure


def _name(n: int, lr: float, attack: str) -> str:
    return f"N={n}, lr={lr:g}: {attack}"


def _retention(result: StudyResult, n: int, lr: float) -> Interval | None:
    return retained(result.rows[_name(n, lr, ATTACK)], result.rows[_name(n, lr, "none")])


BATCH_SIZES = BatchSizeStudy(
    name="batch_sizes",
    title="Where Byzantine agents matter",
    text=INTRODUCTION,
    source="this project: large batches hide attacks",
    cost="20 minutes of two cores, estimated",
    first_seed=7100,
)
