"""Zero vectors in place of the honest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class Zero(MessageAttack):
    """Message attack that sends the zero vector: it slows gradient steps, and draws parameters to the uniform policy.

        m[k] = 0

    Source: Fan et al. 2021, arXiv 2110.14074, official code ("zero gradient").
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors, of which only the shape is used."""
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: zero vectors."""
        return ByzantineMessages(torch.zeros_like(context.own)), memory
