"""Rules that look at whole vectors or at each coordinate, against their definitions written out."""

from __future__ import annotations

import re
from itertools import combinations, product
from math import comb, log, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from byzbench.aggregators.aksel import Aksel
from byzbench.aggregators.bulyan import Bulyan
from byzbench.aggregators.cge import Cge
from byzbench.aggregators.dnc import Dnc
from byzbench.aggregators.fedpg_filter import FedpgFilter
from byzbench.aggregators.geometric_median import GeometricMedian
from byzbench.aggregators.hyperbox_geometric_median import HyperboxGeometricMedian
from byzbench.aggregators.hyperbox_mean import HyperboxMean
from byzbench.aggregators.krum import Krum
from byzbench.aggregators.meamed import Meamed
from byzbench.aggregators.mean import Mean
from byzbench.aggregators.phocas import Phocas
from byzbench.aggregators.signguard import Signguard, largest_cluster
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.aggregators.trimmed_midpoint import TrimmedMidpoint
from byzbench.core import RuleContext
from byzbench.errors import InvalidParameter
from byzbench.registry import make
from byzbench.testing.rules import RuleCase, close

RULES = [
    Phocas(),
    Bulyan(),
    Bulyan(theta="n-2f-2"),
    Cge(),
    Dnc(),
    Dnc(dimensions=2, c=1.5),
    Aksel(),
    Aksel(keep="n-f"),
    FedpgFilter(),
    Signguard(),
    HyperboxMean(),
    HyperboxGeometricMedian(),
    TrimmedMidpoint(),
]
ROBUST = [rule for rule in RULES if rule.kappa(9, 2) is not None]


