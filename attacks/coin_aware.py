"""Coin-aware attack: an inner attack in the rounds of large, or of small, batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.core import AttackContext, Categorical, State
from byzbench.core.intermittent_attack import InnerAttack, IntermittentAttack
from byzbench.core.threat_model import Knowledge


@dataclass(frozen=True)
class CoinAware(IntermittentAttack):
    """Wrapper that applies the inner attack in rounds of large, or of small, batches: `coin_aware(alie(z=1.5))`.

        large in round t if c_t = 1, t = 0, or no coin was drawn

    A method of the PAGE family (Gargiani et al. 2022, arXiv 2202.00308) draws a common coin c_t for the size of its
    batch. An error in a large batch stays in the reference for about 1/p rounds. In a small batch honest vectors are
    closer to each other, but the correction that they make is small.

    Source: ours; Jordan et al. 2024, arXiv 2401.03489, for the coin.
    """

    source: ClassVar[str] = "this project"
    needs: ClassVar[frozenset[Knowledge]] = frozenset({"coin"})
    inner: InnerAttack = field(default_factory=lambda: Alie(z=1.5))
    strike: Annotated[
        Literal["large", "small"],
        Field(description="size of the batches in whose rounds it is applied"),
        Categorical("large", "small"),
    ] = "large"

    def is_active(self, context: AttackContext, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """Return whether the batch of this round has the chosen size, by the coin of the first of these agents."""
        large = context.round == 0 or context.coin is None or bool(context.coin[0])
        return large == (self.strike == "large"), {}
