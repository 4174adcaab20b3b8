"""The page of a board: its chart, and tables of scores, of further estimates, and of settings and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from byzbench.leaderboard.boards import Board, strata_of
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.rows import Row, Settings
from byzbench.leaderboard.schema import Knowledge
from byzbench.leaderboard.site.collection import Collection, attack_path, board_path, entry_path, topology_path
from byzbench.reports.markup import Child, Markup, el, join
from byzbench.leaderboard.site.ranking import paper_links, ranking_section
from byzbench.leaderboard.site.tables import cell, count, figure, html_table, lead, number_text, quantity, row
from byzbench.leaderboard.suites import Suite
from byzbench.reports.scoring import EntryScore

DIVISION = {"decentralised": "without a server", "server": "with a trusted server"}
"""Divisions in words."""

LEVEL: dict[Knowledge, str] = {"local": "Local", "coordinated": "Coordinated", "omniscient": "Omniscient"}
"""Headers of the columns by level of knowledge."""

ALWAYS_LARGE = "p=1: no variance reduction"
"""Mark of a method whose batches are all large ones."""


def title(board: Board) -> str:
    """Return the title of a board."""
    return f"{board.suite.name}: {short_title(board)}"


def short_title(board: Board) -> str:
    """Return the title of a board without its suite."""
    return "attacks" if board.division is None else f"methods {DIVISION[board.division]}"


def marks(entry: Entry, unranked: Sequence[str] = (), audit: str = "") -> Markup:
    """Return the marks beside the name of an entry.

    Args:
        entry: The entry.
        unranked: The reasons why it is not ranked.
        audit: The result of the last audit as a text.
    """
    settings = Settings.of(entry)
    texts = [
        settings.origin,
        *([ALWAYS_LARGE] if settings.always_large else []),
        *unranked,
        *([audit] if audit else []),
    ]
    return join((" ", el("span", text, class_="mark")) for text in texts)


def entry_link(entry: Entry, up: str = "../") -> Markup:
    """Return a link to the page of an entry."""
    return el("a", entry.submission.entry.name, href=f"{up}{entry_path(entry)}")


def attack_links(attacks: Iterable[str], up: str = "../") -> Child:
    """Return links to the pages of attacks, separated by commas."""
    return listed(attacks, lambda attack: el("a", attack, href=f"{up}{attack_path(attack)}"))


def flag_link(name: str) -> Markup:
    """Return a flag as a link to its explanation."""
    return el("a", name, href=f"../reading.html#{name}")


def listed(things: Iterable[Any], link: Callable[[Any], Child]) -> Child:
    """Return links separated by commas.

    Args:
        things: The things to link to.
        link: A function that returns the link of a thing.
    """
    return [(", " if i else None, link(thing)) for i, thing in enumerate(things)]


def rank_text(ranks: tuple[int, int] | None) -> str:
    """Return a range of ranks as a text; an empty text for a row that is not ranked.

    Example:
        >>> rank_text((2, 2)), rank_text((1, 3)), rank_text(None)
        ('2', '1–3', '')
    """
    if ranks is None:
        return ""
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]}\N{EN DASH}{ranks[1]}"


def board_page(board: Board, collection: Collection) -> Iterator[Child]:
    """Yield the main part of the page of a board."""
    yield el("h1", title(board))
    yield el("p", board.suite.title)
    yield _siblings(board, collection)
    yield from _attack_board(board, collection) if board.division is None else _defence_board(board, collection)


def _attack_board(board: Board, collection: Collection) -> Iterator[Child]:
    yield el(
        "p",
        "Damage is the score of the suite's own algorithms without the attack minus that under it, the mean over "
        "strata, algorithms and seeds. Where intervals overlap, the order says little.",
    )
    attacked = dict.fromkeys((s, a) for r in board.attacks for s, by in r.by.items() for a in by)
    heads = ["Entry", "Attack", "Damage", "Failed cells", *(f"{s}: {a}" for s, a in attacked)]
    rows = (
        row(
            lead(entry_link(r.entry), marks(r.entry, r.unranked, collection.audit[r.entry.digest])),
            cell(attack_links([str(r.entry.submission.method.attack)])),
            figure(r.damage),
            cell(r.failed, class_="n"),
            (figure(r.by.get(s, {}).get(a)) for s, a in attacked),
            class_="grey" if r.unranked else None,
        )
        for r in board.attacks
    )
    yield html_table("Attacks by damage", heads, rows, sortable=True)


def _defence_board(board: Board, collection: Collection) -> Iterator[Child]:
    suite, strata = board.suite, strata_of(board)
    scored = dict.fromkeys(attack for stratum in strata for attack in suite.worst_case(stratum))
    run = dict.fromkeys(attack for stratum in strata for attack in suite.attacks_of(stratum))
    sanity = [attack for attack in run if attack not in scored and attack != "none"]
    yield el(
        "p",
        "The score is the area under the learning curve under the worst attack, from 0, a random policy, to 1, ",
        reference_text(suite, str(board.division)),
        "; the mean over ",
        listed(strata, lambda s: el("a", s.name, href=f"../{topology_path(s.topology)}")),
        ". Attacks: ",
        attack_links(scored),
        (". Sanity attacks, which no score depends on: ", attack_links(sanity)) if sanity else None,
        ". ",
        el("a", "What the columns mean", href="../reading.html#columns"),
    )
    yield ranking_section(board, "../")
    if board.common_flags:
        yield el("p", "Flags of every row: ", listed(board.common_flags, flag_link))
    best_known = any(r.score and r.best_known != r.score.worst.value for r in board.rows)
    heads = ["Ranks", "Entry", "Score", *(["Best known"] if best_known else []), "Clean", "Retention", "Joining"]
    rows = (_scores(r, board, best_known, collection.audit[r.entry.digest]) for r in board.rows)
    yield html_table("Entries by score", [*heads, "Worst attack", "Paper", "Flags"], rows, sortable=True, names=1)
    levels = [level for level in LEVEL if any(level in r.by_knowledge for r in board.rows)]
    heads = ["Entry", "Cross-fitted", "CVaR", *(LEVEL[level] for level in levels), "Mean over attacks", "Final return"]
    rows = (_estimates(r, levels) for r in board.rows)
    yield html_table("More estimates, in the same order", heads, rows, sortable=True)
    yield html_table("Settings and costs, in the same order", _SETTINGS, map(_settings, board.rows), sortable=True)


def reference_text(suite: Suite, division: str) -> str:
    """Return a description of the method or the return that has score 1 in a division."""
    reference = next((reference for reference in suite.references if reference.division == division), None)
    if reference is None:
        return "the return at which the task counts as solved"
    rule = f" with {reference.aggregator}" if reference.aggregator else ""
    return f"the reference: {reference.algo}{rule}, which averages honest agents only, without an attack"


def _siblings(board: Board, collection: Collection) -> Markup:
    """Return links to the boards of the same suite."""
    links = (
        el("li", el("a", short_title(b), href=f"../{board_path(b)}", aria_current="page" if b is board else None))
        for b in collection.of(board.suite)
    )
    return el("nav", el("ul", *links), class_="tabs", aria_label="Boards of this suite")


def _scores(r: Row, board: Board, best_known: bool, audit: str) -> Markup:
    """Return a row of the table of scores.

    Args:
        r: The row of the board.
        board: The board.
        best_known: Whether the table has the score with the attacks that are aimed at rows.
        audit: The result of the last audit as a text.
    """
    flags = [flag.name for flag in r.flags if flag.name not in board.common_flags]
    ranks = r.ranks[0] + r.ranks[1] / 1e4 if r.ranks else None
    return row(
        cell(rank_text(r.ranks), sort=ranks, class_="n"),
        lead(entry_link(r.entry), marks(r.entry, r.unranked, audit)),
        _numbers(r, r.score, best_known) if r.score else [cell() for _ in range(4 + best_known)],
        cell(attack_links(r.named_attacks)),
        cell(paper_links(r.entry), class_="paper"),
        cell([flag_link(name) for name in dict.fromkeys(flags)], class_="flags"),
        class_="grey" if r.unranked else None,
    )


def _numbers(r: Row, s: EntryScore, best_known: bool) -> Iterator[Markup]:
    value, defined, total = s.mean_retention()
    yield figure(s.worst)
    if best_known:
        yield figure(r.best_known)
    yield figure(s.clean.value)
    yield cell(number_text(value), " ", el("small", f"{defined} of {total}"), sort=value, class_="n")
    yield figure(r.joining.overall if r.joining else None)


def _estimates(r: Row, levels: Sequence[Knowledge]) -> Markup:
    """Return a row of the table of the score's other estimates, and of the final return."""
    s = r.score
    return row(
        lead(entry_link(r.entry)),
        figure(s.crossfit if s else None),
        figure(s.cvar if s else None),
        (figure(r.by_knowledge.get(level)) for level in levels),
        figure(s.mean if s else None),
        cell(final_text(r), sort=_single(r.final_returns.values()), class_="n"),
        class_="grey" if r.unranked else None,
    )


