"""Spiral: a message that starts at the honest mean and turns away from it by an angle that grows every round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class Spiral(MessageAttack):
    """Send the mean of the Byzantine agents' honest vectors, turned by an angle that grows from round to round.

        m_t = |x| (cos(turn t) x/|x| + sin(turn t) u_t),    x [d] the mean of these vectors in round t
        u_t = (r - <r, x>x/|x|^2) / |r - <r, x>x/|x|^2|,    r [d] drawn once, in the first exchange of the topic

    The norm is that of the honest mean, so a rule that filters by norms keeps the message. As r stays the same, the
    messages of successive rounds push in the same direction and do not cancel as noise would.

    Source: none; this is an example.
    """

    turn: Annotated[float, Field(gt=0, le=math.pi, description="radians by which the message turns every round")] = 0.05

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: the Byzantine agents know each other's honest vectors."""
        return ThreatModel(knowledge=frozenset({"byzantine"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the turned mean from every Byzantine agent."""
        mean = context.byzantine.double().mean(0)
        key = f"direction.{context.topic}"
        fixed = memory[key] if key in memory else torch.from_numpy(rng.standard_normal(len(mean)))
        length = mean.norm()
        along = mean / length if length > 0 else mean
        across = fixed - (fixed @ along) * along
        angle = self.turn * context.round
        crafted = length * (math.cos(angle) * along + math.sin(angle) * across / across.norm())
        return ByzantineMessages(crafted.to(context.byzantine).expand_as(context.byzantine)), {**memory, key: fixed}
