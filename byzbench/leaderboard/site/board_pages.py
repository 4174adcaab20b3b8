"""The first page, and a page for every board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from byzbench.leaderboard.boards import AttackRow, Board, Row, strata_of
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.site.collection import Collection, attack_path, board_path, entry_path, topology_path
from byzbench.leaderboard.site.drawings import interval
from byzbench.leaderboard.site.html import Child, Markup, el, join
from byzbench.leaderboard.site.tables import bracketed, cell, figure, lead, number, row, table
from byzbench.leaderboard.suites import CLEAN, Suite

ADVERSARY = {
    "local": "whose liars see only their own vectors",
    "coordinated": "whose liars see those of each other too",
    "omniscient": "whose liars see everything",
}
DIVISION = {"decentralised": "without a server", "server": "with a trusted server"}


def title(board: Board) -> str:
    """A board in a line."""
    return f"{board.suite.name}: {within(board)}"


def within(board: Board) -> str:
    """A board among those of its suite."""
    return "attacks" if board.division is None else f"{board.division}, {board.knowledge} adversary"


def marks(entry: Entry, superseded: bool = False, audit: str = "") -> Markup:
    """Return what a reader must see beside the name of an entry.

    Args:
        entry: the entry.
        superseded: whether another one takes its place.
        audit: what the last audit saw of it, in words.
    """
    about = entry.submission
    words = ["tuned" if about.tuning else "untuned"]
    words += ["reported, not replayed"] * (about.track == "reported") + ["superseded"] * superseded
    words += ["cannot be replayed"] * (about.code.engine is None) + [audit] * bool(audit)
    return join((" ", el("span", word, class_="mark")) for word in words)


def flag_links(r: Row) -> Child:
    """The flags of a row, each linked to what it means."""
    names = dict.fromkeys(flag.name for flag in r.flags)
    return [el("a", name, href=f"../reading.html#{name}") for name in names]


def board_page(board: Board, all_of_them: Collection) -> Iterator[Child]:
    """The main part of the page of a board."""
    yield el("h1", title(board))
    yield el("p", board.suite.title)
    yield _siblings(board, all_of_them)
    if board.division is None:
        yield el(
            "p",
            "Damage is what an attack takes from the suite's own algorithms: the score without it less the score under "
            "it, the mean over strata and algorithms. Rows stand by damage; where intervals overlap, the order says "
            "little.",
        )
        rows = (_attack(r, all_of_them) for r in board.attacks)
        yield table("Attacks by damage", [*_ATTACKS, *_victims(board)], rows, sortable=True)
        return
    attacks = board.suite.attacks_at(board.knowledge)
    yield el(
        "p",
        f"Methods {DIVISION[board.division]}, against an adversary {ADVERSARY[board.knowledge]}. The score is what is "
        "left under the attack that is worst for an entry, from 0, a random policy, to 1, the suite's reference; the "
        "mean over ",
        listed(strata_of(board), lambda s: el("a", s.name, href=f"../{topology_path(s.topology)}")),
        ". Attacks: ",
        listed(attacks, lambda a: el("a", a, href=f"../{attack_path(a)}")),
        ". Rows that share a rank cannot be told apart. ",
        el("a", "What the columns mean", href="../reading.html#columns"),
    )
    rows = (_defence(r, all_of_them) for r in board.rows)
    yield table("Entries by their worst case", _DEFENCES, rows, sortable=True, names=1)


def listed(things: Iterable[Any], link: Callable[[Any], Child]) -> Child:
    """Things one after the other, each as a link."""
    return [(", " if i else None, link(thing)) for i, thing in enumerate(things)]


def _siblings(board: Board, all_of_them: Collection) -> Markup:
    links = (
        el("li", el("a", within(b), href=f"../{board_path(b)}", aria_current="page" if b is board else None))
        for b in all_of_them.of(board.suite)
    )
    return el("nav", el("ul", *links), class_="tabs", aria_label="Boards of this suite")


_DEFENCES = (
    "Rank", "Entry", "Worst case", "0 to 1", "Bracket", "Best known", "Clean", "Mean", "Gap",
    "Worst attack", "Beats next", "Flags",
)  # fmt: skip


def _name(entry: Entry, all_of_them: Collection, superseded: bool = False) -> Markup:
    link = el("a", entry.submission.entry.name, href=f"../{entry_path(entry)}")
    return lead(link, marks(entry, superseded, all_of_them.audit[entry.digest]))


def _defence(r: Row, all_of_them: Collection) -> Markup:
    s, bracket = r.score, r.score.bracket
    ranks = f"{r.ranks[0]} to {r.ranks[1]}" if r.ranks and r.ranks[0] != r.ranks[1] else None
    worst = dict.fromkeys(s.attack.values())
    return row(
        cell(r.rank, el("small", f" ({ranks})") if ranks else None, sort=r.rank, class_="n"),
        _name(r.entry, all_of_them, r.superseded),
        figure(s.worst),
        cell(interval(s.worst), sort=s.worst.value),
        cell(f"{number(bracket[0])} to {number(bracket[1])}", sort=bracket[1], class_="n") if bracket else cell(),
        figure(r.best_known),
        figure(s.clean.value),
        figure(s.mean),
        figure(s.gap),
        cell(listed(worst, lambda a: el("a", a, href=f"../{attack_path(a)}"))),
        figure(r.beats_next),
        cell(flag_links(r), class_="flags"),
        class_="grey" if r.rank is None else None,
    )


_ATTACKS = ("Entry", "Attack", "Damage", "Failed cells")


def _victims(board: Board) -> list[str]:
    """The columns after the first ones: a stratum and an algorithm that was attacked there."""
    return [f"{s}: {a}" for s, by in (board.attacks[0].by if board.attacks else {}).items() for a in by]


def _attack(r: AttackRow, all_of_them: Collection) -> Markup:
    spec = str(r.entry.submission.method.attack)
    return row(
        _name(r.entry, all_of_them),
        cell(el("a", spec, href=f"../{attack_path(spec)}")),
        figure(r.damage),
        cell(r.failed, class_="n"),
        (figure(value) for by in r.by.values() for value in by.values()),
    )


def index_page(all_of_them: Collection) -> Iterator[Child]:
    """The main part of the first page."""
    yield el("h1", "byzbench leaderboards")
    yield el(
        "p",
        "Which federated reinforcement-learning algorithm still learns when some of its agents lie? Every row is a "
        "submission that anybody can run again, and its score is computed here, from its cells. All numbers: ",
        el("a", "board.csv", href="board.csv"),
        ", ",
        el("a", "board.json", href="board.json"),
        ".",
    )
    for suite in sorted(all_of_them.suites, key=lambda suite: not all_of_them.of(suite)):
        yield el("h2", suite.name, id=suite.name)
        yield el("p", suite.title)
        if mine := all_of_them.of(suite):
            yield table(f"Boards of {suite.name}", _BOARDS, map(_summary, mine))
        else:
            yield el("p", "Nobody has entered yet.")
        strata = table(f"Strata of {suite.name}, {suite.seeds} seeds each", _STRATA, _strata(suite))
        yield el("details", el("summary", f"Its {len(suite.strata)} strata"), strata)
        yield el("p", "Attacks: ", _attacks(suite), ". Suite ", el("code", suite.sha256), ".")
        if others := [e for e in all_of_them.unlisted if e.submission.suite == suite.name]:
            heads = ("Entry", "Track", "Attack", "Aimed at")
            yield table(f"Entries of {suite.name} that stand on no board", heads, map(_other, others))
    yield el("h2", "Pages of attacks and graphs")
    yield el("p", "Attacks: ", listed(all_of_them.attacks, lambda a: el("a", a, href=attack_path(a))), ".")
    yield el("p", "Graphs: ", listed(all_of_them.topologies, lambda t: el("a", t, href=topology_path(t))), ".")


_BOARDS = ("Board", "Entries", "Rank 1", "Best worst case")
_LEADERS = 3


def _summary(board: Board) -> Markup:
    ranked = [r for r in board.rows if r.rank is not None]
    leaders = [r.entry for r in ranked if r.rank == 1] or [r.entry for r in board.attacks[:1]]
    more = f" and {len(leaders) - _LEADERS} more" if len(leaders) > _LEADERS else None
    first = ranked[0].score.worst if ranked else None
    return row(
        lead(el("a", title(board), href=board_path(board))),
        cell(len(board.rows) + len(board.attacks), class_="n"),
        cell(listed(leaders[:_LEADERS], lambda e: el("a", e.submission.entry.name, href=entry_path(e))), more),
        cell(bracketed(first) if first else None, class_="n"),
    )


_STRATA = ("Stratum", "Division", "Task", "Graph", "Agents", "Liars", "Trajectories", "Random", "Reference")


def _strata(suite: Suite) -> Iterator[Markup]:
    for s in suite.strata:
        counts = (s.agents, s.byzantine, f"{s.trajectories:,}", f"{s.random:g}", f"{s.reference:g}")
        graph = el("a", s.topology, href=topology_path(s.topology))
        yield row(lead(s.name), cell(s.division), cell(s.env), cell(graph), *(cell(c, class_="n") for c in counts))


def _attacks(suite: Suite) -> Child:
    named = [a for a in suite.attacks if a.spec != CLEAN]
    return listed(named, lambda a: (el("a", a.spec, href=attack_path(a.spec)), f" ({a.knows})"))


def _other(entry: Entry) -> Markup:
    track, method = entry.submission.track, entry.submission.method
    return row(
        lead(el("a", entry.submission.entry.name, href=entry_path(entry))),
        cell(track if track == "adaptive" else f"{track}, with cells missing"),
        cell(el("a", method.attack, href=attack_path(method.attack)) if method.attack else None),
        cell(method.against),
    )
