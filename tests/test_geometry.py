from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
import torch

from byzbench.core import RuleContext, weighted_sum
from byzbench.errors import InexactSearch
from byzbench.geometry import pairwise_distances as cloud_module
from byzbench.geometry.deviations import standard_deviations
from byzbench.geometry.graphs import beyond_bound, connected_share, honest_components, local_weight
from byzbench.geometry.pairwise_distances import PairwiseDistances, norms_from, scale_vectors, weighted_differences
from byzbench.geometry.spread import least_eigenvalue, least_variance, min_eigenvalue_subset, min_variance_subset
from byzbench.geometry.subsets import min_diameter_subset, min_diameter_subsets
from byzbench.registry import make


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def direct_distances(x):
    return (x.unsqueeze(-2) - x.unsqueeze(-3)).norm(dim=-1)


def test_distances_are_those_of_the_vectors():
    cloud = PairwiseDistances.of(random(3, 7, 20))
    torch.testing.assert_close(cloud.distances, direct_distances(random(3, 7, 20)))
    assert torch.equal(cloud.squared_distances, cloud.squared_distances.mT)
    assert not cloud.distances.diagonal(dim1=-2, dim2=-1).any()
    torch.testing.assert_close(cloud.norms, random(3, 7, 20).norm(dim=-1))


