"""SignGuard: the mean of vectors of common length whose signs are shared by most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.median import median_of
from byzbench.aggregators.rfa import TINY
from byzbench.contracts import Aggregator, Range, State, weighted_sum
from byzbench.geometry.cloud import Cloud, array, tensor

# Features are in [0, 1]: what is closer together than this differs by rounding.
ROUNDING = 1e-9
STEPS = 300


@dataclass(frozen=True)
class Signguard(Aggregator):
    """The mean of the vectors that are neither short nor long and have the most common signs, cut to the median length.

    Formula: M = the median of the ||x_i||. S1 = {i: L M <= ||x_i|| <= R M}. On a random share of the coordinates, let
    p_i, z_i, m_i be the fractions of x_i that are positive, zero and negative, each divided by its maximum over i; S2 =
    the largest cluster of the points (p_i, z_i, m_i) by mean shift. value = the mean of x_i min(1, M / ||x_i||) over S1
    and S2. It does not read f.

    The bandwidth h of the mean shift is the mean distance of the points to the floor(quantile n)-th nearest, itself
    counted. Every point climbs to the mean of the points within h until it rests; of resting places within h of each
    other the most crowded is the centre, of equals that with the greatest p, z, m; a point belongs to the nearest
    centre, if within h.

    All receivers of one call share the coordinates; without an `rng` they are always the same.

    Source: Xu, Huang, Song, Lan 2022, "Byzantine-robust federated learning through collaborative malicious gradient
    filtering", ICDCS (arXiv 2109.05872), algorithm 2; details as in the authors' code, whose scikit-learn MeanShift
    this follows.

    Differs from that code in: coordinates anywhere, not a window of consecutive ones; the median of an even count is
    the mean of the middle two; all points climb, not one a bin; h = 0 joins equal points; and where S1 and S2 are
    disjoint, S1 alone (never empty: some length is between M and 2M).

    Attributes:
        lower: L.
        upper: R.
        fraction: the share of the coordinates.
        quantile: of how near a neighbour the distance is the bandwidth.
    """

    lower: Annotated[float, Field(ge=0, le=1, description="the least length, in median lengths"), Range(0, 1)] = 0.1
    upper: Annotated[float, Field(ge=2, description="the greatest length, in median lengths"), Range(2, 10)] = 3.0
    fraction: Annotated[float, Field(gt=0, le=1, description="share of the coordinates"), Range(0.05, 1)] = 0.1
    quantile: Annotated[float, Field(gt=0, le=1, description="bandwidth of the mean shift"), Range(0.1, 0.9)] = 0.5

    source: ClassVar[str] = "Xu et al. 2022, arXiv 2109.05872"
    cost: ClassVar[str] = "n d, and n^2 a step of the mean shift"
    linear: ClassVar[bool] = True
    random: ClassVar[bool] = True
    requires: ClassVar[str] = "n >= 2f + 1, and honest vectors of like length and signs"

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority; that honest signs are alike is the source's assumption."""
        return (n >= 1) & (n >= 2 * f + 1)

    def __call__(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        rng: np.random.Generator | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        valid = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        lengths = Cloud.of(x, valid).norms
        middle = tensor(median_of(array(lengths)[..., None], array(valid)), x)
        common = valid & (lengths >= self.lower * middle) & (lengths <= self.upper * middle)
        alike = largest_cluster(self._signs(x, valid, rng or np.random.default_rng(0)), valid, self.quantile)
        kept = common & alike
        kept = kept.where(kept.any(-1, keepdim=True), common)
        shortened = (middle / lengths.clamp_min(TINY)).clamp_max(1).where(lengths > 0, 1)
        weights = kept * shortened / kept.sum(-1, keepdim=True)
        return weighted_sum(weights, x), weights, {}

    def _signs(self, x: Tensor, valid: Tensor, rng: np.random.Generator) -> Tensor:
        """The points (p_i, z_i, m_i), [..., n, 3]."""
        d = x.shape[-1]
        chosen = np.sort(rng.choice(d, max(1, int(self.fraction * d)), replace=False))
        signs = x[..., torch.from_numpy(chosen).to(x.device)].sign()
        shares = torch.stack([(signs == sign).double().mean(-1) for sign in (1, 0, -1)], -1) * valid.unsqueeze(-1)
        return shares / shares.amax(-2, keepdim=True).clamp_min(TINY)


def largest_cluster(points: Tensor, valid: Tensor, quantile: float) -> Tensor:
    """Which of the points [..., n, k] belong to the largest cluster that mean shift finds: bool [..., n]."""
    gaps = _gaps(points, points).masked_fill(~valid.unsqueeze(-2), torch.inf)
    n = valid.sum(-1, keepdim=True)
    rank = ((quantile * n.double()).long().clamp_min(1) - 1).unsqueeze(-1)
    far = gaps.sort(-1).values.take_along_dim(rank, -1).squeeze(-1)
    h = (far.where(valid, 0).sum(-1, keepdim=True) / n).unsqueeze(-1) + ROUNDING

    places = points
    for _ in range(STEPS):
        near = (_gaps(places, points) <= h) & valid.unsqueeze(-2)
        moved = near.double() @ points / near.sum(-1, keepdim=True).clamp_min(1)
        rest = bool(((moved - places).abs().amax(-1) <= ROUNDING)[valid].all())
        places = moved
        if rest:
            break

    crowd = near.sum(-1).masked_fill(~valid, -1)
    order = _descending([crowd, *(places / ROUNDING).round().unbind(-1)])
    places, ranked = places.take_along_dim(order.unsqueeze(-1), -2), valid.gather(-1, order)
    centre, same = torch.zeros_like(valid), _gaps(places, places) <= h
    for i in range(valid.shape[-1]):
        centre[..., i] = ranked[..., i] & ~(same[..., i, :i] & centre[..., :i]).any(-1)

    gaps = _gaps(points, places).masked_fill(~centre.unsqueeze(-2), torch.inf)
    nearest = gaps.amin(-1, keepdim=True)
    belongs = (gaps <= nearest + ROUNDING).int().argmax(-1)
    member = valid & (nearest <= h).squeeze(-1)
    sizes = torch.zeros_like(belongs).scatter_add_(-1, belongs, member.long())
    return member & (belongs == sizes.argmax(-1, keepdim=True))


def _gaps(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(-2) - b.unsqueeze(-3)).norm(dim=-1)


def _descending(keys: list[Tensor]) -> Tensor:
    """The order [..., n] by the first key, of equals by the second, and so on; the greatest first."""
    order = torch.arange(keys[0].shape[-1], device=keys[0].device).expand(keys[0].shape)
    for key in reversed(keys):
        order = order.gather(-1, key.gather(-1, order).argsort(dim=-1, descending=True, stable=True))
    return order
