"""Rules for gossip on a graph, by hand, by brute force, and in small simulations."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
import pytest
import torch

from byzbench.aggregators._neighbourhood import Neighbourhood, Sorted
from byzbench.aggregators.balance import Balance
from byzbench.aggregators.bridge import Bridge
from byzbench.aggregators.bulyan import Bulyan
from byzbench.aggregators.cs_plus import CsPlus
from byzbench.aggregators.cva import Cva
from byzbench.aggregators.gts import Gts, all_but, as_in_the_code
from byzbench.aggregators.ios import Ios
from byzbench.aggregators.krum import Krum
from byzbench.aggregators.median import Median
from byzbench.aggregators.monna import Monna
from byzbench.aggregators.self_centered_clipping import SelfCenteredClipping
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.aggregators.ubar import Ubar
from byzbench.aggregators.w_msr import WMsr
from byzbench.aggregators.weighted_mean import WeightedMean
from byzbench.core import RuleContext
from byzbench.errors import InvalidParameter, Undefined
from byzbench.registry import make

RULES = {
    "self_centered_clipping": SelfCenteredClipping(),
    "self_centered_clipping_second": SelfCenteredClipping(radius="second"),
    "self_centered_clipping_fixed": SelfCenteredClipping(radius="fixed"),
    "self_centered_clipping_oracle": SelfCenteredClipping(radius="oracle"),
    "ios": Ios(),
    "bridge": Bridge(),
    "bridge_own_trimmed": Bridge(keep_own=False),
    "bridge_median": Bridge(screen="median"),
    "bridge_krum": Bridge(screen="krum"),
    "bridge_bulyan": Bridge(screen="bulyan"),
    "w_msr": WMsr(),
    "w_msr_mixing": WMsr(weights="mixing"),
    "cs_plus": CsPlus(),
    "gts": Gts(),
    "gts_official": Gts(compat="official"),
    "balance": Balance(),
    "ubar": Ubar(),
    "cva": Cva(),
    "cva_median": Cva(Median()),
}


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def at(rule, values, f, own=0, **inputs):
    """The value on a line."""
    return float(rule(column(*values), f, RuleContext(own=torch.tensor(own), **inputs))[0])


def weights(*values):
    return torch.tensor(values, dtype=torch.float64)


FIFTHS = weights(0.2, 0.2, 0.2, 0.2, 0.2)


@pytest.mark.parametrize(
    "rule, f, honest, value",
    [
        # tau^2 = 0.2 (1 + 4 + 16) / 0.2
        (SelfCenteredClipping(), 1, None, 0.2 * (1 + 2 + 4 + 21**0.5)),
        # tau^2 = 0.2 (1 + 4) / 0.4
        (SelfCenteredClipping(), 2, None, 0.2 * (1 + 3 * 2.5**0.5)),
        (SelfCenteredClipping(), 0, None, 0.2 * 107),
        # nothing weighs as little as all less all: tau = 0
        (SelfCenteredClipping(), 4, None, 0),
        (SelfCenteredClipping(radius="second"), 1, None, 0.2 * (1 + 2 + 4 + 4)),
        (SelfCenteredClipping(radius="fixed", tau=1.5), 1, None, 0.2 * (1 + 1.5 * 3)),
        (SelfCenteredClipping(radius="oracle"), 1, [1, 1, 1, 1, 0], 0.2 * (1 + 2 + 4 + 21**0.5)),
        # tau^2 = 0.2 (1 + 10000) / 0.4, beyond which is one
        (SelfCenteredClipping(radius="oracle"), 1, [1, 1, 0, 0, 1], 0.2 * (1 + 2 + 4 + (10001 / 2) ** 0.5)),
        (SelfCenteredClipping(radius="oracle"), 1, [1, 1, 1, 1, 1], 0.2 * 107),
    ],
)
def test_self_centered_clipping_by_hand(rule, f, honest, value):
    inputs = {} if honest is None else {"honest": torch.tensor(honest, dtype=torch.bool)}
    for shift in (0, -30):
        points = [p + shift for p in (0, 1, 2, 4, 100)]
        assert at(rule, points, f, weights=FIFTHS, **inputs) == pytest.approx(value + shift)
    assert at(rule, (2, 1, 0, 4, 100), f, own=2, weights=FIFTHS, **_swapped(inputs)) == pytest.approx(value)


def _swapped(inputs):
    return {key: part[[2, 1, 0, 3, 4]] for key, part in inputs.items()}


def test_self_centered_clipping_counts_weight_and_not_neighbours():
    heavy = weights(0.1, 0.4, 0.1, 0.1, 0.1)
    assert at(SelfCenteredClipping(), (0, 1, 2, 4, 100), 1, weights=heavy) == pytest.approx(0, abs=1e-12)
    light = weights(0.1, 0.1, 0.1, 0.1, 0.3)
    radius = (0.1 * (1 + 4 + 16) / 0.3) ** 0.5
    value = 0.1 * (1 + 2 + radius) + 0.3 * radius
    assert at(SelfCenteredClipping(), (0, 1, 2, 4, 100), 1, weights=light) == pytest.approx(value)


def test_the_second_largest_of_one_distance_is_that_one():
    assert at(SelfCenteredClipping(radius="second"), (0, 7), 0, weights=weights(0.5, 0.5)) == 3.5
    assert at(SelfCenteredClipping(radius="second"), (3,), 0) == 3


def test_the_honest_mean_requires_the_honest_mask():
    with pytest.raises(Undefined, match="honest"):
        at(SelfCenteredClipping(radius="oracle"), (0, 1, 2), 1)
    assert SelfCenteredClipping(radius="oracle").required_inputs == {"honest"}
    assert not SelfCenteredClipping().required_inputs


TENTHS = weights(0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    "f, radius",
    [(0, 6), (1, 4), (2, 2), (3, 0)],
)
def test_cs_plus_by_hand(f, radius):
    value = sum(0.1 * min(p, radius) for p in range(1, 7))
    assert at(CsPlus(), range(7), f, weights=TENTHS) == pytest.approx(value, abs=1e-12)
    assert at(CsPlus(step=0.5), range(7), f, weights=TENTHS) == pytest.approx(value / 2, abs=1e-12)


def test_cs_plus_counts_weight_and_not_neighbours():
    assert at(CsPlus(), (0, 1, 2, 3, 4), 1, weights=weights(0.4, 0.1, 0.1, 0.1, 0.3)) == pytest.approx(0, abs=1e-12)
    uneven = weights(0.3, 0.1, 0.3, 0.1, 0.1, 0.05, 0.05)
    # Of 0.7, less twice 0.3, the nearest has 0.1.
    assert at(CsPlus(), range(7), 1, weights=uneven) == pytest.approx(0.7)


@pytest.mark.parametrize(
    "compat, f, value",
    [
        ("exact", 0, 2.1),
        ("exact", 1, 1.5),
        ("exact", 2, 1.0),
        ("exact", 6, 0),
        ("official", 0, 1.5),
        ("official", 1, 1.0),
        ("official", 2, 0.6),
    ],
)
def test_gts_by_hand(compat, f, value):
    assert at(Gts(compat=compat), range(7), f, weights=TENTHS) == pytest.approx(value, abs=1e-12)
    assert at(Gts(compat=compat, step=0.5), range(7), f, weights=TENTHS) == pytest.approx(value / 2, abs=1e-12)


@pytest.mark.parametrize(
    "dropped, exact, official",
    [
        (2.0, [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]),
        (1.4, [1, 1, 1, 1, 0.6, 0], [1, 1, 1, 1, 0.4, 0]),
        (0.0, [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]),
    ],
)
def test_gts_cuts_the_neighbour_at_the_boundary(dropped, exact, official):
    near = Sorted(torch.arange(6.0), torch.ones(6).double(), torch.arange(6))
    assert all_but(near, torch.tensor(dropped)).tolist() == pytest.approx(exact)
    assert as_in_the_code(near, torch.tensor(dropped)).tolist() == pytest.approx(official)


def test_gts_in_part():
    """0.5 of 0.64 is selected: the fifth has 0.06 left of its 0.1, of which the official code keeps 0.04 instead."""
    row = weights(0.36, 0.14, 0.1, 0.1, 0.1, 0.1, 0.1)
    assert at(Gts(), range(7), 1, weights=row) == pytest.approx(0.14 + 0.2 + 0.3 + 0.4 + 0.06 * 5)
    assert at(Gts(compat="official"), range(7), 1, weights=row) == pytest.approx(0.14 + 0.2 + 0.3 + 0.4 + 0.04 * 5)


def test_gts_with_equal_weights_is_nearest_neighbour_averaging_with_a_heavier_self():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 4)))
    selected = Monna()(x, 2, RuleContext(own=torch.tensor(3)))[1] > 0
    expected = torch.where(selected, 1 / 9, 0).double()
    expected[3] = 3 / 9
    torch.testing.assert_close(Gts()(x, 2, RuleContext(own=torch.tensor(3)))[1], expected)


def test_ios_by_hand():
    assert at(Ios(), (0, 1, 2, 3, 100), 1) == 1.5
    # The own vector is the farthest from the mean 2.75, and stays; of the zeros the last goes.
    assert at(Ios(), (10, 0, 0, 1), 1) == 11 / 3
    # 2.3 is the mean of all; without the last, 13/9.
    row = weights(0.4, 0.3, 0.2, 0.1)
    assert at(Ios(), (0, 1, 5, 10), 1, weights=row) == pytest.approx(1.3 / 0.9)
    assert at(Ios(), (0, 1, 5, 10), 2, weights=row) == pytest.approx(0.3 / 0.7)
    assert at(Ios(), (0, 1, 5, 10), 3, weights=row) == 0
    assert not Ios().defined(4, 4)


def test_ios_takes_a_new_mean_each_time():
    """From the mean 2 of all, 10 and then -5 are farthest; once 10 is gone, from the mean 0.4, it is 6 and not -5."""
    assert at(Ios(), (0, 4, 10, -5, -3, 6), 1) == pytest.approx(0.4)
    assert at(Ios(), (0, 4, 10, -5, -3, 6), 2) == -1


def ios(x, row, own, f):
    left = list(range(len(x)))
    for _ in range(f):
        middle = np.average(x[left], axis=0, weights=row[left])
        left.remove(max((j for j in left if j != own), key=lambda j: np.linalg.norm(x[j] - middle)))
    return np.average(x[left], axis=0, weights=row[left])


@pytest.mark.parametrize("seed", range(20))
def test_ios_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    x, row = rng.standard_normal((8, 3)), rng.dirichlet(np.ones(8))
    context = RuleContext(own=torch.tensor(seed % 8), weights=torch.from_numpy(row))
    value = Ios()(x, seed % 7, context).value
    np.testing.assert_allclose(value, ios(x, row, seed % 8, seed % 7), rtol=1e-9)


@pytest.mark.parametrize(
    "f, selected",
    [(0, [5, 1, 2, 6, 7, 9]), (1, [5, 2, 6, 7]), (2, [5, 6]), (3, [5]), (9, [5])],
)
def test_w_msr_by_hand(f, selected):
    assert at(WMsr(), (5, 1, 2, 6, 7, 9), f) == pytest.approx(sum(selected) / len(selected))


def test_w_msr_trims_only_beyond_the_own_value():
    assert at(WMsr(), (10, 1, 2, 3, 4), 2) == (10 + 3 + 4) / 3
    assert at(WMsr(), (10, 10, 10, 3, 4), 1) == (10 + 10 + 10 + 4) / 4
    assert at(WMsr(), (0, 5, 5, 5, -1), 2) == 2.5
    row = weights(0.4, 0.1, 0.2, 0.1, 0.1, 0.1)
    assert at(WMsr(weights="mixing"), (5, 1, 2, 6, 7, 9), 1, weights=row) == pytest.approx(
        (0.4 * 5 + 0.2 * 2 + 0.1 * 6 + 0.1 * 7) / 0.8
    )


@pytest.mark.parametrize("seed", range(20))
def test_w_msr_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    x, row, f, own = rng.integers(-3, 4, (9, 5)).astype(float), rng.dirichlet(np.ones(9)), seed % 5, seed % 9
    plain, mixed = [], []
    for values in x.T:
        above = sorted(j for j in range(9) if values[j] > values[own])
        below = sorted(j for j in range(9) if values[j] < values[own])
        gone = sorted(above, key=lambda j: (values[j], j))[::-1][:f] + sorted(below, key=lambda j: (values[j], j))[:f]
        selected = [j for j in range(9) if j not in gone]
        plain.append(values[selected].mean())
        mixed.append(np.average(values[selected], weights=row[selected]))
    context = RuleContext(own=torch.tensor(own), weights=torch.from_numpy(row))
    np.testing.assert_allclose(WMsr()(x, f, context).value, plain, atol=1e-12)
    np.testing.assert_allclose(WMsr(weights="mixing")(x, f, context).value, mixed, atol=1e-12)


def test_bridge_spares_the_own_value_or_does_not():
    points = (100, 1, 2, 3, 4, 5)
    assert at(Bridge(), points, 1) == (100 + 2 + 3 + 4) / 4
    assert at(Bridge(keep_own=False), points, 1) == (2 + 3 + 4 + 5) / 4
    assert at(Bridge(), (7, 1, 50), 1) == 7
    assert Bridge().traits.self_centered
    assert not Bridge(keep_own=False).traits.self_centered
    assert Bridge().guarantee(4, 1)
    assert not Bridge().guarantee(3, 1)
    assert Bridge().defined(3, 1)


@pytest.mark.parametrize(
    "rule, same",
    [
        (Bridge(keep_own=False), TrimmedMean()),
        (Bridge(screen="median"), Median()),
        (Bridge(screen="krum"), Krum()),
        (Bridge(screen="bulyan"), Bulyan()),
    ],
)
def test_bridge_by_another_rule_is_that_rule(rule, same):
    x, mask = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 13, 4))), torch.arange(13) != 2
    for given in ({}, {"mask": mask.expand(2, -1)}):
        context = RuleContext(own=torch.tensor([0, 1]), **given)
        assert torch.equal(rule(x, 2, context).value, same(x, 2, RuleContext(**given)).value)
    assert (rule.traits.linear, rule.cost, rule.kappa(13, 2)) == (same.traits.linear, same.cost, same.kappa(13, 2))
    assert same.requires.split(" + ")[0] in rule.requires


def test_balance_by_hand():
    points = (10, 11, 12, 14)
    assert at(Balance(), points, 1) == 0.5 * 10 + 0.5 * 11.5
    assert at(Balance(alpha=0.2, gamma=0.5), points, 1) == pytest.approx(0.2 * 10 + 0.8 * 37 / 3)
    assert at(Balance(gamma=0.05), points, 1) == 10
    assert at(Balance(), (0, 0, 1e-9), 0) == 0


def test_balance_grows_stricter_for_a_while():
    """It accepts within 3, 3/e, 3/e^2 and from then on 3/e^2."""
    rule, state, radii = Balance(decay=2, horizon=2), {}, []
    for _ in range(4):
        value, _, state = rule(column(10, 10.4, 11, 12), 1, RuleContext(own=torch.tensor(0), state=state))
        radii.append(float(value))
    assert radii == pytest.approx([10 + 0.5 * 3.4 / 3, 10 + 0.5 * 0.7, 10.2, 10.2])
    assert state["rounds"].tolist() == [4]


def test_balance_counts_for_each_receiver():
    rule, x = Balance(decay=2, horizon=2), column(10, 10.4, 11, 12).expand(3, 4, 1)
    before = {"rounds": torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64)}
    value, _, after = rule(x, 1, RuleContext(own=torch.zeros(3).long(), state=before))
    assert value.squeeze().tolist() == pytest.approx([10 + 0.5 * 3.4 / 3, 10 + 0.5 * 0.7, 10.2])
    assert after["rounds"].squeeze().tolist() == [1, 2, 6]
    assert before["rounds"].squeeze().tolist() == [0, 1, 5]


@dataclass
class Bench:
    """An evaluator that knows what each point of a line earns, and who was tried."""

    earns: dict

    def __call__(self, policies, which, episodes):
        self.tried, self.episodes = policies[which].squeeze(-1).tolist(), episodes
        earned = [self.earns[float(p)] if tried else torch.nan for p, tried in zip(policies, which, strict=True)]
        return torch.tensor(earned, dtype=torch.float64)


@pytest.mark.parametrize(
    "rule, earns, tried, value",
    [
        (Ubar(), {0: 5, 1: 4, 2: 5, 3: 9}, [0, 1, 2, 3], 0.5 * 2.5),
        (Ubar(), {0: 10, 1: 4, 2: 5, 3: 9}, [0, 1, 2, 3], 0.5 * 3),
        (Ubar(), {0: 10, 1: 9, 2: 5, 3: 9}, [0, 1, 2, 3], 0.5 * 1),
        (Ubar(alpha=0.1), {0: 5, 1: 4, 2: 5, 3: 4}, [0, 1, 2, 3], 0.9 * 2),
        (Ubar(rho=0.5), {0: 5, 1: 4, 2: 4.5}, [0, 1, 2], 0.5 * 2),
        (Ubar(rho=0.2, episodes=9), {}, [], 0),
    ],
)
def test_ubar_by_hand(rule, earns, tried, value):
    evaluator = Bench(earns)
    assert at(rule, (0, 1, 2, 3, 50), 1, evaluator=evaluator) == pytest.approx(value)
    assert evaluator.tried == tried
    assert evaluator.episodes == rule.episodes


def test_ubar_without_neighbours_or_evaluator():
    assert at(Ubar(), (3,), 0, evaluator=Bench({})) == 3
    with pytest.raises(Undefined, match="evaluator"):
        at(Ubar(), (3, 4), 0)


def test_cva_is_monna_or_has_a_pivot():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 4)))
    for own in range(9):
        for f in range(5):
            context = RuleContext(own=torch.tensor(own))
            here, there = Cva()(x, f, context), Monna()(x, f, context)
            assert torch.equal(here[1], there[1])
    points = (0, 1, 2, 4, 90)
    assert at(Cva(Median()), points, 1) == 7 / 4
    assert at(Cva(Median()), points, 2) == 1
    assert Cva().traits.self_centered
    assert not Cva(Median()).traits.self_centered
    assert Cva(Monna()).traits.self_centered
    assert make("aggregator", "cva", pivot="krum") == Cva(Krum())


def evaluator(policies, which, episodes):
    """Near 10 everywhere is good."""
    return -(policies.double() - 10).norm(dim=-1).masked_fill(~which, torch.nan)


def inputs_of(rule, honest):
    return {key: {"honest": honest, "evaluator": evaluator}[key] for key in rule.required_inputs}


@pytest.mark.parametrize("name", RULES)
def test_a_batch_with_weights_is_its_rows(name):
    rule, rng = RULES[name], np.random.default_rng(1)
    x, row = torch.from_numpy(rng.standard_normal((6, 12, 3))), torch.from_numpy(rng.dirichlet(np.ones(12), 6))
    mask = torch.from_numpy(rng.permuted(np.tile(np.arange(12) >= 2, (6, 1)), axis=1))
    own, f, honest = torch.from_numpy(rng.integers(0, 12, 6)), torch.tensor([0, 1, 1, 0, 1, 1]), torch.arange(12) > 0
    together = rule(x, f, RuleContext(mask=mask, own=own, weights=row, **inputs_of(rule, honest.expand(6, 12))))
    for i in range(6):
        alone = rule(x[i], int(f[i]), RuleContext(mask=mask[i], own=own[i], weights=row[i], **inputs_of(rule, honest)))
        torch.testing.assert_close(together[0][i], alone[0])
        if rule.traits.linear:
            torch.testing.assert_close(together[1][i], alone[1])
            assert float(alone[1].sum()) == pytest.approx(1)
            assert (alone[1] >= -1e-12).all()


@pytest.mark.parametrize("name", RULES)
def test_what_is_not_there_leaves_its_weight_to_the_own_vector(name):
    rule, rng = RULES[name], np.random.default_rng(2)
    x, row = torch.from_numpy(rng.standard_normal((12, 3))), torch.from_numpy(rng.dirichlet(np.ones(12)))
    mask, honest = torch.arange(12) % 5 > 0, torch.arange(12) > 1
    moved = row.clone()
    moved[1] += row[~mask].sum()
    x[~mask] = 1e30
    hidden = rule(x, 1, RuleContext(mask=mask, own=torch.tensor(1), weights=row, **inputs_of(rule, honest)))[0]
    gone = rule(x[mask], 1, RuleContext(own=torch.tensor(0), weights=moved[mask], **inputs_of(rule, honest[mask])))[0]
    torch.testing.assert_close(hidden, gone)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.traits.self_centered])
def test_a_server_has_no_vector_to_start_from(name):
    rule, x = RULES[name], column(0, 1, 2, 3)
    context = RuleContext(own=torch.tensor(-1), **inputs_of(rule, torch.ones(4).bool()))
    with pytest.raises(Undefined, match="server"):
        rule.aggregate(x, torch.tensor(1), context)


def test_what_f_neighbours_weigh():
    around = Neighbourhood.of(torch.tensor([1, 1, 1, 1, 0]).bool(), torch.tensor(1), weights(0.1, 0.3, 0.2, 0.1, 0.3))
    assert around.shares.tolist() == [0.1, 0, 0.2, 0.1, 0]
    assert around.row.tolist() == pytest.approx([0.1, 0.6, 0.2, 0.1, 0])
    assert [float(around.heaviest(torch.tensor(f))) for f in range(5)] == pytest.approx([0, 0.2, 0.3, 0.4, 0.4])


@pytest.mark.parametrize(
    "rule, rho, least, counts",
    [
        (CsPlus(), 2, 1.9, [(5, 1), (7, 2), (10, 2), (12, 3)]),
        (Gts(), 4, 1.9, [(5, 1), (7, 2), (10, 2), (12, 3)]),
        (SelfCenteredClipping(), 25 / 16, 1.4, [(5, 1), (7, 2), (10, 2), (12, 3)]),
        (SelfCenteredClipping(radius="oracle"), 25 / 16, 1.4, [(5, 1), (7, 2), (10, 2), (12, 3)]),
        (SelfCenteredClipping(radius="second"), 1, 0.9, [(5, 1), (6, 1), (9, 1)]),
    ],
)
def test_what_attackers_and_the_rule_change_is_within_the_constant_it_states(rule, rho, least, counts):
    """|E|^2 <= rho b S on a line, where it is worst, for attackers far away or as far as an honest neighbour."""
    rng, worst = np.random.default_rng(0), 0.0
    for n, f in counts:
        m, rows = n - 1 - f, 20000
        spread = rng.uniform(0, 3, (rows, 1)) * rng.random((rows, 1))
        honest = np.exp(spread * rng.standard_normal((rows, m))) * rng.choice([-1, 1, 1], (rows, m))
        near = np.take_along_axis(np.abs(honest), rng.integers(0, m, (rows, f)), 1) * (1 + rng.choice([-1e-9, 1e-9]))
        crafted = np.where(rng.random((rows, f)) < 0.3, -1e6, near * rng.choice([-1, -1, 1], (rows, f)))
        x = torch.from_numpy(np.concatenate([np.zeros((rows, 1)), honest, crafted], 1)).unsqueeze(-1)
        given = inputs_of(rule, (torch.arange(n) < n - f).expand(rows, n))
        value = rule(x, f, RuleContext(own=torch.zeros(rows).long(), **given))[0].squeeze(-1).numpy()
        changed = value - honest.sum(1) / n
        worst = max(worst, (changed**2 / (f / n * (honest**2).sum(1) / n)).max())
    assert least <= worst <= rho * (1 + 1e-6)


def gossip(rule, x, graph, f, steps):
    """Rows of x [K, d] after some steps on a regular graph, with Metropolis' weights."""
    senders = torch.tensor([sorted([i, *graph[i]]) for i in graph])
    own = (senders == torch.arange(len(x)).unsqueeze(1)).int().argmax(1)
    row = torch.full(senders.shape, 1 / senders.shape[1], dtype=torch.float64)
    state = {}
    for _ in range(steps):
        given = inputs_of(rule, torch.ones_like(senders).bool())
        x, _, state = rule(x[senders], f, RuleContext(own=own, weights=row, state=state, **given))
    return x


