"""Conformance tests of aggregation rules: one function for each property.

    for check in CHECKS:
        check(rule, Case(seed=0, d=4, scale=1.0))

A check raises `AssertionError` if the property does not hold. A rule can be exempt from a check. For example, a rule
that starts at the origin is not translation equivariant. The test that runs the checks lists exemptions with reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Aggregator, RuleContext, RuleOutput


@dataclass(frozen=True)
class RuleCase:
    """Input of a check: 13 vectors, of which 2 may be Byzantine.

    These numbers satisfy the condition of every rule, also after bucketing with buckets of two.

    Attributes:
        seed: the seed of the vectors.
        d: the dimension of the vectors.
        scale: the standard deviation of their coordinates.
        n: the number of vectors.
        f: the bound on the number of Byzantine vectors.

    Example:
        >>> RuleCase(seed=0, d=4, scale=1.0).x(2).shape
        torch.Size([2, 13, 4])
    """

    seed: int
    d: int
    scale: float
    n: int = 13
    f: int = 2

    def x(self, *batch: int) -> Tensor:
        """Draw Gaussian vectors: float64 [*batch, n, d]."""
        return self.scale * torch.from_numpy(self.rng().standard_normal((*batch, self.n, self.d)))

    def rng(self) -> np.random.Generator:
        """Return a new generator with the seed of the case."""
        return np.random.default_rng(self.seed)


Check: TypeAlias = Callable[[Aggregator, RuleCase], None]


def run_rule(rule: Aggregator, x: Tensor, f: Tensor | int, **fields: Any) -> Tensor:
    """Return the value of a rule at a receiver whose own vector is the last.

    Args:
        rule: the aggregation rule.
        x: [..., n, d], the vectors; Byzantine vectors come first.
        f: the bound on the number of Byzantine vectors.
        fields: further fields of the context; see `context_of`.
    """
    return call(rule, x, f, **fields).value


def call(rule: Aggregator, x: Tensor, f: Tensor | int, **fields: Any) -> RuleOutput:
    """Return the output of a rule at a receiver whose own vector is the last.

    Args:
        rule: the aggregation rule.
        x: [..., n, d], the vectors; Byzantine vectors come first.
        f: the bound on the number of Byzantine vectors.
        fields: further fields of the context; see `context_of`.

    Example:
        >>> from byzbench import registry
        >>> value, weights, _ = call(registry.make("aggregator", "mean"), torch.tensor([[0.0], [2.0]]), 0)
        >>> value.item(), weights.tolist()
        (1.0, [0.5, 0.5])
    """
    bound = torch.as_tensor(f).expand(x.shape[:-2])
    return rule.aggregate(x, bound, context_of(rule, x, bound, **fields))


def context_of(rule: Aggregator, x: Tensor, f: Tensor, **fields: Any) -> RuleContext:
    """Return the context of a receiver whose own vector is the last.

    Args:
        rule: the aggregation rule; fields that a rule has to require are only set if it requires them.
        x: [..., n, d], the vectors; Byzantine vectors come first.
        f: [...], the bound on the number of Byzantine vectors.
        fields: further fields, and fields to replace.

    Example:
        >>> from byzbench import registry
        >>> rule = registry.make("aggregator", "honest_mean")
        >>> context_of(rule, torch.zeros(3, 1), torch.tensor(1)).honest
        tensor([False,  True,  True])
    """
    n = x.shape[-2]
    honest = (torch.arange(n) >= f.max()).expand(x.shape[:-1])
    required: dict[str, Any] = {"honest": honest, "evaluator": score_policies}
    defaults = {"own": torch.full(x.shape[:-2], n - 1), "rng": np.random.default_rng(7)}
    return RuleContext(**{**defaults, **{name: required[name] for name in rule.required_inputs}, **fields})


def score_policies(policies: Tensor, which: Tensor, episodes: int) -> Tensor:
    """Score candidate policies without an environment: minus the distance to the median of the candidates.

    Args:
        policies: [..., n, d], the candidate parameters.
        which: bool [..., n], the candidates to score.
        episodes: not used.

    Returns:
        float64 [..., n], the scores; NaN where a candidate is not scored.
    """
    rows = policies.double().masked_fill(~which.unsqueeze(-1), torch.nan)
    distances = (rows - rows.nanmedian(-2, keepdim=True).values).norm(dim=-1)
    return -distances


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9, scale: float | Tensor | None = None) -> None:
    """Check that two tensors are equal up to a tolerance relative to a scale.

    Args:
        a: the first tensor.
        b: the second tensor.
        tolerance: the largest absolute difference, divided by the scale.
        scale: the scale; by default the largest absolute entry of b.

    Raises:
        AssertionError: they differ by more.
    """
    bound = tolerance * float(b.abs().max() if scale is None else scale)
    assert float((a - b).abs().max()) <= bound + 1e-300


def it_returns_a_value_weights_and_a_state(rule: Aggregator, case: RuleCase) -> None:
    """Check that a rule returns RuleOutput(value [..., d], weights [..., n] or None, state), in the vectors' dtype."""
    for batch in ((), (2,)):
        x, f = case.x(*batch).float(), torch.full(batch, case.f)
        mask = torch.ones(x.shape[:-1], dtype=torch.bool)
        weights = torch.full(mask.shape, 1 / case.n, dtype=torch.float64)
        output = rule.aggregate(x, f, context_of(rule, x, f, mask=mask, weights=weights, rng=case.rng()))
        form = "expected RuleOutput(value, weights, state)"
        assert isinstance(output, RuleOutput), f"aggregate returned a {type(output).__name__}, {form}"
        value, combination, state = output
        assert isinstance(value, Tensor), f"aggregate returned a {type(value).__name__} as the value, not a tensor"
        shape, expected = list(value.shape), [*batch, case.d]
        assert shape == expected, f"aggregate returned a value of shape {shape}, expected {expected}"
        assert value.dtype == x.dtype, f"aggregate returned a value of {value.dtype}, expected {x.dtype}"
        if combination is not None:
            shape, expected = list(combination.shape), [*batch, case.n]
            assert shape == expected, f"aggregate returned weights of shape {shape}, expected {expected}"
        tensors = isinstance(state, dict) and all(isinstance(part, Tensor) for part in state.values())
        assert tensors, f"aggregate returned {state!r} as its state, not a dict of tensors"


