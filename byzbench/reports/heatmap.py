"""Attacks by defences as a heatmap."""

from __future__ import annotations

import math
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
from byzbench.reports.canvas import COLOURS, INTERVALS, PANELS, Drawn, label, missing, seeds, short
from byzbench.reports.row_scores import harmful_attack
from byzbench.reports.summary import DEFENCE, METRICS, Groups, Row, reference, rounded

_LEVEL = 12
"""Letters of the longest name that stands level below its column."""

_MAP = "viridis"
_WIDEST = 8.0


def heatmap(groups: Groups, panel: Sequence[str], target: float | None = None) -> Drawn:
    """Plot the metric under each attack for each method with its interval; frame the worst attack that did harm."""
    columns = groups.varied(DEFENCE) or ("algo",)
    if absent := [axis for axis in ("attack", *columns) if axis not in groups.axes]:
        raise UserError(f"a heatmap has a row for each attack and a column for each defence: --by lacks {absent[0]}")
    others = [axis for axis in groups.varied(groups.axes) if axis not in ("attack", *columns)]
    blocks: dict[str, list[Row]] = {}
    for row in groups.rows:
        blocks.setdefault(label(row, others), []).append(row)
    if len(blocks) > PANELS:
        raise UserError(f"{len(blocks)} heatmaps are too many for a picture: name fewer runs")
    names = list(dict.fromkeys(label(row, columns) for row in groups.rows))
    attacks = list(dict.fromkeys(label(row, ("attack",)) for row in groups.rows))
    scales = {task: _scale([row for row in groups.rows if _task(row) == task]) for task in map(_task, groups.rows)}
    figure, panels = _canvas(names, attacks, len(blocks), len(scales) > 1)
    for axes, (title, rows) in zip(panels, blocks.items(), strict=True):
        axes.set(title=short(title), xlim=(-0.5, len(names) - 0.5), ylim=(len(attacks) - 0.5, -0.5))
        cells = {(attacks.index(label(row, ("attack",))), names.index(label(row, columns))): row for row in rows}
        _cells(axes, cells, (len(attacks), len(names)), scales[_task(rows[0])])
        if len(scales) > 1:
            _bar(figure, [axes], scales[_task(rows[0])], METRICS[groups.metric])
    if len(scales) == 1:
        _bar(figure, panels, next(iter(scales.values())), METRICS[groups.metric])
    caption = (
        f"Mean over {seeds(groups.rows)} of the {METRICS[groups.metric]}, with {INTERVALS}; framed, the worst attack "
        "on each method, where its runs are certainly lower than those without an attack; hatched, no runs."
    )
    return Drawn(figure, caption + missing(groups.rows))


def _task(row: Row) -> str:
    return row.entries[0].name("env")


def _scale(rows: Sequence[Row]) -> Normalize:
    """From random to solved where the task is known, and wide enough for all values."""
    levels = [level for row in rows for level in reference(row.entries[0]).values()]
    levels += [row.estimate.value for row in rows if row.estimate]
    return Normalize(min(levels, default=0.0), max(levels, default=1.0))


def _canvas(names: Sequence[str], attacks: Sequence[str], count: int, bars: bool) -> tuple[Figure, list[Axes]]:
    """Empty panels with the names of rows and columns; `bars`: each has a colour bar of its own."""
    longest = max(len(short(name)) for name in names)
    left = 0.8 + 0.065 * max(len(short(attack)) for attack in attacks)
    width, height = 0.25 + 0.8 * len(names) + 0.6 * bars, 0.4 * len(attacks) + 0.5
    across = min(count, max(1, int((_WIDEST - left) / width)))
    down = math.ceil(count / across)
    below = 0.06 * longest if longest > _LEVEL else 0.2
    figure = Figure(figsize=(max(3.0, left + width * across), below + height * down), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False, sharey=True, sharex=True).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    tilted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    for axes in panels[:count]:
        axes.set_xticks(range(len(names)), [*map(short, names)], **(tilted if longest > _LEVEL else {}))
        axes.set_yticks(range(len(attacks)), [*map(short, attacks)])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure, panels[:count]


def _bar(figure: Figure, panels: list[Axes], scale: Normalize, name: str) -> None:
    bar = figure.colorbar(ScalarMappable(scale, _MAP), ax=panels, label=name, aspect=25)
    bar.outline.set_visible(False)


def _cells(axes: Axes, cells: Mapping[tuple[int, int], Row], shape: tuple[int, int], scale: Normalize) -> None:
    """Draw colours and numbers, and a frame around the worst attack of each column if it did harm."""
    for down, across in np.ndindex(shape):
        row = cells.get((down, across))
        corner, found = (across - 0.5, down - 0.5), row.estimate if row else None
        if found is None:
            axes.add_patch(Rectangle(corner, 1, 1, fc="white", ec="0.7", hatch="////", lw=0))
        else:
            axes.add_patch(Rectangle(corner, 1, 1, fc=matplotlib.colormaps[_MAP](scale(found.value)), ec="white", lw=1))
        if row is not None:
            _number(axes, across, down, row, "white" if found and scale(found.value) < 0.6 else "black")
    if any(row.key["attack"] == "none" for row in cells.values()):
        axes.axhline(0.5, color="white", lw=4)  # no attack, which comes first, is no rival of the others
    for column in range(shape[1]):
        rows = {down: row for (down, across), row in cells.items() if across == column}
        worst = harmful_attack([*rows.values()]) if rows else None
        for down, row in rows.items():
            if row.key["attack"] == worst:
                corner = (column - 0.45, down - 0.44)
                axes.add_patch(Rectangle(corner, 0.9, 0.88, fill=False, ec=COLOURS[1], lw=1.4, zorder=3))


def _number(axes: Axes, across: int, down: int, row: Row, colour: str) -> None:
    found, small = row.estimate, row.gaps[0] if row.gaps else ""
    if found and found.low is not None and found.high is not None:
        small = f"{rounded(found.low, 0)} to {rounded(found.high, 0)}"
    place: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
    axes.text(across, down - (0.12 if small else 0), rounded(found.value, 0) if found else "–", fontsize=8.5, **place)
    axes.text(across, down + 0.24, small, fontsize=5.5, **place)