def line(*values: float) -> torch.Tensor:
    """Numbers as vectors of one coordinate: float64 [n, 1]."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def number(rule, x, f, **given):
    """What the rule makes of numbers."""
    return rule(x, f, RuleContext(**given))[0].item()


def chosen(rule, x, f, **given):
    """Who has a weight."""
    return rule(x, f, RuleContext(**given))[1].nonzero().flatten().tolist()


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("f", [1, torch.tensor([[0, 1, 2], [2, 1, 0]])], ids=["one bound", "bounds"])
def test_batches_without_a_mask(rule, f):
    x = RuleCase(0, 5, 1.0).x(2, 3)
    together = rule(x, f)[0]
    bounds = torch.as_tensor(f).expand(2, 3)
    for i in np.ndindex(2, 3):
        close(together[i], rule(x[i], int(bounds[i]))[0])


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.traits.random], ids=repr)
def test_a_batch_takes_the_draws_of_one_row(rule):
    one, many = np.random.default_rng(0), np.random.default_rng(0)
    rule(RuleCase(0, 5, 1.0).x(), 2, RuleContext(rng=one))
    rule(RuleCase(0, 5, 1.0).x(4, 2), 2, RuleContext(rng=many))
    assert one.random() == many.random()


def test_phocas_goes_around_the_trimmed_mean():
    x = line(0, 4, 5, 9, 11)
    # The trimmed mean is 6, which leaves 0 out; the median is 5, which leaves 11 out.
    assert number(Phocas(), x, 1) == (4 + 5 + 9 + 11) / 4
    assert number(Meamed(), x, 1) == (0 + 4 + 5 + 9) / 4
    # 2 and 10 are equally far from the trimmed mean 6: the smaller stays.
    assert number(Phocas(), line(10, 5, 2, 6, 7), 1) == (2 + 5 + 6 + 7) / 4


@pytest.mark.parametrize("seed", range(10))
def test_phocas_by_its_definition(seed):
    x, f = RuleCase(seed, 3, 1.0).x(), 1 + seed % 6
    for k, column in enumerate(x.T.tolist()):
        pivot = sum(sorted(column)[f : 13 - f]) / (13 - 2 * f)
        near = sorted(column, key=lambda value: abs(value - pivot))[: 13 - f]
        assert Phocas()(x, f)[0][k].item() == pytest.approx(sum(near) / len(near))


def test_bulyan_by_hand():
    x = line(0, 1, 3, 6, 10, 15, 100)
    # Krum's winners: 3 (score 71), 6 (77), 1 (82), 10 (25, as 15 has), 0 (225, as 15 has). Their median is 3, and of 0
    # and 6, which are equally far from it, the smaller is the third nearest.
    assert number(Bulyan(), x, 1) == pytest.approx((3 + 1 + 0) / 3)
    # 3, 6 and 1, of which only the median counts.
    assert number(Bulyan(theta="n-2f-2"), x, 1) == 3


@pytest.mark.parametrize("theta, seed", list(product(["n-2f", "n-2f-2"], range(10))))
def test_bulyan_by_its_definition(theta, seed):
    f = seed % 3
    n = 4 * f + 3 + seed % 4
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 3)))
    count = n - 2 * f - (2 if theta == "n-2f-2" else 0)
    left, taken = list(range(n)), []
    for _ in range(count):
        scores = []
        for i in left:
            near = sorted(float((x[i] - x[j]).square().sum()) for j in left if j != i)
            scores.append(sum(near[: max(1, len(left) - f - 2)]))
        taken.append(left.pop(min(range(len(left)), key=lambda i: (round(scores[i], 9), i))))
    for k in range(3):
        values = sorted(x[taken, k].tolist())
        median = (values[(count - 1) // 2] + values[count // 2]) / 2
        near = sorted(values, key=lambda value: abs(value - median))[: count - 2 * f]
        assert Bulyan(theta=theta)(x, f)[0][k].item() == pytest.approx(sum(near) / len(near))


def test_bulyan_leaves_krum_too_few_whatever_n_is():
    for f in range(5):
        for n in range(4 * f + 3, 4 * f + 9):
            last = n - (n - 2 * f) + 1
            assert Bulyan().guarantee(n, f)
            assert bool(Krum().defined(last, f)) == (f >= 2)
            assert Krum().guarantee(last + 2, f)
    x = RuleCase(0, 3, 1.0).x()
    close(Bulyan()(x, 0)[0], x.mean(0))
    assert not Bulyan().guarantee(10, 2)
    assert not Bulyan(theta="n-2f-2").defined(10, 2)
    assert Bulyan(theta="n-2f-2").defined(11, 2)


def test_cge_drops_the_longest_wherever_they_point():
    x = torch.tensor([[3.0, 4.0], [0.0, -4.9], [-6.0, 0.0], [1.0, 1.0], [100.0, 0.0]])
    assert chosen(Cge(), x, 1) == [0, 1, 2, 3]
    assert chosen(Cge(), x, 2) == [0, 1, 3]
    assert Cge()(x, 2)[0].tolist() == pytest.approx([4 / 3, 0.1 / 3])
    # Of equals the first; and an attacker of an honest length is kept.
    assert chosen(Cge(), line(1, -1, 1, 1), 2) == [0, 1]
    assert not Cge().guarantee(6, 2)


def test_aksel_averages_whole_vectors_near_the_median():
    x = torch.tensor([[0.0, 0.0], [9.0, 9.0], [1.0, 0.0], [5.0, 5.0], [0.0, 1.0]])
    # The median is (1, 1), from which they are 2, 128, 1, 32, 1 away, squared.
    assert chosen(Aksel(), x, 1) == [0, 2, 4]
    assert chosen(Aksel(keep="n-f"), x, 1) == [0, 2, 3, 4]
    assert Aksel()(x, 1)[0].tolist() == pytest.approx([1 / 3, 1 / 3])
    # Of an even count, half; the middle two are equally far from their mean.
    assert chosen(Aksel(), line(0, 2, 4, 9), 0) == [1, 2]


def by_singular_vectors(x, f, rule, rng):
    """Divide and conquer as it is written: who was dropped least often."""
    (n, d), drops = x.shape, np.zeros(len(x), dtype=int)
    for _ in range(rule.steps):
        part = x if d <= rule.dimensions else x[:, np.sort(rng.choice(d, rule.dimensions, replace=False))]
        y = part - part.mean(0)
        scores = (y @ np.linalg.svd(y)[2][0]) ** 2
        drops[np.argsort(scores)[n - int(np.ceil(rule.c * f - 1e-9)) :]] += 1
    return np.flatnonzero(drops == drops.min()).tolist(), drops


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rule", [Dnc(), Dnc(dimensions=3, c=1.5), Dnc(steps=2, dimensions=1, c=2)], ids=repr)
def test_dnc_by_its_definition(rule, seed):
    x = RuleCase(seed, 2 + seed % 6, 1.0).x()
    expected, _ = by_singular_vectors(x.numpy(), 2, rule, np.random.default_rng(seed))
    assert chosen(rule, x, 2, rng=np.random.default_rng(seed)) == expected


def test_dnc_keeps_those_dropped_least_often_if_all_are_dropped():
    x = torch.tensor([[9.0, 0.1], [-9.0, 0.2], [0.1, 9.0], [0.2, -9.0]])
    selections = set()
    for seed in range(20):
        rule = Dnc(steps=3, dimensions=1)
        selected, drops = by_singular_vectors(x.numpy(), 2, rule, np.random.default_rng(seed))
        selections.add(bool(drops.min() > 0))
        assert chosen(rule, x, 2, rng=np.random.default_rng(seed)) == selected
    assert selections == {True, False}


def test_dnc_counts_drops_in_thousandths():
    assert [Dnc(c=1.1)._num_dropped(f) for f in (0, 1, 9, 10, 11)] == [0, 2, 10, 11, 13]
    assert Dnc(c=2).defined(5, 2)
    assert not Dnc(c=2).defined(4, 2)
    assert not Dnc(c=0.5).guarantee(9, 3)


def middle_distance(x):
    """The estimate of sigma: the lower median of the distances to the floor(n/2)-th nearest other vector."""
    reaches = sorted(sorted((x - x[i]).norm(dim=-1).tolist())[len(x) // 2] for i in range(len(x)))
    return reaches[(len(x) + 1) // 2 - 1]


def filtered(x, f, rule, batch=None):
    """FedPG-BR's filter as it is written; who is in G, and which threshold it was."""
    n = len(x)
    gaps = (x.unsqueeze(0) - x.unsqueeze(1)).norm(dim=-1)
    sigma = middle_distance(x) if rule.sigma is None else rule.sigma
    first = 2 * sigma * sqrt(2 * log(2 * n / rule.delta) / (rule.batch or batch))
    ladder = sorted({t for t in gaps.flatten().tolist() if t > 2 * sigma})
    for level, threshold in enumerate([first, 2 * sigma, *ladder]):
        most = [i for i in range(n) if 2 * sum(gaps[i] <= threshold) > n]
        if not most:
            continue
        middle = x[most].mean(0)
        mom = min(most, key=lambda i: (round(float((x[i] - middle).norm()), 9), i))
        near = [i for i in range(n) if gaps[mom, i] <= threshold]
        if level or len(near) >= n - f:
            return near, min(level, 2)
    raise AssertionError


