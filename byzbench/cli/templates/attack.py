"""An attack of the Byzantine agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class NewComponent(MessageAttack):
    """Message attack that sends the honest vector of each Byzantine agent, times `scale`.

        m[k] = scale * own[k]

    Attributes:
        scale: the factor.

    Example:
        >>> sorted(NewComponent().threat.knowledge)
        ['own']
    """

    # Change: the source, and the parameters. FloatRange is where `byzbench tune` looks for the worst value.
    source: ClassVar[str] = ""
    scale: Annotated[float, Field(gt=0, description="factor of the honest vector"), FloatRange(0.1, 10, log=True)] = 0.5

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: each Byzantine agent knows its own honest vector."""
        # Change: what the attack knows, and whether it sends different messages to different receivers (equivocates).
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the scaled vectors."""
        # Change: the formula. `context` has only the attributes that the threat model declares; `memory` is kept.
        return ByzantineMessages(self.scale * context.own), memory
