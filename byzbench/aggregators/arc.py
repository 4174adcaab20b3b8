"""ARC, adaptive robust clipping: clip the longest vectors to the length of the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.aggregators._clipped import ClippingPreAggregator
from byzbench.aggregators._ordered import Array
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.core import Aggregator
from byzbench.geometry.pairwise_distances import select_rows


@dataclass(frozen=True)
class Arc(ClippingPreAggregator):
    """An inner rule on the inputs, of which the k longest are shortened to the length of the next.

    Formula: k = floor(2 (f/n) (n - f)); C = the (k+1)-th largest ||x_i||; y_i = x_i min(1, C / ||x_i||); value =
    inner(y, f). As f <= k < n - f, no vector stays longer than the longest honest one, and some honest vector is not
    changed. An inner rule that is (f, kappa)-robust stays robust, with kappa + 2f/(n - 2f).

    Lengths are measured from the origin, so the rule is not equivariant to translations of its inputs.

    Source: Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan 2024, arXiv 2405.14432.

    Attributes:
        inner: the rule that aggregates the shortened vectors.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [100.0]])
        >>> Arc()(x, 1)[0]
        tensor([3.])
    """

    inner: Annotated[Aggregator, Field(description="rule that aggregates the transformed vectors")] = field(
        default_factory=TrimmedMean
    )

    source: ClassVar[str] = "Allouah et al. 2024, arXiv 2405.14432"
    share: ClassVar[str] = "n d"
    condition: ClassVar[str] = "n >= 2f + 1"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest and the inner rule has a guarantee."""
        return (n >= 2 * f + 1) & self.inner.guarantee(n, f)

    def kappa(self, n: int, f: int) -> float | None:
        """Return the inner rule's kappa plus 2f/(n-2f): Allouah et al. 2024, arXiv 2405.14432."""
        inner_kappa = self.inner.kappa(n, f)
        return None if inner_kappa is None or n < 2 * f + 1 else inner_kappa + 2 * f / (n - 2 * f)

    def radius_of(self, lengths: Array, valid: Array, f: Array) -> Array:
        """Return the (k+1)-th largest length of each set."""
        n = np.add.reduce(valid, -1)
        num_clipped = np.asarray(2 * f * (n - f) // n)
        ascending_lengths = np.sort(np.where(valid, lengths, -1), axis=-1)
        return select_rows(ascending_lengths, valid.shape[-1] - 1 - num_clipped)[..., None]
