"""Non-finite values: messages of NaN or infinity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, State, ThreatModel

VALUES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class NonFinite(MessageAttack):
    """Message attack that sends NaN or an infinity, in every coordinate or in one of an otherwise honest vector.

        m[k, j] = value,    j < d, or one j drawn for each message; elsewhere own[k, j]

    No rule gives a finite output for such an input, whatever its breakdown point. Message validation must reject it,
    and can identify the sender.

    Source: byzfl 0.0.11 (infinity), ByzPy 0.1.4 and El Mhamdi, Guerraoui, Rouault 2021, ICLR, official code (NaN).

    Example:
        An infinity in every coordinate:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = NonFinite(value="-inf")
        >>> context = AttackContext(attack.threat, {}, {"own": torch.ones(1, 3)})
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[-inf, -inf, -inf]])
    """

    source: ClassVar[str] = "byzfl 0.0.11; El Mhamdi, Guerraoui, Rouault 2021, ICLR, official code"
    value: Annotated[Literal["nan", "inf", "-inf"], Field(description="value that is sent")] = "nan"
    where: Annotated[
        Literal["everywhere", "once"], Field(description="in all coordinates, or in one random coordinate")
    ] = "everywhere"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors only."""
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: honest vectors with non-finite values."""
        crafted = context.own.clone()
        if self.where == "everywhere":
            crafted.fill_(VALUES[self.value])
        else:
            crafted[np.arange(len(crafted)), rng.integers(crafted.shape[1], size=len(crafted))] = VALUES[self.value]
        return ByzantineMessages(crafted), memory
