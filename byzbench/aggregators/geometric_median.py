"""The geometric median, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.rfa import TINY
from byzbench.contracts import LinearRule, State
from byzbench.geometry.cloud import Cloud

# Two vectors are one where their squared distance is within the rounding of the squares it is computed from.
ROUNDING = 1e-15


@dataclass(frozen=True)
class GeometricMedian(LinearRule):
    """The point of least total distance to the inputs, argmin_z sum_i ||x_i - z||.

    Formula: Weiszfeld's step T(z) = sum_i w_i x_i, w_i proportional to 1 / ||x_i - z|| over the inputs that are not at
    z; r(z) = ||sum_i (x_i - z) / ||x_i - z|| ||, their pull, and c(z) = the number of inputs that are at z; then

        z <- (1 - k) T(z) + k z,    k = min(1, c(z) / r(z))

    until no weight moves. Where r(z) <= c(z), z is the median, and k = 1. The steps start at the input of least r - c:
    if any input is the median it is that one, and none is then left that a step could get stuck in.

    Everything happens in weights, on the Gram matrix.

    Source: Vardi, Zhang 2000, "The multivariate L1-median and associated data depth", PNAS 97(4).

    Attributes:
        tolerance: steps end when no weight moves by more than this.
        steps: the most steps. Convergence is linear, and slow only where the median is close to an input.
    """

    tolerance: Annotated[float, Field(ge=0, description="a move of the weights that ends the steps")] = 1e-13
    steps: Annotated[int, Field(ge=1, description="the most steps")] = 1000

    source: ClassVar[str] = "Vardi, Zhang 2000, PNAS 97(4)"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """4 (1 + f/(n-2f))^2: Allouah et al. 2023, arXiv 2302.01772."""
        return 4 * (1 + f / (n - 2 * f)) ** 2 if self.guarantee(n, f) else None

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """The weights of the last step. Does not read f."""
        inputs = torch.eye(cloud.mask.shape[-1], dtype=torch.float64, device=f.device)
        _, unrest = _step(cloud, inputs)
        unrest = unrest.masked_fill(~cloud.mask, torch.inf)
        # Of an even count on a line two inputs are medians: the first, and not the one that rounding prefers.
        best = (unrest <= unrest.amin(-1, keepdim=True) + 1e-9).int().argmax(-1, keepdim=True)
        weights = inputs[best]
        moving = cloud.mask.any(-1)[..., None, None]
        for _ in range(self.steps):
            new, _ = _step(cloud, weights)
            # A row that has come to rest stays, whatever others in its batch still do.
            weights, move = weights.where(~moving, new), (new - weights).abs().amax(-1, keepdim=True)
            moving = moving & (move > self.tolerance)
            if not moving.any():
                break
        return weights.squeeze(-2), {}


def _step(cloud: Cloud, points: Tensor) -> tuple[Tensor, Tensor]:
    """One step from m points of each cloud, given and returned as weights [..., m, n]; and their r - c [..., m]."""
    squares = cloud.gram.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    towards = points @ cloud.gram
    lengths = (towards * points).sum(-1, keepdim=True)
    gaps = (squares - 2 * towards + lengths).clamp_min(0)
    valid = cloud.mask.unsqueeze(-2)
    here = valid & (gaps <= ROUNDING * (squares + lengths))
    pull = gaps.masked_fill(here | ~valid, torch.inf).rsqrt()
    total = pull.sum(-1, keepdim=True)
    aim = pull / total.clamp_min(TINY)
    way = aim - points
    r = total * ((way @ cloud.gram) * way).sum(-1, keepdim=True).clamp_min(0).sqrt()
    c = here.sum(-1, keepdim=True)
    stay = (c / r.clamp_min(TINY)).clamp_max(1)
    return stay * points + (1 - stay) * aim, (r - c).squeeze(-1)
