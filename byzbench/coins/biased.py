"""The biased coin: the adversary sometimes sets the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Coin


@dataclass(frozen=True)
class BiasedCoin(Coin):
    """A draw shared by all K agents, which the adversary replaces by its own value with some probability.

        c = value with probability q, else the honest draw

    The honest draw equals the shared coin's, so that runs with either coin are paired. Protocols without a trusted
    set-up can provide a coin of this kind. Its cost is that of commit and reveal, the simplest of them: each agent
    sends to all others a digest of 32 bytes, then the value and a nonce, 8 and 16 bytes. The agent that reveals last
    may refuse.

    Source: this project; coins of bounded bias are common in the literature on Byzantine agreement.

    Attributes:
        q: the probability that the adversary sets the value.
        value: the adversary's value; for methods of the PAGE family 0 is a small batch and 1 a large one.

    Example:
        >>> coin = BiasedCoin(q=1.0, value=1.0)
        >>> coin(lambda rng: 0.0, 3, np.random.default_rng(0))
        tensor([1., 1., 1.], dtype=torch.float64)
    """

    q: Annotated[float, Field(ge=0, le=1, description="probability that the adversary sets the value")] = 0.5
    value: Annotated[float, Field(description="the adversary's value")] = 0.0

    source: ClassVar[str] = "this project"

    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """Draw, then replace the draw with probability q.

        The draw comes first so that it equals the shared coin's.
        """
        honest = draw(rng)
        return torch.full((agents,), self.value if rng.random() < self.q else honest, dtype=torch.float64)

    def cost(self, agents: int) -> Sequence[tuple[int, int]]:
        """Return the messages of commit and of reveal."""
        return ((agents - 1, 32), (agents - 1, 24))
