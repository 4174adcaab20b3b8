"""The mean, which is not robust: the baseline of every defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from byzbench.core import LinearRule, RuleContext, RuleOutput, State
from byzbench.core.rules import to_vectors
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights


@dataclass(frozen=True)
class Mean(LinearRule):
    """The average of the valid vectors.

    Formula: value = (1/n) sum_i x_i. A single Byzantine vector can move it by any amount.

    Source: McMahan et al. 2017, arXiv 1602.05629 (FedAvg), with equal weights: a weight that its sender reports, such
    as a sample count, could be reported falsely.
    """

    source: ClassVar[str] = "McMahan et al. 2017, arXiv 1602.05629"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "f = 0"

    def __call__(self, x: ArrayLike | Tensor, f: Tensor | int = 0, context: RuleContext | None = None) -> RuleOutput:
        """Aggregate the vectors of each inbox; see `Aggregator.__call__`.

        In float64 the sum is divided by n, so that the mean is exact where the sum is.

        Example:
            >>> Mean()([[1.0], [4.0], [7.0]]).value.item()
            4.0
        """
        output = super().__call__(x, f, context)
        if output.weights is None or output.value.dtype != torch.float64:
            return output
        valid = (output.weights > 0).unsqueeze(-1)
        vectors = to_vectors(type(self).__name__, x)
        return output._replace(value=vectors.masked_fill(~valid, 0.0).sum(-2) / valid.sum(-2))

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether f = 0."""
        return f == 0

    def kappa(self, n: int, f: int) -> float | None:
        """Return zero for f = 0; else None, as there is no bound."""
        return 0.0 if f == 0 else None

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give weight 1/n to each valid vector."""
        return uniform_weights(pairs.mask), {}
