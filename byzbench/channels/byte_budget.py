"""A byte budget: each message contains as many coordinates as fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core import FloatRange, MessageFormat
from byzbench.core.compressed_channel import CompressedChannel, index_bits, select_coordinates


@dataclass(frozen=True)
class ByteBudget(CompressedChannel):
    """A maximum message size: a message contains its largest coordinates, as many as fit, and their indices.

    k = floor(8 bytes / (32 + ceil(log2 d))) coordinates, but at least one; a vector that fits is sent whole.

    Attributes:
        bytes: the maximum size of a message.

    Example:
        >>> from byzbench.core import MessageFormat
        >>> ByteBudget(bytes=64).pack(MessageFormat(1000), 1000).bytes
        63
    """

    bytes: Annotated[
        int, Field(ge=8, description="maximum size of a message in bytes"), FloatRange(64, 4096, log=True)
    ] = 256

    def pack(self, form: MessageFormat, d: int) -> MessageFormat:
        """Return the format of the k coordinates that fit."""
        k = self._num_coordinates(d)
        return form if k >= d else MessageFormat(k, form.bits_per_value, form.extra_bits + k * index_bits(d))

    def compress(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return x at the k largest coordinates, and zero elsewhere."""
        k = self._num_coordinates(x.shape[1])
        return (
            x if k >= x.shape[1] else select_coordinates(x, x.abs().argsort(dim=1, descending=True, stable=True)[:, :k])
        )

    def _num_coordinates(self, d: int) -> int:
        """Return how many of d coordinates fit into a message."""
        return d if 4 * d <= self.bytes else max(1, 8 * self.bytes // (32 + index_bits(d)))