def equal_inputs_are_returned(rule: Aggregator, case: RuleCase) -> None:
    """Check that n copies of a vector give that vector."""
    vector = case.x()[0]
    for f in (0, case.f):
        close(run_rule(rule, vector.expand(case.n, -1), f), vector)


def order_does_not_matter(rule: Aggregator, case: RuleCase) -> None:
    """Check that the value does not depend on the order of the inputs, with the receiver's own vector last."""
    x, order = case.x(), torch.arange(case.n)
    order[:-1] = torch.from_numpy(case.rng().permutation(case.n - 1))
    permuted = {"honest": order >= case.f} if "honest" in rule.required_inputs else {}
    close(run_rule(rule, x[order], case.f, **permuted), run_rule(rule, x, case.f), scale=x.abs().max())


def it_moves_with_its_inputs(rule: Aggregator, case: RuleCase) -> None:
    """Check translation equivariance: inputs that are shifted by a vector shift the value by it."""
    x, shift = case.x(), 10 * case.scale
    close(run_rule(rule, x + shift, case.f), run_rule(rule, x, case.f) + shift)


def it_scales_with_its_inputs(rule: Aggregator, case: RuleCase) -> None:
    """Check scale equivariance, for rules with that trait: inputs times 1e-4 give the value times 1e-4."""
    x = case.x()
    close(run_rule(rule, 1e-4 * x, case.f), 1e-4 * run_rule(rule, x, case.f))


