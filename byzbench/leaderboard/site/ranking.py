"""The ranking of a board as a chart and in words, and the papers of its rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from byzbench import registry
from byzbench.leaderboard.boards import Board
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.rows import SOLO, Row
from byzbench.leaderboard.site.collection import entry_path
from byzbench.leaderboard.site.drawings import ScoreMark, score_chart
from byzbench.reports.markup import Child, Markup, el, join, outward
from byzbench.leaderboard.site.tables import number_text
from byzbench.reports.ordering import Difference, paired_difference
from byzbench.reports.paired_tests import CONFIDENCE

MOST_ROWS = 30
"""Largest number of rows of a chart, and of a ranking on the first page."""

_PAPER = re.compile(r"([^;()]*?)[ ,]*arXiv (\d{4}\.\d{4,5})")
"""A paper in the source of a component: its authors and year, and its number at arXiv."""


def ranked_rows(board: Board) -> list[Row]:
    """Return the rows of a board that have a rank, best first, at most `MOST_ROWS`."""
    return [r for r in board.rows if r.ranks][:MOST_ROWS]


def ranking_section(board: Board, up: str, *table: Markup) -> Markup:
    """Return the chart of the ranked rows, and in words what the data separate, beside each other or beside a table.

    Args:
        board: The board.
        up: The path from the page to the root of the site.
        table: A table that stands beside the chart in place of the words, which are then below the chart.
    """
    rows = ranked_rows(board)
    marks = [ScoreMark(r.entry.submission.entry.name, r.score.worst, r.score.clean.value) for r in rows if r.score]
    if not marks:
        return join(*table)
    chart, words = _chart(board, marks), _words(board, rows, up)
    return el("div", *((el("div", chart, words), *table) if table else (chart, words)), class_="beside")


def _chart(board: Board, marks: Sequence[ScoreMark]) -> Markup:
    """Return the chart with its legend."""
    alone = _alone_score(board)
    first = marks[0]
    label = f"Scores of {len(marks)} rows with 95 % intervals; the highest is {first.score.value:.2f}, of {first.name}"
    return el(
        "figure",
        score_chart(marks, _shown_groups(board), alone, label),
        el(
            "figcaption",
            "Dot and bar: score under the worst attack, with its 95 % interval. Circle: score without an attack. "
            "Dashed lines: the reference, at 1",
            f", and in orange learning alone without an attack, at {number_text(alone)}" if alone is not None else None,
            ". Bars at the right join rows that are not separated from each other." if board.tied else ".",
        ),
        class_="ranking",
    )


def _words(board: Board, rows: Sequence[Row], up: str) -> Markup:
    """Return in words which rows are separated from each other and from learning alone."""
    num_ranked = sum(r.ranks is not None for r in board.rows)
    level = 1 - (1 - CONFIDENCE) / max(1, math.comb(num_ranked, 2))  # of all pairs of the board together
    tied = (_tied(rows, group, level, up) for group in _shown_groups(board))
    sentences = [board.separation, *tied, _against_alone(rows, up)]
    return el("ul", (el("li", sentence) for sentence in sentences if sentence), class_="words")


def _alone_score(board: Board) -> float | None:
    """Return the clean score of the method alone in the strata of a board; None without a row of it."""
    for r in ranked_rows(board):
        if r.score and r.joining:
            return r.score.worst.value - r.joining.overall.value
        if r.score and r.entry.algorithm == SOLO:
            return r.score.clean.value
    return None


def paper_links(entry: Entry) -> Markup:
    """Return links to the paper of an entry, or to those that its algorithm names as its source.

    Code of other distributions is not imported for it.

    Args:
        entry: The entry.
    """
    if paper := entry.submission.entry.paper:
        return outward(paper, "paper")
    origin = registry.origins("algorithm").get(entry.algorithm)
    if origin is None or not origin.module.startswith("byzbench."):
        return join()
    papers = papers_of(registry.find("algorithm", entry.algorithm).source)
    links = (outward(f"https://arxiv.org/abs/{number}", label) for label, number in papers)
    return join((", " if i else None, link) for i, link in enumerate(links))


def papers_of(source: str) -> list[tuple[str, str]]:
    """Return the papers in the source of a component: authors and year, or the number where there are none; the number.

    Args:
        source: The source, as `Component.source` writes it.

    Example:
        >>> papers_of("Papini et al. 2018, arXiv 1806.05618 (SVRPG), federated as in arXiv 2110.14074")
        [('Papini et al. 2018', '1806.05618'), ('arXiv 2110.14074', '2110.14074')]
    """
    papers = [(text.strip(" ,"), number) for text, number in _PAPER.findall(source)]
    return [(text if re.search(r"\d{4}$", text) else f"arXiv {number}", number) for text, number in papers]


def _shown_groups(board: Board) -> Sequence[range]:
    """Return the groups of rows that are not separated, without the rows that are not shown."""
    groups = (range(group.start, min(group.stop, MOST_ROWS)) for group in board.tied)
    return [group for group in groups if len(group) > 1]


def _tied(rows: Sequence[Row], group: range, level: float, up: str) -> Child:
    first, last = rows[group[0]], rows[group[-1]]
    assert first.runs
    assert last.runs
    difference = _signed(paired_difference(first.runs.seed_scores - last.runs.seed_scores, level))
    if len(group) == 2:
        return _link(first, up), " and ", _link(last, up), f" are not separated: the difference is {difference}."
    places = f"Rows {group.start + 1} to {group.stop} are not separated from each other: "
    return places, _link(first, up), " minus ", _link(last, up), f" is {difference}."


def _against_alone(rows: Sequence[Row], up: str) -> Child:
    """Return which rows score more, and which less, than learning alone, by the interval of each; None without any."""
    compared = [(r, r.joining.overall) for r in rows if r.joining and r.joining.overall.low is not None]
    if not compared:
        return None
    better = [_link(r, up) for r, gain in compared if (gain.low or 0) > 0]
    worse = [_link(r, up) for r, gain in compared if (gain.high or 0) < 0]
    tied = [(_link(r, up), f", {_signed(gain)}") for r, gain in compared if (gain.low or 0) <= 0 <= (gain.high or 0)]
    return (
        "Compared one by one with learning alone without an attack, each at 95 %.",
        (" Better under the worst attack: ", _listed(better), ".") if better else None,
        (" Not separated from it: ", _listed(tied), ".") if tied else None,
        (" Worse: ", _listed(worse), ".") if worse else None,
    )


def _signed(difference: Difference) -> str:
    return str(difference).replace("-", "\N{MINUS SIGN}")


def _listed(things: Sequence[Child]) -> Child:
    return [("; " if i else None, thing) for i, thing in enumerate(things)]


def _link(r: Row, up: str) -> Markup:
    return el("a", r.entry.submission.entry.name, href=f"{up}{entry_path(r.entry)}")
