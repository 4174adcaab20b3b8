"""Quantisation: a message says its coordinates on a coarse scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.channels._codec import Codec
from byzbench.contracts import Format, Range


@dataclass(frozen=True)
class Quantise(Codec):
    """Each coordinate is rounded at random to one of s + 1 levels of its magnitude, so that it is right on average.

        m_i = ||x|| sign(x_i) l_i / s,    l_i = floor(s |x_i| / ||x|| + U[0, 1)),    s = 2^(bits - 1) - 1

    at `bits` bits a coordinate and 32 for the norm, without the source's code of variable length.

    Source: Alistarh, Grubic, Li, Tomioka, Vojnovic 2017, arXiv 1610.02132 (QSGD).

    Differs from the source in: error feedback by default; `norm=largest` measures by the largest coordinate, which
    wastes no levels on vectors of many coordinates.
    """

    source: ClassVar[str] = "Alistarh et al. 2017, arXiv 1610.02132"
    bits: Annotated[int, Field(ge=2, le=16, description="bits of a coordinate, its sign included"), Range(2, 8)] = 4
    norm: Annotated[Literal["largest", "euclidean"], Field(description="the unit of levels")] = "largest"

    def pack(self, form: Format, d: int) -> Format:
        """The same numbers, each of fewer bits, and the norm."""
        return Format(form.numbers, self.bits, form.extra + 32)

    def code(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """See the formula."""
        levels = 2 ** (self.bits - 1) - 1
        unit = x.abs().amax(1, keepdim=True) if self.norm == "largest" else x.norm(dim=1, keepdim=True)
        unit = torch.where(unit > 0, unit, 1.0)
        noise = torch.from_numpy(rng.random(tuple(x.shape), dtype=np.float32)).to(x.device)
        level = (levels * (x.abs() / unit) + noise).floor().clamp(max=levels)
        return x.sign() * unit * (level / levels)
