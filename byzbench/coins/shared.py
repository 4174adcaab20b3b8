"""The shared coin: all agents see the same draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Coin


@dataclass(frozen=True)
class SharedCoin(Coin):
    """A draw shared by all K agents: common randomness of a trusted set-up, which no Byzantine agent can bias.

    Source: Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, whose official code tosses one global coin.

    Example:
        >>> SharedCoin()(lambda rng: float(rng.integers(10)), 3, np.random.default_rng(0))
        tensor([8., 8., 8.], dtype=torch.float64)
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"

    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """Draw once, for all agents."""
        return torch.full((agents,), draw(rng), dtype=torch.float64)