def radius(x):
    return float((x - x.mean(0)).norm(dim=-1).max())


GRAPH = nx.convert_node_labels_to_integers(nx.random_regular_graph(8, 14, seed=3), ordering="sorted")
START = 10 + torch.from_numpy(np.random.default_rng(0).standard_normal((14, 5)))


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("bridge_median", "bridge_krum")])
def test_honest_agents_come_to_agree(name):
    """Without Byzantine agents, although f = 1 is assumed: to one vector, in the box of the first ones."""
    end = gossip(RULES[name], START, GRAPH, 1, 120)
    assert radius(end) <= 1e-5 * radius(START)
    assert (end >= START.amin(0) - 1e-9).all()
    assert (end <= START.amax(0) + 1e-9).all()


@pytest.mark.parametrize("name", ["bridge_median", "bridge_krum"])
def test_medians_and_krum_need_not_agree_but_do_not_drift_apart(name):
    """Neighbours' medians can stand still at different values."""
    end = gossip(RULES[name], START, GRAPH, 1, 120)
    assert radius(end) <= radius(START)


@pytest.mark.parametrize("rule", [CsPlus(), Gts(), SelfCenteredClipping(), SelfCenteredClipping(radius="oracle")])
def test_clipped_gossip_without_attackers_is_gossip(rule):
    """With a bound of zero the mean is selected, as Metropolis' weights are doubly stochastic."""
    torch.testing.assert_close(gossip(rule, START, GRAPH, 0, 5).mean(0), START.mean(0))


