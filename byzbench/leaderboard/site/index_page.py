"""The index page: the open suites, and the first rows of each of their boards."""

from __future__ import annotations

from collections.abc import Iterator

from byzbench.leaderboard.boards import Board
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.site.board_pages import attack_links, entry_link, listed, rank_text, title
from byzbench.leaderboard.site.collection import Collection, attack_path, board_path, entry_path, topology_path
from byzbench.leaderboard.site.drawings import interval
from byzbench.leaderboard.site.html import Child, Markup, el
from byzbench.leaderboard.site.tables import cell, figure, html_table, lead, row
from byzbench.leaderboard.suites import CLEAN, Stratum, Suite

FIRST_ROWS = 5
"""Number of rows of a board on the index page."""

_ROLES = {"worst_case": "worst case", "sanity": "sanity", "held_out": "held out for tuning"}


def index_page(collection: Collection) -> Iterator[Child]:
    """Yield the main part of the index page."""
    yield el("h1", "byzbench leaderboards")
    yield el(
        "p",
        "Which federated reinforcement-learning algorithms still learn when some agents are Byzantine? Every row is a "
        "submission that anybody can run again, and its scores are computed from its cells. All numbers: ",
        el("a", "board.csv", href="board.csv"),
        ", ",
        el("a", "board.json", href="board.json"),
        ".",
    )
    if not collection.boards:
        yield el("p", "No open suite has a submission yet.")
    for suite in sorted(collection.suites, key=lambda suite: not collection.of(suite)):
        yield from _suite(suite, collection)
    if collection.closed:
        yield el("h2", "Closed suites")
        yield el("p", f"{', '.join(collection.closed)}: their rows can be verified, and are not shown.")
    if collection.suites:
        yield el("h2", "Pages of attacks and graphs")
        yield el("p", "Attacks: ", listed(collection.attacks, lambda a: el("a", a, href=attack_path(a))), ".")
        yield el("p", "Graphs: ", listed(collection.topologies, lambda t: el("a", t, href=topology_path(t))), ".")


def _suite(suite: Suite, collection: Collection) -> Iterator[Child]:
    yield el("h2", suite.name, id=suite.name)
    yield el("p", suite.title)
    for board in collection.of(suite):
        yield el("h3", el("a", title(board), href=board_path(board)))
        yield from _first_attacks(board) if board.division is None else _first_rows(board)
    if not collection.of(suite):
        yield el("p", "It has no submission yet.")
    yield el("details", el("summary", "Strata, attacks and id"), _contents(suite))
    if others := [e for e in collection.unlisted if e.submission.suite == suite.name]:
        heads = ("Entry", "Track", "Attack", "Aimed at")
        yield html_table(f"Entries of {suite.name} on no board", heads, map(_unlisted, others))


def _first_rows(board: Board) -> Iterator[Markup]:
    if board.separation:
        yield el("p", board.separation)
    heads = ("Ranks", "Entry", "Score", "0 to 1", "Clean")
    rows = (
        row(
            cell(rank_text(r.ranks), class_="n"),
            lead(entry_link(r.entry, up="")),
            figure(r.score.worst if r.score else None),
            cell(interval(r.score.worst) if r.score else None),
            figure(r.score.clean.value if r.score else None),
            class_="grey" if r.unranked else None,
        )
        for r in board.rows[:FIRST_ROWS]
    )
    yield html_table(_caption(board, len(board.rows)), heads, rows, names=1)


def _first_attacks(board: Board) -> Iterator[Markup]:
    rows = (
        row(
            lead(entry_link(r.entry, up="")),
            cell(attack_links([str(r.entry.submission.method.attack)], up="")),
            figure(r.damage),
        )
        for r in board.attacks[:FIRST_ROWS]
    )
    yield html_table(_caption(board, len(board.attacks)), ("Entry", "Attack", "Damage"), rows)


def _caption(board: Board, count: int) -> str:
    rows = f"the first {FIRST_ROWS} of {count}" if count > FIRST_ROWS else f"all {count}"
    return f"{title(board)}, {rows}"


_STRATA = (
    "Stratum", "Division", "Task", "Graph", "Agents", "Byzantine", "Trajectories", "Random", "Return scored 1",
)  # fmt: skip


def _contents(suite: Suite) -> Iterator[Markup]:
    """Yield tables of the strata and the attacks of a suite, and its id."""
    yield html_table(f"Strata of {suite.name}, {suite.seeds} seeds each", _STRATA, map(_stratum, suite.strata))
    heads = ("Attack", "Knowledge", "Role", "Strata")
    rows = (
        row(
            lead(el("a", a.spec, href=attack_path(a.spec))),
            cell(a.knows),
            cell(_ROLES[a.role]),
            cell(", ".join(a.strata) or "all"),
        )
        for a in suite.attacks
        if a.spec != CLEAN
    )
    yield html_table(f"Attacks of {suite.name}", heads, rows)
    yield el("p", "Suite ", el("code", suite.sha256), ".")


def _stratum(s: Stratum) -> Markup:
    reference = "that of the reference" if s.reference is None else f"{s.reference:g}"
    counts = (s.agents, s.byzantine, f"{s.trajectories:,}", f"{s.random:g}", reference)
    graph = el("a", s.topology, href=topology_path(s.topology))
    return row(lead(s.name), cell(s.division), cell(s.task), cell(graph), *(cell(c, class_="n") for c in counts))


def _unlisted(entry: Entry) -> Markup:
    """Return the row of an entry that is on no board."""
    track, method = entry.submission.track, entry.submission.method
    return row(
        lead(el("a", entry.submission.entry.name, href=entry_path(entry))),
        cell(track if track == "adaptive" else f"{track}, with cells missing"),
        cell(attack_links([method.attack], up="") if method.attack else None),
        cell(method.against),
    )
