"""Smallest maximum eigenvalue averaging (SMEA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.branching import EFFORT
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights
from byzbench.geometry.spread import least_eigenvalue


@dataclass(frozen=True)
class Smea(LinearRule):
    """The mean of the n - f vectors of least variance in their worst direction, found exactly.

    Formula: value = mean(S) = (1/(n - f)) sum of x_i over S, where S has the least lambda_max(C_S) among all subsets of
    n - f indices; C_S = (1/(n - f)) sum of (x_i - mean(S)) (x_i - mean(S))' over S, d x d.

    Source: Allouah, Guerraoui, Gupta, Pinot, Stephan 2023, "On the privacy-robustness-utility trilemma in distributed
    learning", ICML (arXiv 2302.04787).

    Differs from the source in: of several subsets of least eigenvalue, up to one part in 10^9, it takes the
    lexicographically first. Where the search ends early, with the warning `InexactSearch`, the subset is one that has
    at most twice the least total variance, or one of a smaller eigenvalue. byzfl estimates each eigenvalue by a single
    step of the power method from a random vector: mostly it takes another subset, which changes from call to call.

    Attributes:
        effort: the maximum count of numbers that the search computes for one receiver.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Smea()(x, 1)[0]
        tensor([2.])
    """

    effort: Annotated[int, Field(ge=1, description="maximum count of numbers computed by the exact search")] = EFFORT

    source: ClassVar[str] = "Allouah et al. 2023, arXiv 2302.04787"
    cost: ClassVar[str] = "n^2 d, and exponential in f"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return 4f/(n-2f), derived as for `mva`.

        All the scatter between C and the rest is in one direction, so that lambda_max of S bounds it, which is at most
        V; that of the selected subset is no greater.
        """
        return 4 * f / (n - 2 * f) if self.defined(n, f) else None

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the subset of least eigenvalue."""
        chosen, _ = least_eigenvalue(pairs.squared_distances, pairs.mask, f, self.effort)
        return uniform_weights(chosen), {}
