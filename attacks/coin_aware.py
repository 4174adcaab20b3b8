"""Coin-aware: liars who wait for the batches that suit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.attacks._wrapped import Sometimes
from byzbench.contracts import Choice, State
from byzbench.contracts.adversary import Knowledge

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class CoinAware(Sometimes):
    """The inner attack in rounds of large batches only, or of small ones only: `coin_aware(alie(z=1.5), strike=small)`.

        large in round t if c_t = 1, t = 0, or nobody tossed a coin

    A method of the PAGE family (Gargiani et al. 2022, arXiv 2202.00308) tosses a common coin c_t for the size of its
    batch. An error that enters a large batch stays in the reference for some 1/p rounds; in a small one honest agents
    lie closer together, but what they correct is small.

    Source: ours; Jordan et al. 2024, arXiv 2401.03489, for the coin.
    """

    source: ClassVar[str] = "this project"
    needs: ClassVar[frozenset[Knowledge]] = frozenset({"coin"})
    strike: Annotated[
        Literal["large", "small"], Field(description="the batches it waits for"), Choice("large", "small")
    ] = "large"

    def strikes(self, view: View, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """By the coin as the first of these liars sees it."""
        large = view.round == 0 or view.coin is None or bool(view.coin[0])
        return large == (self.strike == "large"), {}