def test_the_weighted_mean_is_what_clipping_is_without_a_bound():
    row = weights(0.1, 0.2, 0.3, 0.15, 0.25)
    x, own = START[:5], torch.tensor(2)
    value = WeightedMean()(x, 1, RuleContext(own=own, weights=row))[0]
    torch.testing.assert_close(value, row @ x)
    torch.testing.assert_close(value, SelfCenteredClipping()(x, 0, RuleContext(own=own, weights=row))[0])
    missing = torch.tensor([True, True, True, False, True])
    value = WeightedMean()(x, 0, RuleContext(mask=missing, own=own, weights=row)).value
    torch.testing.assert_close(value, row @ x + 0.15 * (x[2] - x[3]))
    torch.testing.assert_close(WeightedMean()(x)[0], x.mean(0))


@pytest.mark.parametrize("lie", [1e30, -1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RULES)
def test_an_attacker_out_of_sight_moves_nobody_far(name, dtype, lie):
    """Each of 14 agents hears one; nobody leaves the honest ball by more than its radius."""
    rule, around = RULES[name], torch.arange(14)
    senders = torch.tensor([sorted([i, *GRAPH[i]]) for i in GRAPH])
    x = torch.cat([START[senders], torch.full((14, 1, 5), lie, dtype=torch.float64)], 1).to(dtype)
    own = (senders == around.unsqueeze(1)).int().argmax(1)
    row = torch.full((14, 10), 0.1, dtype=torch.float64)
    value = rule(x, 1, RuleContext(own=own, weights=row, **inputs_of(rule, (torch.arange(10) < 9).expand(14, 10))))[0]
    assert value.dtype == dtype
    assert ((value.double() - START.mean(0)).norm(dim=-1) <= 2 * radius(START)).all()


@pytest.mark.parametrize("rule", [SelfCenteredClipping(), CsPlus(), Gts(), Ios(), WMsr(), Bridge(), Cva()])
def test_honest_agents_stay_together_beside_attackers(rule):
    """A complete graph of 14 and two attackers that say something else to everybody, step after step."""
    rng, x = np.random.default_rng(5), START
    row, f = torch.full((14, 16), 1 / 16, dtype=torch.float64), torch.full((14,), 2)
    for _ in range(40):
        apart = (x - x.mean(0)).unsqueeze(1) * torch.from_numpy(rng.uniform(0.5, 3, (14, 2, 1))) + x.unsqueeze(1)
        seen = torch.cat([x.expand(14, 14, 5), apart], 1)
        x = rule(seen, f, RuleContext(own=torch.arange(14), weights=row))[0]
    assert radius(x) <= 1e-3 * radius(START)
    assert (x.mean(0) - START.mean(0)).norm() <= radius(START)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("self_centered_clipping", {"radius": "median"}),
        ("self_centered_clipping", {"tau": 0}),
        ("cs_plus", {"step": 0}),
        ("gts", {"step": 1.5}),
        ("gts", {"compat": "code"}),
        ("bridge", {"screen": "mean"}),
        ("w_msr", {"weights": "own"}),
        ("balance", {"alpha": 2}),
        ("balance", {"gamma": 0}),
        ("balance", {"horizon": 0}),
        ("ubar", {"rho": 0}),
        ("ubar", {"episodes": 0}),
        ("cva", {"pivot": 3}),
    ],
)
def test_parameters_are_checked(name, wrong):
    with pytest.raises(InvalidParameter):
        make("aggregator", name, **wrong)
