"""Signs: one bit a coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from byzbench.channels._codec import Codec
from byzbench.contracts import Format


@dataclass(frozen=True)
class Sign(Codec):
    """The sign of each coordinate, all at their mean magnitude: m = (||x||_1 / d) sign(x), at d + 32 bits.

    Source: Karimireddy, Rebjock, Stich, Jaggi 2019, arXiv 1901.09847 (EF-signSGD).
    """

    source: ClassVar[str] = "Karimireddy et al. 2019, arXiv 1901.09847"

    def pack(self, form: Format, d: int) -> Format:
        """The same numbers of one bit each, and their magnitude."""
        return Format(form.numbers, 1, form.extra + 32)

    def code(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """See the formula; zero has the sign +1, as a bit has no third value."""
        return x.abs().mean(1, keepdim=True) * (1 - 2 * (x < 0).to(x.dtype))
