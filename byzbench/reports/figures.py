"""Plots of groups of runs: learning curves, performance profiles and speed-up; and the writer of every kind of plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from byzbench.errors import CorruptRecord, UserError
from byzbench.reports.abscissa import ABSCISSAE
from byzbench.reports.heatmap import heatmap
from byzbench.reports.paired_tests import MIN_SEEDS
from byzbench.reports.plot_style import (
    GREY,
    INTERVALS,
    STYLE,
    Plot,
    PlotLayout,
    missing,
    require_format,
    save_figure,
    seeds,
)
from byzbench.reports.plots import curve, trace
from byzbench.reports.statistics import mean_interval, profile
from byzbench.reports.summary import METRICS, Groups, ReportRow, estimated, run_reference

TARGETS = {"cartpole": 400.0}
"""Default target returns of the speed-up plot, by task. A run that reaches its target has learned the task."""

_POINTS = 150
_SHADE = 0.15
_THIN: dict[str, Any] = {"lw": 0.8, "ls": (0, (4, 3))}


def draw_figure(
    kind: str,
    groups: Groups,
    path: Path,
    *,
    panel: Sequence[str] = (),
    target: float | None = None,
    x: str = "trajectories",
) -> Plot:
    """Plot groups of runs and write the figure to a file.

    Args:
        kind: The kind of plot, a key of `KINDS`.
        groups: The rows of the report.
        path: The file to write; its suffix chooses one of `FORMATS`.
        panel: Axes with a panel for each value; empty for those along which methods do not compete.
        target: The training return to reach, of the speed-up plot; None for the task's entry in `TARGETS`.
        x: The abscissa of learning curves, one of `ABSCISSAE`.

    Returns:
        The figure with its caption.

    Raises:
        UserError: The suffix is not one of `FORMATS`, or the runs do not fit this kind of plot.
        StorageError: The file cannot be written.
    """
    require_format(path)
    with matplotlib.rc_context(STYLE):
        drawn = curves(groups, panel, target, x) if kind == "curves" else KINDS[kind](groups, panel, target)
        save_figure(drawn.figure, path, dpi=300)
    return drawn


def curves(groups: Groups, panel: Sequence[str], target: float | None = None, x: str = "trajectories") -> Plot:
    """Plot the training return, as mean and interval over seeds.

    Args:
        groups: The runs.
        panel: Axes with a panel for each value.
        target: Not used.
        x: The abscissa, one of `ABSCISSAE`. A line of seconds or bytes ends where the first of its runs ends.
    """
    plan = PlotLayout.of(groups, panel)
    figure, panels = plan.canvas(height=1.9)
    problems: list[str] = []
    any_ends_early = False
    for axes, rows in zip(panels, plan.panels.values(), strict=True):
        for row in rows:
            end = _end(row, x)
            grid = np.linspace(end / _POINTS, end, _POINTS)
            values = _read(row, partial(curve, key="return", grid=grid, x=x), problems)
            if len(values):
                _band(axes, grid, values, row, plan.look(plan.name(row)))
                any_ends_early |= not np.isfinite(values).all()
        axes.set_xlim(0, max(_end(row, x) for row in rows))
        axes.xaxis.set_major_locator(MaxNLocator(5 if len(panels) == 1 else 3, steps=[1, 2, 2.5, 4, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        _levels(axes, rows[0])
    figure.supxlabel(ABSCISSAE[x], fontsize=8)
    figure.supylabel("training return", fontsize=8)
    plan.legend(figure)
    caption = (
        f"Mean over {seeds(groups.rows)} of training returns that are averaged over the last twentieth of the range, "
        "of finished runs, with pointwise 95 % intervals of Student's t, which do not allow for failures that no seed "
        "shows."
        f"{' A line ends where a run of it is no longer finite.' * any_ends_early}"
    )
    return Plot(figure, caption + missing(groups.rows), tuple(problems))


def _read(row: ReportRow, read: Callable[[Path], np.ndarray], problems: list[str]) -> np.ndarray:
    """Read values from the log of each finished run.

    Args:
        row: The row.
        read: A function from a run's folder to its values.
        problems: A list that gets one line for each log that cannot be read.

    Returns:
        The values, [seeds, ...].
    """
    values = []
    for entry in row.entries:
        if entry.result:
            try:
                values.append(read(entry.path))
            except CorruptRecord as error:
                problems.append(str(error))
    return np.array(values)


def _band(axes: Axes, grid: np.ndarray, values: np.ndarray, row: ReportRow, line_style: Mapping[str, Any]) -> None:
    """Plot the mean of values [seeds, points] and its interval at the points where every run has a finite value."""
    finite = np.isfinite(values).all(0)
    grid, columns = grid[finite], values.T[finite]
    intervals = [mean_interval(column) for column in columns]
    axes.plot(grid, [interval.value for interval in intervals], **line_style)
    if not row.lost and len(values) >= MIN_SEEDS:
        ends = np.array([(interval.low, interval.high) for interval in intervals], float).reshape(-1, 2).T
        axes.fill_between(grid, *ends, color=line_style["color"], alpha=_SHADE, lw=0)


def _levels(axes: Axes, row: ReportRow) -> None:
    """Draw the reference returns of the task as lines, named in the margin."""
    spec = axes.get_subplotspec()
    for name, level in run_reference(row.entries[0]).items():
        axes.axhline(level, color=GREY, lw=0.7, ls=(0, (1, 2)), zorder=0)
        if spec is None or spec.is_last_col():
            text_style: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
            axes.annotate(f" {name}", (1, level), fontsize=6.5, color=GREY, **text_style)


def profiles(groups: Groups, panel: Sequence[str], target: float | None = None) -> Plot:
    """Plot the share of runs whose metric is above tau, for each method.

    A failed run has the random policy's return if that is known, else it is below every tau.
    """
    plan = PlotLayout.of(groups, panel, pooled=True)
    figure, panels = plan.canvas(height=2.2)
    for axes, rows in zip(panels, plan.panels.values(), strict=True):
        levels = [*np.concatenate([row.values for row in rows]), *run_reference(rows[0].entries[0]).values()]
        low, high = min(levels, default=0.0), max(levels, default=1.0)
        taus = np.linspace(low, high + 0.02 * (high - low), 4 * _POINTS)
        for name in plan.names:
            line_rows = plan.of_line(name, rows)
            scores = np.concatenate(
                [np.empty(0), *(np.r_[row.values, [low - 1.0] * row.left_out] for row in line_rows)]
            )
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
    return Plot(figure, caption + missing(groups.rows))


def speedup(groups: Groups, panel: Sequence[str], target: float | None) -> Plot:
    """Plot trajectories per agent until the return reaches a target against the number of honest agents."""
    if absent := [axis for axis in ("agents", "byzantine") if axis not in groups.axes]:
        raise UserError(f"speed-up is plotted against the number of honest agents: --by must hold {absent[0]}")
    target_return, plan = (
        _goal(groups, target),
        PlotLayout.of(groups, panel, hidden=("agents", "byzantine", "assumed_byzantine")),
    )
    figure, panels = plan.canvas(height=2.6)
    problems: list[str] = []
    for axes, rows in zip(panels, plan.panels.values(), strict=True):
        for name in plan.names:
            line_rows = sorted(plan.of_line(name, rows), key=_honest)
            times = [_read(row, partial(reached, goal=target_return), problems) for row in line_rows]
            _speed(axes, line_rows, times, {**plan.look(name), "marker": plan.marker(name)})
        axes.set(xscale="log", yscale="log")
        axes.margins(y=0.15)
        axes.xaxis.set(major_locator=FixedLocator(sorted({*map(_honest, rows)})), minor_locator=NullLocator())
        axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(_thousands))
    figure.supxlabel("honest agents n", fontsize=8)
    figure.supylabel(f"trajectories per agent to return {target_return:g}", fontsize=8)
    plan.legend(figure, [(Line2D([], [], color=GREY, **_THIN), "ideal, 1/n")], markers=True)
    caption = (
        "Trajectories per agent until the training return, averaged over the last tenth of them, reaches "
        f"{target_return:g}: geometric mean over {seeds(groups.rows)}, with {INTERVALS} (Student's, of logarithms); an "
        "open marker with an arrow where some runs never did, which count as their budgets."
    )
    return Plot(figure, caption + missing(groups.rows), tuple(problems))


def _goal(groups: Groups, target: float | None) -> float:
    tasks = sorted({row.entries[0].name("env") for row in groups.rows})
    if target is None and len(tasks) == 1:
        target = TARGETS.get(tasks[0])
    if target is None:
        raise UserError("the speed-up plot needs --target, the training return to reach")
    return target


def _budget(row: ReportRow) -> int:
    return max(1, row.entries[0].name("trajectories"))  # a submitted record is not validated here


def _end(row: ReportRow, x: str) -> float:
    """Return the end of the abscissa of a row: the budget, or where the first of its runs ends."""
    if x == "trajectories":
        return _budget(row)
    ends = []
    for entry in row.entries:
        with suppress(CorruptRecord):  # such a run is named where its values are read
            ends.append(float(trace(entry.path, "return", x)[0][-1]))
    return min(ends, default=0.0) or 1.0


def _honest(row: ReportRow) -> int:
    return max(1, row.entries[0].name("agents") - row.entries[0].name("byzantine"))


def reached(folder: Path, goal: float, x: str = "trajectories") -> np.ndarray:
    """Return the trajectories until a run's return reaches a goal, and whether it does.

    The return is averaged over the last tenth of the trajectories so far. A window of a fixed length would bias the
    comparison against fast runs.

    Args:
        folder: The folder of the run.
        goal: The return to reach.
        x: What is counted in the place of trajectories, one of `ABSCISSAE`.

    Returns:
        [2] The number of trajectories, which is that of the whole run if the goal is never reached; and 1 if it is
        reached, else 0.

    Raises:
        CorruptRecord: The log cannot be trusted.
    """
    at, values = trace(folder, "return", x)
    total, end = np.concatenate([[0.0], np.cumsum(values * np.diff(at))]), at[1:]
    start = np.minimum(0.9 * end, at[:-1])
    averages = (total[1:] - np.interp(start, at, total)) / np.maximum(end - start, 1e-9)
    above = np.flatnonzero(averages >= goal)
    return np.array([end[above[0]] if len(above) else end[-1], float(len(above) > 0)])


def _speed(axes: Axes, rows: Sequence[ReportRow], times: Sequence[np.ndarray], line_style: Mapping[str, Any]) -> None:
    """Plot one line of a speed-up plot.

    A point is open, with an arrow and a count, where some runs never reached the target.

    Args:
        axes: The panel.
        rows: The rows of the line.
        times: The result of `reached` for each run of each row, [seeds, 2].
        line_style: Its colour, dashes and marker.
    """
    points, colour = [], line_style["color"]
    for row, row_times in zip(rows, times, strict=True):
        if not len(row_times):
            continue
        num_unreached = int((row_times[:, 1] == 0).sum()) + row.lost
        log_mean = estimated(np.log(row_times[:, 0]), left_out=num_unreached)
        assert log_mean is not None
        at, value = _honest(row), math.exp(log_mean.value)
        points.append((at, value, num_unreached))
        if log_mean.low is not None and log_mean.high is not None:
            reach = value - math.exp(log_mean.low), math.exp(log_mean.high) - value
            axes.errorbar(at, value, [[end] for end in reach], color=colour, elinewidth=1.0, capsize=2.5, zorder=1)
        if num_unreached:
            arrow = {"arrowstyle": "<|-", "color": colour, "lw": 1.0, "shrinkB": 2.5, "mutation_scale": 7}
            axes.annotate("", (at, value), (0, 15), textcoords="offset points", arrowprops=arrow)
            text = f"{num_unreached} of {len(row_times) + row.lost} never"
            axes.annotate(text, (at, value), (5, 5), textcoords="offset points", fontsize=6.5, color=colour)
    if points:
        xs, ys, unreached = np.array(points).T
        axes.plot(xs, ys, **{**line_style, "marker": ""}, zorder=1)
        for selected, face in ((unreached == 0, colour), (unreached > 0, "white")):
            axes.plot(xs[selected], ys[selected], line_style["marker"], ms=4.5, mec=colour, mfc=face)
        for at, value, num_unreached in points:
            if not num_unreached:  # the ideal line starts at the first point that every run reached
                ideal = np.array([at, xs[-1]])
                axes.plot(ideal, at * value / ideal, color=colour, alpha=0.6, zorder=0, **_THIN)
                break


def _thousands(value: float, _: object = None) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


KINDS: Mapping[str, Callable[[Groups, Sequence[str], float | None], Plot]] = {
    "curves": curves,
    "heatmap": heatmap,
    "profile": profiles,
    "speedup": speedup,
}
"""Kinds of plots, by name."""
