"""Reward flip: liars who learn to lose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.contracts import Attack, Range, State, Taps, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class RewardFlip(Attack):
    """Each liar is paid the negative of every reward; what it then sends is computed honestly from those episodes.

        r'[k, t, n] = -scale * r[k, t, n],    k < f liars, t < T steps, n < N episodes

    For a method linear in the rewards it is `sign_flip` that nobody can see in the messages.

    Source: Fan et al. 2021, arXiv 2110.14074, official code.
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074, official code"
    scale: Annotated[
        float,
        Field(gt=0, description="size of the flipped rewards, in sizes of the true ones"),
        Range(0.1, 10, log=True),
    ] = 1.0

    @property
    def threat(self) -> Threat:
        """Blind: it needs its own environment only."""
        return Threat(surface=frozenset({"environment"}))

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """Flip the rewards of all liars."""
        return Taps(reward=lambda rewards: -self.scale * rewards), memory
