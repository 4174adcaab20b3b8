"""The figure of a suite: retention of every method under every attack, with the clean score beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from byzbench.leaderboard.admission import HARM
from byzbench.leaderboard.boards import strata_of
from byzbench.leaderboard.findings import Findings, ScoredRow
from byzbench.leaderboard.suites import short_specs
from byzbench.reports.plot_style import COLOURS, STYLE, require_format, save_figure
from byzbench.reports.scoring import StratumScore

_CELL = 0.62, 0.3
"""Width and height of a cell, in inches."""

_MAP = "viridis"


def write_headline(divisions: Sequence[Findings], path: Path) -> None:
    """Write a figure with a panel for each stratum: methods down, their clean score and the attacks across.

    A number is the retention; it is framed where its 95 % interval is below `HARM`, and hatched where it is not
    defined. The first column is the clean score in grey. See `shown_rows` for the rows.

    Args:
        divisions: The findings by board, of at least one ranked row each.
        path: The file; its suffix chooses the format.

    Raises:
        UserError: The suffix means no format.
        StorageError: The file cannot be written.
    """
    require_format(path)
    blocks = [(stratum.name, shown_rows(division)) for division in divisions for stratum in strata_of(division.board)]
    with matplotlib.rc_context(STYLE):
        widths = [1 + len(_attacks(rows, stratum)) for stratum, rows in blocks]
        num_lines = max(len(rows) for _, rows in blocks)
        size = _CELL[0] * sum(widths) + 1.5 * len(blocks), _CELL[1] * num_lines + 1.0
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(blocks), squeeze=False, width_ratios=widths)[0]
        for axes, (stratum, rows) in zip(panels, blocks, strict=True):
            _panel(axes, stratum, rows, num_lines)
        save_figure(figure, path, dpi=200)


def caption(divisions: Sequence[Findings]) -> str:
    """Return what a reader must know to read the figure.

    Args:
        divisions: The findings by board.
    """
    suite = divisions[0].board.suite
    return (
        f"Retention under each attack: the share of the improvement over a random policy that is left, mean over "
        f"{suite.seeds} seeds; framed where the 95 % interval is below {HARM}, hatched where the method is not "
        f"shown to learn enough without an attack. In grey the clean score, 1 at the reference. From the rows of "
        f"{suite.name}; a method that was tuned is shown by its tuned row."
    )


def shown_rows(division: Findings) -> list[ScoredRow]:
    """Return the rows of a figure by score: all but rows as written of a method that also has a tuned row.

    Args:
        division: The findings.
    """
    tuned = {search.method for row in division.rows for search in row.row.entry.submission.searches}
    return [row for row in division.rows if (own := row.row.entry.submission).studies or own.method not in tuned]


def _attacks(rows: Sequence[ScoredRow], stratum: str) -> list[str]:
    return list(dict.fromkeys(attack for row in rows for attack in row.row.matrix[stratum].retention))


def _panel(axes: Axes, stratum: str, rows: Sequence[ScoredRow], num_lines: int) -> None:
    attacks = _attacks(rows, stratum)
    axes.set(xlabel=stratum, xlim=(-0.5, len(attacks) + 0.5), ylim=(num_lines - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    names = ["clean score", *short_specs(attacks)]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for down, row in enumerate(rows):
        scores = row.row.matrix[stratum]
        _clean(axes, down, scores)
        for across, attack in enumerate(attacks, 1):
            _retention(axes, across, down, scores, attack)


def _clean(axes: Axes, down: int, scores: StratumScore) -> None:
    axes.add_patch(Rectangle((-0.5, down - 0.5), 1, 1, fc="0.9", ec="white", lw=1))
    axes.text(0, down, f"{scores.clean.value:.2f}", ha="center", va="center")


def _retention(axes: Axes, across: int, down: int, scores: StratumScore, attack: str) -> None:
    retention, corner = scores.retention.get(attack), (across - 0.5, down - 0.5)
    if retention is None or retention.value is None or not retention.defined:
        axes.add_patch(Rectangle(corner, 1, 1, fc="white", ec="0.7", hatch="////", lw=0))
        return
    level = min(max(retention.value, 0.0), 1.0)
    axes.add_patch(Rectangle(corner, 1, 1, fc=matplotlib.colormaps[_MAP](level), ec="white", lw=1))
    colour = "white" if level < 0.6 else "black"
    axes.text(across, down, f"{retention.value:.2f}", ha="center", va="center", color=colour)
    if retention.high is not None and retention.high < HARM:
        inside = (across - 0.44, down - 0.42)
        axes.add_patch(Rectangle(inside, 0.88, 0.84, fill=False, ec=COLOURS[1], lw=1.4, zorder=3))
