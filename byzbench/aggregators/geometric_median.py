"""The geometric median, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.rfa import TINY
from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.pairwise_distances import PairwiseDistances

# Two vectors count as equal if their squared distance is within the rounding error of the squares it is computed from.
ROUNDING = 1e-15


@dataclass(frozen=True)
class GeometricMedian(LinearRule):
    """The point of least total distance to the inputs, argmin_z sum_i ||x_i - z||.

    Formula: Weiszfeld's step T(z) = sum_i w_i x_i, w_i proportional to 1 / ||x_i - z|| over the inputs that are not at
    z; r(z) = ||sum_i (x_i - z) / ||x_i - z|| ||, and c(z) = the number of inputs that are at z; then

        z <- (1 - k) T(z) + k z,    k = min(1, c(z) / r(z))

    until no weight changes. Where r(z) <= c(z), z is the median, and k = 1. The steps start at the input of least r -
    c: if any input is the median it is that one, and otherwise no step can stop at an input.

    All computations are on weights, with the Gram matrix.

    Source: Vardi, Zhang 2000, "The multivariate L1-median and associated data depth", PNAS 97(4).

    Attributes:
        tolerance: the steps end when no weight changes by more than this.
        steps: the maximum number of steps. Convergence is linear, and slow only where the median is close to an input.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [100.0, 100.0]])
        >>> GeometricMedian()(x, 1)[0]
        tensor([0.7887, 0.7887])
    """

    tolerance: Annotated[float, Field(ge=0, description="change of the weights at which the steps end")] = 1e-13
    steps: Annotated[int, Field(ge=1, description="maximum number of steps")] = 1000

    source: ClassVar[str] = "Vardi, Zhang 2000, PNAS 97(4)"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return 4 (1 + f/(n-2f))^2: Allouah et al. 2023, arXiv 2302.01772."""
        return 4 * (1 + f / (n - 2 * f)) ** 2 if self.guarantee(n, f) else None

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the weights of the last step. It does not read f."""
        inputs = torch.eye(pairs.mask.shape[-1], dtype=torch.float64, device=f.device)
        _, excess = _step(pairs, inputs)
        excess = excess.masked_fill(~pairs.mask, torch.inf)
        # On a line two inputs of an even count are medians: the tolerance selects the first, independent of rounding.
        first = (excess <= excess.amin(-1, keepdim=True) + 1e-9).int().argmax(-1, keepdim=True)
        weights = inputs[first]
        active = pairs.mask.any(-1)[..., None, None]
        for _ in range(self.steps):
            next_weights, _ = _step(pairs, weights)
            # A converged row does not change any more, whatever the other rows of its batch do.
            weights, change = (
                weights.where(~active, next_weights),
                (next_weights - weights).abs().amax(-1, keepdim=True),
            )
            active = active & (change > self.tolerance)
            if not active.any():
                break
        return weights.squeeze(-2), {}


def _step(pairs: PairwiseDistances, points: Tensor) -> tuple[Tensor, Tensor]:
    """Make one step from m points of each set.

    Args:
        pairs: the inputs.
        points: [..., m, n], the points as weights of the inputs.

    Returns:
        The next points as weights [..., m, n], and their r - c [..., m].
    """
    squares = pairs.gram.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    products = points @ pairs.gram
    lengths = (products * points).sum(-1, keepdim=True)
    squared_distances = (squares - 2 * products + lengths).clamp_min(0)
    valid = pairs.mask.unsqueeze(-2)
    is_at_point = valid & (squared_distances <= ROUNDING * (squares + lengths))
    inverse_distances = squared_distances.masked_fill(is_at_point | ~valid, torch.inf).rsqrt()
    total = inverse_distances.sum(-1, keepdim=True)
    weiszfeld = inverse_distances / total.clamp_min(TINY)
    step = weiszfeld - points
    r = total * ((step @ pairs.gram) * step).sum(-1, keepdim=True).clamp_min(0).sqrt()
    c = is_at_point.sum(-1, keepdim=True)
    k = (c / r.clamp_min(TINY)).clamp_max(1)
    return k * points + (1 - k) * weiszfeld, (r - c).squeeze(-1)