_SETTINGS = (
    "Entry", "Parameters", "lr", "Batch", "Messages", "MB", "Seconds", "Search episodes", "Failed cells", "Date",
)  # fmt: skip


def _settings(r: Row) -> Markup:
    settings, costs = r.settings, r.costs
    return row(
        lead(entry_link(r.entry)),
        cell(settings.origin, ", " + ALWAYS_LARGE if settings.always_large else None),
        cell(", ".join(f"{value:g}" for value in settings.lr), sort=min(settings.lr, default=None), class_="n"),
        cell(", ".join(map(str, settings.batch_size)), sort=min(settings.batch_size, default=None), class_="n"),
        quantity(costs.messages),
        quantity(megabytes(r)),
        quantity(costs.seconds),
        quantity(settings.search_episodes),
        cell(r.failed, class_="n"),
        cell(r.entry.submission.entry.submitted or "not recorded"),
        class_="grey" if r.unranked else None,
    )


def megabytes(r: Row) -> float | None:
    """Return the megabytes that all agents send in a cell; None where they are not known."""
    return None if r.costs.bytes is None else r.costs.bytes / 1e6


def final_text(r: Row) -> str:
    """Return the final returns of a row; with the names of the tasks if there are several."""
    if len(r.final_returns) == 1:
        return count(*r.final_returns.values())
    return ", ".join(f"{task} {count(value)}" for task, value in r.final_returns.items())


def _single(values: Iterable[float]) -> float | None:
    """Return the value if there is exactly one; None otherwise."""
    items = list(values)
    return items[0] if len(items) == 1 else None
