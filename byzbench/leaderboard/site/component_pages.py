"""The pages of attacks and of graphs: what each is, and what it does to every entry."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import networkx as nx

from byzbench import registry
from byzbench.contracts import Attack, Placement, Topology
from byzbench.federation.membership import Membership
from byzbench.geometry.graphs import honest_components, local_weight
from byzbench.leaderboard.boards import Board, Row
from byzbench.leaderboard.site.board_pages import marks, title
from byzbench.leaderboard.site.collection import Collection, board_path, entry_path
from byzbench.leaderboard.site.drawings import MOST_AGENTS, graph
from byzbench.leaderboard.site.html import Child, Markup, el
from byzbench.leaderboard.site.tables import cell, facts, figure, lead, row, table
from byzbench.leaderboard.suites import CLEAN, Stratum, Suite
from byzbench.randomness import Streams

EXAMPLES = 3
"""Graphs that are drawn of a stratum, of the seeds 0, 1, ...; which one a run has depends on its own seed."""


def _described(kind: str, name: str) -> Iterator[Child]:
    """What a component of byzbench says of itself. Code of other distributions is not run to make a page about it."""
    origin = registry.origins(kind).get(name)
    if origin is None or not origin.module.startswith("byzbench."):
        yield el("p", "It is not part of byzbench; the entry that brought it says where it is from.")
    else:
        yield el("pre", inspect.cleandoc(registry.find(kind, name).__doc__ or ""), class_="notes")


def attack_page(name: str, all_of_them: Collection) -> Iterator[Child]:
    """The main part of the page of an attack: one section for each way in which it is written."""
    yield el("h1", "Attack ", el("code", name))
    written = all_of_them.attacks[name]
    yield from _described("attack", name)
    frozen = {a.spec for suite in all_of_them.suites for a in suite.attacks}
    for spec in written:
        yield el("h2", el("code", spec))
        if spec in frozen:  # what strangers wrote is not built, only quoted
            yield _threat(spec)
        for board in all_of_them.boards:
            for r in board.attacks:
                if r.entry.submission.method.attack == spec:
                    its = el("a", r.entry.submission.entry.name, href=f"../{entry_path(r.entry)}")
                    yield el("p", its, f" on {board.suite.name}: damage {r.damage.value:.2f}")
        for one in all_of_them.suites:
            for board in all_of_them.last(one):
                if spec in one.attacks_at(board.knowledge) and board.rows:
                    yield _under(spec, board)


def _threat(spec: str) -> Markup:
    attack = registry.build("attack", spec)
    assert isinstance(attack, Attack)
    threat = attack.threat
    return facts(
        [
            ("Sees", ", ".join(sorted(threat.sees)) or "nothing but its own task"),
            ("Acts on", ", ".join(sorted(threat.surface))),
            ("Different lies to different neighbours", "yes" if threat.equivocates else "no"),
        ]
    )


def _under(spec: str, board: Board) -> Markup:
    """What it leaves of every entry of a board, the least first."""
    strata = list(board.rows[0].cells)
    rows = sorted(board.rows, key=lambda r: (_left(r, spec), r.entry.slug))
    body = (
        row(_entry(r), figure(r.score.clean), *(figure(r.cells.get(s, {}).get(spec)) for s in strata)) for r in rows
    )
    caption = f"What it leaves of entries of {board.suite.name}, {board.division}"
    return table(caption, ["Entry", "Clean", *strata], body, sortable=True)


def _left(r: Row, spec: str) -> float:
    found = [by[spec].value for by in r.cells.values() if spec in by]
    return sum(found) / len(found) if found else 0.0


def _entry(r: Row) -> Markup:
    return lead(el("a", r.entry.submission.entry.name, href=f"../{entry_path(r.entry)}"), marks(r.entry, r.superseded))


def topology_page(name: str, all_of_them: Collection) -> Iterator[Child]:
    """The main part of the page of a graph: one section for each size and number of liars."""
    yield el("h1", "Graph ", el("code", name))
    yield from _described("topology", name)
    alike: dict[tuple[str, int, int], list[tuple[Suite, Stratum]]] = {}
    for suite, stratum in all_of_them.topologies[name]:
        alike.setdefault((stratum.topology, stratum.agents, stratum.byzantine), []).append((suite, stratum))
    for (spec, agents, byzantine), strata in alike.items():
        yield el("h2", el("code", spec), f", {agents} agents, {byzantine} of them liars")
        yield el("p", "Strata: ", ", ".join(f"{stratum.name} of {suite.name}" for suite, stratum in strata))
        yield from _drawn(strata[0][1])
        for suite, stratum in strata:
            yield from _there(suite, stratum, all_of_them)


def _drawn(stratum: Stratum) -> Iterator[Child]:
    topology, placement = registry.build("topology", stratum.topology), registry.build("placement", "random")
    assert isinstance(topology, Topology)
    assert isinstance(placement, Placement)
    f = stratum.byzantine
    seated = [Membership.seat(topology, placement, stratum.agents, f, f, Streams(s)) for s in range(EXAMPLES)]
    yield facts(_measured(stratum, seated[0].graph))
    yield el("p", "Examples, of the seeds 0 and up: agents are round and numbered, liars square, a trusted server S.")
    drawn = [(m, graph(m.graph, m.liars, _said(stratum, m.graph, m.liars))) for m in seated]
    yield el("div", (_example(m, svg) for m, svg in drawn if svg), class_="panels graphs")


def _measured(stratum: Stratum, g: nx.Graph) -> Iterator[tuple[str, Child]]:
    whole = nx.is_strongly_connected(g) if g.is_directed() else nx.is_connected(g)
    degrees = [d for node, d in (g.in_degree if g.is_directed() else g.degree) if node != g.graph.get("server")]
    low, high = min(degrees), max(degrees)
    yield "Links", f"{g.number_of_edges()}{', with a direction' if g.is_directed() else ''}"
    yield "Neighbours", f"{low}" if low == high else f"{low} to {high}"
    if stratum.agents <= MOST_AGENTS:
        yield "Diameter", nx.diameter(g) if whole else "not connected"


def _said(stratum: Stratum, g: nx.Graph, liars: tuple[int, ...]) -> str:
    return f"{stratum.topology} of {stratum.agents} agents with {g.number_of_edges()} links; liars: {liars}"


def _example(m: Membership, svg: Markup) -> Markup:
    if m.server is not None:
        return el("figure", svg, el("figcaption", f"{len(m.liars)} of the {m.agents} that the server hears lie."))
    share, parts = local_weight(m.graph, m.liars), honest_components(m.graph, m.liars)
    together = "connected" if parts == 1 else f"in {parts} parts"
    said = f"Up to {share:.0%} of what an honest agent hears is lies; without the liars, the honest are {together}."
    return el("figure", svg, el("figcaption", said))


def _there(suite: Suite, stratum: Stratum, all_of_them: Collection) -> Iterator[Markup]:
    for board in all_of_them.last(suite):
        rows = [(r, by) for r in board.rows if (by := r.cells.get(stratum.name))]
        if rows:
            yield el("h3", stratum.name)
            yield el("p", "Board: ", el("a", title(board), href=f"../{board_path(board)}"))
            worst = [r.score.attack[stratum.name] for r, _ in rows]
            body = (
                row(_entry(r), figure(by[CLEAN]), figure(by[attack]), cell(attack))
                for (r, by), attack in zip(rows, worst, strict=True)
            )
            heads = ("Entry", "Clean", "Worst case", "Worst attack")
            yield table(f"Entries at {stratum.name}", heads, body, sortable=True)
