"""Geometry: distances, exact subsets, and measures of graphs, on fixed point sets and graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from byzbench.core import weighted_sum
from byzbench.errors import InexactSearch
from byzbench.geometry import branching, graphs, influence, mixing, robustness, spread, subsets
from byzbench.geometry.pairwise_distances import (
    PairwiseDistances,
    coordinate_blocks,
    is_small,
    norms_from,
    uniform_weights,
    vector_at,
)
from tests.golden.parts import Cases, Inputs
from tests.golden.summaries import summary


def points(n: int, d: int, seed: int = 0) -> Tensor:
    """Return Gaussian points float64 [n, d], of which the last three are far away and close together."""
    x = torch.from_numpy(np.random.default_rng([n, d, seed]).standard_normal((n, d)))
    x[-3:] = x[-3:] * 0.1 + 4
    return x


def squares(x: Tensor) -> np.ndarray:
    """Return the squared distances of points, computed without the modules under test."""
    return (x.unsqueeze(0) - x.unsqueeze(1)).square().sum(-1).numpy()


def clouds() -> dict[str, Any]:
    """Return inner products, lengths and distances of small, wide, masked and combined sets."""
    results = {}
    mask = torch.ones(9, dtype=torch.bool)
    mask[[1, 6]] = False
    shares = torch.from_numpy(np.random.default_rng(1).dirichlet(np.ones(9), 4))
    for label, x in (("small", points(9, 5)), ("wide", points(9, 4100)), ("many", points(9, 2500).float())):
        for hidden, visible in (("all", None), ("masked", mask)):
            cloud = PairwiseDistances.of(x, visible)
            weights = uniform_weights(cloud.mask)
            parts = {"whole": cloud, "selected": cloud.select(torch.tensor([[0, 2, 3], [8, 7, 1]]))}
            if visible is None:
                parts["combined"] = cloud.combine(shares)
                parts["masked rows"] = cloud.combine(shares * torch.tensor([[1], [1], [0], [1]]), shares[:, 0] > 0.01)
            for name, part in parts.items():
                results[f"{label} {hidden} {name}"] = summary(
                    [part.gram, part.norms, part.centre, part.squared_distances, part.distances]
                )
            results[f"{label} {hidden} to"] = summary([cloud.distances_to(weights), weighted_sum(weights, x)])
        results[f"{label} lengths"] = summary(
            [norms_from(x), norms_from(x, x[2:3]), vector_at(x, torch.tensor(4)), is_small(x)]
        )
        batch = torch.stack([x, 2 * x])
        results[f"{label} batch"] = summary([PairwiseDistances.of(batch).gram, vector_at(batch, torch.tensor([1, 3]))])
    results["blocks"] = [len(coordinate_blocks(torch.zeros(2, d))) for d in (10, 2000, 2001, 4001)]
    results["small"] = [
        is_small(torch.zeros(n, d)) for n, d in ((32, 256), (32, 257), (33, 256), (5, 1600), (5, 2000), (4, 2001))
    ]
    return results


def tables() -> dict[str, Any]:
    """Return the subsets of several receivers with masks and bounds of their own."""
    x = torch.stack([points(9, 4, seed) for seed in range(3)])
    distances = torch.stack([PairwiseDistances.of(one).distances for one in x])
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 4] = mask[2, 0] = mask[2, 8] = False
    f = torch.tensor([2, 3, 1])
    results = {
        "diameter": subsets.min_diameter_subsets(distances, mask, f),
        "variance": spread.least_variance(distances.square(), mask, f),
        "eigenvalue": spread.least_eigenvalue(distances.square(), mask, f),
        "alone": subsets.min_diameter_subsets(distances, mask, torch.tensor([8, 9, 6])),
    }
    return {name: summary(list(value)) for name, value in results.items()}


def searches() -> dict[str, Any]:
    """Return the results of exact searches, with ties, hostile distances and too little effort."""
    results: dict[str, Any] = {}
    grid = torch.from_numpy(np.random.default_rng(2).integers(0, 3, (18, 2)).astype(np.float64))
    ball = torch.nn.functional.normalize(torch.from_numpy(np.random.default_rng(3).standard_normal((20, 12))), dim=1)
    equal = points(16, 3)
    equal[4:9] = equal[3]
    sets = {"points": (points(20, 6), 14), "grid": (grid, 12), "ball": (ball, 14), "equal": (equal, 12)}
    sets |= {
        "all": (points(6, 3), 6),
        "one": (points(6, 3), 1),
        "pair": (points(8, 3), 2),
        "same": (torch.ones(7, 2), 4),
    }
    for label, (x, size) in sets.items():
        apart = squares(x)
        for effort in (branching.EFFORT // 40, 150_000):
            results[f"{label} variance {effort}"] = _rounded(spread.min_variance_subset(apart, size, effort))
            results[f"{label} eigenvalue {effort}"] = _rounded(spread.min_eigenvalue_subset(apart, size, effort))
        for effort in (400_000, 60):
            results[f"{label} diameter {effort}"] = _rounded(subsets.min_diameter_subset(np.sqrt(apart), size, effort))
    for seed in range(4):
        cycle = nx.to_numpy_array(nx.random_regular_graph(3, 16, seed))
        results[f"conflicts {seed}"] = _rounded(subsets.min_diameter_subset(1 + cycle - np.eye(16), 9 - seed))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InexactSearch)
        matrix, everyone = torch.from_numpy(squares(ball)), torch.ones(20, dtype=torch.bool)
        results["receivers"] = summary(list(spread.least_variance(matrix, everyone, torch.tensor(6), 100_000)))
        results["receivers' diameter"] = summary(
            list(subsets.min_diameter_subsets(matrix.sqrt(), everyone, torch.tensor(7), 100))
        )
        results["warnings"] = len(caught)
    return results


def _rounded(result: tuple[tuple[int, ...], float, bool]) -> list[Any]:
    places, value, exact = result
    return [" ".join(map(str, places)), float(f"{value:.12g}"), exact]


def some_graphs() -> Iterator[tuple[str, nx.Graph]]:
    """Yield a label and a graph of agents."""
    yield "ring", nx.cycle_graph(8)
    yield "complete", nx.complete_graph(7)
    yield "path", nx.path_graph(6)
    yield "single", nx.empty_graph(1)
    yield "apart", nx.disjoint_union(nx.complete_graph(4), nx.cycle_graph(4))
    yield "cliques", nx.connected_caveman_graph(3, 4)
    yield "dense", nx.complement(nx.cycle_graph(9))
    yield "random", nx.gnp_random_graph(11, 0.45, seed=3)
    yield "directed", nx.gnp_random_graph(9, 0.4, seed=5, directed=True)
    yield "directed ring", nx.cycle_graph(6, nx.DiGraph)


def diagnostics() -> dict[str, Any]:
    """Return diagnostics of placements and of whole graphs."""
    results: dict[str, Any] = {}
    for label, graph in some_graphs():
        n = len(graph)
        for byzantine in ((), (0,), (1, n - 1)):
            if len(set(byzantine)) < n:
                results[f"{label} {byzantine}"] = [
                    graphs.local_weight(graph, byzantine),
                    graphs.beyond_bound(graph, byzantine, [min(1, k % 2) for k in range(n)]),
                    graphs.honest_components(graph, byzantine),
                ]
        results[f"{label} shares"] = [graphs.connected_share(graph, f, 40) for f in range(min(4, n))]
        results[f"{label} spectrum"] = float(f"{graphs.laplacian_spectrum(graph)[0].sum():.9g}")
        results[f"{label} bounds"] = [*robustness.robustness_bounds(graph), robustness.redundancy(graph)]
        if n > 1:
            results[f"{label} connectivity"] = robustness.vertex_connectivity(graph)
    for seed in range(12):
        graph = nx.gnp_random_graph(8, 0.55 + 0.03 * seed, seed)
        results[f"random {seed}"] = [robustness.redundancy(graph), robustness.robustness(graph)]
    star = nx.star_graph(5)
    star.graph["server"] = 0
    results["server"] = [
        graphs.local_weight(star, [1]),
        graphs.honest_components(star, [1, 2]),
        graphs.connected_share(star, 2),
        graphs.beyond_bound(star, [3], [0] * 6),
    ]
    results["disjoint"] = [
        graphs.shortest_disjoint(nx.cycle_graph(7), 0, 3, 2),
        graphs.shortest_disjoint(nx.complete_graph(6), 0, 5, 4),
        graphs.shortest_disjoint(nx.connected_caveman_graph(3, 4), 0, 9, 2),
    ]
    for seed in range(3):
        large = nx.random_regular_graph(4, 24, seed)
        results[f"large {seed}"] = [*robustness.robustness_bounds(large), robustness.redundancy(large)]
    results["large dense"] = list(robustness.robustness_bounds(nx.complement(nx.cycle_graph(22))))
    results["large directed"] = list(robustness.robustness_bounds(nx.gnp_random_graph(22, 0.5, 1, directed=True)))
    return results


def gossip() -> dict[str, Any]:
    """Return mixing weights and the influence of Byzantine agents."""
    results: dict[str, Any] = {}
    for label, graph in some_graphs():
        directed = graph.is_directed()
        for weights in mixing.WEIGHTS[: 3 if directed else 4]:
            w = mixing.matrix(graph, weights)
            results[f"{label} {weights}"] = [summary(w), float(f"{mixing.spectral_gap(w):.9g}")]
        w, n = mixing.matrix(graph), len(graph)
        if n > 3:
            byzantine = torch.arange(n) < 2
            results[f"{label} influence"] = summary(
                [influence.influence(w, torch.arange(n).expand(n, -1), byzantine, horizon) for horizon in (1, 6, 30)]
            )
            for horizon in (7, 30):
                total = influence.walks(w, horizon)
                results[f"{label} walks {horizon}"] = summary([total, influence.with_one_more(total, [0, 2])])
    nobody = torch.zeros(4, dtype=torch.bool)
    results["nobody"] = influence.influence(torch.eye(4, dtype=torch.float64), torch.arange(4).expand(4, -1), nobody)
    results["large"] = summary(mixing.matrix(nx.cycle_graph(501), "laplacian")[0, :2].numpy().round(6))
    results["no links"] = summary(mixing.matrix(nx.empty_graph(3), "laplacian"))
    return results


FUNCTIONS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "clouds": clouds,
    "gossip": gossip,
    "diagnostics": diagnostics,
    "searches": searches,
    "tables": tables,
}


def generated() -> Cases:
    """Yield a case for every function."""
    yield from ((f"geometry {name}", dict) for name in FUNCTIONS)


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the outputs of one of the functions."""
    return FUNCTIONS[name]()
