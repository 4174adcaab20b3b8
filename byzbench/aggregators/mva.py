"""Minimum-variance averaging (MVA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.branching import EFFORT
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights
from byzbench.geometry.spread import least_variance


@dataclass(frozen=True)
class Mva(LinearRule):
    """The mean of the n - f vectors of least total variance, found exactly.

    Formula: value = mean(S) = (1/(n - f)) sum of x_i over S, where S has the least sum of ||x_i - mean(S)||^2 over S
    among all subsets of n - f indices.

    Source: Cuesta-Albertos, Gordaliza, Matran 1997, "Trimmed k-means: an attempt to robustify quantizers", Annals of
    Statistics 25(2), for k = 1; as an aggregation rule it comes with SMEA (Allouah et al. 2023, arXiv 2302.04787).

    Differs from the source in: of several subsets of least variance, up to one part in 10^9, it takes the
    lexicographically first. Where the search ends early, with the warning `InexactSearch`, the subset has at most twice
    the least variance.

    Attributes:
        effort: the maximum count of numbers that the search computes for one receiver.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Mva()(x, 1)[0]
        tensor([2.])
    """

    effort: Annotated[int, Field(ge=1, description="maximum count of numbers computed by the exact search")] = EFFORT

    source: ClassVar[str] = "Cuesta-Albertos, Gordaliza, Matran 1997, Annals of Statistics 25(2)"
    cost: ClassVar[str] = "n^2 d, and exponential in f where distances are hostile"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return 4f/(n-2f), which follows from the vectors that the selected subset and S share.

        Their intersection C is S without b <= f vectors, and has a = n - f - b >= n - 2f vectors. With V the mean of
        ||x_i - mean(S)||^2 over S, the scatter of S between C and the rest is (ab/(n-f)) ||mean(C) - mean(rest)||^2 and
        at most (n-f) V, so that ||mean(C) - mean(S)||^2 <= (b/a) V. The same holds for the selected subset, which has
        no more variance, and the two distances add up to at most 2 sqrt(fV/(n-2f)).
        """
        return 4 * f / (n - 2 * f) if self.defined(n, f) else None

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the subset of least variance."""
        chosen, _ = least_variance(pairs.squared_distances, pairs.mask, f, self.effort)
        return uniform_weights(chosen), {}
