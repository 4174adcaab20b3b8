"""Heatmap of a metric, with a row for each attack and a column for each method."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from byzbench.errors import UserError
from byzbench.reports.plot_style import COLOURS, INTERVALS, PANELS, Plot, choose, label, missing, seeds, short
from byzbench.reports.row_scores import harmful_attack
from byzbench.reports.summary import DEFENCE, Groups, ReportRow, rounded, run_reference

LARGEST = (10.0, 11.0)
"""The largest width and height of a figure in inches."""

FILLED = 0.2
"""The smallest share of the cells of a figure that have runs."""

_LEVEL = 12
"""The number of letters up to which a name below a column is not rotated."""

_MAP = "viridis"
_WIDEST = 8.0
"""The largest width of a figure in inches."""


def heatmap(groups: Groups, panel: Sequence[str], target: float | None = None) -> Plot:
    """Plot the metric of each method under each attack with its interval; frame the worst attack that did harm.

    Args:
        groups: The rows of the report.
        panel: Not used: there is a panel for each combination of all other axes.
        target: Not used.

    Returns:
        The figure with its caption.

    Raises:
        UserError: The rows have no axis for attacks or for methods, or too few runs for so large a figure.
    """
    columns = groups.varied(DEFENCE) or ("algo",)
    if absent := [axis for axis in ("attack", *columns) if axis not in groups.axes]:
        raise UserError(f"a heatmap has a row for each attack and a column for each method: --by must hold {absent[0]}")
    others = [axis for axis in groups.varied(groups.axes) if axis not in ("attack", *columns)]
    blocks: dict[str, list[ReportRow]] = {}
    for row in groups.rows:
        blocks.setdefault(label(row, others, groups), []).append(row)
    names = list(dict.fromkeys(label(row, columns, groups) for row in groups.rows))
    attacks = list(dict.fromkeys(label(row, ("attack",)) for row in groups.rows))
    size = len(blocks) * len(names) * len(attacks)
    what = f"{len(blocks)} heatmaps of {len(attacks)} attacks and {len(names)} methods, with {len(groups.rows)} cells"
    if len(blocks) > PANELS or len(groups.rows) < FILLED * size:
        raise UserError(f"{what} of {size}, are no figure that can be read; {choose(groups)}")
    scales = {task: _scale([row for row in groups.rows if _task(row) == task]) for task in map(_task, groups.rows)}
    figure, panels = _canvas(names, attacks, len(blocks), len(scales) > 1)
    if any(figure.get_size_inches() > LARGEST):
        raise UserError(f"{what} of {size}, are larger than a page; {choose(groups)}")
    for axes, (title, rows) in zip(panels, blocks.items(), strict=True):
        axes.set(title=short(title), xlim=(-0.5, len(names) - 0.5), ylim=(len(attacks) - 0.5, -0.5))
        cells = {
            (attacks.index(label(row, ("attack",))), names.index(label(row, columns, groups))): row for row in rows
        }
        _cells(axes, cells, (len(attacks), len(names)), scales[_task(rows[0])])
        if len(scales) > 1:
            _bar(figure, [axes], scales[_task(rows[0])], groups.title)
    if len(scales) == 1:
        _bar(figure, panels, next(iter(scales.values())), groups.title)
    caption = (
        f"Mean over {seeds(groups.rows)} of the {groups.title}, with {INTERVALS}; framed, the worst attack "
        "on each method, where its runs are certainly lower than those without an attack; hatched, no runs."
    )
    return Plot(figure, caption + missing(groups.rows))


def _task(row: ReportRow) -> str:
    return row.entries[0].name("env")


def _scale(rows: Sequence[ReportRow]) -> Normalize:
    """Return the colour scale, from the random to the solved return where known, and wide enough for all values."""
    levels = [level for row in rows for level in run_reference(row.entries[0]).values()]
    levels += [row.estimate.value for row in rows if row.estimate]
    return Normalize(min(levels, default=0.0), max(levels, default=1.0))


def _canvas(names: Sequence[str], attacks: Sequence[str], count: int, bars: bool) -> tuple[Figure, list[Axes]]:
    """Make empty panels with the names of rows and columns.

    Args:
        names: The names of the columns.
        attacks: The names of the rows.
        count: The number of panels.
        bars: Whether each panel has a colour bar of its own.

    Returns:
        The figure and its panels.
    """
    longest = max(len(short(name)) for name in names)
    left = 0.8 + 0.065 * max(len(short(attack)) for attack in attacks)
    width, height = 0.25 + 0.8 * len(names) + 0.6 * bars, 0.4 * len(attacks) + 0.5
    num_columns = min(count, max(1, int((_WIDEST - left) / width)))
    num_rows = math.ceil(count / num_columns)
    names_height = 0.06 * longest if longest > _LEVEL else 0.2
    figure = Figure(
        figsize=(max(3.0, left + width * num_columns), names_height + height * num_rows), layout="constrained"
    )
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False, sharey=True, sharex=True).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    rotated: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    for axes in panels[:count]:
        axes.set_xticks(range(len(names)), [*map(short, names)], **(rotated if longest > _LEVEL else {}))
        axes.set_yticks(range(len(attacks)), [*map(short, attacks)])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure, panels[:count]


def _bar(figure: Figure, panels: list[Axes], scale: Normalize, name: str) -> None:
    lines = textwrap.fill(name, max(12, int(12 * figure.get_figheight())))
    bar = figure.colorbar(ScalarMappable(scale, _MAP), ax=panels, label=lines, aspect=25)
    bar.outline.set_visible(False)


def _cells(axes: Axes, cells: Mapping[tuple[int, int], ReportRow], shape: tuple[int, int], scale: Normalize) -> None:
    """Draw colours and numbers, and a frame around the worst attack of each column if it did harm."""
    for y, x in np.ndindex(shape):
        row = cells.get((y, x))
        corner, estimate = (x - 0.5, y - 0.5), row.estimate if row else None
        if estimate is None:
            axes.add_patch(Rectangle(corner, 1, 1, fc="white", ec="0.7", hatch="////", lw=0))
        else:
            axes.add_patch(
                Rectangle(corner, 1, 1, fc=matplotlib.colormaps[_MAP](scale(estimate.value)), ec="white", lw=1)
            )
        if row is not None:
            _number(axes, x, y, row, "white" if estimate and scale(estimate.value) < 0.6 else "black")
    if any(row.key["attack"] == "none" for row in cells.values()):
        axes.axhline(0.5, color="white", lw=4)  # separates the first row, which is without an attack
    for column in range(shape[1]):
        rows = {y: row for (y, x), row in cells.items() if x == column}
        worst = harmful_attack([*rows.values()]) if rows else None
        for y, row in rows.items():
            if row.key["attack"] == worst:
                corner = (column - 0.45, y - 0.44)
                axes.add_patch(Rectangle(corner, 0.9, 0.88, fill=False, ec=COLOURS[1], lw=1.4, zorder=3))


def _number(axes: Axes, x: int, y: int, row: ReportRow, colour: str) -> None:
    estimate, small_text = row.estimate, row.gaps[0] if row.gaps else ""
    if estimate and estimate.low is not None and estimate.high is not None:
        small_text = f"{rounded(estimate.low, 0)} to {rounded(estimate.high, 0)}"
    text_style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
    axes.text(
        x, y - (0.12 if small_text else 0), rounded(estimate.value, 0) if estimate else "–", fontsize=8.5, **text_style
    )
    axes.text(x, y + 0.24, small_text, fontsize=5.5, **text_style)
