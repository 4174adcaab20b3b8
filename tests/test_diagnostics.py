"""Inputs of rules beside the messages, and diagnostics of their outputs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

import byzbench
from byzbench.agreements.mda import MdaAgreement
from byzbench.agreements.rb_tm import RbTmAgreement
from byzbench.agreements.trimmed_midpoint import TrimmedMidpointAgreement
from byzbench.core import Aggregator, ByzantineMessages, MessageAttack, RuleOutput, ThreatModel, weighted_sum
from byzbench.core.inbox import Inbox
from byzbench.errors import Undefined
from byzbench.experiments import diagnostics
from byzbench.experiments.diagnostics import contraction, diagnose, diameter
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.metrics import cvar
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.statistics import AggregationResult


def aggregation(base, byzantine, value, weights=None, senders=None, mask=None, usable=None):
    base, agents = torch.tensor(base).float(), len(byzantine)
    senders = torch.arange(agents).expand(agents, agents) if senders is None else senders
    mask = torch.ones(senders.shape, dtype=torch.bool) if mask is None else mask
    who = torch.arange(agents)
    authors = torch.where(senders < agents, senders, int(byzantine.int().argmax()))  # words on edges are attackers'
    inbox = Inbox(base, senders, authors, mask, who, torch.zeros(agents).long(), base[:agents], None, who)
    usable = torch.ones(agents, dtype=torch.bool) if usable is None else usable
    return AggregationResult(inbox, value, weights, usable, {})


LAST = torch.tensor([False, False, False, True])


def test_the_mean_of_three_honest_vectors_and_a_byzantine_one():
    # m = 2, b = 10, spread^2 = 8/3, r^2 = (4 + 4 + 16) / 3, a = 1/4.
    measured = diagnose(
        aggregation([[0.0], [2.0], [4.0], [10.0]], LAST, torch.full((4, 1), 4.0), torch.full((4, 4), 0.25).double()),
        LAST,
    )
    assert measured == {
        "error": 2.0,
        "spread": pytest.approx((8 / 3) ** 0.5),
        "robustness_constant": pytest.approx(4 / (8 / 4)),
        "byzantine_pull": 0.25,
        "byzantine_weight": 0.25,
        "precision": None,
        "recall": 0.0,
    }


def test_a_filter_that_rejects_the_attacker_and_an_honest_vector():
    weights = torch.tensor([0.5, 0.5, 0.0, 0.0]).double().expand(4, 4)
    measured = diagnose(aggregation([[0.0], [2.0], [4.0], [10.0]], LAST, torch.full((4, 1), 1.0), weights), LAST)
    assert (measured["precision"], measured["recall"], measured["byzantine_weight"]) == (0.5, 1.0, 0.0)
    assert measured["byzantine_pull"] == pytest.approx(-1 / 8)


def test_what_cannot_be_divided_is_none():
    no_agent = torch.zeros(4, dtype=torch.bool)
    measured = diagnose(aggregation([[0.1]] * 4, no_agent, torch.full((4, 1), 0.1)), no_agent)
    assert measured == {"error": 0.0, "spread": 0.0, "robustness_constant": None, "byzantine_pull": None}
    assert diagnose(aggregation([[0.1]] * 4, no_agent, torch.zeros(4, 1), usable=no_agent), no_agent) == {}


def test_messages_of_absurd_length_leave_finite_numbers():
    base = torch.randn(4, 386, generator=torch.Generator().manual_seed(0))
    base[3] = 1e30
    measured = diagnose(
        aggregation(base.tolist(), LAST, base[:1].expand(4, -1), torch.full((4, 4), 0.25).double()), LAST
    )
    assert all(np.isfinite(value) for value in measured.values() if value is not None)
    assert measured["spread"] == pytest.approx(
        float((base[:3] - base[:3].mean(0)).square().sum(1).mean().sqrt()), rel=1e-6
    )


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_receivers_with_different_inboxes(seed, dense, monkeypatch):
    """Against the definition, receiver by receiver."""
    if not dense:
        monkeypatch.setattr("byzbench.experiments.diagnostics._DENSE", 0)
    rng = np.random.default_rng(seed)
    agents, words, n, d = 6, 4, 5, 3
    byzantine = torch.tensor([False, True, False, False, True, False])
    base = rng.standard_normal((agents + words, d)).astype(np.float32)
    rest = np.array([rng.permutation([1, 3, 4, 5, 6, 7, 8, 9])[: n - 2] for _ in range(agents)])
    senders = torch.from_numpy(np.concatenate([np.tile([0, 2], (agents, 1)), rest], 1))
    mask = torch.from_numpy(rng.random((agents, n)) < 0.8) | (torch.arange(n) < 2)
    value, weights = torch.from_numpy(rng.standard_normal((agents, d))).float(), torch.from_numpy(rng.random((6, n)))
    weights = weights * mask * (torch.from_numpy(rng.random((6, n))) < 0.7)
    usable = torch.tensor([True, True, True, False, True, True])
    measured = diagnose(aggregation(base.tolist(), byzantine, value, weights, senders, mask, usable), byzantine)
    errors, spreads, constants, pulls, shares, rejected, num_byzantine, caught = [], [], [], [], [], 0, 0, 0
    for r in (0, 2, 5):
        columns = [j for j in range(n) if mask[r, j]]
        attackers = [j for j in columns if senders[r, j] >= agents or byzantine[senders[r, j]]]
        x = {j: base[senders[r, j]].astype(float) for j in columns}
        honest = [x[j] for j in columns if j not in attackers]
        m = np.mean(honest, 0)
        errors.append(np.linalg.norm(value[r].numpy() - m))
        spreads.append(np.mean([np.sum((v - m) ** 2) for v in honest]) ** 0.5)
        pairs = [np.sum((v - w) ** 2) for i, v in enumerate(honest) for j, w in enumerate(honest) if i != j]
        if attackers:
            b = np.mean([x[j] for j in attackers], 0)
            pulls.append((value[r].numpy() - m) @ (b - m) / np.sum((b - m) ** 2))
            if pairs and np.mean(pairs) > 1e-12:
                constants.append(errors[-1] ** 2 / (len(attackers) / len(columns) * np.mean(pairs)))
        total = float(weights[r].sum())
        shares.append(float(weights[r][attackers].sum()) / total)
        low = [j for j in columns if weights[r, j] < total / (2 * len(columns))]
        rejected, num_byzantine, caught = (
            rejected + len(low),
            num_byzantine + len(attackers),
            caught + len(set(low) & set(attackers)),
        )
    assert measured["error"] == pytest.approx(np.mean(errors))
    assert measured["spread"] == pytest.approx(np.mean(spreads))
    assert measured["robustness_constant"] == pytest.approx(max(constants))
    assert measured["byzantine_pull"] == pytest.approx(np.mean(pulls))
    assert measured["byzantine_weight"] == pytest.approx(np.mean(shares))
    assert measured["precision"] == (caught / rejected if rejected else None)
    assert measured["recall"] == (caught / num_byzantine if num_byzantine else None)


def lines(tmp_path, **options):
    result = byzbench.run(trajectories=60, out=tmp_path, **{"agents": 9, "byzantine": 2, **options})
    return [json.loads(line) for line in (Path(result.run) / "metrics.jsonl").read_text().splitlines()]


def test_a_run_records_what_its_rule_did(tmp_path):
    mean = lines(tmp_path, algo="dec_page_pg", attack="sign_flip")
    assert all(line["aggregate_byzantine_pull"] == pytest.approx(2 / 9) for line in mean)
    assert all(line["aggregate_byzantine_weight"] == pytest.approx(2 / 9) for line in mean)
    assert not any(key.startswith("agreement_") for line in mean for key in line)
    robust = lines(tmp_path, algo="decbyzpg", attack="large_noise")
    assert all(line["aggregate_byzantine_weight"] < 0.01 for line in robust)
    assert all(line["aggregate_recall"] == 1 for line in robust)
    assert all(line["agreement_byzantine_weight"] == 0 for line in robust)
    assert all(line["contraction_bound"] == pytest.approx(6 / 7) for line in robust)
    assert all(line["contraction"] is None or line["contraction"] <= 6 / 7 for line in robust)
    assert any(line["contraction"] == 0 for line in robust), "seven honest of nine are the narrowest there are"
    alone = lines(tmp_path, algo="solo", agents=1, byzantine=0)
    assert not any(key.startswith("aggregate") or key == "contraction" for line in alone for key in line)


def test_no_bound_is_claimed_on_a_graph_that_is_not_complete(tmp_path):
    assert all(line["contraction_bound"] is None for line in lines(tmp_path, algo="decbyzpg", topology="ring"))
    todo = Experiment.create("decbyzpg", "sign_flip", agents=9, byzantine=3, assumed_byzantine=2, agreement="rb_tm")
    assert todo.contraction_bound is None


@dataclass(frozen=True)
class Split(MessageAttack):
    """Tells one half of the agents one thing and the other half its opposite, `far` honest diameters away."""

    far: float = 1.0
    seed: int = 0

    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"byzantine", "honest"}), equivocates=True)

    def targets(self, topic):
        return True

    def craft_messages(self, context, memory, rng):
        draws = np.random.default_rng([self.seed, len(context.edges)])
        way = torch.from_numpy(draws.standard_normal(context.honest.shape[1])).float()
        side = torch.from_numpy(np.where(context.edges[:, 1] % 2, 1.0, -1.0)).float()
        width = diameter(context.honest)
        crafted = context.honest.mean(0) + self.far * width * side.unsqueeze(1) * way / way.norm()
        if self.seed % 2:
            crafted = context.honest[torch.from_numpy(draws.integers(0, len(context.honest), len(crafted)))]
        return ByzantineMessages(crafted), memory


AGREEMENTS = [MdaAgreement(cap=1), RbTmAgreement(cap=1, reliable=False), TrimmedMidpointAgreement(cap=1)]


def agreed(agreement, attack, n, f, theta):
    todo = replace(Experiment.create("decbyzpg", agents=n, byzantine=f, agreement=agreement), attack=attack)
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    lockstep(federation.agree(theta, {}))
    return todo, contraction(federation.statistics.agreement, todo.members.byzantine, agreement.measure)


@pytest.mark.parametrize("n, f", [(5, 1), (7, 1), (9, 2), (13, 3)])
@pytest.mark.parametrize("agreement", AGREEMENTS, ids=lambda a: type(a).__name__)
def test_no_message_exceeds_the_bound_on_an_agreement(agreement, n, f):
    tight = 0.0
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        theta = torch.randn(n, 1 + seed % 3, generator=generator).sign() + 0.1 * torch.randn(n, 1, generator=generator)
        for far in (0.3, 0.5, 1.0, 1e6):
            todo, left = agreed(agreement, Split(far=far, seed=seed), n, f, theta)
            assert left <= todo.contraction_bound * (1 + 1e-5)
            tight = max(tight, left / todo.contraction_bound)
    assert tight > 0.3, "the messages are too weak to show anything"


@pytest.mark.parametrize("agreement", AGREEMENTS, ids=lambda a: type(a).__name__)
def test_reliable_broadcast_leaves_nothing_to_split(agreement):
    theta = torch.randn(13, 4, generator=torch.Generator().manual_seed(0))
    todo, left = agreed(replace(agreement, reliable=True), Split(), 13, 3, theta)
    assert left == todo.contraction_bound == 0
    assert replace(agreement, reliable=True).guarantee(13, 4)
    assert not MdaAgreement().guarantee(13, 4)


def test_mixing_weights_are_symmetric_and_doubly_stochastic():
    for topology in ("ring", "random_regular", "complete", "star:hub=agent"):
        members = Experiment.create("dec_page_pg", topology=topology, agents=9, byzantine=0).members
        w = torch.zeros(9, 9, dtype=torch.float64)
        for agent in range(9):
            w[agent].index_add_(0, members.senders[agent], members.mixing[agent])
        assert torch.allclose(w, w.T)
        assert torch.allclose(w.sum(0), torch.ones(9).double())
        assert (w >= 0).all()
        for a, b in members.graph.edges:
            assert float(w[a, b]) == pytest.approx(1 / (1 + max(members.graph.degree[a], members.graph.degree[b])))
    assert nx.is_connected(members.graph)


@dataclass(frozen=True)
class Clairvoyant(Aggregator):
    """The honest mean, for who knows; or the policies' returns, for who tries them out."""

    asking: str = "honest"

    @property
    def required_inputs(self):
        return frozenset({self.asking})

    def aggregate(self, x, f, context):
        if self.asking == "evaluator":
            returns = context.evaluator(x, context.mask, 3).mean(-1, keepdim=True)
            return RuleOutput(returns.expand(x[..., 0, :].shape).to(x.dtype), None, {})
        weights = context.honest.double() / context.honest.sum(-1, keepdim=True)
        return RuleOutput(weighted_sum(weights, x), weights, {})