def test_fedpg_filter_by_its_definition():
    levels = []
    for seed in range(60):
        x = RuleCase(seed, 3, 1.0).x()
        x[: seed % 4] += 4
        rule = FedpgFilter(sigma=(0.2, 0.8, 1.5, 3)[seed // 4 % 4], delta=0.3, batch=16)
        near, level = filtered(x, 2, rule)
        levels.append(level)
        assert chosen(rule, x, 2) == near
    assert {0, 1, 2} == set(levels)


def test_fedpg_filter_by_hand():
    rule = FedpgFilter(sigma=1, delta=0.5, batch=12)
    first = 2 * sqrt(2 * log(2 * 5 / 0.5) / 12)
    assert 1.41 < first < 1.42
    # 1 and 2 are within it of three each; of these the first is the middle; 0, 1, 2 are too few for f = 1, so that the
    # threshold is 2: then 0, 1, 2 and 3 are in S, their mean is 1.5, and around 1 are 0, 1, 2, 3.
    assert chosen(rule, line(0, 1, 2, 3, 9), 1) == [0, 1, 2, 3]
    # With f = 2 three are enough. S is 1, 2: the first of both.
    assert chosen(rule, line(0, 1, 2, 3, 9), 2) == [0, 1, 2]
    # Nobody is within 2 of three: at 10, the one at 10 is.
    assert chosen(rule, line(0, 10, 20, 40, 80), 2) == [0, 1, 2]


def test_fedpg_filter_with_an_estimated_sigma_by_its_definition():
    levels = []
    for seed in range(60):
        x, batch = RuleCase(seed, 3, 1.0).x(), (8, 40)[seed % 2]
        x[: seed % 4] += 4
        near, level = filtered(x, 2, FedpgFilter(), batch)
        levels.append(level)
        assert chosen(FedpgFilter(), x, 2, batch_size=torch.tensor(batch)) == near
    assert set(levels) == {0, 1}


def test_the_threshold_of_fedpg_filter_has_the_rounds_own_batch():
    """T = 2 sqrt(2 log(2 * 3 / 0.5) / B) is 0.32 for B = 200 and 0.45 for 100; at 0.4, two of three are within one."""
    rule, x = FedpgFilter(sigma=1, delta=0.5), line(0, 0.4, 1.9)
    value, weights, _ = rule(torch.stack([x, x]), 1, RuleContext(batch_size=torch.tensor([200, 100])))
    assert (weights > 0).tolist() == [[True, True, True], [True, True, False]]
    close(value.flatten(), torch.tensor([2.3 / 3, 0.2]), 1e-6)
    # A given batch precedes that of the round; without either the threshold is 2 sigma.
    assert chosen(FedpgFilter(sigma=1, delta=0.5, batch=200), x, 1, batch_size=torch.tensor(100)) == [0, 1, 2]
    assert chosen(rule, x, 1) == [0, 1, 2]
    with pytest.raises(InvalidParameter, match="batch_size must be integers of at least 1"):
        rule(x, 1, RuleContext(batch_size=torch.tensor(0)))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("crafted", ["huge", "zero", "copies", "apart"])
def test_four_of_ten_can_neither_blow_up_nor_collapse_the_estimate(crafted, scale):
    honest = scale * (1 + torch.randn(6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    byzantine = {
        "huge": torch.full((4, 50), 1e9 * scale, dtype=torch.float64),
        "zero": torch.zeros(4, 50, dtype=torch.float64),
        "copies": honest[:1].expand(4, 50),
        "apart": 1e9 * scale * torch.eye(4, 50, dtype=torch.float64),
    }[crafted]
    x = torch.cat([byzantine, honest])
    gaps = torch.pdist(honest)
    assert gaps.min() / 2 <= middle_distance(x) <= gaps.max()
    near = chosen(FedpgFilter(), x, 4, batch_size=torch.tensor(16))
    assert set(near) >= set(range(4, 10))
    assert (set(near) == set(range(4, 10))) == (crafted in ("huge", "apart"))


def test_a_measured_deviation_keeps_the_few_vectors_that_are_not_zero():
    x = line(0, 0, 0, 0, 0.9, 50)
    assert chosen(FedpgFilter(), x, 2) == [0, 1, 2, 3]
    assert chosen(FedpgFilter(), x, 2, deviation=torch.tensor(0.5)) == [0, 1, 2, 3, 4]
    assert chosen(FedpgFilter(sigma=0.1), x, 2, deviation=torch.tensor(0.5)) == [0, 1, 2, 3]
    with pytest.raises(InvalidParameter, match="deviation must be numbers of at least 0"):
        FedpgFilter()(x, 2, RuleContext(deviation=torch.tensor(-1.0)))


def test_fedpg_filter_counts_inboxes_without_a_majority():
    logged = {}
    context = RuleContext(batch_size=torch.tensor([16, 16]), log=lambda name, values: logged.update({name: values}))
    x = torch.stack([line(0, 10, 20, 40, 80), line(0, 1, 2, 40, 80)])
    for fallback in ("least", "none"):
        value, weights, _ = FedpgFilter(sigma=1, fallback=fallback)(x, 2, context)
        assert logged.pop("no_majority").tolist() == [True, False]
        assert value[1] == 1
        assert (weights[0] > 0).tolist() == [fallback == "least"] * 3 + [False] * 2
    assert value[0].isnan().all()
    FedpgFilter()(x, 2, context)
    assert logged["no_majority"].tolist() == [False, False]


def crowds(points, h):
    """Flat-kernel mean shift as scikit-learn does it, from every point, in plain numbers: the largest cluster."""

    def near(place):
        return [p for p in points if np.linalg.norm(p - place) <= h + 1e-9]

    places = []
    for place in points:
        for _ in range(300):
            moved = np.mean(near(place), axis=0)
            if np.linalg.norm(moved - place) < 1e-12:
                break
            place = moved
        places.append(place)
    places.sort(key=lambda place: (len(near(place)), *np.round(place, 9)), reverse=True)
    centres = []
    for place in places:
        if all(np.linalg.norm(place - other) > h + 1e-9 for other in centres):
            centres.append(place)
    clusters = [[] for _ in centres]
    for i, point in enumerate(points):
        gaps = [np.linalg.norm(point - centre) for centre in centres]
        if min(gaps) <= h + 1e-9:
            clusters[int(np.argmin(np.round(gaps, 9)))].append(i)
    return max(clusters, key=len)


@pytest.mark.parametrize("seed", range(30))
def test_the_largest_cluster_of_mean_shift(seed):
    rng = np.random.default_rng(seed)
    n, quantile = int(rng.integers(2, 20)), (0.2, 0.5, 0.8)[seed % 3]
    points = rng.random((n, 3)) + rng.integers(0, 2, (n, 1)) * (seed % 2)
    gaps = np.sort(np.linalg.norm(points[:, None] - points[None], axis=-1), axis=-1)
    h = gaps[:, max(1, int(quantile * n)) - 1].mean()
    hidden = np.concatenate([points, rng.random((3, 3))])
    cluster = largest_cluster(torch.from_numpy(hidden), torch.arange(n + 3) < n, quantile)
    assert cluster.nonzero().flatten().tolist() == crowds(list(points), h)


def test_signguard_by_hand():
    up, down = torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0, -1.0])
    x = torch.stack([up, 1.5 * up, 0.5 * up, 20 * up, down, down, 0.01 * up])
    # Lengths 2, 3, 1, 40, 2, 2, 0.02: the median is 2; 40 is too long, 0.02 too short. Five have the signs of `up`.
    value, weights, _ = Signguard(fraction=1)(x, 2)
    assert weights.tolist() == pytest.approx([1 / 3, 2 / 9, 1 / 3, 0, 0, 0, 0])
    close(value, (1 + 1 + 0.5) / 3 * up)
    assert chosen(Signguard(fraction=1, upper=30), x, 2) == [0, 1, 2, 3]


def test_signguard_goes_by_length_alone_where_the_common_signs_have_none():
    ones, half = torch.ones(8), torch.tensor([1.0] * 4 + [0.0] * 4)
    x = torch.stack([100 * ones, 100 * ones, -ones / sqrt(8), half / 2, -half / 2])
    points = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 1, 0], [0, 1, 0.5]], dtype=torch.float64)
    assert largest_cluster(points, torch.ones(5, dtype=torch.bool), 0.5).tolist() == [True] * 2 + [False] * 3
    value, weights, _ = Signguard(fraction=1)(x, 2)
    assert weights.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3])
    close(value, x[2:].mean(0), 1e-6)


