"""Top-k: a message says its largest coordinates only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.channels._codec import Codec, keep, places
from byzbench.contracts import Format, Range


@dataclass(frozen=True)
class TopK(Codec):
    """The k coordinates of largest magnitude, and which they are: k (32 + ceil(log2 d)) bits.

    k = ceil(share d); of equal magnitudes the first ones.

    Source: Stich, Cordonnier, Jaggi 2018, arXiv 1809.07599.
    """

    source: ClassVar[str] = "Stich et al. 2018, arXiv 1809.07599"
    share: Annotated[float, Field(gt=0, le=1, description="share of the coordinates"), Range(0.01, 1.0, log=True)] = 0.1

    def pack(self, form: Format, d: int) -> Format:
        """K numbers, each with its place."""
        k = _count(self.share, d)
        return Format(k, form.width, form.extra + k * places(d))

    def code(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Zero but for the k largest."""
        order = x.abs().argsort(dim=1, descending=True, stable=True)
        return keep(x, order[:, : _count(self.share, x.shape[1])])


def _count(share: float, d: int) -> int:
    return max(1, int(np.ceil(share * d)))
