"""Plot style and layout that all plots of groups share: panels, lines, colours, markers and legends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from byzbench.errors import InvalidParameter, StorageError, UserError, suggest
from byzbench.reports.summary import DEFENCE, Groups, ReportRow, choice, clean

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colour-blind-safe palette of Okabe and Ito (2008) without its yellow."""

DASHES = ("-", "--")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "0.45"
INTERVALS = "95 % intervals"
PANELS = 12
"""The largest number of panels of a figure."""

LINES = 14
"""The largest number of lines of a panel: as many as have a colour with one of two dashes."""

LEGEND_ROWS = 4
"""The number of rows of a legend from which on a figure is as wide as two columns of a journal."""

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
    "text.parse_math": False,  # names of components may hold a $
    "pdf.fonttype": 42,  # TrueType; many journals do not accept type 3
    "svg.hashsalt": "byzbench",  # makes the bytes of an SVG reproducible
}


FORMATS = (".png", ".pdf", ".svg")


def require_format(path: Path) -> None:
    """Raise UserError if the suffix of a figure's file is not one of `FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"figures are written as {', '.join(FORMATS)}; got {str(path)!r}")


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure without a date, so that the same data give the same bytes.

    Args:
        figure: The figure.
        path: The file; its suffix is one of `FORMATS`.
        dpi: The resolution of PNG files, in dots per inch.

    Raises:
        StorageError: The file cannot be written.
    """
    metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix.lower())
    try:
        figure.savefig(path, dpi=dpi, metadata=metadata)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Plot:
    """Figure with its caption.

    Attributes:
        figure: The figure.
        caption: The text that explains how values and intervals were computed.
        problems: One line for each run that could not be read, with its path.
    """

    figure: Figure
    caption: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlotLayout:
    """Layout of a figure: the rows of each panel and the style of each line.

    Attributes:
        groups: The rows of the report.
        lines: Axes whose values distinguish lines.
        panels: Rows by the title of their panel.
    """

    groups: Groups
    lines: tuple[str, ...]
    panels: Mapping[str, list[ReportRow]]

    @classmethod
    def of(
        cls, groups: Groups, panel: Sequence[str], *, hidden: Sequence[str] = (), pooled: bool = False
    ) -> PlotLayout:
        """Make a panel for each value of the named axes, by default of those along which methods do not compete.

        Args:
            groups: The rows of the report.
            panel: Axes with a panel for each value; empty for the default.
            hidden: Axes that distinguish neither lines nor panels.
            pooled: Whether rows that differ along other axes only form one line.

        Returns:
            The layout.

        Raises:
            UserError: There is no such axis, or there are more panels or lines than can be distinguished.
        """
        for axis in panel:
            if axis not in groups.axes:
                raise InvalidParameter(f"no panels by {axis!r}. {suggest(axis, groups.axes)}Add it to --by.")
        varied = [axis for axis in groups.varied(groups.axes) if axis not in hidden]
        rivals = [axis for axis in varied if axis in DEFENCE and axis not in panel]
        lines = [a for a in varied if a not in panel] if panel and not pooled else rivals or varied[:1]
        lines = [axis for axis in lines if axis != "env"]  # returns of different tasks have different scales
        panel_axes = [a for a in varied if (a in panel or a == "env" if pooled else a not in lines)]
        panels: dict[str, list[ReportRow]] = {}
        for row in groups.rows:
            panels.setdefault(label(row, panel_axes, groups), []).append(row)
        plan = cls(groups, tuple(lines), panels)
        if len(panels) > PANELS or len(plan.names) > LINES:
            raise UserError(
                f"{len(panels)} panels with {len(plan.names)} lines are too many for one figure; {choose(groups)}"
            )
        return plan

    @property
    def names(self) -> list[str]:
        """Labels of the lines, in order."""
        return list(dict.fromkeys(map(self.name, self.groups.rows)))

    def name(self, row: ReportRow) -> str:
        """Return the label of the line that a row belongs to."""
        return label(row, self.lines, self.groups)

    def of_line(self, name: str, rows: Sequence[ReportRow]) -> list[ReportRow]:
        """Return the rows that belong to a line."""
        return [row for row in rows if self.name(row) == name]

    def look(self, name: str) -> dict[str, Any]:
        """Return the colour and dashes of a line, the same in all panels."""
        position = self.names.index(name)
        return {"color": COLOURS[position % len(COLOURS)], "ls": DASHES[position // len(COLOURS)]}

    def marker(self, name: str) -> str:
        """Return the marker of the points of a line."""
        return MARKERS[self.names.index(name) % len(MARKERS)]

    def canvas(self, height: float) -> tuple[Figure, list[Axes]]:
        """Make a figure with a panel for each title, as wide as one or two columns of a journal."""
        count = len(self.panels)
        columns = math.ceil(count / math.ceil(count / 4))
        rows = math.ceil(count / columns)
        width = {1: 3.5, 2: 5.2}.get(columns, 7.1)
        if math.ceil(len(self.names) / self.across(width)) > LEGEND_ROWS:
            width = 7.1
        titles = [short(title).replace(" · ", "\n" if columns > 2 else " · ") for title in self.panels]
        legend_height = 0.17 * math.ceil(len(self.names) / self.across(width))
        title_height = 0.13 * max(title.count("\n") for title in titles)
        figure = Figure(figsize=(width, 0.3 + legend_height + (height + title_height) * rows), layout="constrained")
        share_y = "env" not in self.groups.varied(("env",))
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey=share_y).flat)
        for axes, title in zip(panels, titles, strict=False):
            axes.set_title(title)
        for axes in panels[count:]:
            axes.set_axis_off()
        return figure, panels[:count]

    def across(self, width: float) -> int:
        """Return how many names of lines fit side by side into a width in inches."""
        return max(1, int(width / (0.45 + 0.06 * max(10, *(len(short(name)) for name in self.names)))))

    def legend(self, figure: Figure, extra: Sequence[tuple[Any, str]] = (), markers: bool = False) -> None:
        """Draw the names of the lines above the panels, if there are several."""
        entries: list[tuple[Any, str]] = []
        if len(self.names) > 1:
            for name in self.names:
                marker: dict[str, Any] = {"marker": self.marker(name), "ms": 4.5} if markers else {}
                entries.append((Line2D([], [], **self.look(name), **marker), short(name)))
        entries += extra
        if entries:
            max_columns = self.across(figure.get_figwidth())
            columns = math.ceil(len(entries) / math.ceil(len(entries) / max_columns))
            handles, names = zip(*entries, strict=True)
            figure.legend(handles, names, loc="outside upper center", ncols=columns, handlelength=1.8)


