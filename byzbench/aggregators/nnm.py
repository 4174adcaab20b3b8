"""Nearest-neighbour mixing (NNM): replace every vector by the mean of its nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import lowest
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.core import Aggregator, AveragingPreAggregator, RuleContext
from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array, to_tensor


@dataclass(frozen=True)
class Nnm(AveragingPreAggregator):
    """An inner rule on n means, each of the n - f inputs nearest to one input, including itself.

    Formula: y_i = (1/(n - f)) sum of x_j over the n - f least ||x_i - x_j||, ties by index; value = inner(y, f). Honest
    y are closer together than honest x, and the y of a Byzantine agent averages at least n - 2f honest vectors.

    Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan 2023, arXiv 2302.01772.

    Attributes:
        inner: the rule that aggregates the means.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Nnm()(x, 1)[0]
        tensor([2.])
    """

    inner: Annotated[Aggregator, Field(description="rule that aggregates the transformed vectors")] = field(
        default_factory=TrimmedMean
    )

    source: ClassVar[str] = "Allouah et al. 2023, arXiv 2302.01772"
    share: ClassVar[str] = "n^2 d"
    condition: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether each mean has at least one input and the inner rule is defined."""
        return (n > f) & self.inner.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest and the inner rule has a guarantee."""
        return (n >= 2 * f + 1) & self.inner.guarantee(n, f)

    def kappa(self, n: int, f: int) -> float | None:
        """Return 8f/(n-f) (1 + the inner rule's kappa): attributed to Allouah et al. 2023, arXiv 2302.01772."""
        inner_kappa = self.inner.kappa(n, f)
        return None if inner_kappa is None or n < 2 * f + 1 else 8 * f / (n - f) * (1 + inner_kappa)

    def averaging_matrix(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, Tensor]:
        """Return the matrix that averages nearest neighbours; see `AveragingPreAggregator.averaging_matrix`."""
        valid = to_array(pairs.mask)
        count = np.asarray(np.add.reduce(valid, -1) - to_array(f))[..., None]
        is_near = (
            lowest(np.where(valid[..., None, :], to_array(pairs.squared_distances), np.inf), count) & valid[..., None]
        )
        return to_tensor(is_near / count[..., None], f), pairs.mask
