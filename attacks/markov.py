"""Markov: an inner attack that is switched on and off by a two-state Markov chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.core import AttackContext, FloatRange, State
from byzbench.core.intermittent_attack import InnerAttack, IntermittentAttack, merge_states


@dataclass(frozen=True)
class Markov(IntermittentAttack):
    """Wrapper that switches the inner attack on and off by a two-state Markov chain: `markov(alie(z=1.5), on=0.1)`.

        s_{-1} = 0,    P(s_t = 1 | s_{t-1} = 0) = on,    P(s_t = 0 | s_{t-1} = 1) = off

    One chain holds for all Byzantine agents. The inner attack is active in the rounds with s_t = 1: in the long run a
    share on / (on + off) of them, 1 / off in a row. In honest periods a rule with a state forgets; active periods are
    too short for a statistical test over time.

    Source: common practice.

    Memory: `strikes` and its `round`; and the inner attack's.
    """

    source: ClassVar[str] = "common practice"
    inner: InnerAttack = field(default_factory=lambda: Alie(z=1.5))
    on: Annotated[
        float, Field(gt=0, le=1, description="probability to switch on, in an inactive round"), FloatRange(0.02, 1)
    ] = 0.1
    off: Annotated[
        float, Field(ge=0, le=1, description="probability to switch off, in an active round"), FloatRange(0.0, 1)
    ] = 0.1

    def start(self, context: AttackContext) -> State:
        """Return the initial state: off before the first round."""
        return merge_states({"strikes": torch.tensor(0), "round": torch.tensor(-1)}, self.inner.start(context))

    def is_active(self, context: AttackContext, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """Return the state of the chain, which makes one step in each round."""
        active, last = bool(memory["strikes"]), int(memory["round"])
        if context.round > last:  # asynchronous agents are in different rounds
            switch_prob = self.off if active else self.on
            active ^= rng.random() < switch_prob
        return active, {"strikes": torch.tensor(int(active)), "round": torch.tensor(max(context.round, last))}
