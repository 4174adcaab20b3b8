"""Quantisation: coordinates are rounded to a coarse scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import FloatRange, MessageFormat
from byzbench.core.compressed_channel import CompressedChannel


@dataclass(frozen=True)
class Quantise(CompressedChannel):
    """A stochastic rounding of each coordinate to one of s + 1 levels of its magnitude, which is unbiased.

        m_i = ||x|| sign(x_i) l_i / s,    l_i = floor(s |x_i| / ||x|| + U[0, 1)),    s = 2^(bits - 1) - 1

    A coordinate takes `bits` bits and the norm 32, without the source's code of variable length.

    Source: Alistarh, Grubic, Li, Tomioka, Vojnovic 2017, arXiv 1610.02132 (QSGD).

    Differs from the source in: error feedback by default; `norm=largest` replaces the norm by the largest coordinate,
    which uses all levels also for vectors of many coordinates.

    Attributes:
        bits: the bits of a coordinate, including its sign.
        norm: the unit of the levels.
    """

    source: ClassVar[str] = "Alistarh et al. 2017, arXiv 1610.02132"
    bits: Annotated[
        int, Field(ge=2, le=16, description="bits of a coordinate, including its sign"), FloatRange(2, 8)
    ] = 4
    norm: Annotated[Literal["largest", "euclidean"], Field(description="unit of the levels")] = "largest"

    def pack(self, form: MessageFormat, d: int) -> MessageFormat:
        """Return the format of the same numbers at `bits` bits each, and the norm."""
        return MessageFormat(form.num_values, self.bits, form.extra_bits + 32)

    def compress(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Round each coordinate by the formula."""
        levels = 2 ** (self.bits - 1) - 1
        unit = x.abs().amax(1, keepdim=True) if self.norm == "largest" else x.norm(dim=1, keepdim=True)
        unit = torch.where(unit > 0, unit, 1.0)
        noise = torch.from_numpy(rng.random(tuple(x.shape), dtype=np.float32)).to(x.device)
        level = (levels * (x.abs() / unit) + noise).floor().clamp(max=levels)
        return x.sign() * unit * (level / levels)
