"""The pages of attacks and of graphs: their descriptions, and the scores of every entry under them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import networkx as nx

from byzbench import registry
from byzbench.core import Attack, Placement, Topology
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.geometry.graphs import honest_components, local_weight
from byzbench.leaderboard.boards import Board, strata_of
from byzbench.leaderboard.rows import Row
from byzbench.leaderboard.site.board_pages import entry_link, marks, title
from byzbench.leaderboard.site.collection import Collection, board_path
from byzbench.leaderboard.site.drawings import MOST_AGENTS, graph
from byzbench.reports.markup import Child, Markup, el
from byzbench.leaderboard.site.tables import cell, fact_list, figure, html_table, lead, number_text, row
from byzbench.leaderboard.suites import Stratum, Suite
from byzbench.randomness import Streams

EXAMPLES = 3
"""Number of example graphs of a stratum, with the seeds 0, 1, ...; the graph of a run depends on its own seed."""


def _docstring(kind: str, name: str) -> Iterator[Child]:
    """Yield the docstring of a component of byzbench. Code of other distributions is not imported to make a page."""
    origin = registry.origins(kind).get(name)
    if origin is None or not origin.module.startswith("byzbench."):
        yield el("p", "It is not part of byzbench; the page of the entry that uses it names its distribution.")
    else:
        yield el("pre", inspect.cleandoc(registry.find(kind, name).__doc__ or ""), class_="notes")


def attack_page(name: str, collection: Collection) -> Iterator[Child]:
    """Yield the main part of the page of an attack, with a section for each set of parameters that is used.

    Args:
        name: The name of the attack without parameters.
        collection: The content of the site.
    """
    yield el("h1", "Attack ", el("code", name))
    yield from _docstring("attack", name)
    suite_attacks = {a.spec for suite in collection.suites for a in suite.attacks}
    for spec in collection.attacks[name]:
        yield el("h2", el("code", spec))
        if spec in suite_attacks:  # an attack that only an entry names is untrusted, and is not built
            yield _threat_model(spec)
        for board in collection.boards:
            for r in board.attacks:
                if r.entry.submission.method.attack == spec and r.damage:
                    yield el("p", entry_link(r.entry), f" on {board.suite.name}: damage {number_text(r.damage.value)}")
            if board.rows and any(spec in board.suite.attacks_of(stratum) for stratum in strata_of(board)):
                yield _scores_under(spec, board)


def _threat_model(spec: str) -> Markup:
    """Return what an attack sees and changes, as a description list."""
    attack = registry.make("attack", spec)
    assert isinstance(attack, Attack)
    threat = attack.threat
    return fact_list(
        [
            ("Sees", ", ".join(sorted(threat.knowledge)) or "nothing but its own task"),
            ("Acts on", ", ".join(sorted(threat.surface))),
            ("Different messages to different neighbours", "yes" if threat.equivocates else "no"),
        ]
    )


def _scores_under(spec: str, board: Board) -> Markup:
    """Return a table of the scores of a board's entries under an attack, the lowest first."""
    strata = strata_of(board)
    rows = sorted(board.rows, key=lambda r: (_mean_under(r, spec), r.entry.slug))
    body = (
        row(
            _entry(r),
            figure(r.score.clean.value if r.score else None),
            *(figure(_score_under(r, spec, s.name)) for s in strata),
        )
        for r in rows
    )
    caption = f"Scores under it of entries of {title(board)}"
    return html_table(caption, ["Entry", "Clean", *(s.name for s in strata)], body, sortable=True)


def _score_under(r: Row, spec: str, stratum: str) -> float | None:
    return r.matrix[stratum].means.get(spec) if stratum in r.matrix else None


def _mean_under(r: Row, spec: str) -> float:
    """Return the mean over strata of the scores under an attack; 0 where it was not run."""
    scores = [score.means[spec] for score in r.matrix.values() if spec in score.means]
    return sum(scores) / len(scores) if scores else 0.0


def _entry(r: Row) -> Markup:
    return lead(entry_link(r.entry), marks(r.entry, r.unranked))


