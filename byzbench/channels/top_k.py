"""Top-k: a message contains its largest coordinates only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core import FloatRange, MessageFormat
from byzbench.core.compressed_channel import CompressedChannel, index_bits, select_coordinates


@dataclass(frozen=True)
class TopK(CompressedChannel):
    """The k = ceil(share d) coordinates of largest magnitude, and their indices: k (32 + ceil(log2 d)) bits.

    Of equal magnitudes the first ones are sent.

    Source: Stich, Cordonnier, Jaggi 2018, arXiv 1809.07599.

    Attributes:
        share: the share of the coordinates that is sent.

    Example:
        >>> import torch
        >>> TopK(share=0.5).compress(torch.tensor([[1.0, -4.0, 3.0, 2.0]]), np.random.default_rng(0))
        tensor([[ 0., -4.,  3.,  0.]])
    """

    source: ClassVar[str] = "Stich et al. 2018, arXiv 1809.07599"
    share: Annotated[
        float, Field(gt=0, le=1, description="share of the coordinates"), FloatRange(0.01, 1.0, log=True)
    ] = 0.1

    def pack(self, form: MessageFormat, d: int) -> MessageFormat:
        """Return the format of k numbers, each with its index."""
        k = _count(self.share, d)
        return MessageFormat(k, form.bits_per_value, form.extra_bits + k * index_bits(d))

    def compress(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return x at the k largest coordinates, and zero elsewhere."""
        order = x.abs().argsort(dim=1, descending=True, stable=True)
        return select_coordinates(x, order[:, : _count(self.share, x.shape[1])])


def _count(share: float, d: int) -> int:
    """Return k for d coordinates."""
    return max(1, int(np.ceil(share * d)))
