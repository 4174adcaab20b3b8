"""The split coin: agents see different draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Coin


@dataclass(frozen=True)
class SplitCoin(Coin):
    """Two independent draws: a random half of the K agents sees the second, and the rest the first.

    It models a common coin for which Byzantine agents send different values to different agents. The first draw equals
    the shared coin's. Agents disagree as often as two draws differ: with probability 2 p (1 - p) for Bernoulli(p).

    Source: this project; a weak coin, one that may fail to be common, is a standard notion in Byzantine agreement.

    Example:
        >>> SplitCoin()(lambda rng: float(rng.integers(10)), 4, np.random.default_rng(0))
        tensor([8., 8., 6., 6.], dtype=torch.float64)
    """

    source: ClassVar[str] = "this project"

    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """Draw twice, and assign the draws to agents at random."""
        draws = torch.tensor([draw(rng), draw(rng)], dtype=torch.float64)
        second = torch.from_numpy(rng.permutation(agents)) < agents // 2
        return draws[second.long()]
