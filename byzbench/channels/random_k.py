"""Random-k: a message contains a random subset of its coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import FloatRange, MessageFormat
from byzbench.core.compressed_channel import CompressedChannel, select_coordinates


@dataclass(frozen=True)
class RandomK(CompressedChannel):
    """A random subset of k = ceil(share d) coordinates, shared by all senders of an exchange.

    The subset is drawn without replacement. A seed of 64 bits determines it: a message takes 32 k + 64 bits. With error
    feedback values are sent unchanged; without, they are scaled by d / k, which makes the message unbiased.

    Source: Stich, Cordonnier, Jaggi 2018, arXiv 1809.07599.

    Differs from the source in: the senders share the draw, so that distances between honest messages stay meaningful.

    Attributes:
        share: the share of the coordinates that is sent.
    """

    source: ClassVar[str] = "Stich et al. 2018, arXiv 1809.07599"
    share: Annotated[
        float, Field(gt=0, le=1, description="share of the coordinates"), FloatRange(0.01, 1.0, log=True)
    ] = 0.1

    def pack(self, form: MessageFormat, d: int) -> MessageFormat:
        """Return the format of k numbers and a seed."""
        return MessageFormat(max(1, int(np.ceil(self.share * d))), form.bits_per_value, form.extra_bits + 64)

    def compress(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return x at the drawn coordinates, and zero elsewhere."""
        d = x.shape[1]
        k = max(1, int(np.ceil(self.share * d)))
        drawn = torch.from_numpy(np.sort(rng.permutation(d)[:k])).to(x.device)
        return select_coordinates(x if self.feedback else x * (d / k), drawn.expand(len(x), -1))
