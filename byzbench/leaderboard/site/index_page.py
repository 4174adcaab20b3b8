"""The index page: the open suites, and the ranking of each of their boards as a table, a chart and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from byzbench.leaderboard.boards import Board
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.rows import Row
from byzbench.leaderboard.site.board_pages import attack_links, entry_link, listed, megabytes, rank_text, title
from byzbench.leaderboard.site.collection import Collection, attack_path, board_path, entry_path, topology_path
from byzbench.reports.markup import Child, Markup, el
from byzbench.leaderboard.site.ranking import MOST_ROWS, paper_links, ranked_rows, ranking_section
from byzbench.leaderboard.site.tables import cell, figure, html_table, lead, quantity, row
from byzbench.leaderboard.suites import CLEAN, Stratum, Suite, short_specs

_ROLES = {"worst_case": "worst case", "sanity": "sanity", "held_out": "held out for tuning"}


def index_page(collection: Collection) -> Iterator[Child]:
    """Yield the main part of the index page."""
    yield el("h1", "byzbench leaderboards")
    yield el(
        "p",
        "Which federated reinforcement-learning algorithms still learn when some agents are Byzantine? Every row is a "
        "submission that anybody can run again. Its score is the area under the learning curve under the worst attack "
        "of the suite: 0 is a random policy, 1 the suite's reference without an attack. ",
        el("a", "What the columns mean", href="reading.html#columns"),
        ". All numbers: ",
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
    yield el("p", f"{_sizes(suite)}. Seeds of a cell: {suite.seeds}.")
    for board in collection.of(suite):
        yield el("h3", el("a", title(board), href=board_path(board)))
        yield from _first_attacks(board) if board.division is None else _ranking(board)
    if not collection.of(suite):
        yield el("p", "It has no submission yet.")
    yield el("details", el("summary", "Strata, attacks and id"), _contents(suite))
    if others := [e for e in collection.unlisted if e.submission.suite == suite.name]:
        heads = ("Entry", "Track", "Attack", "Aimed at")
        yield html_table(f"Entries of {suite.name} on no board", heads, map(_unlisted, others))


def _sizes(suite: Suite) -> str:
    """Return the tasks, and the numbers of agents, of a suite as a text."""
    tasks = ", ".join(dict.fromkeys(s.task for s in suite.strata))
    sizes = dict.fromkeys(f"{s.agents} agents, {s.byzantine} of them Byzantine" for s in suite.strata)
    return f"Task{'s' * (', ' in tasks)}: {tasks}. Federations: {' or '.join(sizes)}"


def _ranking(board: Board) -> Iterator[Markup]:
    """Yield the ranking of a board: a chart, a table, and in words what the data separate."""
    rows = ranked_rows(board)
    short = dict(zip(specs := [a.spec for a in board.suite.attacks], short_specs(specs), strict=True))
    dated = any(r.entry.submission.entry.submitted for r in rows)
    dates = ["Date"] if dated else []
    heads = ["Ranks", "Method", "Score", "Worst attack", "Paper", *dates, "MB a cell", "Search episodes"]
    body = (
        row(
            cell(rank_text(r.ranks), class_="n"),
            lead(entry_link(r.entry, up="")),
            figure(r.score.worst if r.score else None),
            cell(listed(r.named_attacks, lambda a: el("a", short.get(a, a), href=attack_path(a))) or "none did harm"),
            cell(paper_links(r.entry), class_="paper"),
            cell(r.entry.submission.entry.submitted or "not recorded") if dated else None,
            quantity(megabytes(r)),
            quantity(r.settings.search_episodes if r.entry.submission.tuning else 0),
        )
        for r in rows
    )
    if rows:
        yield ranking_section(board, "", html_table(_caption(board, rows), heads, body, names=1))
    else:
        yield el("p", "No row is ranked.")


def _caption(board: Board, rows: Sequence[Row]) -> str:
    """Return the caption of a ranking: how many rows it shows, and what is the same in all of them."""
    ranked, others = sum(r.ranks is not None for r in board.rows), sum(r.ranks is None for r in board.rows)
    shown = f"the first {len(rows)} of {ranked} ranked rows" if len(rows) < ranked else f"all {ranked} ranked rows"
    engines = sorted({r.entry.submission.code.engine or 0 for r in rows})
    dated = any(r.entry.submission.entry.submitted for r in rows)
    return (
        f"{title(board)}, {shown}"
        f"{f'; {others} more, not ranked, are on the board' if others else ''}"
        f"; run at engine {' and '.join(map(str, engines))}{'' if dated else '; dates not recorded'}"
    )


def _first_attacks(board: Board) -> Iterator[Markup]:
    count = len(board.attacks)
    caption = f"{title(board)}, {f'the first {MOST_ROWS} of' if count > MOST_ROWS else 'all'} {count}"
    rows = (
        row(
            lead(entry_link(r.entry, up="")),
            cell(attack_links([str(r.entry.submission.method.attack)], up="")),
            figure(r.damage),
        )
        for r in board.attacks[:MOST_ROWS]
    )
    yield html_table(caption, ("Entry", "Attack", "Damage"), rows)


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