def label(row: ReportRow, axes: Sequence[str], groups: Groups | None = None) -> str:
    """Return the label of a row along some axes.

    Args:
        row: The row.
        axes: The axes.
        groups: The rows of the report, if the label may leave out what is as in `Groups.usual`.

    Example:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(key={"algo": "decbyzpg", "attack": "none", "agents": 13})
        >>> label(row, ("algo", "attack", "agents"))
        'decbyzpg · no attack · agents=13'
    """
    values = {axis: row.key[axis] for axis in axes if axis in row.key}
    usual = groups.usual if groups else {}
    texts = [
        f"{axis}={value}" if isinstance(value, int) else f"no {axis}" if value == "none" else str(value)
        for axis, value in values.items()
        if axis not in usual
    ]
    if groups:
        texts += groups.setting({axis: value for axis, value in values.items() if axis in usual})
    return " · ".join(texts) or (label(row, axes) if groups else "")


def choose(groups: Groups) -> str:
    """Return advice on how to choose among the runs of a report."""
    most_varied = max(groups.axes, key=lambda axis: len({row.key[axis] for row in groups.rows}))
    return choice((entry for row in groups.rows for entry in row.entries), groups.split or [most_varied])


def short(name: str) -> str:
    """Return a name with each of its parts cut to 30 letters, so that it fits into a figure."""
    return " · ".join(clean(part, 30) for part in name.split(" · "))


def seeds(rows: Sequence[ReportRow]) -> str:
    """Return the number of seeds of the rows, as in "5 seeds" or "3 to 5 seeds"."""
    counts = sorted({len(row.values) for row in rows if len(row.values)}) or [0]
    numbers = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{numbers} seed{'' if counts == [1] else 's'}"


def missing(rows: Sequence[ReportRow]) -> str:
    """Return a sentence that names the rows with failed or unfinished runs, or an empty text."""
    gaps = [f"{label(row, tuple(row.key))}: {', '.join(row.gaps)}" for row in rows if row.gaps]
    return f" Not all runs finished: {'; '.join(gaps)}." if gaps else ""
