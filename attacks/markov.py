"""Markov: liars who come and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.attacks._wrapped import Sometimes, joined
from byzbench.contracts import Range, State

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Markov(Sometimes):
    """The inner attack, switched on and off by a two-state chain, for all liars at once: `markov(alie(z=1.5), on=0.1)`.

        s_{-1} = 0,    P(s_t = 1 | s_{t-1} = 0) = on,    P(s_t = 0 | s_{t-1} = 1) = off

    It strikes in the rounds of s_t = 1: in the long run a share on / (on + off) of them, 1 / off in a row. In honest
    spells a rule's memory forgets; spells of attack are too short for a test over time.

    Source: common practice.

    Memory: `strikes` and the `round` it is about; and the inner attack's.
    """

    source: ClassVar[str] = "common practice"
    on: Annotated[float, Field(gt=0, le=1, description="probability to begin, in a round without"), Range(0.02, 1)] = (
        0.1
    )
    off: Annotated[float, Field(ge=0, le=1, description="probability to end, in a round with"), Range(0.0, 1)] = 0.1

    def start(self, view: View) -> State:
        """Off, before the first round."""
        return joined({"strikes": torch.tensor(0), "round": torch.tensor(-1)}, self.inner.start(view))

    def strikes(self, view: View, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """The chain makes its step at the first occasion of a round, and stays for the others."""
        now = bool(memory["strikes"])
        if int(memory["round"]) != view.round:
            change = self.off if now else self.on
            now ^= rng.random() < change
        return now, {"strikes": torch.tensor(int(now)), "round": torch.tensor(view.round)}