def topology_page(name: str, collection: Collection) -> Iterator[Child]:
    """Yield the main part of the page of a graph, with a section for each number of agents and of Byzantine agents.

    Args:
        name: The name of the graph without parameters.
        collection: The content of the site.
    """
    yield el("h1", "Graph ", el("code", name))
    yield from _docstring("topology", name)
    alike: dict[tuple[str, int, int], list[tuple[Suite, Stratum]]] = {}
    for suite, stratum in collection.topologies[name]:
        alike.setdefault((stratum.topology, stratum.agents, stratum.byzantine), []).append((suite, stratum))
    for (spec, agents, byzantine), strata in alike.items():
        yield el("h2", el("code", spec), f", {agents} agents, {byzantine} of them Byzantine")
        yield el("p", "Strata: ", ", ".join(f"{stratum.name} of {suite.name}" for suite, stratum in strata))
        yield from _examples(strata[0][1])
        for suite, stratum in strata:
            yield from _scores_in(suite, stratum, collection)


def _examples(stratum: Stratum) -> Iterator[Child]:
    """Yield measures and drawings of graphs of a stratum."""
    topology, placement = registry.make("topology", stratum.topology), registry.make("placement", "random")
    assert isinstance(topology, Topology)
    assert isinstance(placement, Placement)
    f = stratum.byzantine
    members = [CommunicationGraph.place(topology, placement, stratum.agents, f, f, Streams(s)) for s in range(EXAMPLES)]
    yield fact_list(_measures(stratum, members[0].graph))
    yield el(
        "p",
        "Examples, with the seeds from 0: agents are numbered, Byzantine agents are squares, S is a trusted server.",
    )
    drawings = [(m, graph(m.graph, m.byzantine_ids, _label(stratum, m.graph, m.byzantine_ids))) for m in members]
    yield el("div", (_example(m, svg) for m, svg in drawings if svg), class_="panels graphs")


def _measures(stratum: Stratum, g: nx.Graph) -> Iterator[tuple[str, Child]]:
    """Yield terms and values: links, neighbours and the diameter."""
    connected = nx.is_strongly_connected(g) if g.is_directed() else nx.is_connected(g)
    degrees = [d for node, d in (g.in_degree if g.is_directed() else g.degree) if node != g.graph.get("server")]
    low, high = min(degrees), max(degrees)
    yield "Links", f"{g.number_of_edges()}{', directed' if g.is_directed() else ''}"
    yield "Neighbours", f"{low}" if low == high else f"{low} to {high}"
    if stratum.agents <= MOST_AGENTS:
        yield "Diameter", nx.diameter(g) if connected else "not connected"


def _label(stratum: Stratum, g: nx.Graph, byzantine: tuple[int, ...]) -> str:
    return f"{stratum.topology} of {stratum.agents} agents with {g.number_of_edges()} links; Byzantine: {byzantine}"


def _example(m: CommunicationGraph, svg: Markup) -> Markup:
    """Return a drawing with a caption about the Byzantine agents."""
    if m.server is not None:
        text = f"{len(m.byzantine_ids)} of the {m.num_agents} agents that send to the server are Byzantine."
        return el("figure", svg, el("figcaption", text))
    share, num_components = local_weight(m.graph, m.byzantine_ids), honest_components(m.graph, m.byzantine_ids)
    state = "is connected" if num_components == 1 else f"has {num_components} components"
    text = f"Up to {share:.0%} of the messages to an honest agent are Byzantine; the honest graph {state}."
    return el("figure", svg, el("figcaption", text))


def _scores_in(suite: Suite, stratum: Stratum, collection: Collection) -> Iterator[Markup]:
    """Yield a table of the scores in a stratum for each board that has it."""
    for board in collection.of(suite):
        rows = [(r, s) for r in board.rows if r.score for s in r.score.strata if s.name == stratum.name]
        if rows:
            yield el("h3", stratum.name)
            yield el("p", "Board: ", el("a", title(board), href=f"../{board_path(board)}"))
            body = (row(_entry(r), figure(s.clean.value), figure(s.worst), cell(s.named_attack)) for r, s in rows)
            heads = ("Entry", "Clean", "Score", "Worst attack")
            yield html_table(f"Entries at {stratum.name}", heads, body, sortable=True)