def test_signguard_looks_at_a_share_of_the_coordinates():
    x = torch.ones(5, 20)
    x[:, ::2] = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0]).unsqueeze(-1)
    selections = {tuple(chosen(Signguard(fraction=0.05), x, 2, rng=np.random.default_rng(seed))) for seed in range(20)}
    assert selections == {(0, 1, 2), (0, 1, 2, 3, 4)}


def test_trimmed_midpoint_by_hand():
    x = torch.tensor([[0.0, 7.0], [1.0, -50.0], [3.0, 2.0], [10.0, 4.0], [1e9, 3.0]])
    assert TrimmedMidpoint()(x, 1)[0].tolist() == [(1 + 10) / 2, (2 + 4) / 2]
    assert TrimmedMidpoint()(x, 2)[0].tolist() == [3, 3]
    assert TrimmedMidpoint()(line(0, 1, 5), 0)[0] == 2.5
    assert TrimmedMidpoint().defined(5, 2)
    assert not TrimmedMidpoint().guarantee(6, 2)


def test_hyperbox_mean_by_hand():
    # TH = [1, 2]; GH = [(0 + 1 + 2) / 3, (1 + 2 + 9) / 3] = [1, 4].
    assert number(HyperboxMean(), line(0, 9, 2, 1), 1) == 1.5
    # TH = [1, 6]; GH = [(0 + 1 + 2 + 3 + 6) / 5, (2 + 3 + 6 + 8 + 8) / 5] = [2.4, 5.4] is all within it.
    assert number(HyperboxMean(), line(0, 1, 2, 3, 6, 8, 8), 2) == pytest.approx((2.4 + 5.4) / 2)
    # TH = [0, 6]; GH = [(4 * 0 + 6) / 5, (2 * 0 + 3 * 6) / 5].
    assert number(HyperboxMean(), line(0, 0, 0, 0, 6, 6, 6), 2) == pytest.approx((1.2 + 3.6) / 2)
    assert number(TrimmedMidpoint(), line(0, 0, 0, 0, 6, 6, 6), 2) == 3
    x = RuleCase(0, 4, 1.0).x()
    close(HyperboxMean()(x, 0)[0], x.mean(0))


