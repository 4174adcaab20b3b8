"""Fixed bias: one vector added to every Byzantine message in every round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class FixedBias(MessageAttack):
    """Message attack that adds one fixed vector to the honest vector of each Byzantine agent.

        m_t[k] = own_t[k] + b,    b = strength * u * r/||r||,    r ~ N(0, 1)^d,    u = median_k ||own_0[k]||

    own_t [f, d] in exchange t = 0, 1, ... of a topic. b is drawn in the first exchange, and is the same for all agents
    and all rounds. Without `relative`, u = 1. A small b is within the noise of each single round, so a rule without a
    state cannot detect it. Over rounds noise averages out, and b accumulates.

    Source: Karimireddy, He, Jaggi 2021, arXiv 2012.10333, on attacks coupled over time, of which it is the simplest.

    Memory, for each topic: `<topic>.bias` [d].
    """

    source: ClassVar[str] = "Karimireddy et al. 2021, arXiv 2012.10333"
    strength: Annotated[
        float, Field(gt=0, description="length of the bias, in units u"), FloatRange(0.01, 100, log=True)
    ] = 1.0
    relative: Annotated[
        bool, Field(description="u is the median length of the Byzantine agents' first vectors; otherwise 1")
    ] = True

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: colluding."""
        return ThreatModel(knowledge=frozenset({"byzantine"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the biased vectors."""
        own, key = context.byzantine.double(), f"{context.topic}.bias"
        if key not in memory:
            direction = torch.from_numpy(rng.standard_normal(own.shape[1]))
            unit = own.norm(dim=1).quantile(0.5) if self.relative else 1.0
            memory = {**memory, key: self.strength * unit * direction / direction.norm()}
        return ByzantineMessages((own + memory[key]).to(context.byzantine.dtype)), memory
