"""Groups of runs as pictures for papers: learning curves, performance profiles, speed-up; and writing any kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from byzbench.errors import CorruptRecord, StorageError, UserError
from byzbench.reports.canvas import GREY, INTERVALS, STYLE, Drawn, Plan, label, missing, seeds
from byzbench.reports.heatmap import heatmap
from byzbench.reports.paired_tests import MIN_SEEDS
from byzbench.reports.plots import curve, trace
from byzbench.reports.statistics import mean_interval, profile
from byzbench.reports.summary import METRICS, Groups, Row, estimated, reference

FORMATS = (".png", ".pdf", ".svg")
TARGETS = {"cartpole": 400.0}
"""Of speed-up: returns that tell those who learned the task from those who did not."""

_POINTS = 150
_SHADE = 0.15
_THIN: dict[str, Any] = {"lw": 0.8, "ls": (0, (4, 3))}


def draw(kind: str, groups: Groups, path: Path, *, panel: Sequence[str] = (), target: float | None = None) -> Drawn:
    """Write a picture.

    Args:
        kind: a key of `KINDS`.
        groups: what to draw.
        path: the file; its ending is the format.
        panel: axes along which to make a panel for each value; by default, those along which nothing competes.
        target: of speed-up, the training return to be reached.

    Raises:
        UserError: the file's ending means no format, or these runs cannot be drawn so.
        StorageError: the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UserError(f"pictures are written as {', '.join(FORMATS)}; got {str(path)!r}")
    with matplotlib.rc_context(STYLE):
        drawn = KINDS[kind](groups, panel, target)
        # No dates: the same runs give the same bytes.
        metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(ending)
        try:
            drawn.figure.savefig(path, dpi=300, metadata=metadata)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    return drawn