@pytest.mark.parametrize("attack", ["sign_flip", "large_noise"])
def test_a_rule_that_requires_the_honest_mask_gets_it(attack):
    todo = Experiment.create("dec_page_pg", attack, agents=9, byzantine=2)
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    value, _ = federation.combine(Clairvoyant(), lockstep(federation.exchange("gradient", x)))
    honest = ~todo.members.byzantine
    torch.testing.assert_close(value[honest], x[honest].mean(0).expand(7, -1))


def test_a_trial_of_policies_is_charged_and_fair():
    federation, _ = federate(Experiment.create("dec_page_pg", agents=5, byzantine=0))
    federation.begin(0, 0.0)
    inbox = lockstep(federation.exchange("parameters", federation.theta0))
    which = inbox.mask.clone()
    which[2, 1] = False
    scores = federation._evaluate_policies(inbox, "", inbox.base[inbox.senders], which, 3)
    assert federation.counters.trajectories.tolist() == [15, 15, 12, 15, 15]
    assert int(federation.counters.steps.sum()) == round(3 * float(scores.nansum()))
    assert scores.isnan().equal(~which)
    assert all(len(set(row[~row.isnan()].tolist())) == 1 for row in scores), "one policy, the same episodes"
    assert len({float(row[0]) for row in scores}) > 1
    wild = inbox.base[inbox.senders].clone()
    wild[:, 0] = 1e30
    assert federation._evaluate_policies(inbox, "", wild, inbox.mask, 1).isfinite().all()