def boxed(x, f, centre):
    """TH and GH, by all subsets; and the midpoint of what they share, coordinate by coordinate."""
    n, ordered = len(x), x.sort(0).values
    centres = torch.stack([centre(x[list(rows)]) for rows in combinations(range(n), n - f)])
    low = torch.maximum(ordered[f], centres.amin(0))
    high = torch.minimum(ordered[n - f - 1], centres.amax(0))
    # Where both begin and end at one value, rounding may part them.
    assert (low <= high + 1e-12 * (1 + high.abs())).all()
    return (low + high) / 2


@pytest.mark.parametrize("seed", range(20))
def test_hyperboxes_by_their_definition(seed):
    rng = np.random.default_rng(seed)
    f = seed % 4
    x = torch.from_numpy(rng.standard_normal((2 * f + 1 + seed % 3, 1 + seed % 4)))
    x[:f] += 10 * (seed % 3)
    close(HyperboxMean()(x, f)[0], boxed(x, f, lambda rows: rows.mean(0)))
    if f < 3:
        close(HyperboxGeometricMedian()(x, f)[0], boxed(x, f, lambda rows: GeometricMedian()(rows)[0]), 1e-8, scale=1)


def test_hyperboxes_meet_where_honest_vectors_are_a_majority():
    for n, f in ((3, 1), (4, 1), (5, 2), (6, 2)):
        for values in product((0.0, 1.0, 5.0), repeat=n):
            boxed(line(*values), f, lambda rows: rows.mean(0))
    for values in product((0.0, 1.0, 5.0), repeat=5):
        boxed(line(*values), 2, lambda rows: rows.median(0).values)


