"""What every aggregator is held to, a property a function: for our zoo, and for the rules of others.

    for check in CHECKS:
        check(rule, Case(seed=0, d=4, scale=1.0))

A check raises `AssertionError`. Which checks a rule is exempt from, and why, stands in the test that runs them: a rule
that starts at the origin cannot move with its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Aggregator


@dataclass(frozen=True)
class Case:
    """13 vectors of which 2 may be faulty: enough for every rule's condition, buckets of two included."""

    seed: int
    d: int
    scale: float
    n: int = 13
    f: int = 2

    def x(self, *batch: int) -> Tensor:
        """Gaussian vectors, float64 [*batch, n, d]."""
        return self.scale * torch.from_numpy(self.rng().standard_normal((*batch, self.n, self.d)))

    def rng(self) -> np.random.Generator:
        """A fresh generator of the case's own."""
        return np.random.default_rng(self.seed)


Check: TypeAlias = Callable[[Aggregator, Case], None]


def run(rule: Aggregator, x: Tensor, f: Tensor | int, **given: Any) -> Tensor:
    """The value at a receiver whose own vector, an honest one, is the last; liars, if there are any, come first."""
    return call(rule, x, f, **given)[0]


def call(rule: Aggregator, x: Tensor, f: Tensor | int, **given: Any) -> tuple[Tensor, Tensor | None]:
    """The value, and the weights if the rule returns some."""
    n = x.shape[-2]
    own = torch.full(x.shape[:-2], n - 1)
    honest = torch.arange(n) >= torch.as_tensor(f).max()
    asked: dict[str, Any] = {"honest": honest.expand(x.shape[:-1]), "judge": judge}
    given = {key: asked[key] for key in rule.asks} | given
    value, weights, _ = rule(x, f, own=own, rng=np.random.default_rng(7), **given)
    return value, weights


def judge(policies: Tensor, which: Tensor, episodes: int) -> Tensor:
    """A stand-in for trying policies out: the nearer to the median of what is tried, the better."""
    rows = policies.double().masked_fill(~which.unsqueeze(-1), torch.nan)
    gaps = (rows - rows.nanmedian(-2, keepdim=True).values).norm(dim=-1)
    return -gaps


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9, scale: float | Tensor | None = None) -> None:
    """Equal up to `tolerance` times the scale, by default the largest entry of b."""
    bound = tolerance * float(b.abs().max() if scale is None else scale)
    assert float((a - b).abs().max()) <= bound + 1e-300


def equal_inputs_are_returned(rule: Aggregator, case: Case) -> None:
    """N copies of a vector give that vector."""
    one = case.x()[0]
    for f in (0, case.f):
        close(run(rule, one.expand(case.n, -1), f), one)


def order_does_not_matter(rule: Aggregator, case: Case) -> None:
    """Any order of the inputs gives the same value; the own vector keeps its place."""
    x, order = case.x(), torch.arange(case.n)
    order[:-1] = torch.from_numpy(case.rng().permutation(case.n - 1))
    moved = {"honest": order >= case.f} if "honest" in rule.asks else {}
    close(run(rule, x[order], case.f, **moved), run(rule, x, case.f), scale=x.abs().max())


def it_moves_with_its_inputs(rule: Aggregator, case: Case) -> None:
    """Inputs moved by a vector move the value by it."""
    x, shift = case.x(), 10 * case.scale
    close(run(rule, x + shift, case.f), run(rule, x, case.f) + shift)


def it_scales_with_its_inputs(rule: Aggregator, case: Case) -> None:
    """Inputs a ten-thousandth as long give a value a ten-thousandth as long: where `scale_equivariant` says so."""
    x = case.x()
    close(run(rule, 1e-4 * x, case.f), 1e-4 * run(rule, x, case.f))


def it_stays_within_the_box_of_its_inputs(rule: Aggregator, case: Case) -> None:
    """No coordinate of the value is outside those of the inputs."""
    x = case.x()
    for f in (0, case.f):
        value, slack = run(rule, x, f), 1e-12 * case.scale
        assert (value >= x.amin(0) - slack).all()
        assert (value <= x.amax(0) + slack).all()


def inputs_are_left_alone(rule: Aggregator, case: Case) -> None:
    """A call writes into none of its arguments."""
    x, mask, f = case.x(2), torch.ones(2, case.n, dtype=torch.bool), torch.tensor([case.f, case.f])
    mask[0, 3] = False
    before = [x.clone(), mask.clone(), f.clone()]
    run(rule, x, f, mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(before, [x, mask, f], strict=True))


def the_dtype_is_kept(rule: Aggregator, case: Case) -> None:
    """float32 in, float32 out, and the same value as in float64 up to rounding."""
    single = case.x().float()
    value = run(rule, single, case.f)
    assert value.dtype == torch.float32
    close(value.double(), run(rule, single.double(), case.f), 1e-6, scale=single.abs().max())


def the_same_call_gives_the_same_bytes(rule: Aggregator, case: Case) -> None:
    """Given the same generator."""
    assert torch.equal(run(rule, case.x(), case.f), run(rule, case.x(), case.f))


def a_batch_is_its_rows(rule: Aggregator, case: Case) -> None:
    """Receivers with inboxes of their own, each with its bound, computed together as one by one."""
    x, f = case.x(2, 3), torch.tensor([[0, 1, 2], [2, 1, 0]])
    mask = torch.from_numpy(case.rng().permuted(np.arange(6 * case.n).reshape(2, 3, -1) % case.n > 0, axis=-1))
    together = run(rule, x, f, mask=mask)
    for i in np.ndindex(2, 3):
        given = {"honest": torch.arange(case.n) >= case.f} if "honest" in rule.asks else {}
        close(together[i], run(rule, x[i], int(f[i]), mask=mask[i], **given), scale=x.abs().max())
    whole = run(rule, x, case.f)
    for i in np.ndindex(2, 3):
        close(whole[i], run(rule, x[i], case.f), scale=x.abs().max())