def test_close_vectors_far_from_the_origin_keep_their_distances():
    x = 1e6 + 1e-6 * random(6, 50)
    torch.testing.assert_close(PairwiseDistances.of(x).distances, direct_distances(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_huge_vector_leaves_the_distances_of_others_alone(dtype):
    x = (100 + random(6, 50)).to(dtype)
    x[2] = 1e30
    others = [0, 1, 3, 4, 5]
    expected = direct_distances(x[others].double())
    torch.testing.assert_close(PairwiseDistances.of(x).distances[others][:, others], expected, rtol=1e-12, atol=0)
    assert PairwiseDistances.of(x).distances.isfinite().all()


def measured(cloud):
    """All that can be computed only from the vectors themselves, computed now."""
    mixed = cloud.combine(torch.softmax(random(4, 5, seed=1), -1))
    return [
        *(part for one in (cloud, mixed) for part in (one.distances, one.norms)),
        norms_from(cloud.x, cloud.x[2:3]),
    ]


def test_distances_do_not_depend_on_the_blocks(monkeypatch):
    x = 100 + random(5, 23)
    # Each is the shortest somewhere, and none everywhere.
    x[torch.arange(23) // 7 % 5, torch.arange(23)] = 0
    whole = measured(PairwiseDistances.of(x))
    monkeypatch.setattr(cloud_module, "BLOCK", 7)
    torch.testing.assert_close(measured(PairwiseDistances.of(x)), whole)


@pytest.mark.parametrize("shape", [(5, 23), (3, 5, 23)])
def test_small_and_large_sets_are_seen_alike(monkeypatch, shape):
    x, mask = 100 + random(*shape), torch.arange(5) != 1
    x[..., 1, :] = 1e30
    mask, weights = mask.expand(shape[:-1]), torch.softmax(random(*shape[:-1], seed=1), -1) * mask

    def all_of(cloud):
        mixed = cloud.combine(weights.unsqueeze(-2) / weights.sum(-1)[..., None, None])
        return [
            cloud.distances,
            cloud.norms,
            mixed.norms,
            mixed.centre,
            norms_from(x, x[..., 2:3, :]),
            weighted_sum(weights, x),
        ]

    small = all_of(PairwiseDistances.of(x, mask))
    monkeypatch.setattr(cloud_module, "SMALL", 0)
    torch.testing.assert_close(all_of(PairwiseDistances.of(x, mask)), small, rtol=1e-9, atol=0)
    assert type(PairwiseDistances.of(x)) is cloud_module._Large


@pytest.mark.parametrize("shape", [(7, 2100), (2, 5, 2100)])
def test_large_sets_are_read_without_a_copy(monkeypatch, shape):
    monkeypatch.setattr(cloud_module, "LARGE", 1)
    x, weights, origin = (100 + random(*shape)).float(), random(*shape[:-1], seed=1), random(*shape[:-2], 1, 2100)
    weights[..., 1], x[..., 1, :] = 0, torch.nan
    valid = torch.arange(shape[-2]) != 1
    exact, valid_weights = x[..., valid, :].double(), weights[..., valid].unsqueeze(-2)
    torch.testing.assert_close(weighted_sum(weights, x).unsqueeze(-2), (valid_weights @ exact).float())
    torch.testing.assert_close(weighted_differences(weights, x, origin), valid_weights @ (exact - origin))
    scaled = scale_vectors(weights.numpy(), x)[..., valid, :]
    torch.testing.assert_close(scaled, (weights[..., valid].unsqueeze(-1) * exact).float(), rtol=0, atol=0)
    torch.testing.assert_close(norms_from(x)[..., valid], exact.norm(dim=-1), rtol=1e-12, atol=0)
    torch.testing.assert_close(norms_from(x, origin)[..., valid], (exact - origin).norm(dim=-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("large", [False, True])
def test_a_scaled_sum_is_that_of_the_scaled_vectors_to_the_bit(monkeypatch, dtype, large):
    if large:
        monkeypatch.setattr(cloud_module, "LARGE", 1)
        monkeypatch.setattr(cloud_module, "SMALL", 0)
    x, weights, scales = random(2, 7, 2100).to(dtype), random(2, 7, seed=1), random(2, 7, seed=2).numpy()
    weights[..., 1] = 0
    assert torch.equal(weighted_sum(weights, x, scales), weighted_sum(weights, scale_vectors(scales, x)))
    assert not torch.equal(weighted_sum(weights, x, scales), weighted_sum(weights, x))


@pytest.mark.parametrize("name", ["arc", "clipping"])
@pytest.mark.parametrize("large", [False, True])
def test_the_mean_of_clipped_vectors_is_that_of_their_copies_to_the_bit(monkeypatch, name, large):
    if large:
        monkeypatch.setattr(cloud_module, "LARGE", 1)
        monkeypatch.setattr(cloud_module, "SMALL", 0)
    x, context = random(3, 9, 50).float(), RuleContext(mask=torch.arange(9).expand(3, 9) != 4)
    rule, f = make("aggregator", f"{name}(mean)"), torch.tensor([1, 2, 3])
    y, valid = rule.transform(x, f, context)
    copied = rule.inner.aggregate(y, f, context.of_inner_rule(valid)).value
    assert torch.equal(rule.aggregate(x, f, context).value, copied)
    assert not torch.equal(y, x)


def test_deviations_are_those_of_torch_to_the_bit():
    for seed, shape in enumerate([(2, 1), (3, 386), (10, 435), (13, 100), (3, 100_000)]):
        for dtype in (torch.float32, torch.float64):
            x = (3 + random(*shape, seed=seed)).to(dtype)
            for ddof in (0, 1):
                assert torch.equal(standard_deviations(x, ddof), x.std(0, correction=ddof))
    not_finite = torch.tensor([[torch.inf, torch.nan, 1e308], [1.0, 1.0, -1e308]], dtype=torch.float64)
    assert torch.equal(standard_deviations(not_finite).isfinite(), not_finite.std(0).isfinite())


@pytest.mark.parametrize("size", [0, 1 << 13])
def test_lengths_alone_take_no_gram_matrix(monkeypatch, size):
    monkeypatch.setattr(cloud_module, "SMALL", size)
    cloud = PairwiseDistances.of(random(5, 23))
    torch.testing.assert_close(cloud.norms, random(5, 23).norm(dim=-1))
    assert not {"gram", "_centred"} & vars(cloud).keys()
    assert cloud.gram.any()
    assert {"gram", "_centred"} & vars(cloud).keys()


def test_a_cloud_leaves_its_vectors_alone():
    x, mask = random(5, 23), torch.arange(5) > 0
    cloud = PairwiseDistances.of(x, mask)
    assert cloud.distances.any()
    assert cloud.norms.any()
    assert torch.equal(x, random(5, 23))


def test_invalid_vectors_are_not_seen():
    x, mask = random(6, 9), torch.tensor([True, False, True, True, False, True])
    x[1], x[4] = 0, 1e30
    cloud, smaller = PairwiseDistances.of(x, mask), PairwiseDistances.of(x[mask])
    for name in ("gram", "squared_distances"):
        torch.testing.assert_close(getattr(cloud, name)[mask][:, mask], getattr(smaller, name))
        assert not getattr(cloud, name)[~mask].any()
    torch.testing.assert_close(cloud.norms[mask], smaller.norms)


def test_select_is_the_cloud_of_the_selected_vectors():
    x, index = random(8, 5), torch.tensor([[7, 1, 2, 0], [3, 4, 0, 0]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    chosen, direct = PairwiseDistances.of(x).select(index, mask), PairwiseDistances.of(x[index], mask)
    torch.testing.assert_close(chosen.distances, direct.distances)
    torch.testing.assert_close(chosen.norms, direct.norms)


def test_combine_is_the_cloud_of_the_combined_vectors():
    x, shares = random(2, 6, 5), torch.softmax(random(2, 4, 6, seed=1), -1)
    combined, direct = PairwiseDistances.of(x).combine(shares), PairwiseDistances.of(shares @ x)
    torch.testing.assert_close(combined.distances, direct.distances)
    torch.testing.assert_close(combined.norms, direct.norms)


def test_distances_to_a_combination():
    x, weights = random(6, 5), torch.softmax(random(6, seed=1), -1)
    torch.testing.assert_close(PairwiseDistances.of(x).distances_to(weights), (x - weights @ x).norm(dim=-1))


def by_brute_force(distances, size):
    subsets = list(combinations(range(len(distances)), size))
    widths = [distances[np.ix_(s, s)].max() for s in subsets]
    return subsets[int(np.argmin(widths))], min(widths)


def random_points(rng):
    """Points with many equal distances in half of the cases."""
    n, d = rng.integers(1, 12), rng.integers(1, 4)
    points = rng.integers(0, 4, (n, d)).astype(float) if rng.random() < 0.5 else rng.standard_normal((n, d))
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_narrowest_subset_is_the_one_brute_force_finds():
    rng = np.random.default_rng(0)
    for _ in range(300):
        distances = random_points(rng)
        size = int(rng.integers(1, len(distances) + 1))
        expected, diameter = by_brute_force(distances, size)
        assert min_diameter_subset(distances, size) == (expected, diameter, True)
        mask = torch.ones(len(distances), dtype=torch.bool)
        chosen, width = min_diameter_subsets(torch.from_numpy(distances), mask, torch.tensor(len(distances) - size))
        assert tuple(chosen.nonzero().squeeze(-1).tolist()) == expected
        assert width == diameter


@pytest.mark.parametrize("n", [8, 24])
def test_receivers_of_unequal_inboxes(n):
    x, rng = random(6, n, 3), np.random.default_rng(0)
    mask = torch.from_numpy(rng.random((6, n)) < 0.8)
    mask[:, 0] = True
    f = torch.tensor([0, 1, 2, 2, 3, 1])
    chosen, width = min_diameter_subsets(PairwiseDistances.of(x, mask).distances, mask, f)
    assert torch.equal(chosen.sum(-1), mask.sum(-1) - f)
    for r in range(6):
        places, diameter, _ = min_diameter_subset(direct_distances(x[r][mask[r]]), int(mask[r].sum() - f[r]))
        assert torch.equal(mask[r].nonzero().squeeze(-1)[list(places)], chosen[r].nonzero().squeeze(-1))
        assert float(width[r]) == pytest.approx(diameter)


def conflicting(graph):
    """Distance 2 along an edge, 1 elsewhere: the narrowest subset of diameter 1 is an independent set."""
    distances = np.ones((len(graph), len(graph))) + nx.to_numpy_array(graph)
    np.fill_diagonal(distances, 0)
    return distances


def padded(graph, n=100):
    graph = graph.copy()
    graph.add_nodes_from(range(len(graph), n))
    return graph


@pytest.mark.parametrize(
    "graph, size, diameter",
    [
        (nx.disjoint_union_all([nx.cycle_graph(5)] * 20), 40, 1),
        (nx.disjoint_union_all([nx.cycle_graph(5)] * 20), 41, 2),
        (padded(nx.disjoint_union_all([nx.petersen_graph()] * 5)), 70, 1),
        (padded(nx.disjoint_union_all([nx.petersen_graph()] * 5)), 71, 2),
        (padded(nx.random_regular_graph(3, 52, seed=0)), 70, 1),
        (nx.empty_graph(100), 70, 1),
        (nx.complete_graph(100), 70, 2),
        (padded(nx.star_graph(60)), 99, 1),
    ],
)
def test_hostile_conflicts_are_solved(graph, size, diameter):
    chosen, width, exact = min_diameter_subset(conflicting(graph), size)
    assert (len(chosen), width, exact) == (size, diameter, True)


def test_a_planted_cluster_is_found():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((100, 20))
    points[rng.permutation(100)[:71]] *= 0.99
    distances = direct_distances(torch.from_numpy(points))
    chosen, width, exact = min_diameter_subset(distances, 70)
    assert exact
    assert width == distances[list(chosen)][:, list(chosen)].max()


def test_when_the_effort_runs_out_the_answer_says_so_and_is_at_most_twice_as_wide():
    distances = direct_distances(random(60, 3))
    best, least, exact = min_diameter_subset(distances, 40)
    assert exact
    for effort in (1, 100, 1000, 5000):
        chosen, width, exact = min_diameter_subset(distances, 40, effort)
        assert chosen == tuple(sorted(set(chosen)))
        assert len(chosen) == 40
        assert least <= width <= 2 * least
        assert width == pytest.approx(float(distances[list(chosen)][:, list(chosen)].max()))
        assert (chosen == best) or not exact
        assert min_diameter_subset(distances, 40, effort) == (chosen, width, exact)
    assert not min_diameter_subset(distances, 40, 1)[2]


def variance(x):
    """Mean squared distances to the mean, for sets of vectors [S, n, d]."""
    return np.square(x - x.mean(1, keepdims=True)).sum(-1).mean(-1)


def top_eigenvalue(x):
    """Of the d x d covariance."""
    x = x - x.mean(1, keepdims=True)
    return np.linalg.eigvalsh(np.einsum("sni,snj->sij", x, x) / x.shape[1])[:, -1]


SPREADS = {
    "variance": (variance, least_variance, min_variance_subset),
    "eigenvalue": (top_eigenvalue, least_eigenvalue, min_eigenvalue_subset),
}


def first_of_the_least(x, size, spread):
    """By a look at every subset: the lexicographically first of those that equal the best."""
    subsets = list(combinations(range(len(x)), size))
    values = spread(x[np.array(subsets)])
    return subsets[int(np.argmax(values <= values.min() * (1 + 1e-9) + 1e-14))], values.min()


def squared(x):
    return np.square(x[:, None] - x[None]).sum(-1)


def points_with_ties(rng, most=12):
    """Gaussian points, or those of a small grid, or few points many times."""
    n, d = rng.integers(1, most + 1), rng.integers(1, 5)
    kind = rng.integers(3)
    if kind == 0:
        return rng.standard_normal((n, d))
    if kind == 1:
        return rng.integers(0, 3, (n, d)).astype(float)
    return rng.standard_normal((3, d))[rng.integers(0, 3, n)]


@pytest.mark.parametrize("name", SPREADS)
def test_subset_of_least_spread_is_the_one_brute_force_finds(name):
    spread, least, search = SPREADS[name]
    rng = np.random.default_rng(0)
    for _ in range(300):
        x = points_with_ties(rng)
        size = int(rng.integers(1, len(x) + 1))
        expected, value = first_of_the_least(x, size, spread)
        chosen, least_value, exact = search(squared(x), size)
        assert exact
        assert chosen == expected
        assert least_value == pytest.approx(value, abs=1e-14)
        mask = torch.ones(len(x), dtype=torch.bool)
        chosen, least_value = least(torch.from_numpy(squared(x)), mask, torch.tensor(len(x) - size))
        assert tuple(chosen.nonzero().squeeze(-1).tolist()) == expected
        assert float(least_value) == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("d", [1, 3, 12])
def test_subset_of_least_spread_where_the_tree_is_deep(name, d):
    spread, _, search = SPREADS[name]
    rng = np.random.default_rng(d)
    for f in (5, 6, 7):
        x = rng.standard_normal((16, d))
        # Attackers that agree, and are hard to tell from the others.
        x[rng.permutation(16)[:f]] = x.mean(0) + 1.2 * x.std(0) + 0.1 * rng.standard_normal((f, d))
        expected, value = first_of_the_least(x, 16 - f, spread)
        chosen, least_value, exact = search(squared(x), 16 - f)
        assert (chosen, exact) == (expected, True)
        assert least_value == pytest.approx(value)


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("n", [8, 24])
def test_least_spread_of_receivers_with_unequal_inboxes(name, n):
    _, least, search = SPREADS[name]
    x, rng = random(6, n, 3), np.random.default_rng(0)
    mask = torch.from_numpy(rng.random((6, n)) < 0.8)
    mask[:, 0] = True
    f = torch.tensor([0, 1, 2, 2, 3, 1])
    chosen, values = least(
        PairwiseDistances.of(x, mask).squared_distances.view(2, 3, n, n), mask.view(2, 3, n), f.view(2, 3)
    )
    chosen, values = chosen.view(6, n), values.view(6)
    for r in range(6):
        places, value, _ = search(squared(x[r][mask[r]].numpy()), int(mask[r].sum() - f[r]))
        assert torch.equal(mask[r].nonzero().squeeze(-1)[list(places)], chosen[r].nonzero().squeeze(-1))
        assert float(values[r]) == pytest.approx(value)


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("n, f", [(25, 7), (100, 30)])
@pytest.mark.parametrize("far", [1.5, 1e3, 1e30])
def test_attackers_that_agree_are_left_out(name, n, f, far):
    x = np.random.default_rng(0).standard_normal((n, 386))
    attackers = np.random.default_rng(1).permutation(n)[:f]
    x[attackers] = -far
    chosen, _, exact = SPREADS[name][2](PairwiseDistances.of(torch.from_numpy(x)).squared_distances, n - f)
    assert exact
    assert set(chosen) == set(range(n)).difference(attackers)


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("points", [np.zeros((60, 60)), np.eye(60)])
def test_of_equal_subsets_the_first(name, points):
    assert SPREADS[name][2](squared(points), 40)[::2] == (tuple(range(40)), True)


@pytest.mark.parametrize("name", SPREADS)
def test_when_the_effort_runs_out_the_subset_of_least_spread_is_the_best_seen(name):
    spread, least, search = SPREADS[name]
    x = random(25, 5).numpy()
    best, value, exact = search(squared(x), 18)
    assert exact
    before = np.inf
    for effort in (1, 100_000, 1_000_000, 10_000_000):
        chosen, least_value, exact = search(squared(x), 18, effort)
        assert chosen == tuple(sorted(set(chosen)))
        assert len(chosen) == 18
        assert least_value == pytest.approx(spread(x[None, list(chosen)])[0])
        assert value <= least_value <= before
        assert variance(x[None, list(chosen)]) <= 2 * variance(x[None, list(best)]) or name == "eigenvalue"
        assert chosen == best or not exact
        assert search(squared(x), 18, effort) == (chosen, least_value, exact)
        before = least_value
    assert not search(squared(x), 18, 1)[2]
    with pytest.warns(InexactSearch, match="n=25, f=7"):
        chosen, _ = least(torch.from_numpy(squared(x)), torch.ones(25, dtype=torch.bool), torch.tensor(7), 1)
    assert tuple(chosen.nonzero().squeeze(-1).tolist()) == search(squared(x), 18, 1)[0]


@pytest.mark.parametrize("name, n, f, effort", [("variance", 60, 18, 1_000_000), ("eigenvalue", 25, 7, 6_000_000)])
def test_bounds_are_sharp_enough_for_vectors_without_structure(name, n, f, effort):
    for seed in range(3):
        squares = PairwiseDistances.of(random(n, 386, seed=seed)).squared_distances
        assert SPREADS[name][2](squares, n - f, effort)[2]


def test_a_narrowest_subset_that_is_not_exact_is_warned_of():
    distances = direct_distances(random(60, 3))
    with pytest.warns(InexactSearch, match="mda: the effort does not settle n=60, f=20"):
        min_diameter_subsets(distances, torch.ones(60, dtype=torch.bool), torch.tensor(20), 100)


def served(agents):
    """Agents 0 .. K-1 around a server K."""
    graph = nx.star_graph([agents, *range(agents)])
    graph.graph["server"] = agents
    return graph


def test_local_weight_counts_the_agent_itself_but_no_server():
    assert local_weight(nx.path_graph(4), {1}) == 0.5
    star = served(3)
    assert local_weight(star, {0}) == 0
    assert local_weight(nx.complete_graph(13), {0, 1, 2}) == 3 / 13
    assert local_weight(nx.path_graph(2), {0, 1}) == 0


def test_agents_with_more_attackers_around_than_they_reckon_with():
    ring = nx.cycle_graph(5)
    assert beyond_bound(ring, {0, 2}, [1] * 5) == 1
    assert beyond_bound(ring, {0, 2}, [0] * 5) == 3
    assert beyond_bound(ring, {0, 2}, [2] * 5) == 0


def test_components_of_the_honest():
    assert honest_components(nx.cycle_graph(6), {0, 3}) == 2
    assert honest_components(nx.cycle_graph(6), set()) == 1
    star = served(4)
    assert honest_components(star, {0}) == 1
    assert honest_components(star, {0, 1, 2, 3}) == 0


def test_share_of_placements_that_leave_the_honest_connected():
    assert connected_share(nx.cycle_graph(13), 3) == 13 / 286
    assert connected_share(nx.complete_graph(7), 3) == 1
    assert connected_share(served(5), 2) == 1
    assert connected_share(nx.star_graph(4), 1) == 4 / 5
    assert connected_share(nx.complete_graph(100), 30) is None
    graph = nx.gnp_random_graph(9, 0.3, seed=1)
    connected = [
        nx.is_connected(graph.subgraph(set(graph).difference(attackers))) for attackers in combinations(graph, 2)
    ]
    assert connected_share(graph, 2) == np.mean(connected)
