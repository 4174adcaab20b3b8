"""Diagnostics of graphs with attackers, against networkx and against brute force; and the verb that shows them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from byzbench import cli
from byzbench.errors import UserError
from byzbench.federation import graph_diagnostics
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.geometry import robustness as module
from byzbench.geometry.mixing import matrix
from byzbench.geometry.robustness import redundancy, robustness, robustness_bounds, vertex_connectivity
from byzbench.randomness import Streams
from byzbench.registry import make
from byzbench.reports.graphs import draw_graph

SMALL = nx.graph_atlas_g()[1:53]
"""All graphs of up to five nodes."""

SIX = nx.graph_atlas_g()[53:209]


def subsets(nodes: Any) -> Iterator[tuple[Any, ...]]:
    return chain.from_iterable(combinations(nodes, size) for size in range(1, len(nodes) + 1))


def robust(graph: nx.Graph) -> int:
    """By the definition: over all pairs of disjoint sets, neither of them empty."""
    senders = graph.pred if graph.is_directed() else graph.adj
    reach = {s: max(len(set(senders[i]) - set(s)) for i in s) for s in subsets(list(graph))}
    pairs = [max(reach[a], reach[b]) for a, b in combinations(reach, 2) if not set(a) & set(b)]
    return min(pairs, default=1)


def partition(graph: nx.Graph) -> int:
    """Return the number of nodes to remove until the graph is disconnected, or one is left."""
    whole = nx.is_strongly_connected if graph.is_directed() else nx.is_connected
    n = len(graph)
    sizes = (
        k for k in range(n - 1) for gone in combinations(graph, k) if not whole(graph.subgraph(set(graph) - set(gone)))
    )
    return next(sizes, n - 1)


def redundant(graph: nx.Graph) -> int | None:
    """By the definition, for F and r one after the other."""
    if not nx.is_connected(graph):
        return None
    copies = {(i, j): graph.has_edge(i, j) + len(set(graph[i]) & set(graph[j])) for i, j in combinations(graph, 2)}

    def bears(corrupted: int, r: int) -> bool:
        near = nx.Graph([pair for pair, count in copies.items() if count >= r])
        near.add_nodes_from(graph)
        return nx.is_connected(near) and all(c >= r or c <= r - 2 * corrupted - 1 for c in copies.values())

    n = len(graph)
    return max((f for f in range(n) for r in range(2 * f + 1, n + 1) if bears(f, r)), default=0)


def against_brute_force(graph: nx.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = nx.convert_node_labels_to_integers(graph)
    r = robustness(graph)
    assert r == robust(graph)
    assert robustness_bounds(graph) == (r, r)
    assert vertex_connectivity(graph) == partition(graph)
    if not graph.is_directed():
        assert vertex_connectivity(graph) == nx.node_connectivity(graph)
        assert redundancy(graph) == redundant(graph)
    if len(graph) > 1:
        with monkeypatch.context() as patch:
            patch.setattr(module, "EXACT", 1)
            low, high = robustness_bounds(graph)
        assert low <= r <= high


def test_all_graphs_of_five_nodes_against_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(map(len, SMALL)) == 5
    for graph in SMALL:
        against_brute_force(graph, monkeypatch)


@pytest.mark.slow
def test_all_graphs_of_six_nodes_against_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {len(graph) for graph in SIX} == {6}
    for graph in SIX:
        against_brute_force(graph, monkeypatch)


@pytest.mark.parametrize("seed", range(12))
def test_directed_graphs_against_brute_force(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = nx.gnp_random_graph(5, (0.4, 0.6, 0.8)[seed % 3], seed, directed=True)
    against_brute_force(graph, monkeypatch)
    assert redundancy(graph) is None


def test_known_graphs() -> None:
    for n in (4, 7, 12, 31):
        assert robustness_bounds(nx.complete_graph(n)) == ((n + 1) // 2,) * 2
        assert vertex_connectivity(nx.complete_graph(n)) == n - 1
    assert robustness(nx.cycle_graph(9)) == 1
    assert robustness_bounds(nx.cycle_graph(41)) == (1, 1)
    assert robustness_bounds(nx.barbell_graph(15, 0)) == (1, 1)
    for graph in (nx.hypercube_graph(4), nx.petersen_graph(), nx.random_regular_graph(5, 30, 1), nx.path_graph(40)):
        plain = nx.convert_node_labels_to_integers(graph)
        assert vertex_connectivity(plain) == nx.node_connectivity(plain)
    assert redundancy(nx.complete_graph(13)) == 5  # twelve copies of everything; eleven are an honest majority of five


def placed(topology: str, agents: int, f: int, placement: str = "first", **more: Any) -> CommunicationGraph:
    parts: list[Any] = [make("topology", topology), make("placement", placement)]
    return CommunicationGraph.place(*parts, agents, f, f, Streams(0), **more)


@pytest.mark.parametrize("weights", ["metropolis", "uniform", "laplacian"])
def test_exposure_by_its_definitions(weights: str) -> None:
    members = placed("small_world", 14, 3, "random", weights=weights)
    graph, attackers = members.graph, set(members.byzantine_ids)
    honest = [a for a in range(14) if a not in attackers]
    diagnostics = graph_diagnostics.fast_diagnostics(members)
    w = matrix(graph, weights).numpy()
    assert diagnostics["gossip_weight"] == pytest.approx(w[np.ix_(honest, sorted(attackers))].sum(1).max())
    assert diagnostics["local_weight"] == max(len(attackers & set(graph[a])) / (1 + graph.degree[a]) for a in honest)
    powers = sum(np.linalg.matrix_power(w, t) for t in range(1, 31))
    assert diagnostics["influence"] == pytest.approx(powers[np.ix_(honest, sorted(attackers))].sum() / len(honest))
    assert diagnostics["honest_components"] == nx.number_connected_components(graph.subgraph(honest))
    rest = nx.Graph(graph.subgraph(honest))
    dear = graph_diagnostics.expensive_diagnostics(members)
    eigenvalues = np.sort(np.abs(np.linalg.eigvals(matrix(rest, weights).numpy())))
    assert dear["spectral_gap"] == pytest.approx(1 - eigenvalues[-2])
    assert dear["algebraic_connectivity"] == pytest.approx(nx.laplacian_spectrum(rest)[1])
    assert dear["vertex_connectivity"] == nx.node_connectivity(graph)
    assert (dear["robustness_low"], dear["robustness_high"]) == (robustness(graph),) * 2


def test_exposure_where_there_is_little_to_see() -> None:
    around = placed("star", 5, 1)
    assert (
        graph_diagnostics.fast_diagnostics(around)["gossip_weight"]
        is graph_diagnostics.fast_diagnostics(around)["influence"]
        is None
    )
    assert set(graph_diagnostics.expensive_diagnostics(around).values()) == {None}
    lonely = placed("path", 2, 1)
    assert graph_diagnostics.fast_diagnostics(lonely)["gossip_weight"] == 0.5
    assert graph_diagnostics.expensive_diagnostics(lonely)["spectral_gap"] == 1
    assert graph_diagnostics.expensive_diagnostics(lonely)["algebraic_connectivity"] is None
    directed = placed("ring(directed=True)", 6, 1)
    assert graph_diagnostics.fast_diagnostics(directed)["honest_components"] == 5
    assert graph_diagnostics.expensive_diagnostics(directed)["vertex_connectivity"] == 1
    assert all(
        value == 0 for key, value in graph_diagnostics.fast_diagnostics(placed("ring", 6, 0)).items() if "weight" in key
    )


def test_guarantees_are_counted_at_each_honest_agent() -> None:
    graph = nx.Graph([(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (2, 3), (4, 5), (5, 0)])
    members = CommunicationGraph(graph, 6, (3, 5), 1)
    # n_i, b_i and f_i of agents 0, 1, 2, 4
    assert [(len(members.inboxes[a]), int(members.bounds[a])) for a in (0, 1, 2, 4)] == [(6, 1), (4, 1), (4, 1), (3, 1)]
    rules: dict[str, Callable[[int, int], bool]] = {
        "majority": lambda n, f: n > 2 * f,
        "two thirds": lambda n, f: n > 3 * f,
        "all": lambda n, f: f == 0,
    }
    assert graph_diagnostics.guaranteed(members, rules) == {
        "majority": {"assumed": 3, "local": 4},  # agent 0 hears two attackers and allows for one
        "two thirds": {"assumed": 2, "local": 2},
        "all": {"assumed": 0, "local": 0},
    }


@pytest.mark.parametrize("topology, ending", [("small_world", ".svg"), ("peer_sampling(directed=True)", ".png")])
def test_a_picture_is_the_same_every_time(tmp_path: Path, topology: str, ending: str) -> None:
    members = placed(topology, 8, 2)
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    for path in (first, second):
        draw_graph(members, "eight agents", path)
    assert first.read_bytes() == second.read_bytes()
    if ending == ".svg":
        text = first.read_text()
        assert "<svg" in text
        assert all(word in text for word in ("honest", "Byzantine", "link of an honest", "eight agents"))


def test_pictures_of_no_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"figures are written as \.png, \.pdf, \.svg"):
        draw_graph(placed("ring", 4, 1), "", tmp_path / "graph.gif")


def said(words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["byzbench", *words.split()])
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0), *capsys.readouterr()


def test_show_topology(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = f"show topology small_world --agents 14 --byzantine 3 --placement degree --out {tmp_path}/graph.png"
    code, out, err = said(words, capsys, monkeypatch)
    assert (code, err) == (0, "")
    members = placed("small_world", 14, 3, "degree")
    diagnostics = graph_diagnostics.fast_diagnostics(members) | graph_diagnostics.expensive_diagnostics(members)
    assert f"Byzantine agents{' ' * 18}{', '.join(map(str, members.byzantine_ids))}\n" in out
    assert f"{diagnostics['influence']:.3f}" in out
    assert f"\nvertex connectivity{' ' * 15}{diagnostics['vertex_connectivity']}\n" in out
    assert "number of 11 honest agents for which guarantees hold" in out
    assert "krum" in out
    assert "agreement" not in out, "their guarantees are about complete graphs"
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = said(f"{words} --json", capsys, monkeypatch)
    data = json.loads(out)
    assert data["diagnostics"] == diagnostics
    assert data["byzantine"] == list(members.byzantine_ids)
    assert [tuple(link) for link in data["links"]] == list(members.graph.edges)
    rules = {name: make("aggregator", name).guarantee for name in ("krum", "w_msr")}  # type: ignore[attr-defined]
    assert {name: data["guarantees"][name] for name in rules} == graph_diagnostics.guaranteed(members, rules)


def test_show_topology_around_a_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = said("show topology star --agents 8 --byzantine 2", capsys, monkeypatch)
    assert code == 0
    assert "inboxes                           8 vectors at the server\n" in out
    assert "largest local Byzantine share     0.250\n" in out
    assert "server inboxes beyond tolerance   0 of 1\n" in out


@pytest.mark.parametrize(
    "words, expected",
    [
        ("show topology torus --agents 13", "13 agents fill no rows"),
        ("show topology ring --agents 5 --byzantine 5", "from 0 to agents - 1 = 4, got 5"),
        ("show topology ring --agents 5 --mixing mean", "no mixing weights 'mean'"),
        ("show topology ring --agents 5 --placement near", "unknown placement 'near'"),
        ("show topology ring --byzantine 5", "add --agents"),
        ("show aggregator krum --placement first", "add --agents"),
    ],
)
def test_show_topology_says_what_is_wrong(
    words: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = said(words, capsys, monkeypatch)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert expected in err


def test_show_topology_of_many_agents_is_cheap_unless_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_diagnostics, "EXPENSIVE", 5)
    words = "show topology time_varying --agents 8 --round 4"
    code, out, _ = said(words, capsys, monkeypatch)
    assert code == 0
    assert "add --expensive" in out
    code, out, _ = said(f"{words} --expensive --json", capsys, monkeypatch)
    links = make("topology", "time_varying")(8, 4, Streams(0).generator("graph")).edges  # type: ignore[operator]
    assert [tuple(link) for link in json.loads(out)["links"]] == list(links)
    assert json.loads(out)["diagnostics"]["vertex_connectivity"] >= 2
