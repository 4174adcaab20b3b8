"""Random-k: a message says some of its coordinates, drawn anew each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.channels._codec import Codec, keep
from byzbench.contracts import Format, Range


@dataclass(frozen=True)
class RandomK(Codec):
    """k = ceil(share d) coordinates drawn without replacement, the same ones at all senders of an exchange.

    A seed of 64 bits says which: 32 k + 64 bits. With error feedback values are sent as they are; without, they are
    scaled by d / k, which makes the message unbiased.

    Source: Stich, Cordonnier, Jaggi 2018, arXiv 1809.07599.

    Differs from the source in: the senders share the draw, so that honest messages stay comparable by distance.
    """

    source: ClassVar[str] = "Stich et al. 2018, arXiv 1809.07599"
    share: Annotated[float, Field(gt=0, le=1, description="share of the coordinates"), Range(0.01, 1.0, log=True)] = 0.1

    def pack(self, form: Format, d: int) -> Format:
        """K numbers and a seed."""
        return Format(max(1, int(np.ceil(self.share * d))), form.width, form.extra + 64)

    def code(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Zero but for those drawn."""
        d = x.shape[1]
        k = max(1, int(np.ceil(self.share * d)))
        drawn = torch.from_numpy(np.sort(rng.permutation(d)[:k])).to(x.device)
        return keep(x if self.feedback else x * (d / k), drawn.expand(len(x), -1))
