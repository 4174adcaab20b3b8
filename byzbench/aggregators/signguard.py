"""SignGuard: the mean of the vectors of common length whose signs are in the largest cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import value_at
from byzbench.aggregators.median import ascending, middle
from byzbench.aggregators.rfa import TINY
from byzbench.core import Aggregator, FloatRange, RuleContext, RuleOutput, RuleTraits, weighted_sum
from byzbench.geometry.pairwise_distances import to_array, to_tensor


@dataclass(frozen=True)
class Signguard(Aggregator):
    """The mean of the vectors of common length and most common signs, clipped to the median length.

    Formula: M = the median of the ||x_i||. S1 = {i: L M <= ||x_i|| <= R M}. On a random share of the coordinates, let
    p_i, z_i, m_i be the fractions of x_i that are positive, zero and negative, each divided by its maximum over i; S2 =
    the largest cluster of the points (p_i, z_i, m_i) by mean shift. value = the mean of x_i min(1, M / ||x_i||) over
    the intersection of S1 and S2. It does not read f.

    The bandwidth h of the mean shift is the mean distance of the points to their floor(quantile n)-th nearest point,
    counting themselves. Every point moves to the mean of the points within h until it no longer moves. Among end points
    within h of each other the one with the most points is the centre, of ties that with the greatest p, z, m. A point
    belongs to the nearest centre, if within h.

    All receivers of one call share the coordinates; without an `rng` they are always the same.

    Source: Xu, Huang, Song, Lan 2022, "Byzantine-robust federated learning through collaborative malicious gradient
    filtering", ICDCS (arXiv 2109.05872), algorithm 2; details as in the authors' code, whose scikit-learn MeanShift
    this follows.

    Differs from that code in: coordinates are drawn anywhere, not as a window of consecutive ones; the median of an
    even count is the mean of the middle two; all points are moved, not one per bin; h = 0 joins equal points; and where
    S1 and S2 are disjoint, S1 is used alone (never empty: some length is between M and 2M). On 200
    inputs, and on the coordinates of that code, 75 values are the same; with `compat="official"` 197 are, and rounding
    to float32 decides the others (`benchmarks/conventions.py`).

    Attributes:
        lower: L.
        upper: R.
        fraction: the share of the coordinates.
        quantile: the rank of the neighbour whose distance is averaged in the bandwidth, as a fraction of n.
        compat: "official" selects as the authors' code does: the coordinates are consecutive, the lengths strictly
            inside the bounds, and mean shift moves the centres of the cells of width h that hold points, not the points
            (unless every point has a cell of its own); vectors are clipped to the lower median length of an even count.
            Left are three cases in which that code has no value, or draws: h = 0, disjoint S1 and S2, n > 50.

    Example:
        >>> x = torch.tensor([[1.0, 1.0], [1.0, 2.0], [2.0, 1.0], [-50.0, 50.0]])
        >>> Signguard(fraction=1.0)(x, 1)[0].round(decimals=2)
        tensor([1.3300, 1.3300])
    """

    lower: Annotated[float, Field(ge=0, le=1, description="minimum length, in median lengths"), FloatRange(0, 1)] = 0.1
    upper: Annotated[float, Field(ge=2, description="maximum length, in median lengths"), FloatRange(2, 10)] = 3.0
    fraction: Annotated[float, Field(gt=0, le=1, description="share of the coordinates"), FloatRange(0.05, 1)] = 0.1
    quantile: Annotated[
        float, Field(gt=0, le=1, description="quantile of the mean shift's bandwidth"), FloatRange(0.1, 0.9)
    ] = 0.5
    compat: Annotated[
        Literal["exact", "official"],
        Field(description="as in the formula, or as the authors' code selects and clips"),
    ] = "exact"

    source: ClassVar[str] = "Xu et al. 2022, arXiv 2109.05872"
    cost: ClassVar[str] = "n d, and n^2 a step of the mean shift"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, random=True)
    requires: ClassVar[str] = "n >= 2f + 1, and honest vectors of like length and signs"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest.

        That honest signs are alike is the source's assumption.
        """
        return (n >= 1) & (n >= 2 * f + 1)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the vectors of the largest cluster; see `Aggregator.aggregate`."""
        valid = context.mask_of(x)
        lengths = context.distances_of(x).norms
        ordered, count = ascending(to_array(lengths)[..., None], to_array(valid))
        median_length = largest_length = to_tensor(middle(ordered, count), x)
        has_common_length = valid & (lengths >= self.lower * median_length) & (lengths <= self.upper * median_length)
        if self.compat == "official":
            largest_length = to_tensor(value_at(ordered, (count - 1) // 2), x)
            has_common_length &= (lengths > self.lower * median_length) & (lengths < self.upper * median_length)
        rng = context.rng or np.random.default_rng(0)
        points = self._signs(x, valid, rng)
        in_cluster = largest_cluster(points, valid, self.quantile, by_cell=self.compat == "official")
        selected = has_common_length & in_cluster
        selected = selected.where(selected.any(-1, keepdim=True), has_common_length)
        scales = (largest_length / lengths.clamp_min(TINY)).clamp_max(1).where(lengths > 0, 1)
        weights = selected * scales / selected.sum(-1, keepdim=True)
        return RuleOutput(weighted_sum(weights, x), weights, {})

    def _signs(self, x: Tensor, valid: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the points (p_i, z_i, m_i), [..., n, 3]."""
        d = x.shape[-1]
        count = max(1, int(self.fraction * d))
        if self.compat == "official":
            chosen = np.arange(count) + rng.integers(max(1, d - count))
        else:
            chosen = np.sort(rng.choice(d, count, replace=False))
        signs = x[..., torch.from_numpy(chosen).to(x.device)].sign()
        shares = torch.stack([(signs == sign).double().mean(-1) for sign in (1, 0, -1)], -1) * valid.unsqueeze(-1)
        return shares / shares.amax(-2, keepdim=True).clamp_min(TINY)


def largest_cluster(points: Tensor, valid: Tensor, quantile: float, by_cell: bool = False) -> Tensor:
    """Return which of the points [..., n, k] belong to the largest cluster of mean shift: bool [..., n].

    Args:
        points: [..., n, k], of coordinates in [0, 1].
        valid: [..., n] bool.
        quantile: the rank, as a fraction of n, of the neighbour whose distance is averaged in the bandwidth.
        by_cell: whether mean shift moves one point of each cell; see `mean_shift_cluster`.
    """
    from byzbench.geometry.mean_shift import mean_shift_cluster  # a local import, as loading Numba takes time

    n, k = points.shape[-2:]
    values, is_valid = to_array(points).reshape(-1, n, k), to_array(valid).reshape(-1, n)
    is_member = np.zeros(is_valid.shape, np.bool_)
    for row, received in enumerate(is_valid):
        is_member[row, received] = mean_shift_cluster(values[row, received], quantile, by_cell)
    return to_tensor(is_member.reshape(valid.shape), valid)
