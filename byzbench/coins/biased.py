"""The biased coin: at times it shows what the adversary wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Coin


@dataclass(frozen=True)
class BiasedCoin(Coin):
    """One draw, the same at all K agents, which the adversary replaces by its own value with some probability.

        c = value with probability q, else the honest draw

    The honest draw is the same as the shared coin's, so that runs with either are paired. What protocols without a
    trusted set-up can promise is a coin of this kind. It costs what the simplest of them does, commit and reveal: to
    all others a digest of 32 bytes, then the value and a nonce, 8 and 16 bytes; who reveals last may refuse.

    Source: ours; the notion of a coin of bounded bias is common in the literature on Byzantine agreement.

    Attributes:
        q: how often the adversary decides.
        value: what it decides; for methods of the PAGE family 0 is a small batch and 1 a large one.
    """

    q: Annotated[float, Field(ge=0, le=1, description="probability that the adversary decides")] = 0.5
    value: Annotated[float, Field(description="what it decides")] = 0.0

    source: ClassVar[str] = "this project"

    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """Draw first, so that the draw is the shared coin's."""
        honest = draw(rng)
        return torch.full((agents,), self.value if rng.random() < self.q else honest, dtype=torch.float64)

    def cost(self, agents: int) -> Sequence[tuple[int, int]]:
        """Commit, then reveal."""
        return ((agents - 1, 32), (agents - 1, 24))
