"""Average zero: a vector that cancels the sum of all honest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class AvgZero(MessageAttack):
    """Message attack that sends one vector with which the plain mean of all K messages is zero.

        m = -(1/f) sum_{i < h} x[i],    x [h, d] the honest vectors

    Against other rules it is `ipm` with scale h/f. On a sparse graph m is still computed from all honest agents.

    Source: Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, experiments.

    Example:
        The plain mean of all messages is zero:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = AvgZero()
        >>> honest = torch.tensor([[1.0, 2.0], [3.0, 6.0], [2.0, 1.0]])
        >>> known = {"honest": honest, "byzantine": torch.zeros(2, 2)}
        >>> context = AttackContext(attack.threat, {"num_byzantine": 2}, known)
        >>> crafted = attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        >>> torch.cat([honest, crafted]).mean(0)
        tensor([0., 0.])
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the cancelling vector from every Byzantine agent."""
        cancelling = -context.honest.sum(0) / context.num_byzantine
        return ByzantineMessages(cancelling.expand_as(context.byzantine)), memory
