"""The learning curves of DecByzPG's paper, by both presets, over the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench.reports.estimators import Interval
from byzbench.reports.plot_style import COLOURS, STYLE
from byzbench.reports.sheets import Table
from byzbench.reports.statistics import mean_interval
from byzbench.reproduce.learning import centred_curve
from byzbench.reproduce.published import digitised_curves, is_within, share_within
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

BUDGET = 8000
STEP = 100
GRID = range(STEP, BUDGET, STEP)
"""Trajectories per agent at which curves are kept, each the mean over `WINDOW` trajectories around it."""
WINDOW = 200
SHOWN = (1000, 2000, 3000, 4000, 5000, 6000, 7000, 7900)
"""The columns of the tables."""
ATTACKS = {"random_action": "RandomAction", "large_noise": "LargeNoise", "avg_zero": "AvgZero"}
PRESETS: Mapping[str, Options] = {
    "paper": {"preset": "paper"},
    "official": {"preset": "official", "parameters": {"algorithm": {"streams": "official"}}},
}
LAST, LOST, KEPT = 5, 0.1, 0.8
"""Points of `GRID` that are the end, and shares of the clean return there: up to the first share a method is broken,
from the second on it withstands."""
OUTCOMES = (
    ("DecByzPG", "random_action", True),
    ("DecByzPG", "large_noise", True),
    ("DecByzPG", "avg_zero", True),
    ("Dec-PAGE-PG", "random_action", True),
    ("Dec-PAGE-PG", "large_noise", False),
    ("Dec-PAGE-PG", "avg_zero", False),
)
"""What the paper shows: method, attack, and whether the method withstands it."""
ALONE, FEW, MANY, AVERAGED = "PAGE-PG K=1", "Dec-PAGE-PG K=5", "DecByzPG K=13", "Dec-PAGE-PG K=13"

INTRODUCTION = """{task}: training return of the honest agents at trajectories per agent. Ours are means over seeds
of the mean over the {window} trajectories around each point, with Student's 95 % interval; published is the mean of ten
seeds, as read off the figures with an error of {errors}. A published number is *within* if it is in our interval,
widened by that error; its own spread over seeds is not known. A `*` marks an interval that it is not in.

