"""The share of the honest spread that agreements leave, in one exchange and as a whole, under equivocating attacks."""

from __future__ import annotations

import numpy as np
import pytest

from byzbench.registry import make, origins
from byzbench.testing.agreements import CHECKS, AgreementCase, Check, contracted, equivocating, worst_found

AGREEMENTS = ["mda", "rb_tm(reliable=False)"]
SIZES = [(5, 1), (9, 2), (13, 3)]
ALL = [*origins("agreement"), "rb_tm(reliable=False)"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("agreement", [*origins("agreement"), "rb_tm(reliable=False)", "gossip+nnm+median"])
def test_every_agreement_passes_every_check(agreement: str, check: Check) -> None:
    check(make("agreement", agreement), AgreementCase(0, agents=9))  # type: ignore[arg-type]


@pytest.mark.parametrize(("agents", "byzantine"), [*SIZES, (26, 6)])
@pytest.mark.parametrize("attack", equivocating())
def test_no_attack_leaves_more_than_the_bound_of_all_exchanges(attack: str, agents: int, byzantine: int) -> None:
    """After kappa exchanges the honest agents are within the kappa-th power of the contraction of one."""
    for name in ALL:
        agreement = make("agreement", name)
        bound = agreement.contraction(agents, byzantine)  # type: ignore[attr-defined]
        if bound is not None:
            left = contracted(name, attack, agents, byzantine, seed=0, d=3, exchanges=None)
            assert left is not None
            assert left <= bound**agreement.cap + 1e-6, name  # type: ignore[attr-defined]


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
