"""Silence: missing messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class Silence(MessageAttack):
    """Message attack that sends no message with some probability, and the honest vector otherwise.

        m[k] = own[k], or no message with probability q

    own [f, d]. With `equivocate`, the draw is independent for each receiver, so that some receive the message and
    others do not. With q = 1 it is a crash fault. Silence is no proof of a fault: a receiver has fewer messages, and
    must assume as many Byzantine ones among them.

    Source: general omission faults, Perry, Toueg 1986, "Distributed agreement in the presence of processor and
    communication faults".

    Example:
        With q=1 no message is sent:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = Silence(q=1.0)
        >>> context = AttackContext(attack.threat, {}, {"own": torch.ones(2, 3)})
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].silent
        tensor([True, True])
    """

    source: ClassVar[str] = "Perry, Toueg 1986"
    q: Annotated[
        float, Field(gt=0, le=1, description="probability that a message is not sent"), FloatRange(0.05, 1)
    ] = 1.0
    equivocate: Annotated[bool, Field(description="draw independently for each receiver")] = False

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors only."""
        return ThreatModel(knowledge=frozenset({"own"}), equivocates=self.equivocate)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: honest vectors, and the mask of the missing ones."""
        vectors = context.own[context.edges[:, 0]] if self.equivocate else context.own
        return ByzantineMessages(vectors, silent=torch.from_numpy(rng.random(len(vectors)) < self.q)), memory
