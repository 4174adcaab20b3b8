"""A byte budget: a message says as much of its vector as fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.channels._codec import Codec, keep, places
from byzbench.contracts import Format, Range


@dataclass(frozen=True)
class ByteBudget(Codec):
    """No message is longer than so many bytes: it says its largest coordinates, as many as fit, and which they are.

    k = floor(8 bytes / (32 + ceil(log2 d))) of them, but one at least; a vector that fits whole is sent whole.
    """

    bytes: Annotated[int, Field(ge=8, description="the most that a message may take"), Range(64, 4096, log=True)] = 256

    def pack(self, form: Format, d: int) -> Format:
        """As many numbers as fit."""
        k = self._fits(d)
        return form if k >= d else Format(k, form.width, form.extra + k * places(d))

    def code(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Zero but for what fits."""
        k = self._fits(x.shape[1])
        return x if k >= x.shape[1] else keep(x, x.abs().argsort(dim=1, descending=True, stable=True)[:, :k])

    def _fits(self, d: int) -> int:
        return d if 4 * d <= self.bytes else max(1, 8 * self.bytes // (32 + places(d)))
