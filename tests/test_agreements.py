"""The share of the honest spread that agreements leave, in one exchange and as a whole, under equivocating attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from byzbench.agreements.mda import MdaAgreement
from byzbench.core import AgreementReport, Inbox
from byzbench.experiments.diagnostics import diameter
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.registry import make, origins
from byzbench.testing.agreements import CHECKS, AgreementCase, Check, contracted, equivocating, querying, worst_found

AGREEMENTS = ["mda", "rb_tm(reliable=False)"]
SIZES = [(5, 1), (9, 2), (13, 3)]
ALL = [*origins("agreement"), "rb_tm(reliable=False)"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("agreement", [*origins("agreement"), "rb_tm(reliable=False)", "gossip+nnm+median"])
def test_every_agreement_passes_every_check(agreement: str, check: Check) -> None:
    check(make("agreement", agreement), AgreementCase(0, agents=9))  # type: ignore[arg-type]


SLOW = querying()


@pytest.mark.parametrize(("agents", "byzantine"), [*SIZES, (26, 6)])
@pytest.mark.parametrize(
    "attack", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in equivocating()]
)
def test_no_attack_leaves_more_than_the_bound_of_all_exchanges(attack: str, agents: int, byzantine: int) -> None:
    """After kappa exchanges the honest agents are within the kappa-th power of the contraction of one."""
    for name in ALL:
        agreement = make("agreement", name)
        bound = agreement.contraction(agents, byzantine)  # type: ignore[attr-defined]
        if bound is not None:
            left = contracted(name, attack, agents, byzantine, seed=0, d=3, exchanges=None)
            assert left is not None
            assert left <= bound**agreement.cap + 1e-6, name  # type: ignore[attr-defined]


@dataclass(frozen=True)
class StopsAtAMajority(MdaAgreement):
    """Stop where n - f messages are within a tolerance of each other."""

    def can_stop(self, fed: Any, inbox: Inbox) -> Tensor:
        return self.width(fed, inbox) < self.tolerance


@pytest.mark.parametrize(("agents", "byzantine"), SIZES)
def test_an_agreement_that_stops_at_a_majority_is_frozen(agents: int, byzantine: int) -> None:
    left = contracted(StopsAtAMajority(), "freeze", agents, byzantine, seed=0, d=3, exchanges=None)
    bound = StopsAtAMajority().contraction(agents, byzantine)
    assert left is not None
    assert bound is not None
    assert left > 2 * bound**20


def agreed(theta: Tensor, agreement: str, **options: Any) -> tuple[Tensor, AgreementReport]:
    """Run one agreement, of as many agents as theta [K, d] has rows; return the honest agents' rows and the report."""
    todo = Experiment.create(agreement=agreement, agents=len(theta), **options)
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    after, _ = lockstep(federation.agree(theta, {}))
    assert federation.statistics.agreement is not None
    report, honest = federation.statistics.agreement.report, ~todo.members.byzantine
    return after[honest], AgreementReport(report.exchanges[honest], report.before[honest], report.after[honest])


VECTOR = torch.linspace(-1, 1, 5)


@pytest.mark.parametrize("agreement", [name for name in ALL if name not in ("none", "gossip", "mean", "rb_tm")])
@pytest.mark.parametrize(
    ("attack", "exchanges"), [("none", 1), ("non_finite(on=both)", 1), ("ipm(on=both)", 4), ("silence(on=both)", 4)]
)
def test_agents_stop_where_all_messages_are_equal(agreement: str, attack: str, exchanges: int) -> None:
    """A malformed message proves that its sender is Byzantine; who is silent may be honest and hold another vector."""
    theta = VECTOR.repeat(9, 1)
    name = agreement.replace("(", "(cap=4, ") if "(" in agreement else f"{agreement}(cap=4)"
    after, report = agreed(theta, name, attack=attack, byzantine=2)
    assert torch.equal(after, theta[: len(after)])
    assert report.exchanges.eq(exchanges).all()


def test_reliable_broadcast_on_a_complete_graph_takes_one_exchange() -> None:
    theta = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    for attack in ("ipm(on=both)", "split_brain(sign_flip(on=parameters))"):
        after, report = agreed(theta, "rb_tm", attack=attack, byzantine=2)
        assert report.exchanges.eq(1).all()
        assert diameter(after) == 0
    _, report = agreed(theta, "rb_tm", topology="ring", byzantine=0)
    assert report.exchanges.eq(20).all()


def test_neighbours_who_agree_do_not_stop_on_a_graph_that_is_not_complete() -> None:
    """Two cliques, whose agents agree among themselves, come closer through the edge between them."""
    theta = torch.zeros(10, 3)
    theta[5:] = 1
    after, report = agreed(theta, "mean", topology="dumbbell", byzantine=0)
    assert report.exchanges.eq(20).all()
    assert diameter(after) < 0.8 * diameter(theta)


def test_messages_of_an_earlier_round_do_not_stop_an_agent() -> None:
    todo = Experiment.create(agents=3, byzantine=0)
    federation, _ = federate(todo)
    senders, agents = torch.arange(3).repeat(3, 1), torch.arange(3)
    theta = VECTOR.repeat(3, 1)
    age = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    inbox = Inbox(theta, senders, senders, senders >= 0, agents, torch.zeros(3).long(), theta, age=age)
    assert MdaAgreement().can_stop(federation, inbox).tolist() == [True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize(("agents", "byzantine"), SIZES)
@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_no_attack_and_no_search_exceeds_a_bound(agreement: str, agents: int, byzantine: int) -> None:
    rule = make("agreement", agreement)
    bound = rule.contraction(agents, byzantine)  # type: ignore[attr-defined]
    most = max(contracted(agreement, a, agents, byzantine, seed) or 0.0 for a in equivocating() for seed in range(3))
    assert most <= bound + 1e-6
    assert worst_found(rule.rule, agents, byzantine, np.random.default_rng(1)) <= bound + 1e-6  # type: ignore[attr-defined]


def test_the_bound_of_mda_is_nearly_attained() -> None:
    """At n=5, f=1 words are found that leave 0.74 of the diameter; none can leave more than 3f / (n - f) = 0.75."""
    factor = worst_found(make("aggregator", "mda"), 5, 1, np.random.default_rng(0))  # type: ignore[arg-type]
    assert 0.74 < factor <= 0.75 + 1e-9
    assert worst_found(make("aggregator", "mean"), 5, 1, np.random.default_rng(0)) > 0.75  # type: ignore[arg-type]
