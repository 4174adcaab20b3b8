"""Signs: one bit per coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from byzbench.core import MessageFormat
from byzbench.core.compressed_channel import CompressedChannel


@dataclass(frozen=True)
class Sign(CompressedChannel):
    """The sign of each coordinate, times their mean magnitude: m = (||x||_1 / d) sign(x), at d + 32 bits.

    Source: Karimireddy, Rebjock, Stich, Jaggi 2019, arXiv 1901.09847 (EF-signSGD).

    Example:
        >>> import torch
        >>> Sign().compress(torch.tensor([[1.0, -2.0, 3.0]]), np.random.default_rng(0))
        tensor([[ 2., -2.,  2.]])
    """

    source: ClassVar[str] = "Karimireddy et al. 2019, arXiv 1901.09847"

    def pack(self, form: MessageFormat, d: int) -> MessageFormat:
        """Return the format of the same numbers at one bit each, and their magnitude."""
        return MessageFormat(form.num_values, 1, form.extra_bits + 32)

    def compress(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the signs times the mean magnitude.

        Zero has the sign +1, as one bit has two values.
        """
        return x.abs().mean(1, keepdim=True) * (1 - 2 * (x < 0).to(x.dtype))