def test_hyperbox_geometric_median_is_refused_where_it_would_try_too_many_subsets():
    rule = HyperboxGeometricMedian(limit=300)
    assert comb(13, 3) == 286
    assert rule.guarantee(13, 3)
    assert comb(13, 4) > 300
    assert not rule.defined(13, 4)
    assert HyperboxGeometricMedian().defined(13, 4)
    assert not HyperboxGeometricMedian().defined(50, 16)
    assert "no more than 300 subsets" in rule.requires
    few = rule.defined(torch.tensor([[13], [12]]), torch.tensor([3, 4, 6]))
    assert few.tolist() == [[True, False, False], [True, False, False]]


def spreads(x, f):
    """For numbers x [..., n], the mean and variance of every (n-f)-subset: [..., C] each."""
    n = x.shape[-1]
    parts = x[..., torch.tensor(list(combinations(range(n), n - f)))]
    return parts.mean(-1), parts.var(-1, correction=0)


@pytest.mark.parametrize("rule", ROBUST, ids=repr)
@pytest.mark.parametrize("n, f", [(3, 1), (5, 1), (5, 2), (6, 2), pytest.param(7, 3, marks=pytest.mark.slow)])
def test_kappa_bounds_the_worst_of_all_small_inputs(rule, n, f):
    x = torch.tensor(list(product((0.0, 1.0, 4.0), repeat=n)), dtype=torch.float64)
    means, variances = spreads(x, f)
    errors = (rule(x.unsqueeze(-1), f)[0] - means).square()
    assert (errors <= rule.kappa(n, f) * variances + 1e-12).all()
    worst = (errors / variances)[variances > 0].max()
    assert worst >= f / (n - 2 * f) * (1 - 1e-9), "no rule has less"