def it_stays_within_the_box_of_its_inputs(rule: Aggregator, case: RuleCase) -> None:
    """Check that the value is in the bounding box of the inputs."""
    x = case.x()
    for f in (0, case.f):
        value, slack = run_rule(rule, x, f), 1e-12 * case.scale
        assert (value >= x.amin(0) - slack).all()
        assert (value <= x.amax(0) + slack).all()


def inputs_are_left_alone(rule: Aggregator, case: RuleCase) -> None:
    """Check that a call does not modify its arguments."""
    x, mask, f = case.x(2), torch.ones(2, case.n, dtype=torch.bool), torch.tensor([case.f, case.f])
    mask[0, 3] = False
    before = [x.clone(), mask.clone(), f.clone()]
    run_rule(rule, x, f, mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(before, [x, mask, f], strict=True))


def the_dtype_is_kept(rule: Aggregator, case: RuleCase) -> None:
    """Check that float32 inputs give a float32 value that equals the float64 value up to rounding."""
    single = case.x().float()
    value = run_rule(rule, single, case.f)
    assert value.dtype == torch.float32
    close(value.double(), run_rule(rule, single.double(), case.f), 1e-6, scale=single.abs().max())


def the_same_call_gives_the_same_bytes(rule: Aggregator, case: RuleCase) -> None:
    """Check that two calls with equal generators give bitwise equal values."""
    assert torch.equal(run_rule(rule, case.x(), case.f), run_rule(rule, case.x(), case.f))


def a_batch_is_its_rows(rule: Aggregator, case: RuleCase) -> None:
    """Check that a batch of inboxes with different bounds and masks gives the same values as separate calls."""
    x, f = case.x(2, 3), torch.tensor([[0, 1, 2], [2, 1, 0]])
    mask = torch.from_numpy(case.rng().permuted(np.arange(6 * case.n).reshape(2, 3, -1) % case.n > 0, axis=-1))
    batched = run_rule(rule, x, f, mask=mask)
    for i in np.ndindex(2, 3):
        required = {"honest": torch.arange(case.n) >= case.f} if "honest" in rule.required_inputs else {}
        close(batched[i], run_rule(rule, x[i], int(f[i]), mask=mask[i], **required), scale=x.abs().max())
    unmasked = run_rule(rule, x, case.f)
    for i in np.ndindex(2, 3):
        close(unmasked[i], run_rule(rule, x[i], case.f), scale=x.abs().max())


def an_invalid_vector_is_as_good_as_none(rule: Aggregator, case: RuleCase) -> None:
    """Check that masked vectors have no influence on the value."""
    x, mask = case.x(), torch.ones(case.n, dtype=torch.bool)
    mask[[2, 4]] = False
    x[2], x[4] = 1e30, 0
    close(run_rule(rule, x, 2, mask=mask), run_rule(rule, x[mask], 2), scale=x[mask].abs().max())


def the_weights_give_the_value(rule: Aggregator, case: RuleCase) -> None:
    """Check that a linear rule returns float64 weights with value = weights @ x, zero at masked vectors."""
    x, mask = case.x(), torch.ones(case.n, dtype=torch.bool)
    mask[4] = False
    value, weights, _ = call(rule, x, case.f, mask=mask)
    assert rule.traits.linear == (weights is not None)
    if weights is not None:
        assert weights.dtype == torch.float64
        assert not weights[~mask].any()
        close(weights @ x, value)


def the_weights_sum_to_one(rule: Aggregator, case: RuleCase) -> None:
    """Check that the weights of a linear rule sum to one."""
    weights = call(rule, case.x(), case.f).weights
    assert weights is None or abs(float(weights.sum()) - 1) < 1e-6


