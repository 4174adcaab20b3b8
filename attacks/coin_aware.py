"""Coin-aware attack: an inner attack in the rounds of large, or of small, batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.attacks._wrapped import Intermittent
from byzbench.contracts import Choice, State
from byzbench.contracts.adversary import Knowledge

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class CoinAware(Intermittent):
    """Wrapper that applies the inner attack in rounds of large, or of small, batches: `coin_aware(alie(z=1.5))`.

        large in round t if c_t = 1, t = 0, or no coin was drawn

    A method of the PAGE family (Gargiani et al. 2022, arXiv 2202.00308) draws a common coin c_t for the size of its
    batch. An error in a large batch stays in the reference for about 1/p rounds. In a small batch honest vectors are
    closer to each other, but the correction that they make is small.

    Source: ours; Jordan et al. 2024, arXiv 2401.03489, for the coin.
    """

    source: ClassVar[str] = "this project"
    needs: ClassVar[frozenset[Knowledge]] = frozenset({"coin"})
    strike: Annotated[
        Literal["large", "small"],
        Field(description="size of the batches in whose rounds it is applied"),
        Choice("large", "small"),
    ] = "large"

    def strikes(self, view: View, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """Return whether the batch of this round has the chosen size, by the coin of the first of these agents."""
        large = view.round == 0 or view.coin is None or bool(view.coin[0])
        return large == (self.strike == "large"), {}
