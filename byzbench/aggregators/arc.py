"""ARC, adaptive robust clipping: clip the longest vectors to the length of the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.aggregators._pre import PreAggregator, both
from byzbench.aggregators.clipping import clip
from byzbench.geometry.pairwise_distances import norms_from, select_rows, to_array


@dataclass(frozen=True)
class Arc(PreAggregator):
    """An inner rule on the inputs, of which the k longest are shortened to the length of the next.

    Formula: k = floor(2 (f/n) (n - f)); C = the (k+1)-th largest ||x_i||; y_i = x_i min(1, C / ||x_i||); value =
    inner(y, f). As f <= k < n - f, no vector stays longer than the longest honest one, and some honest vector is not
    changed. An inner rule that is (f, kappa)-robust stays robust, with kappa + 2f/(n - 2f).

    Lengths are measured from the origin, so the rule is not equivariant to translations of its inputs.

    Source: Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan 2024, arXiv 2405.14432.

    Attributes:
        inner: the rule that aggregates the shortened vectors.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [100.0]])
        >>> Arc()(x, 1)[0]
        tensor([3.])
    """

    source: ClassVar[str] = "Allouah et al. 2024, arXiv 2405.14432"
    share: ClassVar[str] = "n d"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the condition of an honest majority and the inner rule's condition."""
        return both("n >= 2f + 1", self.inner.requires)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest and the inner rule has a guarantee."""
        return (n >= 2 * f + 1) & self.inner.guarantee(n, f)

    def kappa(self, n: int, f: int) -> float | None:
        """Return the inner rule's kappa plus 2f/(n-2f): Allouah et al. 2024, arXiv 2405.14432."""
        inner_kappa = self.inner.kappa(n, f)
        return None if inner_kappa is None or n < 2 * f + 1 else inner_kappa + 2 * f / (n - 2 * f)

    def transform(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        """Shorten the k longest vectors; see `PreAggregator.transform`."""
        valid = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
        norms, is_valid = to_array(norms_from(x)), to_array(valid)
        n, num_byzantine = np.add.reduce(is_valid, -1), to_array(torch.as_tensor(f))
        num_clipped = np.asarray(2 * num_byzantine * (n - num_byzantine) // n)
        ascending_lengths = np.sort(np.where(is_valid, norms, -1), axis=-1)
        return clip(x, norms, select_rows(ascending_lengths, is_valid.shape[-1] - 1 - num_clipped)[..., None]), valid