def test_a_rule_that_tries_policies_out_cannot_aggregate_gradients():
    with pytest.raises(Undefined, match="--agreement gossip"):
        Experiment.create("dec_page_pg", aggregator=Clairvoyant("evaluator"))


@pytest.mark.parametrize(
    "values, expected",
    [
        ([3.0], 3.0),
        ([4.0, 1.0, 2.0, 3.0], 1.0),
        ([5.0, 1.0, 2.0, 3.0, 4.0], 1.0),
        ([float(i) for i in range(10)], 0.5),
        ([2.0, 1.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0], (1 + 0.6 * 2) / 1.6),
    ],
)
def test_the_value_at_risk_is_the_mean_of_the_worst_fifth(values, expected):
    assert cvar(torch.tensor(values)) == pytest.approx(expected)
    assert math.isnan(cvar(torch.tensor([*values, math.nan])))


@pytest.mark.parametrize("spread", [0.0, 1e-8, 1.0, 4.0])
def test_the_diameter_of_many_vectors_is_that_of_all_pairs(spread, monkeypatch):
    monkeypatch.setattr(diagnostics, "_ROWS", 4)
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = np.exp(spread * rng.standard_normal((30, 1)))
        directions = rng.standard_normal((30, 6))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True) ** (spread < 1)
        directions[15:] = -directions[:15]
        x = torch.from_numpy(5 + rng.choice([1e-4, 1.0, 1e15]) * lengths * directions)[rng.integers(0, 30, 30)]
        expected = (x.double()[:, None] - x.double()).norm(dim=-1).max()
        assert diameter(x) == pytest.approx(float(expected), rel=1e-9)
