"""Sleeper: liars who are honest until they are trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.attacks._wrapped import Sometimes
from byzbench.contracts import Range, State

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Sleeper(Sometimes):
    """The inner attack, after some rounds of honesty: `sleeper(alie(z=1.5), after=200)`.

        strikes in round t = 0, 1, ... if t >= after

    For rules that trust who was honest, and for learners whose late steps are too small to recover. Where the inner
    attack has a memory, it is until then what it was before the first round.

    Source: common practice; in federated reinforcement learning nobody seems to have named it.
    """

    source: ClassVar[str] = "common practice"
    after: Annotated[int, Field(ge=0, description="rounds of honesty before the attack"), Range(0, 500)] = 200

    def strikes(self, view: View, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """From the round on."""
        return view.round >= self.after, {}
