"""The split coin: agents see different tosses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Coin


@dataclass(frozen=True)
class SplitCoin(Coin):
    """Two independent draws: half of the K agents, another half each time, see the first, and the rest the second.

    It is what becomes of a common coin that liars can tell differently to different agents. The first draw is the
    shared coin's. Agents disagree as often as two draws differ: with probability 2 p (1 - p) for Bernoulli(p).

    Source: ours; a weak coin, one that may fail to be common, is a standard notion in Byzantine agreement.
    """

    source: ClassVar[str] = "this project"

    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """Draw twice, and deal."""
        tosses = torch.tensor([draw(rng), draw(rng)], dtype=torch.float64)
        second = torch.from_numpy(rng.permutation(agents)) < agents // 2
        return tosses[second.long()]
