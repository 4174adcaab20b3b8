"""Smallest maximum eigenvalue averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.contracts import LinearRule, State
from byzbench.geometry.branching import EFFORT
from byzbench.geometry.cloud import Cloud, even
from byzbench.geometry.spread import least_eigenvalue


@dataclass(frozen=True)
class Smea(LinearRule):
    """The mean of the n - f vectors that vary least in their worst direction, found exactly.

    Formula: value = mean(S) = (1/(n - f)) sum of x_i over S, where S has the least lambda_max(C_S) among all subsets of
    n - f indices; C_S = (1/(n - f)) sum of (x_i - mean(S)) (x_i - mean(S))' over S, d x d.

    Source: Allouah, Guerraoui, Gupta, Pinot, Stephan 2023, "On the privacy-robustness-utility trilemma in distributed
    learning", ICML (arXiv 2302.04787).

    Differs from the source in: of several subsets of least eigenvalue, up to one part in 10^9, it takes the
    lexicographically first. Where the search ends early, which warns of an `InexactSearch`, the subset is one that has
    at most twice the least total variance, or one of a lesser eigenvalue.

    Attributes:
        effort: the most numbers that the search may compute for one receiver.
    """

    effort: Annotated[int, Field(ge=1, description="numbers the exact search may compute for one receiver")] = EFFORT

    source: ClassVar[str] = "Allouah et al. 2023, arXiv 2302.04787"
    cost: ClassVar[str] = "n^2 d, and exponential in f"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """An honest majority."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """4f/(n-2f), as `mva`: all the scatter between C and the rest is in one direction.

        So it bounds by lambda_max of S already, which is at most V, and the chosen subset's is no greater.
        """
        return 4 * f / (n - 2 * f) if self.defined(n, f) else None

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """Equal weights on the subset of least eigenvalue."""
        chosen, _ = least_eigenvalue(cloud.squared_distances, cloud.mask, f, self.effort)
        return even(chosen), {}