@pytest.mark.parametrize("n, f", [(3, 1), (5, 1), (5, 2), (7, 2), (9, 4)])
def test_the_price_of_robustness(n, f):
    x = torch.tensor(list(product((0.0, 1.0, 3.0), repeat=min(n, 7))), dtype=torch.float64)
    x = torch.cat([x, torch.zeros(len(x), n - x.shape[1])], 1)
    means, variances = spreads(x, 0)
    errors = (TrimmedMean()(x.unsqueeze(-1), f)[0] - means).square()
    assert (errors <= f / (n - f) * variances + 1e-12).all()
    # f ones among zeros: n - f inputs are all zero, so that every robust rule has to answer zero, and pays this much.
    extreme = line(*[1] * f, *[0] * (n - f))
    for rule in [TrimmedMean(), *(rule for rule in ROBUST if rule.defined(n, f))]:
        value = number(rule, extreme, f)
        assert (value - f / n) ** 2 / float(extreme.var(correction=0)) == pytest.approx(f / (n - f))
    assert number(Mean(), extreme, f) == pytest.approx(f / n)


def test_kappas_are_declared_where_they_are_known():
    assert {type(rule) for rule in ROBUST} == {Phocas, Aksel, HyperboxMean, HyperboxGeometricMedian, TrimmedMidpoint}
    for rule in ROBUST:
        assert rule.kappa(6, 3) is None
    for rule in (Phocas(), Aksel(keep="n-f"), HyperboxMean()):
        assert rule.kappa(9, 0) == 0
    assert Phocas().kappa(100, 10) < 1 < Aksel().kappa(100, 10)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("bulyan", {"theta": "n"}),
        ("aksel", {"keep": 3}),
        ("dnc", {"steps": 0}),
        ("dnc", {"dimensions": 0}),
        ("dnc", {"c": 0}),
        ("fedpg_filter", {"sigma": 0}),
        ("fedpg_filter", {"delta": 1}),
        ("fedpg_filter", {"batch": 0}),
        ("signguard", {"lower": 1.5}),
        ("signguard", {"upper": 1.5}),
        ("signguard", {"fraction": 0}),
        ("signguard", {"quantile": 0}),
        ("hyperbox_geometric_median", {"limit": 0}),
    ],
)
def test_parameters_are_checked(name, wrong):
    with pytest.raises(InvalidParameter):
        make("aggregator", name, **wrong)


def peak_growth(call):
    """Return the bytes by which a call raises the memory of this process; the first may compile."""
    return min(growth(call) for _ in range(3))


def growth(call):
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    reset.write_text("5")  # the peak is that of the call
    before = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])
    call()
    return 1024 * (int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) - before)


@pytest.mark.parametrize("name, copies", [("mean", 0.5), ("centered_clipping", 0.5), ("nnm", 1.5)])
def test_large_inputs_are_not_copied_more_often_than_transformed(name, copies):
    rule, x = make("aggregator", name), torch.ones(40, 300_000)
    assert peak_growth(lambda: rule.aggregate(x, torch.tensor(0), RuleContext())) < copies * 4 * x.numel()
