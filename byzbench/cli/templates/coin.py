"""A source of common randomness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Coin


@dataclass(frozen=True)
class NewComponent(Coin):
    """A draw shared by all agents, of which each misses it with some probability and uses a draw of its own.

    Attributes:
        miss_prob: the probability that an agent misses the common draw.

    Example:
        >>> NewComponent(miss_prob=0.0)(lambda rng: rng.random(), 3, np.random.default_rng(0)).unique().numel()
        1
    """

    miss_prob: Annotated[float, Field(ge=0, le=1, description="probability that an agent misses the draw")] = 0.1

    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """Return the value of each agent, float64 [K]."""
        # Change: who obtains which value. Override `cost` if a draw needs messages.
        common = draw(rng)
        values = [draw(rng) if rng.random() < self.miss_prob else common for _ in range(agents)]
        return torch.tensor(values, dtype=torch.float64)
