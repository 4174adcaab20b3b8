"""Minimum-diameter averaging (MDA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights
from byzbench.geometry.subsets import EFFORT


@dataclass(frozen=True)
class Mda(LinearRule):
    """The mean of the n - f vectors of least diameter, found exactly.

    Formula: value = (1/(n - f)) sum of x_i over S, where S has the least max ||x_i - x_j|| over i, j in S among all
    subsets of n - f indices.

    Source: Rousseeuw 1985, "Multivariate estimation with high breakdown point"; as an aggregation rule El-Mhamdi et al.
    2021, arXiv 2008.00742.

    Differs from the source in: of several subsets of least diameter (they are common, also in random data) it takes the
    lexicographically first. Where distances are arranged so that the search ends early, with the warning
    `InexactSearch`, the diameter of the subset is at most twice the least one.

    Attributes:
        effort: the maximum number of vertices that the search visits for one receiver.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Mda()(x, 1)[0]
        tensor([2.])
    """

    effort: Annotated[int, Field(ge=1, description="maximum number of vertices visited by the exact search")] = EFFORT

    source: ClassVar[str] = "El-Mhamdi et al. 2021, arXiv 2008.00742"
    cost: ClassVar[str] = "n^2 d, and exponential in f where distances are hostile"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return 8f^2/(n-f).

        It follows from ||value - mean(S)|| <= 2f/(n-f) times the diameter of S, whose square is at most 2 V, with V the
        sum of ||x_i - mean(S)||^2 over S. The diameters of both subsets are at most that of S, and they share a vector.
        """
        return 8 * f**2 / (n - f) if self.defined(n, f) else None

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the subset of least diameter."""
        chosen, _ = pairs.min_diameter_subsets(f, self.effort)
        return uniform_weights(chosen), {}