def an_invalid_vector_is_as_good_as_none(rule: Aggregator, case: Case) -> None:
    """What the mask hides has no part in the value."""
    x, mask = case.x(), torch.ones(case.n, dtype=torch.bool)
    mask[[2, 4]] = False
    x[2], x[4] = 1e30, 0
    close(run(rule, x, 2, mask=mask), run(rule, x[mask], 2), scale=x[mask].abs().max())


def the_weights_give_the_value(rule: Aggregator, case: Case) -> None:
    """Where weights are returned: float64, zero at hidden vectors, and of this combination."""
    x, mask = case.x(), torch.ones(case.n, dtype=torch.bool)
    mask[4] = False
    value, weights = call(rule, x, case.f, mask=mask)
    assert rule.linear == (weights is not None)
    if weights is not None:
        assert weights.dtype == torch.float64
        assert not weights[~mask].any()
        close(weights @ x, value)


def the_weights_sum_to_one(rule: Aggregator, case: Case) -> None:
    """Where weights are returned."""
    _, weights = call(rule, case.x(), case.f)
    assert weights is None or abs(float(weights.sum()) - 1) < 1e-6


def lies(case: Case) -> Iterator[Tensor]:
    """What two liars may say: far away together or apart, up to what squares overflow at in single precision."""
    honest = case.x()[case.f :]
    spread, signs = float((honest - honest.mean(0)).norm(dim=-1).max()), torch.tensor([[1.0], [-1.0]])
    for far in (2, 10, 1e4, 1e8, 1e16):
        yield (far * spread + honest.mean(0)).expand(case.f, -1)
        yield far * spread * signs + honest.mean(0)
    yield torch.full((case.f, case.d), 1e30)
    yield 1e30 * signs * torch.ones(case.d)
    yield torch.cat([honest[:1] + 3 * spread, torch.full((1, case.d), -1e30)])


def liars_move_it_by_no_more_than_the_honest_spread(rule: Aggregator, case: Case) -> None:
    """Whatever f vectors are replaced by, the value stays within three times the honest radius of the honest mean."""
    honest = case.x()[case.f :]
    spread = (honest - honest.mean(0)).norm(dim=-1).max()
    for dtype in (torch.float64, torch.float32):
        for said in lies(case):
            value = run(rule, torch.cat([said, honest]).to(dtype), case.f)
            assert float((value.double() - honest.mean(0)).norm()) <= 3 * float(spread)


def liars_at_a_distance_do_less_to_it_than_to_the_mean(rule: Aggregator, case: Case) -> None:
    """The defence is active: under an attack that drags the mean, it is three times nearer to the honest mean."""
    honest = case.x()[case.f :]
    x = torch.cat([honest[: case.f] + 100 * case.scale, honest])
    harm = (run(rule, x, case.f) - honest.mean(0)).norm()
    assert 3 * harm <= (x.mean(0) - honest.mean(0)).norm()


def absurd_lies_cost_no_precision(rule: Aggregator, case: Case) -> None:
    """Liars at 1e30 leave the same value as liars a million spreads away."""
    honest = case.x()[case.f :]
    far, absurd = (torch.cat([torch.full((case.f, case.d), at), honest]) for at in (1e6 * case.scale, 1e30))
    close(run(rule, absurd, case.f), run(rule, far, case.f), 1e-5, scale=case.scale)


def kappa_holds_for_every_honest_subset(rule: Aggregator, case: Case) -> None:
    """||value - mean(S)||^2 <= kappa / |S| sum_S ||x_i - mean(S)||^2 for all S of n - f <= 9 inputs, hostile ones too.

    A rule that declares no kappa passes.
    """
    rng = case.rng()
    for n, f in ((5, 1), (7, 1), (7, 2), (9, 0), (9, 2), (9, 3)):
        kappa = rule.kappa(n, f) if rule.guarantee(n, f) else None
        if kappa is None:
            continue
        x = case.scale * torch.from_numpy(rng.standard_normal((n, case.d)))
        for hostile in (0.0, 0.5, 1.5, 4.0, 30.0):
            moved = x.clone()
            moved[:f] = hostile * case.scale + 0.1 * hostile * moved[:f]
            value = run(rule, moved, f)
            subsets = torch.tensor(list(combinations(range(n), n - f)))
            means = moved[subsets].mean(1)
            spread = (moved[subsets] - means.unsqueeze(1)).square().sum(-1).mean(-1)
            harm = (value - means).square().sum(-1)
            assert (harm <= kappa * spread * (1 + 1e-9) + 1e-18 * case.scale**2 * (1 + hostile) ** 2).all()


CHECKS: tuple[Check, ...] = (
    equal_inputs_are_returned,
    order_does_not_matter,
    it_moves_with_its_inputs,
    it_scales_with_its_inputs,
    it_stays_within_the_box_of_its_inputs,
    inputs_are_left_alone,
    the_dtype_is_kept,
    the_same_call_gives_the_same_bytes,
    a_batch_is_its_rows,
    an_invalid_vector_is_as_good_as_none,
    the_weights_give_the_value,
    the_weights_sum_to_one,
    liars_move_it_by_no_more_than_the_honest_spread,
    liars_at_a_distance_do_less_to_it_than_to_the_mean,
    absurd_lies_cost_no_precision,
    kappa_holds_for_every_honest_subset,
)
