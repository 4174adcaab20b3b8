"""The figure of a suite: retention of every method under every attack, with the clean score beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from byzbench.errors import StorageError, UserError
from byzbench.leaderboard.findings import Findings
from byzbench.leaderboard.rows import Row
from byzbench.reports.canvas import COLOURS, STYLE
from byzbench.reports.figures import FORMATS
from byzbench.reports.scoring import StratumScore

_CELL = 0.62, 0.3
"""Width and height of a cell, in inches."""

_MAP = "viridis"
HARM = 0.9
"""Retention below which an interval is framed."""


def write_headline(found: Sequence[Findings], path: Path) -> None:
    """Write a figure with a panel for each stratum: methods down, their clean score and the attacks across.

    A method that was tuned is shown by its tuned row alone. A number is the retention; it is framed where its 95 %
    interval lies below `HARM`, and hatched where it is not defined. The first column is the clean score in grey.

    Args:
        found: The findings by board, of at least one ranked row each.
        path: The file; its ending is the format.

    Raises:
        UserError: The ending means no format.
        StorageError: The file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"pictures are written as {', '.join(FORMATS)}; got {str(path)!r}")
    blocks = [(stratum.name, shown_rows(one)) for one in found for stratum in _strata(one)]
    with matplotlib.rc_context(STYLE):
        widths = [1 + len(_attacks(rows, name)) for name, rows in blocks]
        most = max(len(rows) for _, rows in blocks)
        size = _CELL[0] * sum(widths) + 1.5 * len(blocks), _CELL[1] * most + 1.0
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(blocks), squeeze=False, width_ratios=widths)[0]
        for axes, (name, rows) in zip(panels, blocks, strict=True):
            _panel(axes, name, rows, most)
        try:
            figure.savefig(path, dpi=200)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def caption(found: Sequence[Findings]) -> str:
    """Return what a reader must know to read the figure.

    Args:
        found: The findings by board.
    """
    suite = found[0].board.suite
    return (
        f"Retention under each attack: the share of the improvement over a random policy that is left, mean over "
        f"{suite.seeds} seeds; framed where the 95 % interval lies below {HARM}, hatched where the method does not "
        f"learn enough without an attack. In grey the clean score, 1 at the reference. From the rows of {suite.name}; "
        "each method by its tuned parameters."
    )


def shown_rows(found: Findings) -> list[Row]:
    """Return the rows of a figure: of each method that was tuned the tuned row alone, by score.

    Args:
        found: The findings.
    """
    tuned = {row.entry.algorithm for row in found.rows if row.entry.submission.tuning}
    return [row for row in found.rows if row.entry.submission.tuning or row.entry.algorithm not in tuned]


def _strata(found: Findings) -> Sequence[Any]:
    return found.board.suite.division(found.board.division) if found.board.division else ()


def _attacks(rows: Sequence[Row], stratum: str) -> list[str]:
    return list(dict.fromkeys(attack for row in rows for attack in row.matrix[stratum].retention))


def _panel(axes: Axes, name: str, rows: Sequence[Row], most: int) -> None:
    attacks = _attacks(rows, name)
    labels = ["clean score", *map(_names_only, attacks)]
    axes.set(xlabel=name, xlim=(-0.5, len(labels) - 0.5), ylim=(most - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [row.entry.algorithm for row in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for down, row in enumerate(rows):
        scores = row.matrix[name]
        _clean(axes, down, scores)
        for across, attack in enumerate(attacks, 1):
            _retention(axes, across, down, scores, attack)


def _names_only(attack: str) -> str:
    """Return the text of an attack without parameters.

    Example:
        >>> _names_only("split_brain(rop(on=both))"), _names_only("large_noise(relative=False, on=both)")
        ('split_brain(rop)', 'large_noise')
    """
    return re.sub(r",?\s*\w+=[^,()]+", "", attack).replace("()", "")


def _clean(axes: Axes, down: int, scores: StratumScore) -> None:
    axes.add_patch(Rectangle((-0.5, down - 0.5), 1, 1, fc="0.9", ec="white", lw=1))
    axes.text(0, down, f"{scores.clean.value:.2f}", ha="center", va="center")


def _retention(axes: Axes, across: int, down: int, scores: StratumScore, attack: str) -> None:
    found, corner = scores.retention[attack], (across - 0.5, down - 0.5)
    if found.value is None or not found.defined:
        axes.add_patch(Rectangle(corner, 1, 1, fc="white", ec="0.7", hatch="////", lw=0))
        return
    level = min(max(found.value, 0.0), 1.0)
    axes.add_patch(Rectangle(corner, 1, 1, fc=matplotlib.colormaps[_MAP](level), ec="white", lw=1))
    colour = "white" if level < 0.6 else "black"
    axes.text(across, down, f"{found.value:.2f}", ha="center", va="center", color=colour)
    if found.high is not None and found.high < HARM:
        inside = (across - 0.44, down - 0.42)
        axes.add_patch(Rectangle(inside, 0.88, 0.84, fill=False, ec=COLOURS[1], lw=1.4, zorder=3))