def craft_outliers(case: RuleCase) -> Iterator[Tensor]:
    """Yield Byzantine vectors [f, d] for f = 2: far from the honest mean, in equal or opposite directions.

    The largest ones overflow in float32 when squared.
    """
    honest = case.x()[case.f :]
    spread, signs = float((honest - honest.mean(0)).norm(dim=-1).max()), torch.tensor([[1.0], [-1.0]])
    for factor in (2, 10, 1e4, 1e8, 1e16):
        yield (factor * spread + honest.mean(0)).expand(case.f, -1)
        yield factor * spread * signs + honest.mean(0)
    yield torch.full((case.f, case.d), 1e30)
    yield 1e30 * signs * torch.ones(case.d)
    yield torch.cat([honest[:1] + 3 * spread, torch.full((1, case.d), -1e30)])


def outliers_move_it_by_no_more_than_the_honest_spread(rule: Aggregator, case: RuleCase) -> None:
    """Check that for any f Byzantine vectors the value is within three honest radii of the honest mean."""
    honest = case.x()[case.f :]
    spread = (honest - honest.mean(0)).norm(dim=-1).max()
    for dtype in (torch.float64, torch.float32):
        for byzantine in craft_outliers(case):
            value = run_rule(rule, torch.cat([byzantine, honest]).to(dtype), case.f)
            assert float((value.double() - honest.mean(0)).norm()) <= 3 * float(spread)


def far_outliers_do_less_to_it_than_to_the_mean(rule: Aggregator, case: RuleCase) -> None:
    """Check that the error under far Byzantine vectors is at most a third of the error of the mean."""
    honest = case.x()[case.f :]
    x = torch.cat([honest[: case.f] + 100 * case.scale, honest])
    error = (run_rule(rule, x, case.f) - honest.mean(0)).norm()
    assert 3 * error <= (x.mean(0) - honest.mean(0)).norm()


def huge_outliers_cost_no_precision(rule: Aggregator, case: RuleCase) -> None:
    """Check that Byzantine vectors at 1e30 give the same value as those at a million standard deviations."""
    honest = case.x()[case.f :]
    far, extreme = (torch.cat([torch.full((case.f, case.d), value), honest]) for value in (1e6 * case.scale, 1e30))
    close(run_rule(rule, extreme, case.f), run_rule(rule, far, case.f), 1e-5, scale=case.scale)


def kappa_holds_for_every_honest_subset(rule: Aggregator, case: RuleCase) -> None:
    """Check ||value - mean(S)||^2 <= kappa / |S| sum_S ||x_i - mean(S)||^2 for all S of n - f <= 9 inputs.

    S contains Byzantine inputs too. A rule that declares no kappa passes.
    """
    rng = case.rng()
    for n, f in ((5, 1), (7, 1), (7, 2), (9, 0), (9, 2), (9, 3)):
        kappa = rule.kappa(n, f) if rule.guarantee(n, f) else None
        if kappa is None:
            continue
        x = case.scale * torch.from_numpy(rng.standard_normal((n, case.d)))
        for distance in (0.0, 0.5, 1.5, 4.0, 30.0):
            x_attacked = x.clone()
            x_attacked[:f] = distance * case.scale + 0.1 * distance * x_attacked[:f]
            value = run_rule(rule, x_attacked, f)
            subsets = torch.tensor(list(combinations(range(n), n - f)))
            means = x_attacked[subsets].mean(1)
            spread = (x_attacked[subsets] - means.unsqueeze(1)).square().sum(-1).mean(-1)
            error = (value - means).square().sum(-1)
            assert (error <= kappa * spread * (1 + 1e-9) + 1e-18 * case.scale**2 * (1 + distance) ** 2).all()


CASES = (RuleCase(0, 4, 1.0), RuleCase(1, 1, 1e-3), RuleCase(2, 7, 1e3))
CHECKS: tuple[Check, ...] = (
    it_returns_a_value_weights_and_a_state,
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
    outliers_move_it_by_no_more_than_the_honest_spread,
    far_outliers_do_less_to_it_than_to_the_mean,
    huge_outliers_cost_no_precision,
    kappa_holds_for_every_honest_subset,
)
FORM: tuple[Check, ...] = (it_returns_a_value_weights_and_a_state,)
"""The checks of shapes and types, without which the others cannot run."""