def curves(groups: Groups, panel: Sequence[str], target: float | None = None) -> Drawn:
    """Plot the training return against trajectories per agent: mean and interval over seeds."""
    plan = Plan.of(groups, panel)
    figure, panels = plan.canvas(height=1.9)
    problems: list[str] = []
    cut = False
    for axes, rows in zip(panels, plan.panels.values(), strict=True):
        for row in rows:
            budget = _budget(row)
            grid = np.linspace(budget / _POINTS, budget, _POINTS)
            found = _read(row, partial(curve, key="return", grid=grid), problems)
            if len(found):
                _band(axes, grid, found, row, plan.look(label(row, plan.lines)))
                cut |= not np.isfinite(found).all()
        axes.set_xlim(0, max(map(_budget, rows)))
        axes.xaxis.set_major_locator(MaxNLocator(5 if len(panels) == 1 else 3, steps=[1, 2, 2.5, 4, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        _levels(axes, rows[0])
    figure.supxlabel("trajectories per agent", fontsize=8)
    figure.supylabel("training return", fontsize=8)
    plan.legend(figure)
    caption = (
        f"Mean over {seeds(groups.rows)} of training returns that are averaged over the last twentieth of the budget, "
        "of finished runs, with pointwise 95 % intervals of Student's t, which do not allow for failures that no seed "
        "shows."
        f"{' A line ends where a run of it is no longer finite.' * cut}"
    )
    return Drawn(figure, caption + missing(groups.rows), tuple(problems))


def _read(row: Row, reading: Callable[[Path], np.ndarray], problems: list[str]) -> np.ndarray:
    """Something of the log of each finished run, [seeds, ...]."""
    found = []
    for entry in row.entries:
        if entry.result:
            try:
                found.append(reading(entry.path))
            except CorruptRecord as error:
                problems.append(str(error))
    return np.array(found)


def _band(axes: Axes, grid: np.ndarray, found: np.ndarray, row: Row, look: Mapping[str, Any]) -> None:
    """Plot a line and its band, of values [seeds, points]; neither where a run has no finite value."""
    whole = np.isfinite(found).all(0)
    grid, columns = grid[whole], found.T[whole]
    intervals = [mean_interval(column) for column in columns]
    axes.plot(grid, [interval.value for interval in intervals], **look)
    if not row.lost and len(found) >= MIN_SEEDS:
        ends = np.array([(interval.low, interval.high) for interval in intervals], float).reshape(-1, 2).T
        axes.fill_between(grid, *ends, color=look["color"], alpha=_SHADE, lw=0)


def _levels(axes: Axes, row: Row) -> None:
    """The task's reference scores as lines, named in the margin."""
    spec = axes.get_subplotspec()
    for word, level in reference(row.entries[0]).items():
        axes.axhline(level, color=GREY, lw=0.7, ls=(0, (1, 2)), zorder=0)
        if spec is None or spec.is_last_col():
            place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
            axes.annotate(f" {word}", (1, level), fontsize=6.5, color=GREY, **place)


def profiles(groups: Groups, panel: Sequence[str], target: float | None = None) -> Drawn:
    """Plot the share of runs above tau, for each method. A failed run has the random policy's return if it is known."""
    plan = Plan.of(groups, panel, pooled=True)
    figure, panels = plan.canvas(height=2.2)
    for axes, rows in zip(panels, plan.panels.values(), strict=True):
        levels = [*np.concatenate([row.values for row in rows]), *reference(rows[0].entries[0]).values()]
        low, high = min(levels, default=0.0), max(levels, default=1.0)
        taus = np.linspace(low, high + 0.02 * (high - low), 4 * _POINTS)
        for name in plan.names:
            mine = plan.of_line(name, rows)
            scores = np.concatenate([np.empty(0), *(np.r_[row.values, [low - 1.0] * row.left_out] for row in mine)])
            if len(scores):
                (share, under, over), look = profile(scores, taus), plan.look(name)
                axes.plot(taus, share, **look)
                axes.fill_between(taus, under, over, color=look["color"], alpha=_SHADE, lw=0)
        axes.set(xlim=(taus[0], taus[-1]), ylim=(0, 1.02))
    figure.supxlabel(f"τ ({METRICS[groups.metric]})", fontsize=8)
    figure.supylabel("share of runs above τ", fontsize=8)
    plan.legend(figure)
    counts = [
        f"{name or 'all'} {sum(len(r.values) + r.left_out for r in plan.of_line(name, groups.rows))}"
        for name in plan.names
    ]
    caption = (
        f"Share of runs above τ, with pointwise {INTERVALS}; runs: {', '.join(counts)}; failed ones at the random "
        "policy's return, or below any τ where it is not known."
    )
    return Drawn(figure, caption + missing(groups.rows))


def speedup(groups: Groups, panel: Sequence[str], target: float | None) -> Drawn:
    """Trajectories per agent until the return reaches a target, against the number of honest agents."""
    if absent := [axis for axis in ("agents", "byzantine") if axis not in groups.axes]:
        raise UserError(f"speed-up is drawn against the number of honest agents: --by lacks {absent[0]}")
    goal, plan = _goal(groups, target), Plan.of(groups, panel, hidden=("agents", "byzantine", "declared"))
    figure, panels = plan.canvas(height=2.6)
    problems: list[str] = []
    for axes, rows in zip(panels, plan.panels.values(), strict=True):
        for name in plan.names:
            mine = sorted(plan.of_line(name, rows), key=_honest)
            times = [_read(row, partial(reached, goal=goal), problems) for row in mine]
            _speed(axes, mine, times, {**plan.look(name), "marker": plan.marker(name)})
        axes.set(xscale="log", yscale="log")
        axes.margins(y=0.15)
        axes.xaxis.set(major_locator=FixedLocator(sorted({*map(_honest, rows)})), minor_locator=NullLocator())
        axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(_thousands))
    figure.supxlabel("honest agents n", fontsize=8)
    figure.supylabel(f"trajectories per agent to return {goal:g}", fontsize=8)
    plan.legend(figure, [(Line2D([], [], color=GREY, **_THIN), "ideal, 1/n")], markers=True)
    caption = (
        f"Trajectories per agent until the training return, averaged over the last tenth of them, reaches {goal:g}: "
        f"geometric mean over {seeds(groups.rows)}, with {INTERVALS} (Student's, of logarithms); an open marker with "
        "an arrow where some runs never did, which count as their budgets."
    )
    return Drawn(figure, caption + missing(groups.rows), tuple(problems))


def _goal(groups: Groups, target: float | None) -> float:
    names = sorted({row.entries[0].name("env") for row in groups.rows})
    if target is None and len(names) == 1:
        target = TARGETS.get(names[0])
    if target is None:
        raise UserError("say with --target which training return is to be reached")
    return target


def _budget(row: Row) -> int:
    return max(1, row.entries[0].name("trajectories"))  # a stranger's description may say anything


def _honest(row: Row) -> int:
    return max(1, row.entries[0].name("agents") - row.entries[0].name("byzantine"))


def reached(folder: Path, goal: float) -> np.ndarray:
    """Trajectories until a run's return reaches the goal, or all of them; and whether it did.

    The return is averaged over the last tenth of the trajectories so far. A window of a fixed length would hide speed.
    """
    at, values = trace(folder, "return")
    total, end = np.concatenate([[0.0], np.cumsum(values * np.diff(at))]), at[1:]
    start = np.minimum(0.9 * end, at[:-1])
    level = (total[1:] - np.interp(start, at, total)) / np.maximum(end - start, 1e-9)
    over = np.flatnonzero(level >= goal)
    return np.array([end[over[0]] if len(over) else end[-1], float(len(over) > 0)])


def _speed(axes: Axes, rows: Sequence[Row], times: Sequence[np.ndarray], look: Mapping[str, Any]) -> None:
    """One line; a point of which runs never arrived is open, has an arrow, and says how many."""
    points, colour = [], look["color"]
    for row, found in zip(rows, times, strict=True):
        if not len(found):
            continue
        late = int((found[:, 1] == 0).sum()) + row.lost
        middle = estimated(np.log(found[:, 0]), left_out=late)
        assert middle is not None
        at, value = _honest(row), math.exp(middle.value)
        points.append((at, value, late))
        if middle.low is not None and middle.high is not None:
            reach = value - math.exp(middle.low), math.exp(middle.high) - value
            axes.errorbar(at, value, [[end] for end in reach], color=colour, elinewidth=1.0, capsize=2.5, zorder=1)
        if late:
            arrow = {"arrowstyle": "<|-", "color": colour, "lw": 1.0, "shrinkB": 2.5, "mutation_scale": 7}
            axes.annotate("", (at, value), (0, 15), textcoords="offset points", arrowprops=arrow)
            said = f"{late} of {len(found) + row.lost} never"
            axes.annotate(said, (at, value), (5, 5), textcoords="offset points", fontsize=6.5, color=colour)
    if points:
        across, up, missed = np.array(points).T
        axes.plot(across, up, **{**look, "marker": ""}, zorder=1)
        for open_, face in ((missed == 0, colour), (missed > 0, "white")):
            axes.plot(across[open_], up[open_], look["marker"], ms=4.5, mec=colour, mfc=face)
        for at, value, late in points:
            if not late:  # the ideal starts where all arrived
                ideal = np.array([at, across[-1]])
                axes.plot(ideal, at * value / ideal, color=colour, alpha=0.6, zorder=0, **_THIN)
                break


def _thousands(value: float, _: object = None) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


KINDS: Mapping[str, Callable[[Groups, Sequence[str], float | None], Drawn]] = {
    "curves": curves,
    "heatmap": heatmap,
    "profile": profiles,
    "speedup": speedup,
}
"""What can be drawn."""
