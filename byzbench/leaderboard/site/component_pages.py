"""The pages of attacks and of graphs: their descriptions, and the scores of every entry under them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import networkx as nx

from byzbench import registry
from byzbench.contracts import Attack, Placement, Topology
from byzbench.federation.membership import Membership
from byzbench.geometry.graphs import honest_components, local_weight
from byzbench.leaderboard.boards import Board, strata_of
from byzbench.leaderboard.rows import Row
from byzbench.leaderboard.site.board_pages import entry_link, marks, title
from byzbench.leaderboard.site.collection import Collection, board_path
from byzbench.leaderboard.site.drawings import MOST_AGENTS, graph
from byzbench.leaderboard.site.html import Child, Markup, el
from byzbench.leaderboard.site.tables import cell, facts, figure, lead, number, row, table
from byzbench.leaderboard.suites import Stratum, Suite
from byzbench.randomness import Streams

EXAMPLES = 3
"""Graphs that are drawn of a stratum, of the seeds 0, 1, ...; the graph of a run depends on its own seed."""


def _described(kind: str, name: str) -> Iterator[Child]:
    """Yield the docstring of a component of byzbench. Code of other distributions is not run to make a page."""
    origin = registry.origins(kind).get(name)
    if origin is None or not origin.module.startswith("byzbench."):
        yield el("p", "It is not part of byzbench; the page of the entry that uses it names its distribution.")
    else:
        yield el("pre", inspect.cleandoc(registry.find(kind, name).__doc__ or ""), class_="notes")


def attack_page(name: str, collection: Collection) -> Iterator[Child]:
    """Yield the main part of the page of an attack: one section for each way in which it is written."""
    yield el("h1", "Attack ", el("code", name))
    written = collection.attacks[name]
    yield from _described("attack", name)
    frozen = {a.spec for suite in collection.suites for a in suite.attacks}
    for spec in written:
        yield el("h2", el("code", spec))
        if spec in frozen:  # an attack that only an entry names is not built
            yield _threat(spec)
        for board in collection.boards:
            for r in board.attacks:
                if r.entry.submission.method.attack == spec and r.damage:
                    yield el("p", entry_link(r.entry), f" on {board.suite.name}: damage {number(r.damage.value)}")
            if board.rows and any(spec in board.suite.attacks_of(stratum) for stratum in strata_of(board)):
                yield _under(spec, board)


def _threat(spec: str) -> Markup:
    attack = registry.build("attack", spec)
    assert isinstance(attack, Attack)
    threat = attack.threat
    return facts(
        [
            ("Sees", ", ".join(sorted(threat.sees)) or "nothing but its own task"),
            ("Acts on", ", ".join(sorted(threat.surface))),
            ("Different messages to different neighbours", "yes" if threat.equivocates else "no"),
        ]
    )


def _under(spec: str, board: Board) -> Markup:
    """Return the scores of every entry of a board under an attack, the lowest first."""
    strata = strata_of(board)
    rows = sorted(board.rows, key=lambda r: (_mean_under(r, spec), r.entry.slug))
    body = (
        row(
            _entry(r),
            figure(r.score.clean.value if r.score else None),
            *(figure(_under_at(r, spec, s.name)) for s in strata),
        )
        for r in rows
    )
    caption = f"Scores under it of entries of {title(board)}"
    return table(caption, ["Entry", "Clean", *(s.name for s in strata)], body, sortable=True)


def _under_at(r: Row, spec: str, stratum: str) -> float | None:
    return r.matrix[stratum].means.get(spec) if stratum in r.matrix else None


def _mean_under(r: Row, spec: str) -> float:
    found = [score.means[spec] for score in r.matrix.values() if spec in score.means]
    return sum(found) / len(found) if found else 0.0


def _entry(r: Row) -> Markup:
    return lead(entry_link(r.entry), marks(r.entry, r.unranked))


def topology_page(name: str, collection: Collection) -> Iterator[Child]:
    """Yield the main part of the page of a graph: one section for each number of agents and of Byzantine agents."""
    yield el("h1", "Graph ", el("code", name))
    yield from _described("topology", name)
    alike: dict[tuple[str, int, int], list[tuple[Suite, Stratum]]] = {}
    for suite, stratum in collection.topologies[name]:
        alike.setdefault((stratum.topology, stratum.agents, stratum.byzantine), []).append((suite, stratum))
    for (spec, agents, byzantine), strata in alike.items():
        yield el("h2", el("code", spec), f", {agents} agents, {byzantine} of them Byzantine")
        yield el("p", "Strata: ", ", ".join(f"{stratum.name} of {suite.name}" for suite, stratum in strata))
        yield from _drawn(strata[0][1])
        for suite, stratum in strata:
            yield from _there(suite, stratum, collection)


def _drawn(stratum: Stratum) -> Iterator[Child]:
    topology, placement = registry.build("topology", stratum.topology), registry.build("placement", "random")
    assert isinstance(topology, Topology)
    assert isinstance(placement, Placement)
    f = stratum.byzantine
    seated = [Membership.seat(topology, placement, stratum.agents, f, f, Streams(s)) for s in range(EXAMPLES)]
    yield facts(_measured(stratum, seated[0].graph))
    yield el("p", "Examples, of the seeds 0 and up: agents are numbered, Byzantine ones square; S is a trusted server.")
    drawn = [(m, graph(m.graph, m.liars, _label(stratum, m.graph, m.liars))) for m in seated]
    yield el("div", (_example(m, svg) for m, svg in drawn if svg), class_="panels graphs")


def _measured(stratum: Stratum, g: nx.Graph) -> Iterator[tuple[str, Child]]:
    whole = nx.is_strongly_connected(g) if g.is_directed() else nx.is_connected(g)
    degrees = [d for node, d in (g.in_degree if g.is_directed() else g.degree) if node != g.graph.get("server")]
    low, high = min(degrees), max(degrees)
    yield "Links", f"{g.number_of_edges()}{', with a direction' if g.is_directed() else ''}"
    yield "Neighbours", f"{low}" if low == high else f"{low} to {high}"
    if stratum.agents <= MOST_AGENTS:
        yield "Diameter", nx.diameter(g) if whole else "not connected"


def _label(stratum: Stratum, g: nx.Graph, byzantine: tuple[int, ...]) -> str:
    return f"{stratum.topology} of {stratum.agents} agents with {g.number_of_edges()} links; Byzantine: {byzantine}"


def _example(m: Membership, svg: Markup) -> Markup:
    if m.server is not None:
        text = f"{len(m.liars)} of the {m.agents} agents that send to the server are Byzantine."
        return el("figure", svg, el("figcaption", text))
    share, parts = local_weight(m.graph, m.liars), honest_components(m.graph, m.liars)
    together = "connected" if parts == 1 else f"in {parts} components"
    text = f"Up to {share:.0%} of the messages to an honest agent are Byzantine; the honest graph is {together}."
    return el("figure", svg, el("figcaption", text))


def _there(suite: Suite, stratum: Stratum, collection: Collection) -> Iterator[Markup]:
    """Yield the scores of every entry of a board in a stratum."""
    for board in collection.of(suite):
        rows = [(r, s) for r in board.rows if r.score for s in r.score.strata if s.name == stratum.name]
        if rows:
            yield el("h3", stratum.name)
            yield el("p", "Board: ", el("a", title(board), href=f"../{board_path(board)}"))
            body = (row(_entry(r), figure(s.clean.value), figure(s.worst), cell(s.named_attack)) for r, s in rows)
            heads = ("Entry", "Clean", "Score", "Worst attack")
            yield table(f"Entries at {stratum.name}", heads, body, sortable=True)
