"""The geometric median, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import Array
from byzbench.aggregators.rfa import TINY
from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array, to_tensor

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
        >>> import torch
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
        from byzbench.geometry.weiszfeld import iterate  # a local import, as loading Numba takes time

        n = pairs.mask.shape[-1]
        gram, mask = to_array(pairs.gram).reshape(-1, n, n), to_array(pairs.mask).reshape(-1, n)
        excess = np.where(mask, _excess(gram, mask), np.inf)
        # On a line two inputs of an even count are medians: the tolerance selects the first, independent of rounding.
        first = (excess <= np.minimum.reduce(excess, -1)[:, None] + 1e-9).argmax(-1)
        weights = np.zeros(mask.shape)
        weights[np.arange(len(mask)), first] = 1
        iterate(gram, mask, weights, self.steps, self.tolerance, ROUNDING, TINY)
        return to_tensor(weights.reshape(pairs.mask.shape), pairs.mask), {}


def _excess(gram: Array, mask: Array) -> Array:
    """Return r - c at each input: [R, n].

    Args:
        gram: float64 [R, n, n], the inner products.
        mask: bool [R, n], the valid inputs.
    """
    squares = gram.diagonal(axis1=-2, axis2=-1)
    sums = squares[:, :, None] + squares[:, None, :]
    distances = np.maximum(sums - 2 * gram, 0)
    is_at_input = mask[:, None, :] & (distances <= ROUNDING * sums)
    is_away = mask[:, None, :] & ~is_at_input
    inverse = is_away / np.sqrt(np.where(is_away, distances, 1))
    total = np.add.reduce(inverse, -1)
    step = inverse / np.maximum(total, TINY)[:, :, None] - np.eye(gram.shape[-1])
    square = np.vecdot(step @ gram, step)
    return np.asarray(total * np.sqrt(np.maximum(square, 0)) - np.add.reduce(is_at_input, -1))
