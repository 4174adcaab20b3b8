"""Nearest-neighbour mixing: every vector becomes the mean of its neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from byzbench.aggregators._pre import Mixing, both
from byzbench.aggregators.krum import lowest
from byzbench.geometry.cloud import Cloud, array, tensor


@dataclass(frozen=True)
class Nnm(Mixing):
    """An inner rule on n vectors, each the mean of the n - f inputs nearest to one of them, itself included.

    Formula: y_i = (1/(n - f)) sum of x_j over the n - f least ||x_i - x_j||, of equals the first; value = inner(y, f).
    Honest y lie closer together than honest x, and a liar's y is n - 2f parts honest.

    Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan 2023, arXiv 2302.01772.

    Attributes:
        inner: the rule for the means.
    """

    source: ClassVar[str] = "Allouah et al. 2023, arXiv 2302.01772"
    share: ClassVar[str] = "n^2 d"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """An honest majority, and the inner rule's condition."""
        return both("n >= 2f + 1", self.inner.requires)

    def defined(self, n: int, f: int) -> bool:
        """Somebody is near, and the inner rule is defined."""
        return (n > f) & self.inner.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority, and the inner rule's."""
        return (n >= 2 * f + 1) & self.inner.guarantee(n, f)

    def kappa(self, n: int, f: int) -> float | None:
        """8f/(n-f) (1 + kappa) of the inner rule's: attributed to Allouah et al. 2023, arXiv 2302.01772."""
        inner = self.inner.kappa(n, f)
        return None if inner is None or n < 2 * f + 1 else 8 * f / (n - f) * (1 + inner)

    def mix(self, cloud: Cloud, f: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """See `Mixing.mix`."""
        valid = array(cloud.mask)
        count = np.asarray(np.add.reduce(valid, -1) - array(f))[..., None]
        near = lowest(np.where(valid[..., None, :], array(cloud.squared_distances), np.inf), count) & valid[..., None]
        return tensor(near / count[..., None], f), cloud.mask
