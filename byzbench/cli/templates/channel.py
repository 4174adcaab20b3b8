"""A channel: what happens to a message between its sender and its receivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core import Channel, State


@dataclass(frozen=True)
class NewComponent(Channel):
    """Round every value of a message to a multiple of `step`.

    Attributes:
        step: the distance of two values.

    Example:
        >>> import torch
        >>> NewComponent(step=0.5).encode(torch.tensor([[0.3, 1.1]]), {}, np.random.default_rng(0))[0]
        tensor([[0.5000, 1.0000]])
    """

    source: ClassVar[str] = ""
    step: Annotated[float, Field(gt=0, description="distance of two values")] = 0.125

    def encode(self, x: Tensor, memory: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Round the values; see `Channel.encode`."""
        # Change: what receivers decode, row by row. Override `pack` if messages have another size, and `draw_delays`
        # and `max_delay` if they are late or lost.
        return (x / self.step).round() * self.step, memory
