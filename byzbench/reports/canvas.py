"""What all pictures of groups share: their style, and which row goes into which panel and looks how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from byzbench.errors import InvalidParameter, UserError, suggest
from byzbench.reports.summary import DEFENCE, Groups, Row, clean

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people of all kinds of colour vision can tell apart, without the yellow."""

DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "0.45"
INTERVALS = "95 % intervals"
PANELS = 12
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.edgecolor": "0.3",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a name with a $ in it is a name
    "pdf.fonttype": 42,  # journals refuse type 3
    "svg.hashsalt": "byzbench",  # else the same picture would never have the same bytes
}


@dataclass(frozen=True)
class Drawn:
    """A picture.

    Attributes:
        figure: it.
        caption: what a reader must know to read it.
        problems: a line for each run that should be in it and is not, with its path.
    """

    figure: Figure
    caption: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What goes where: rows by the title of their panel, and the look of each line.

    Attributes:
        groups: the rows.
        lines: axes whose values tell lines apart.
        panels: rows by the title of their panel.
    """

    groups: Groups
    lines: tuple[str, ...]
    panels: Mapping[str, list[Row]]

    @classmethod
    def of(cls, groups: Groups, panel: Sequence[str], *, hidden: Sequence[str] = (), pooled: bool = False) -> Plan:
        """A panel for each value of the axes named, or else of those along which nothing competes.

        Args:
            groups: the rows.
            panel: the axes named.
            hidden: axes that tell neither lines nor panels apart.
            pooled: rows that differ along other axes only are one line.

        Raises:
            UserError: no such axis, or more than can be told apart.
        """
        for axis in panel:
            if axis not in groups.axes:
                raise InvalidParameter(f"no panels by {axis!r}. {suggest(axis, groups.axes)}Add it to --by.")
        varied = [axis for axis in groups.varied(groups.axes) if axis not in hidden]
        rivals = [axis for axis in varied if axis in DEFENCE and axis not in panel]
        lines = [a for a in varied if a not in panel] if panel and not pooled else rivals or varied[:1]
        lines = [axis for axis in lines if axis != "env"]  # tasks have scales of their own
        across = [a for a in varied if (a in panel or a == "env" if pooled else a not in lines)]
        panels: dict[str, list[Row]] = {}
        for row in groups.rows:
            panels.setdefault(label(row, across), []).append(row)
        plan = cls(groups, tuple(lines), panels)
        if len(panels) > PANELS or len(plan.names) > len(COLOURS) * len(DASHES):
            raise UserError(
                f"{len(panels)} panels with {len(plan.names)} lines are more than can be told apart: name fewer runs, "
                "or other axes with --panel"
            )
        return plan

    @property
    def names(self) -> list[str]:
        """What the lines are called."""
        return list(dict.fromkeys(label(row, self.lines) for row in self.groups.rows))

    def of_line(self, name: str, rows: Sequence[Row]) -> list[Row]:
        """Those rows that make up a line."""
        return [row for row in rows if label(row, self.lines) == name]

    def look(self, name: str) -> dict[str, Any]:
        """The colour and dashes of a line, the same in all panels."""
        number = self.names.index(name)
        return {"color": COLOURS[number % len(COLOURS)], "ls": DASHES[number // len(COLOURS)]}

    def marker(self, name: str) -> str:
        """The marker of a line's points."""
        return MARKERS[self.names.index(name) % len(MARKERS)]

    def canvas(self, height: float) -> tuple[Figure, list[Axes]]:
        """A figure with a panel for each title, as wide as a column of a journal, or as two."""
        count = len(self.panels)
        columns = math.ceil(count / math.ceil(count / 4))
        rows = math.ceil(count / columns)
        width = {1: 3.5, 2: 5.2}.get(columns, 7.1)
        titles = [short(title).replace(" · ", "\n" if columns > 2 else " · ") for title in self.panels]
        above = 0.17 * math.ceil(len(self.names) / self.across(width))
        titled = 0.13 * max(title.count("\n") for title in titles)
        figure = Figure(figsize=(width, 0.3 + above + (height + titled) * rows), layout="constrained")
        share = "env" not in self.groups.varied(("env",))
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=share).flat)
        for axes, title in zip(panels, titles, strict=False):
            axes.set_title(title)
        for axes in panels[count:]:
            axes.set_axis_off()
        return figure, panels[:count]

    def across(self, width: float) -> int:
        """How many names stand side by side in so many inches."""
        return max(1, int(width / (0.45 + 0.06 * max(10, *(len(short(name)) for name in self.names)))))

    def legend(self, figure: Figure, extra: Sequence[tuple[Any, str]] = (), markers: bool = False) -> None:
        """The names of the lines above the panels, if there are several."""
        entries: list[tuple[Any, str]] = []
        if len(self.names) > 1:
            for name in self.names:
                marker: dict[str, Any] = {"marker": self.marker(name), "ms": 4.5} if markers else {}
                entries.append((Line2D([], [], **self.look(name), **marker), short(name)))
        entries += extra
        if entries:
            most = self.across(figure.get_figwidth())
            columns = math.ceil(len(entries) / math.ceil(len(entries) / most))
            handles, names = zip(*entries, strict=True)
            figure.legend(handles, names, loc="outside upper center", ncols=columns, handlelength=1.8)


def label(row: Row, axes: Sequence[str]) -> str:
    """What tells a row apart along some axes."""
    values = ((axis, row.key[axis]) for axis in axes if axis in row.key)
    return " · ".join(
        f"{axis}={value}" if isinstance(value, int) else f"no {axis}" if value == "none" else value
        for axis, value in values
    )


def short(name: str) -> str:
    """A name that fits into a picture."""
    return " · ".join(clean(part, 30) for part in name.split(" · "))


def seeds(rows: Sequence[Row]) -> str:
    """How many seeds stand behind the rows."""
    counts = sorted({len(row.values) for row in rows if len(row.values)}) or [0]
    said = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{said} seed{'' if counts == [1] else 's'}"


def missing(rows: Sequence[Row]) -> str:
    """Return a sentence on the runs that failed or are unfinished, by the names of the rows."""
    said = [f"{label(row, tuple(row.key))}: {', '.join(row.gaps)}" for row in rows if row.gaps]
    return f" Not all runs finished: {'; '.join(said)}." if said else ""