The preset `paper` is the pseudo-code with Adam at the published batches and step. The preset `official` is the released
code with its habits and its random streams, of which all seeds share the initial policy, the coin and the actions: its
seeds are hardly repetitions, and its intervals too narrow. At K = 5 the released script averages without a rule, so its
curve is compared with Dec-PAGE-PG. Under an attack K = 13, of which f = 3 agents are Byzantine."""


@dataclass(frozen=True)
class PublishedCurves(Study):
    """Learning curves of the paper on a task.

    Attributes:
        env: The task.
        task: Its name in the figures.
        panels: The key of its panels in the digitised curves.
        error: The error of reading a curve.
        steep: The first and the last of the trajectories where the error is another one, and this error; or None.
    """

    env: str = "cartpole"
    task: str = "CartPole"
    panels: str = "cartpole"
    error: int = 3
    steep: tuple[int, int, int] | None = (2500, 4000, 10)

    @property
    def introduction(self) -> str:
        """Return how the tables are made."""
        steep = self.steep and f", and {self.steep[2]} from {self.steep[0]:,} to {self.steep[1]:,} trajectories"
        return INTRODUCTION.format(task=self.task, window=WINDOW, errors=f"{self.error}{steep or ''}")

    def reading_error(self, trajectories: int) -> int:
        """Return the error of reading the published curves at a number of trajectories."""
        steep = self.steep is not None and self.steep[0] <= trajectories <= self.steep[1]
        return self.steep[2] if self.steep and steep else self.error

    def curves(self) -> dict[str, tuple[Options, Sequence[float | None]]]:
        """Return the options and the published values of each curve; no values where the figure was not digitised."""
        data = digitised_curves()
        together, panels = data["speedup"][self.task], data[self.panels]
        thirteen = {"agents": 13, "byzantine": 0}
        curves: dict[str, tuple[Options, Sequence[float | None]]] = {
            ALONE: ({"algo": "page_pg", "agents": 1, "byzantine": 0}, together["PAGE-PG K=1"]),
            FEW: ({"algo": "dec_page_pg", "agents": 5, "byzantine": 0}, together["DecByzPG K=5"]),
            MANY: ({"algo": "decbyzpg", **thirteen}, together["DecByzPG K=13"]),
            AVERAGED: ({"algo": "dec_page_pg", **thirteen}, panels["AvgZero"]["Dec-PAGE-PG K=13 a=0"]),
        }
        for attack, panel in ATTACKS.items():
            for method, algo in (("Dec-PAGE-PG", "dec_page_pg"), ("DecByzPG", "decbyzpg")):
                options = {"algo": algo, "attack": attack, "agents": 13, "byzantine": 3}
                curves[f"{method} {attack}"] = options, panels.get(panel, {}).get(f"{method} K=13 a=3/13", ())
        return curves

    def rows(self) -> dict[str, list[Options]]:
        """Return every curve by both presets."""
        shared = {"env": self.env, "trajectories": BUDGET}
        return {
            f"{preset}: {name}": [{**options, **shared, **more}]
            for preset, more in PRESETS.items()
            for name, (options, _) in self.curves().items()
        }

    def measure(self, folder: Path) -> list[float | None]:
        """Return the learning curve of a run on `GRID`."""
        return centred_curve(folder, GRID, WINDOW)

    def tables(self, result: StudyResult) -> list[Table]:
        """Return a table for each preset: every curve as published and as measured."""
        return [self._table(preset, result) for preset in PRESETS]

    def _table(self, preset: str, result: StudyResult) -> Table:
        records: list[dict[str, Any]] = []
        cells = []
        for name, (_, values) in self.curves().items():
            published = dict(zip(digitised_curves()["x"], values, strict=False))
            line, verdicts = [], []
            for x in SHOWN:
                ours, value = at(result.rows[f"{preset}: {name}"], x), published.get(x)
                within = None if ours is None or value is None else is_within(value, ours, self.reading_error(x))
                ends = (None, None, None) if ours is None else (ours.value, ours.low, ours.high)
                names = ("curve", "trajectories", "published", "ours", "low", "high", "within")
                records.append(dict(zip(names, (name, x, value, *ends, within), strict=True)))
                verdicts.append(within)
                line.append(_shown(ours, within))
            if values:
                shown = ["-" if published[x] is None else f"{published[x]:.0f}" for x in SHOWN]
                cells.append([name, "published", *shown, ""])
            cells.append([name, "ours", *line, share_within(verdicts)])
        head = ["curve", "", *(f">{x:,}" for x in SHOWN), "within"]
        return Table(preset, f"Preset {preset}", records, head, cells)

    def checks(self, result: StudyResult) -> dict[str, bool]:
        """Return what the paper concludes from its CartPole figures; shares of a negative return mean nothing."""
        if self.env != "cartpole":
            return {}
        return {
            f"{preset}: {statement}": holds
            for preset in PRESETS
            for statement, holds in _conclusions(
                {name: result.rows[f"{preset}: {name}"].runs for name in self.curves()}
            ).items()
        }

    def figure(self, result: StudyResult) -> Figure:
        """Draw our curves over the published ones: a row for each preset, a panel for each attack."""
        panels = {"no attack": [ALONE, FEW, MANY, AVERAGED]} | {
            attack: [f"Dec-PAGE-PG {attack}", f"DecByzPG {attack}"] for attack in ATTACKS
        }
        curves, x = self.curves(), digitised_curves()["x"]
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 4.0), layout="constrained")
            axes = figure.subplots(len(PRESETS), len(panels), sharex=True, sharey=True)
            for line, preset in zip(axes, PRESETS, strict=True):
                for one, (title, names) in zip(line, panels.items(), strict=True):
                    for name, colour in zip(names, COLOURS, strict=False):
                        _band(one, result.rows[f"{preset}: {name}"], colour, name.removesuffix(f" {title}"))
                        if published := curves[name][1]:
                            y = [np.nan if value is None else value for value in published]
                            one.plot(x, y, color=colour, ls="--", lw=1.0)
                    one.set_title(f"{title}, {preset}", fontsize=7.5)
            for one in axes[0]:
                one.legend(fontsize=5.5)
            figure.supxlabel("trajectories per agent (dashed: published)", fontsize=8)
            figure.supylabel("training return", fontsize=8)
        return figure


def at(row: MeasuredRow, trajectories: int) -> Interval | None:
    """Return the mean over seeds at a point of `GRID` with its interval; None if a run is not finite there."""
    values = [run[trajectories // STEP - 1] for run in row.runs]
    return None if None in values else mean_interval(values)


def _shown(ours: Interval | None, within: bool | None) -> str:
    if ours is None:
        return "-"
    half = "" if ours.high is None else f" ± {ours.high - ours.value:.0f}"
    return f"{ours.value:.0f}{half}{'*' * (within is False)}"


def _conclusions(runs: Mapping[str, Sequence[Sequence[float | None]]]) -> dict[str, bool]:
    """Return the conclusions of the paper from the runs of each curve of a preset. A value that is not finite is 0."""
    values = {name: np.array([[value or 0.0 for value in run] for run in several]) for name, several in runs.items()}
    area = {name: float(curves.mean()) for name, curves in values.items()}
    end = {name: float(curves[:, -LAST:].mean()) for name, curves in values.items()}
    clean = {"DecByzPG": end[MANY], "Dec-PAGE-PG": end[AVERAGED]}
    statements = {"mean return over the budget: K=1 < K=5 < K=13": area[ALONE] < area[FEW] < area[MANY]}
    for method, attack, withstands in OUTCOMES:
        share = end[f"{method} {attack}"] / clean[method]
        verb = "withstands" if withstands else "is broken by"
        statements[f"{method} {verb} {attack}"] = share >= KEPT if withstands else share <= LOST
    return statements


def _band(axes: Any, row: MeasuredRow, colour: str, label: str) -> None:
    intervals = [(x, interval) for x in GRID if (interval := at(row, x)) is not None]
    points = [x for x, _ in intervals]
    axes.plot(points, [interval.value for _, interval in intervals], color=colour, lw=1.1, label=label)
    if all(interval.low is not None for _, interval in intervals):
        ends = [(interval.low, interval.high) for _, interval in intervals]
        axes.fill_between(points, *zip(*ends, strict=True), color=colour, alpha=0.15, lw=0)


CARTPOLE = PublishedCurves(
    name="decbyzpg",
    title="DecByzPG on CartPole: the published curves and ours",
    source="Jordan et al. 2024, arXiv 2401.03489, CartPole figures",
    cost="an hour of one core",
)
LUNARLANDER = PublishedCurves(
    name="decbyzpg_lunarlander",
    title="DecByzPG on LunarLander: the published curves and ours",
    source="Jordan et al. 2024, arXiv 2401.03489, LunarLander figures",
    cost="days of one core",
    env="lunarlander",
    task="LunarLander",
    panels="lunar",
    error=2,
    steep=None,
)
