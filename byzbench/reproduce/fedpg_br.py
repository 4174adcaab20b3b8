"""FedPG-BR on CartPole: the returns that its authors' figures show, and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench.reports.plot_style import COLOURS, GREY, STYLE
from byzbench.reports.plots import trace
from byzbench.reports.sheets import Table
from byzbench.reports.statistics import mean_interval
from byzbench.reproduce.estimates import format_interval
from byzbench.reproduce.published import is_within
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

ERROR = 0.05
"""The error of reading the figures, as a share of the number."""
EVALUATIONS = 25


@dataclass(frozen=True)
class Curve:
    """Curve of the figure: a method, and its return at a number of trajectories.

    Attributes:
        algo: The method.
        agents: K.
        budget: Trajectories per agent of our run.
        at: Trajectories at which the published return is read.
        published: The published return; None where the figure has none.
        attack: The attack of three of ten agents.
    """

    algo: str
    agents: int
    budget: int
    at: int
    published: float | None = None
    attack: str = "none"

    @property
    def name(self) -> str:
        """Return the name of the row."""
        return f"{self.algo}, K={self.agents}, {self.attack}"

    def options(self) -> Options:
        """Return the options of the row."""
        byzantine = 0 if self.attack == "none" else 3
        preset = "paper" if self.algo == "gpomdp" else "official"
        shared = {"agents": self.agents, "byzantine": byzantine, "trajectories": self.budget, "preset": preset}
        return {"algo": self.algo, "attack": self.attack, **shared, "evaluations": EVALUATIONS}


CURVES = (
    Curve("fedpg_br", 10, 2500, 2500, 500),
    Curve("fedpg_br", 3, 2500, 2500, 500),
    Curve("fedpg_br", 1, 2500, 2500, 450),
    Curve("svrpg", 1, 2500, 2500, 450),
    Curve("gpomdp", 1, 5000, 5000, 460),
    *(Curve("fedpg_br", 10, 2500, 2500, None, attack) for attack in ("large_noise", "random_action", "sign_flip")),
)

INTRODUCTION = """CartPole, preset `official` of FedPG-BR and SVRPG, a trusted server with an environment of its
own; return of the likeliest actions, as the authors evaluate, at trajectories per agent, or of the server,
whichever are more. Published is what their figure shows, read to {error:.0%}; a number is *within* if it is in
our 95 % interval, widened by that error. Under attacks they show other tasks."""


@dataclass(frozen=True)
class FedPgBrStudy(Study):
    """The CartPole figure of FedPG-BR."""

    @property
    def introduction(self) -> str:
        """Return how the table is made."""
        return INTRODUCTION.format(error=ERROR)

    def rows(self) -> dict[str, list[Options]]:
        """Return the curves."""
        return {curve.name: [curve.options()] for curve in CURVES}

    def measure(self, folder: Path) -> list[list[float | None]]:
        """Return trajectories and evaluation returns of a run; None for a policy that is not finite."""
        at, values = trace(folder, "evaluation_greedy")
        return [at[1:].tolist(), [round(float(v), 1) if np.isfinite(v) else None for v in values]]

    def tables(self, result: StudyResult) -> list[Table]:
        """Return published and measured returns."""
        records: list[dict[str, Any]] = []
        cells = []
        for curve in CURVES:
            ours = mean_interval([_value(run, curve.at) for run in result.rows[curve.name].runs])
            published = curve.published
            within = None if published is None else is_within(published, ours, ERROR * published)
            records.append({"row": curve.name, "trajectories": curve.at, "published": published, "within": within})
            records[-1] |= {"ours": ours.value, "low": ours.low, "high": ours.high}
            shown = ["-" if published is None else f"{published:.0f}", format_interval(ours, 0)]
            verdict = "" if within is None else "yes" if within else "no"
            cells.append([curve.algo, str(curve.agents), curve.attack, f"{curve.at:,}", *shown, verdict])
        head = ["method", ">K", "attack", ">trajectories", ">published", "ours", "within"]
        return [Table("fedpg_br", "CartPole", records, head, cells)]

    def checks(self, result: StudyResult) -> dict[str, bool]:
        """Return whether the published number of each curve is within."""
        return {
            record["row"]: bool(record["within"]) for record in self.tables(result)[0].records if record["published"]
        }

    def figure(self, result: StudyResult) -> Figure:
        """Draw our curves, without an attack and under attacks, and published returns as crosses."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 2.8), layout="constrained")
            panels = figure.subplots(1, 2, sharey=True)
            clean = [curve for curve in CURVES if curve.attack == "none"]
            for axes, curves in zip(panels, (clean, [c for c in CURVES if c.attack != "none"]), strict=True):
                for curve, colour in zip(curves, COLOURS, strict=False):
                    x, y = _mean_curve(result.rows[curve.name], curve.budget)
                    axes.plot(x, y, color=colour, label=curve.name.removesuffix(", none"))
                    if curve.published is not None:
                        axes.plot(curve.at, curve.published, "x", color=colour, mec=GREY)
                axes.set(xlabel="trajectories per agent", ylabel="evaluation return")
                axes.legend(fontsize=6.5)
        return figure


def _value(run: Sequence[Sequence[float | None]], at: float) -> float:
    """Return the last evaluation up to a number of trajectories; a policy that is not finite has the return 0."""
    values = [value or 0.0 for when, value in zip(*run, strict=True) if when is not None and when <= 1.05 * at]
    return values[-1] if values else 0.0


def _mean_curve(row: MeasuredRow, budget: int) -> tuple[list[float], list[float]]:
    grid = [budget * (number + 1) / EVALUATIONS for number in range(EVALUATIONS)]
    return grid, [float(np.mean([_value(run, x) for run in row.runs])) for x in grid]


FEDPG_BR = FedPgBrStudy(
    name="fedpg_br",
    title="FedPG-BR on CartPole: the published returns and ours",
    source="Fan et al. 2021, arXiv 2110.14074, CartPole figure",
    cost="10 minutes of one core",
)
