"""Minimum-diameter averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.contracts import LinearRule, State
from byzbench.geometry.cloud import Cloud, even
from byzbench.geometry.subsets import narrowest


@dataclass(frozen=True)
class Mda(LinearRule):
    """The mean of the n - f vectors that lie closest together, found exactly.

    Formula: value = (1/(n - f)) sum of x_i over S, where S has the least max ||x_i - x_j|| over i, j in S among all
    subsets of n - f indices.

    Source: Rousseeuw 1985, "Multivariate estimation with high breakdown point"; as an aggregation rule El-Mhamdi et al.
    2021, arXiv 2008.00742.

    Differs from the source in: of several subsets of least diameter (they are common, random data included) it takes
    the lexicographically first. Where distances are arranged so that the search ends early, which warns of an
    `InexactSearch`, the subset may be up to twice as wide as the narrowest.

    Attributes:
        effort: the most vertices that the search may visit for one receiver.
    """

    effort: Annotated[int, Field(ge=1, description="vertices the exact search may visit for one receiver")] = 4_000_000

    source: ClassVar[str] = "El-Mhamdi et al. 2021, arXiv 2008.00742"
    cost: ClassVar[str] = "n^2 d, and exponential in f where distances are hostile"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """An honest majority."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """8f^2/(n-f), from ||value - mean(S)|| <= 2f/(n-f) times the diameter of S, whose square is at most 2 V.

        V is the sum of ||x_i - mean(S)||^2 over S. Both subsets are no wider than S, and share a vector.
        """
        return 8 * f**2 / (n - f) if self.defined(n, f) else None

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """Equal weights on the narrowest subset."""
        chosen, _ = narrowest(cloud.distances, cloud.mask, f, self.effort)
        return even(chosen), {}
