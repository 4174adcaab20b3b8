"""Topologies, placements, coins and streams."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path as File
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byzbench.coins.shared import SharedCoin
from byzbench.core import Placement, Topology
from byzbench.errors import InvalidParameter, Undefined, UserError
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.geometry.graphs import honest_components
from byzbench.geometry.influence import influence, walks, with_one_more
from byzbench.geometry.mixing import WEIGHTS, matrix, spectral_gap
from byzbench.placements.first import First
from byzbench.placements.random import RandomPlacement
from byzbench.randomness import Streams
from byzbench.registry import describe, from_description, make, origins
from byzbench.testing import coins, placements, topologies
from byzbench.testing.placements import PlacementCase
from byzbench.testing.topologies import TopologyCase
from byzbench.topologies.barabasi_albert import BarabasiAlbert
from byzbench.topologies.complete import Complete
from byzbench.topologies.dumbbell import Dumbbell
from byzbench.topologies.erdos_renyi import ErdosRenyi
from byzbench.topologies.from_file import FromFile
from byzbench.topologies.grid import Grid
from byzbench.topologies.hypercube import Hypercube
from byzbench.topologies.peer_sampling import PeerSampling
from byzbench.topologies.random_geometric import RandomGeometric
from byzbench.topologies.random_regular import RandomRegular
from byzbench.topologies.ring import Ring
from byzbench.topologies.ring_of_cliques import RingOfCliques
from byzbench.topologies.small_world import SmallWorld
from byzbench.topologies.star import Star
from byzbench.topologies.stochastic_block import StochasticBlock
from byzbench.topologies.time_varying import TimeVarying
from byzbench.topologies.torus import Torus
from byzbench.topologies.two_worlds import TwoWorlds

SIZES = (12, 13, 100)
TOPOLOGIES: dict[str, tuple[int, ...]] = {
    "complete": SIZES,
    "star": SIZES,
    "star(hub=agent)": SIZES,
    "ring": SIZES,
    "ring(directed=True)": SIZES,
    "path": (1, *SIZES),
    "grid": (1, *SIZES),
    "grid(columns=5)": SIZES,
    "torus": (9, 12, 100),
    "torus(rows=5)": (15, 100),
    "torus(directed=True)": (9, 12, 100),
    "hypercube": (1, 2, 16, 64),
    "random_regular": SIZES,
    "random_regular(degree=2)": SIZES,
    "random_regular(degree=10)": SIZES,
    "erdos_renyi": (1, *SIZES),
    "erdos_renyi(p=0.5)": SIZES,
    "erdos_renyi(directed=True)": SIZES,
    "small_world": SIZES,
    "barabasi_albert": SIZES,
    "random_geometric": (1, *SIZES),
    "stochastic_block": SIZES,
    "ring_of_cliques": SIZES,
    "dumbbell": SIZES,
    "dumbbell(bar=0)": (2, *SIZES),
    "two_worlds": SIZES,
    "two_worlds(links=3)": SIZES,
    "binary_tree": (1, *SIZES),
    "time_varying": SIZES,
    "time_varying(erdos_renyi(p=0.5), churn=0.2)": SIZES,
    "peer_sampling": SIZES,
    "peer_sampling(directed=True)": SIZES,
}
"""Every family as it is written, and numbers of agents of which it has a graph."""

CASES = [(written, agents) for written, sizes in TOPOLOGIES.items() for agents in sizes]
RANDOM = [
    "random_regular",
    "erdos_renyi",
    "small_world",
    "barabasi_albert",
    "random_geometric",
    "stochastic_block",
    "time_varying",
    "time_varying(complete, churn=0.2)",
    "peer_sampling",
]


def made(written: str) -> Topology:
    topology = make("topology", written)
    assert isinstance(topology, Topology)
    return topology


def rng(seed: int = 0) -> np.random.Generator:
    return Streams(seed).generator("topology")


def test_every_family_is_looked_at() -> None:
    ours = {name for name, origin in origins("topology").items() if origin.module.startswith("byzbench.")}
    assert ours == {written.partition("(")[0] for written in TOPOLOGIES} | {"from_file"}


@pytest.mark.parametrize("written, agents", CASES)
def test_every_family_passes_every_check(written: str, agents: int) -> None:
    topology = made(written)
    for check in topologies.CHECKS:
        check(topology, TopologyCase(0, (agents,)))
    graph = topology(agents, 0, rng())
    assert graph.is_directed() == ("directed" in written)
    assert list(graph.edges) == sorted(graph.edges)


@pytest.mark.parametrize("written", RANDOM)
def test_a_random_family_is_random_in_its_stream_only(written: str) -> None:
    topology = made(written)
    drawn = [set(topology(20, 0, rng(seed)).edges) for seed in range(5)]
    assert len({frozenset(edges) for edges in drawn}) == (1 if "complete" in written else 5)


@pytest.mark.parametrize("written", [written for written in TOPOLOGIES if made(written).varies])
def test_varying_families_change_in_every_round(written: str) -> None:
    topology, agents = made(written), TOPOLOGIES[written][0]
    graphs = [frozenset(topology(agents, round, rng()).edges) for round in range(3)]
    assert len(set(graphs)) == 3


@given(agents=st.integers(1, 30))
def test_complete(agents: int) -> None:
    graph = Complete()(agents, 0, rng())
    assert len(graph) == agents
    assert graph.number_of_edges() == agents * (agents - 1) // 2


@given(agents=st.integers(1, 30))
def test_star_around_a_server(agents: int) -> None:
    graph = Star()(agents, 0, rng())
    assert graph.graph["server"] == agents
    assert sorted(map(tuple, map(sorted, graph.edges))) == [(agent, agents) for agent in range(agents)]


@given(agents=st.integers(1, 30))
def test_star_around_an_agent(agents: int) -> None:
    graph = Star(hub="agent")(agents, 0, rng())
    assert "server" not in graph.graph
    assert list(graph) == list(range(agents))
    assert list(graph.edges) == [(0, agent) for agent in range(1, agents)]


def test_ring() -> None:
    graph = Ring()(5, 0, rng())
    assert {frozenset(edge) for edge in graph.edges} == {frozenset({k, (k + 1) % 5}) for k in range(5)}
    for agents in (1, 2):
        with pytest.raises(Undefined, match=f"at least 3 agents, got {agents}"):
            Ring()(agents, 0, rng())


@given(agents=st.integers(1, 40), degree=st.integers(1, 40))
def test_random_regular_is_regular_or_says_why_not(agents: int, degree: int) -> None:
    possible = degree < agents and degree * agents % 2 == 0 and (degree > 1 or agents == 2)
    if not possible:
        with pytest.raises(Undefined):
            RandomRegular(degree=degree)(agents, 0, rng())
        return
    graph = RandomRegular(degree=degree)(agents, 0, rng())
    assert nx.is_connected(graph)
    assert set(dict(graph.degree).values()) == {degree}


@pytest.mark.parametrize(
    "agents, degree, message", [(4, 4, "at least 5 agents, got 4"), (5, 3, "is odd"), (6, 1, "in 100 tries")]
)
def test_random_regular_says_what_is_wrong(agents: int, degree: int, message: str) -> None:
    with pytest.raises(Undefined, match=message):
        RandomRegular(degree=degree)(agents, 0, rng())


def test_the_draws_of_random_regular_stay_what_they_were() -> None:
    known = [(0, 2), (0, 5), (0, 6), (0, 7), (1, 2), (1, 3), (1, 6), (1, 7)]
    assert list(RandomRegular()(8, 0, Streams(3).generator("graph")).edges)[:8] == known


@settings(max_examples=30)
@given(agents=st.integers(1, 60), columns=st.none() | st.integers(1, 9))
def test_grid(agents: int, columns: int | None) -> None:
    graph = Grid(columns=columns)(agents, 0, rng())
    width = columns or int(np.ceil(np.sqrt(agents)))
    whole = nx.grid_2d_graph(-(-agents // width), width)
    whole.remove_nodes_from([(k // width, k % width) for k in range(agents, len(whole))])
    assert nx.utils.graphs_equal(graph, nx.relabel_nodes(whole, {(r, c): r * width + c for r, c in whole}))


@pytest.mark.parametrize("directed", [False, True])
def test_torus(directed: bool) -> None:
    graph = Torus(rows=3, directed=directed)(12, 0, rng())
    whole = nx.grid_2d_graph(3, 4, periodic=True)
    plain = nx.relabel_nodes(whole, {(r, c): r * 4 + c for r, c in whole})
    assert nx.utils.graphs_equal(graph.to_undirected(), plain)
    assert set(dict(graph.in_degree if directed else graph.degree).values()) == {2 if directed else 4}
    assert Torus()(15, 0, rng()).edges == Torus(rows=3)(15, 0, rng()).edges


def test_hypercube() -> None:
    assert nx.is_isomorphic(Hypercube()(16, 0, rng()), nx.hypercube_graph(4))


def test_directed_ring() -> None:
    assert list(Ring(directed=True)(4, 0, rng()).edges) == [(0, 1), (1, 2), (2, 3), (3, 0)]


def test_cliques_and_what_joins_them() -> None:
    assert nx.utils.graphs_equal(Dumbbell(bar=3)(13, 0, rng()), nx.barbell_graph(5, 3))
    assert nx.is_isomorphic(RingOfCliques(cliques=4)(20, 0, rng()), nx.ring_of_cliques(4, 5))
    uneven = RingOfCliques(cliques=4)(13, 0, rng())
    assert sorted(map(len, nx.find_cliques(uneven)), reverse=True)[:4] == [4, 3, 3, 3]
    assert nx.node_connectivity(uneven) == 2
    worlds = TwoWorlds(links=2)(13, 0, rng())
    home = [sum((k < 7) == (other < 7) for other in worlds[k]) for k in worlds]
    assert home == [6] * 7 + [5] * 6
    assert {worlds.degree[k] - home[k] for k in range(7)} == {2}
    assert {worlds.degree[k] - home[k] for k in range(7, 13)} == {2, 3}


def test_tree() -> None:
    assert nx.utils.graphs_equal(made("binary_tree")(15, 0, rng()), nx.balanced_tree(2, 3))


def test_random_families_have_the_links_that_they_promise() -> None:
    assert SmallWorld(degree=6, p=0)(20, 0, rng()).edges == nx.watts_strogatz_graph(20, 6, 0).edges
    assert SmallWorld(degree=6, p=0.5)(20, 0, rng()).number_of_edges() == 60
    assert BarabasiAlbert(links=3)(20, 0, rng()).number_of_edges() == 17 * 3
    share = np.mean([nx.density(ErdosRenyi(p=0.4)(40, 0, rng(seed))) for seed in range(20)])
    assert abs(share - 0.4) < 0.02
    graph = RandomGeometric(radius=0.4)(30, 0, rng())
    pos = np.array([graph.nodes[k]["pos"] for k in graph])
    near = np.linalg.norm(pos[:, None] - pos[None], axis=-1) <= 0.4
    assert np.array_equal(nx.to_numpy_array(graph).astype(bool), near & ~np.eye(30, dtype=bool))
    assert StochasticBlock(blocks=2, inside=1, between=0.1)(11, 0, rng()).subgraph(range(6)).size() == 15


@pytest.mark.parametrize(
    "written, agents, message",
    [
        ("torus", 13, "13 agents fill no rows and columns of at least 3; 15 would"),
        ("torus", 2, "9 would"),
        ("torus(rows=5)", 12, "do not fill 5 rows"),
        ("hypercube", 13, "a power of 2, 8 or 16; got 13"),
        ("small_world", 4, "degree=4 needs at least 5 agents, got 4"),
        ("barabasi_albert(links=4)", 4, "at least 5 agents, got 4"),
        ("erdos_renyi(p=0.01)", 20, "p=0.01 on 20 agents: no connected graph in 100 tries; give a larger p"),
        ("erdos_renyi(p=0.05, directed=True)", 20, "no connected graph"),
        ("random_geometric(radius=0.01)", 20, "give a larger radius"),
        ("stochastic_block(between=0)", 12, "give larger probabilities"),
        ("ring_of_cliques", 3, "at least 4 agents"),
        ("dumbbell", 2, "at least 3 agents"),
        ("two_worlds(links=3)", 5, "links=3 needs at least 6 agents"),
        ("peer_sampling", 3, "at least 4 agents"),
        ("time_varying(star, churn=0.1)", 5, "without a server"),
        ("time_varying(hypercube)", 5, "a power of 2"),
    ],
)
def test_graphs_that_do_not_exist_are_refused(written: str, agents: int, message: str) -> None:
    with pytest.raises(Undefined, match=message):
        made(written)(agents, 0, rng())


def test_a_varying_graph_lasts_its_rounds_and_knows_no_order() -> None:
    topology = TimeVarying(ErdosRenyi(p=0.5), every=3)
    forth = [sorted(topology(13, round, rng()).edges) for round in range(9)]
    back = [sorted(topology(13, round, rng()).edges) for round in reversed(range(9))]
    assert forth == back[::-1]
    assert [forth[k] == forth[k - 1] for k in range(1, 9)] == [True, True, False] * 2 + [True, True]
    assert TimeVarying(Ring())(13, 5, rng()).edges == Ring()(13, 0, rng()).edges


@settings(max_examples=25)
@given(agents=st.integers(5, 30), churn=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_churn_keeps_the_number_of_links(agents: int, churn: float, seed: int) -> None:
    for inner in (SmallWorld(), Complete()):
        graph = TimeVarying(inner, churn=churn)(agents, 2, rng(seed))
        assert graph.number_of_edges() == inner(agents, 0, rng()).number_of_edges()
        assert nx.is_connected(graph)


def test_churn_replaces_its_share_of_links_by_any_others() -> None:
    base = set(SmallWorld(p=0)(40, 0, rng()).edges)
    topology = TimeVarying(SmallWorld(p=0), churn=0.3)
    rounds = [set(topology(40, round, rng()).edges) for round in range(150)]
    persistence = np.mean([len(base & links) for links in rounds]) / len(base)
    assert abs(persistence - 0.7 - 0.3 * 24 / 724) < 0.02  # of 724 pairs that are free on average, 24 are old links
    fresh = np.zeros((40, 40), dtype=int)
    for links in rounds:
        for a, b in links - base:
            fresh[a, b] += 1
    samples = fresh[
        np.triu(np.ones((40, 40), dtype=bool), 1) & ~nx.to_numpy_array(SmallWorld(p=0)(40, 0, rng())).astype(bool)
    ]
    assert abs(samples.mean() - 150 * 23.2 / 700) < 0.5
    assert samples.max() < 20


@pytest.mark.parametrize("directed", [False, True])
def test_peers_are_fresh_and_fair(directed: bool) -> None:
    topology = PeerSampling(peers=2, directed=directed)
    times = np.zeros((6, 6))
    for round in range(300):
        graph = topology(6, round, rng())
        assert set(dict(graph.in_degree).values()) == {2} if directed else min(dict(graph.degree).values()) >= 2
        times += nx.to_numpy_array(graph)
    odds = 2 / 5 if directed else 1 - (3 / 5) ** 2
    assert abs(times[~np.eye(6, dtype=bool)] / 300 - odds).max() < 0.12
    assert not np.diagonal(times).any()


def graph_file(folder: File, text: str, name: str = "graph.txt") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("directed", [False, True])
def test_a_graph_from_a_file_is_the_one_that_was_written(tmp_path: File, directed: bool) -> None:
    graph = ErdosRenyi(p=0.4, directed=directed)(12, 0, rng())
    nx.write_graphml(graph, tmp_path / "a.graphml")
    nx.write_edgelist(graph, tmp_path / "a.txt", data=False)
    for name in ("a.graphml", "a.txt"):
        topology = FromFile(str(tmp_path / name), directed=directed)
        assert nx.utils.graphs_equal(topology(12, 0, rng()), graph)
        assert from_description("topology", json.loads(json.dumps(describe(topology)))) == topology
        assert topology.data == (tmp_path / name,)


def test_a_list_of_links_may_have_names_comments_and_more(tmp_path: File) -> None:
    text = "# who knows whom\nann bob 0.5\n\nbob cem {'weight': 3} # old friends\ncem cem\nbob ann\n"
    graph = FromFile(graph_file(tmp_path, text))(3, 0, rng())
    assert list(graph.edges) == [(0, 1), (1, 2)]
    numbered = FromFile(graph_file(tmp_path, "10 2\n2 7\n"))(3, 0, rng())
    assert list(numbered.edges) == [(0, 1), (0, 2)]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.txt", "0 1\n1\n", "line 2 of .* names one node"),
        ("a.txt", "0 1\n2 3\n", "not connected"),
        ("a.txt", "0 1\n1 2\n", "has 3 nodes, and there are 4 agents"),
        ("a.txt", "", "has 0 nodes"),
        ("a.graphml", "<graphml>", "is no GraphML that networkx reads: ParseError"),
        ("a.graphml", "0 1\n1 2\n", "is no GraphML"),
        ("a.graphml", "<html/>", "is no GraphML"),
        ("a.graphml", '<!DOCTYPE lol [<!ENTITY a "aa">]><graphml>&a;</graphml>', "declares a document type"),
        ("a.graphml", nx.generate_graphml(nx.cycle_graph(4, nx.DiGraph)), "say directed=True"),
    ],
)
def test_untrusted_files(tmp_path: File, name: str, text: Any, message: str) -> None:
    path = graph_file(tmp_path, text if isinstance(text, str) else "\n".join(text), name)
    with pytest.raises(UserError, match=message) as caught:
        FromFile(path)(4, 0, rng())
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "binary.txt", "UTF-8"),
    ):
        with pytest.raises(UserError, match=message):
            FromFile(str(path))(4, 0, rng())
    monkeypatch.setattr("byzbench.topologies.from_file._LARGEST", 5)
    with pytest.raises(UserError, match="larger than"):
        FromFile(graph_file(tmp_path, "0 1\n1 2\n"))(3, 0, rng())


@pytest.mark.parametrize(
    "cls, parameters", [(RandomRegular, {"degree": 0}), (Star, {"hub": "nobody"}), (SmallWorld, {"degree": 3})]
)
def test_parameters_have_bounds(cls: type, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        cls(**parameters)


PLACEMENTS = [name for name, o in origins("placement").items() if o.module.startswith("byzbench.") and name != "attach"]


def placed(written: str) -> Placement:
    placement = make("placement", written)
    assert isinstance(placement, Placement)
    return placement


@pytest.mark.parametrize("check", placements.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [*PLACEMENTS, "attach", "attach(links=2, targets=3)"])
def test_every_placement_passes_every_check(name: str, check: placements.Check) -> None:
    check(placed(name), PlacementCase(0))


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_placement_is_defined_on_every_graph(name: str) -> None:
    assert len(list(placements.place(placed(name), PlacementCase(0)))) == 4 * 10 + 1 + 2


@pytest.mark.parametrize("name", ["degree", "betweenness", "eigenvector", "min_cut"])
def test_on_symmetric_graphs_placements_are_random(name: str) -> None:
    for graph in (Complete()(9, 0, rng()), Star()(9, 0, rng())):
        assert list(placed(name)(graph, 3, rng(5))) == list(RandomPlacement()(graph, 3, rng(5)))
    samples = {frozenset(placed(name)(Ring()(9, 0, rng()), 1, rng(seed))) for seed in range(60)}
    assert len(samples) == 9 or name == "min_cut"


def test_central_agents_are_those_that_networkx_finds() -> None:
    graph = made("barabasi_albert")(40, 0, rng(3))
    for name, scores in (
        ("degree", dict(graph.degree)),
        ("betweenness", nx.betweenness_centrality(graph)),
        ("eigenvector", nx.eigenvector_centrality(graph, max_iter=1000, tol=1e-10)),
    ):
        chosen = placed(name)(graph, 4, rng())
        assert sorted(scores[node] for node in chosen) == sorted(scores.values())[-4:], name
    directed = nx.DiGraph([(0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (3, 0), (1, 4), (4, 1), (5, 4), (4, 5), (5, 3)])
    assert placed("degree")(directed, 1, rng()) == [0]


def test_few_sources_of_paths_find_a_hub() -> None:
    graph = nx.star_graph(30)
    assert placed("betweenness(pivots=5)")(graph, 1, rng()) == [0]


def phi(graph: nx.Graph, chosen: Any, horizon: int) -> float:
    """By the formula."""
    w, n = matrix(graph).numpy(), len(graph)
    attackers = np.isin(range(n), list(chosen))
    total = sum(np.linalg.matrix_power(w, t) for t in range(1, horizon + 1))
    return float((total @ attackers)[~attackers].mean())


@pytest.mark.parametrize("horizon", [1, 2, 7, 30])
def test_influence_and_its_placements(horizon: int) -> None:
    for written in ("small_world", "random_geometric", "peer_sampling(directed=True)", "barabasi_albert"):
        graph = made(written)(9, 0, rng(1))
        members = CommunicationGraph(graph, 9, (2, 5), 2)
        assert influence(members.mixing, members.senders, members.byzantine, horizon) == pytest.approx(
            phi(graph, (2, 5), horizon), rel=1e-12
        )
        total = walks(matrix(graph), horizon)
        values = with_one_more(total, [2, 5])
        assert [
            values[k] == pytest.approx(phi(graph, (2, 5, k), horizon), rel=1e-9) for k in range(9) if k not in (2, 5)
        ]
        assert values[2] == values[5] == -np.inf
        greedy = placed(f"influence_greedy(horizon={horizon})")(graph, 3, rng())
        for k in range(3):
            gained = [phi(graph, (*greedy[:k], other), horizon) for other in range(9) if other not in greedy[:k]]
            assert phi(graph, greedy[: k + 1], horizon) == pytest.approx(max(gained), rel=1e-8)
        swapped = list(placed(f"influence_swap(horizon={horizon})")(graph, 3, rng()))
        reached = phi(graph, swapped, horizon)
        assert reached >= phi(graph, greedy, horizon) * (1 - 1e-9)
        moves = [{*swapped, new} - {old} for old in swapped for new in set(range(9)) - set(swapped)]
        assert reached >= max(phi(graph, chosen, horizon) for chosen in moves) * (1 - 1e-8)


def test_no_attackers_no_influence_and_nobody_else_all_of_it() -> None:
    members = CommunicationGraph(Complete()(4, 0, rng()), 4, (), 0)
    assert influence(members.mixing, members.senders, members.byzantine) == 0
    eclipsed = CommunicationGraph(nx.DiGraph([(1, 0), (2, 0), (1, 2), (2, 1)]), 3, (1, 2), 2)
    assert influence(eclipsed.mixing, eclipsed.senders, eclipsed.byzantine, 30) == pytest.approx(29.5)


def test_swaps_help_where_greed_does_not() -> None:
    graph = made("dumbbell")(13, 0, rng())
    greedy, swapped = (placed(f"influence_{name}")(graph, 3, rng()) for name in ("greedy", "swap"))
    assert phi(graph, swapped, 30) > phi(graph, greedy, 30) + 0.01


def test_an_eclipse_is_as_dark_as_can_be() -> None:
    for written in ("small_world", "random_geometric", "barabasi_albert", "peer_sampling(directed=True)"):
        graph = made(written)(10, 0, rng(2))
        w = matrix(graph).numpy()
        for victim in (0, 7):
            for f in range(6):
                chosen = placed(f"eclipse(victim={victim})")(graph, f, rng())
                assert victim not in chosen
                others = np.delete(w[victim], victim)
                assert w[victim, list(chosen)].sum() == pytest.approx(np.sort(others)[10 - 1 - f :].sum())
    path = nx.path_graph(7)
    assert sorted(placed("eclipse(victim=0)")(path, 3, rng())) == [1, 2, 3]
    with pytest.raises(Undefined, match="agent 9 is no victim; agents are 0 to 6"):
        placed("eclipse(victim=9)")(path, 1, rng())


def test_max_separation_is_at_least_half_the_optimum() -> None:
    for written in ("grid", "small_world", "random_geometric", "binary_tree"):
        graph = made(written)(12, 0, rng(1))
        hops = dict(nx.all_pairs_shortest_path_length(graph))

        def apart(chosen: Any, hops: Any = hops) -> int:
            return min(hops[a][b] for a, b in combinations(chosen, 2))

        for seed in range(4):
            chosen = placed("max_separation")(graph, 3, rng(seed))
            assert 2 * apart(chosen) >= max(apart(three) for three in combinations(range(12), 3))
    assert (
        max(
            nx.multi_source_dijkstra_path_length(
                nx.path_graph(13), {*placed("max_separation")(nx.path_graph(13), 3, rng())}
            ).values()
        )
        <= 6
    )


def test_min_cut_disconnects_the_honest_agents_where_f_agents_can() -> None:
    atlas = [g for g in nx.graph_atlas_g()[3:53:2] if nx.is_connected(g) and nx.density(g) < 1]
    for graph in [
        *atlas,
        *(made(w)(13, 0, rng()) for w in ("small_world", "dumbbell", "two_worlds", "grid", "star(hub=agent)")),
    ]:
        for f in range(nx.node_connectivity(graph), len(graph) - 1):
            assert honest_components(graph, placed("min_cut")(graph, f, rng())) > 1, (graph.edges, f)


def test_min_cut_is_between_the_halves() -> None:
    def parts(written: str, agents: int, f: int) -> list[int]:
        graph = made(written)(agents, 0, rng())
        rest = graph.subgraph(set(graph) - set(placed("min_cut")(graph, f, rng())))
        return sorted(map(len, nx.connected_components(rest)))

    assert parts("dumbbell(bar=0)", 12, 1) == [5, 6]
    assert parts("ring_of_cliques", 16, 2) in ([7, 7], [6, 8])
    worlds = made("two_worlds")(14, 0, rng())
    few = placed("min_cut")(worlds, 3, rng())
    assert not worlds.subgraph(few).edges & {(i, i + 7) for i in range(7)}, "each is at the end of another link across"


@pytest.mark.parametrize("written", ["small_world", "peer_sampling(directed=True)", "time_varying(torus, churn=0.1)"])
def test_sybils_join_the_honest_graph(written: str) -> None:
    topology, placement = made(written), placed("attach(links=2, targets=3)")
    members = CommunicationGraph.place(topology, placement, 14, 5, 5, Streams(4))
    assert members.byzantine_ids == (9, 10, 11, 12, 13)
    alone = topology(9, 0, Streams(4).generator("graph"))
    assert nx.utils.graphs_equal(members.graph.subgraph(range(9)), alone)
    attacked = {a for s in members.byzantine_ids for a in members.graph.adj[s]}
    assert len(attacked) <= 3
    assert {a for a in range(9) if {*members.inboxes[a]} & set(members.byzantine_ids)} == attacked
    assert {len(members.inboxes[s]) for s in members.byzantine_ids} == {3}
    later = CommunicationGraph.draw(topology, placement, 14, 5, 3, Streams(4))
    assert [sorted(later.adj[s]) for s in members.byzantine_ids] == [
        sorted(members.graph.adj[s]) for s in members.byzantine_ids
    ]
    clique = CommunicationGraph.place(topology, placed("attach(clique=True)"), 14, 5, 5, Streams(4))
    assert {len(clique.inboxes[s]) for s in clique.byzantine_ids} == {6}


def test_sybils_need_somebody_to_attach_to() -> None:
    with pytest.raises(Undefined, match="without a server"):
        CommunicationGraph.place(Star(), placed("attach"), 5, 1, 1, Streams(0))
    with pytest.raises(Undefined, match="links=4 needs at least as many honest agents to attach to, got 2"):
        CommunicationGraph.place(Ring(), placed("attach(links=4, targets=2)"), 7, 1, 1, Streams(0))
    assert (
        CommunicationGraph.place(Ring(), placed("attach"), 7, 0, 0, Streams(0)).graph.edges == Ring()(7, 0, rng()).edges
    )


def test_placements_that_look_at_all_pairs_refuse_large_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byzbench.core.ranked_placement.MAX_DENSE_AGENTS", 8)
    for name in ("eigenvector", "influence_greedy", "influence_swap", "min_cut"):
        with pytest.raises(Undefined, match=f"placement {name} is for at most 8 agents, got 9"):
            placed(name)(Ring()(9, 0, rng()), 1, rng())


def test_first_and_random_placements() -> None:
    graph = Star()(6, 0, rng())
    assert First()(graph, 3, rng()) == [0, 1, 2]
    taken = np.bincount([node for seed in range(600) for node in RandomPlacement()(graph, 2, rng(seed))], minlength=6)
    assert taken.shape == (6,)
    assert abs(taken - 200).max() < 60
    assert list(RandomPlacement()(graph, 3, rng()))[:2] == list(RandomPlacement()(graph, 2, rng()))


@pytest.mark.parametrize("check", coins.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [*origins("coin"), "biased(q=1, value=1)"])
def test_every_coin_passes_every_check(name: str, check: coins.Check) -> None:
    for case in coins.CASES:
        check(make("coin", name), case)  # type: ignore[arg-type]


def test_the_shared_coin_is_one_draw_for_all() -> None:
    samples = SharedCoin()(lambda stream: float(stream.random()), 4, rng())
    assert samples.dtype == torch.float64
    assert samples.tolist() == [rng().random()] * 4


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("written", TOPOLOGIES)
def test_mixing_weights(written: str, weights: str) -> None:
    """Against their formulas, link by link, and what they claim."""
    agents = TOPOLOGIES[written][-3 if weights == "laplacian" else -2] if len(TOPOLOGIES[written]) > 2 else 15
    graph = made(written)(agents, 0, rng())
    graph.remove_nodes_from({graph.graph.get("server")} & set(graph))
    members = CommunicationGraph(graph, agents, (), 0, weights=weights)
    if weights == "laplacian" and graph.is_directed():
        with pytest.raises(Undefined, match="undirected graph"):
            _ = members.mixing
        return
    w = torch.zeros(agents, agents, dtype=torch.float64).scatter_add_(1, members.senders, members.mixing)
    torch.testing.assert_close(w, matrix(graph, weights), rtol=0, atol=1e-14)
    received = nx.to_numpy_array(graph).T
    degree = received.sum(1)
    links = {
        "metropolis": 1 / (1 + np.maximum.outer(degree, degree)),
        "max_degree": np.full_like(received, 1 / (1 + degree.max())),
        "uniform": np.tile(1 / (1 + degree), (agents, 1)).T,
    }
    if weights == "laplacian":
        laplacian = np.diag(degree) - received
        largest = np.linalg.eigvalsh(laplacian)[-1] if agents > 1 and received.any() else 1
        np.testing.assert_allclose(w, np.eye(agents) - laplacian / largest, atol=1e-12)
    else:
        off = links[weights] * received
        np.testing.assert_allclose(w, off + np.diag(1 - off.sum(1)), atol=1e-15)
    assert float((w.sum(1) - 1).abs().max()) < 1e-12
    assert float(w.min()) > -1e-12
    if weights != "uniform" and not graph.is_directed():
        assert torch.equal(w, w.T) or torch.allclose(w, w.T, atol=1e-15)
        assert float((w.sum(0) - 1).abs().max()) < 1e-12
    if graph.is_directed() or agents == 1:
        return
    # Symmetric in the measure that uniform weights keep.
    keeps = np.sqrt(1 + degree) if weights == "uniform" else np.ones(agents)
    values = np.linalg.eigvalsh((keeps[:, None] * w.numpy()) / keeps)
    assert spectral_gap(w) == pytest.approx(1 - np.sort(abs(values))[-2], abs=1e-8)


def test_large_laplacians_are_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = made("barabasi_albert")(60, 0, rng())
    dense = matrix(graph, "laplacian")
    monkeypatch.setattr("byzbench.geometry.mixing._DENSE", 10)
    torch.testing.assert_close(matrix(graph, "laplacian"), dense, rtol=1e-10, atol=0)


def test_gossip_contracts_by_the_spectral_gap() -> None:
    x = np.random.default_rng(0).standard_normal((13, 4))
    for weights in ("metropolis", "max_degree", "laplacian"):
        w = matrix(made("small_world")(13, 0, rng()), weights)
        mixed = w.numpy() @ x
        np.testing.assert_allclose(mixed.mean(0), x.mean(0), atol=1e-12)
        before, after = np.linalg.norm(x - x.mean(0)), np.linalg.norm(mixed - x.mean(0))
        assert after <= (1 - spectral_gap(w)) * before + 1e-12


def test_unknown_weights_bring_the_known() -> None:
    with pytest.raises(InvalidParameter, match=r"no mixing weights 'metropoli'\. Did you mean 'metropolis'\?"):
        matrix(nx.path_graph(3), "metropoli")


def test_an_agent_of_a_directed_graph_receives_from_its_predecessors() -> None:
    members = CommunicationGraph(made("ring(directed=True)")(5, 0, rng()), 5, (1, 4), 2)
    assert members.inboxes == [[0, 4], [0, 1], [1, 2], [2, 3], [3, 4]]
    assert members.byzantine_edges.tolist() == [[0, 2, 0], [1, 0, 1]]
    assert members.bounds.tolist() == [0] * 5
    graph_members = CommunicationGraph.place(
        made("erdos_renyi(directed=True)"), First(), 9, 2, 2, Streams(0), weights="uniform"
    )
    assert graph_members.weights == "uniform"
    received = [
        (row, to)
        for row, a in enumerate(graph_members.byzantine_ids)
        for to in range(9)
        if graph_members.graph.has_edge(a, to)
    ]
    assert graph_members.byzantine_edges[:, :2].tolist() == [list(pair) for pair in received]
