"""ARC: clip the longest vectors, no matter how long they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.aggregators._pre import PreAggregator, both
from byzbench.aggregators.clipping import clip
from byzbench.geometry.cloud import array, lengths, picked


@dataclass(frozen=True)
class Arc(PreAggregator):
    """An inner rule on the inputs, the k longest shortened to the length of the next.

    Formula: k = floor(2 (f/n) (n - f)); C = the (k+1)-th largest ||x_i||; y_i = x_i min(1, C / ||x_i||); value =
    inner(y, f). As f <= k < n - f, nothing stays longer than the longest honest vector, and some honest vector stays as
    it was; an inner rule that is (f, kappa)-robust stays so, with kappa + 2f/(n - 2f).

    Lengths are lengths from the origin: the value does not move with its inputs.

    Source: Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan 2024, arXiv 2405.14432.

    Attributes:
        inner: the rule for the shortened vectors.
    """

    source: ClassVar[str] = "Allouah et al. 2024, arXiv 2405.14432"
    share: ClassVar[str] = "n d"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """An honest majority, and the inner rule's condition."""
        return both("n >= 2f + 1", self.inner.requires)

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority, and the inner rule's."""
        return (n >= 2 * f + 1) & self.inner.guarantee(n, f)

    def kappa(self, n: int, f: int) -> float | None:
        """The inner rule's and 2f/(n-2f): Allouah et al. 2024, arXiv 2405.14432."""
        inner = self.inner.kappa(n, f)
        return None if inner is None or n < 2 * f + 1 else inner + 2 * f / (n - 2 * f)

    def transform(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        """See `PreAggregator.transform`."""
        valid = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
        length, there = array(lengths(x)), array(valid)
        n, bound = np.add.reduce(there, -1), array(torch.as_tensor(f))
        cut = np.asarray(2 * bound * (n - bound) // n)
        ascending = np.sort(np.where(there, length, -1), axis=-1)
        return clip(x, length, picked(ascending, there.shape[-1] - 1 - cut)[..., None]), valid
