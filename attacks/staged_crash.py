"""Staged crash: Byzantine agents that crash one after another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.attacks.none import NoAttack
from byzbench.core import Attack, AttackContext, ByzantineMessages, FloatRange, State, ThreatModel
from byzbench.core.wrapped_attack import WrappedAttack, honest_messages, with_form_of


@dataclass(frozen=True)
class StagedCrash(WrappedAttack):
    """Wrapper whose agents crash one after another, at even distances: `staged_crash(alie(z=1.5), first=20, every=20)`.

        agent k = 0, ..., f - 1 sends nothing from round first + k every on

    Until then an agent sends the messages of the inner attack, by default honest ones. Each crash lowers the number of
    messages anew, so that no agent settles: with quorum=all, agents wait for ever after the first one, and with n - f
    the last one leaves none to spare. An asynchronous agent crashes in its own round.

    Source: crashes that are spread over rounds are the worst for approximate agreement: Fekete 1990, "Asymptotically
    optimal algorithms for approximate agreement".

    Memory: the inner attack's.

    Example:
        In round 5 the first of two agents has crashed:

        >>> attack = StagedCrash(first=5, every=10)
        >>> vectors = {"own": torch.ones(2, 3), "byzantine": torch.ones(2, 3)}
        >>> context = AttackContext(attack.threat, {"round": 5, "topic": "gradient", "num_parameters": 3}, vectors)
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].silent
        tensor([ True, False])
    """

    source: ClassVar[str] = "Fekete 1990"
    inner: Annotated[Attack, Field(description="the attack before the crash")] = field(default_factory=NoAttack)
    first: Annotated[int, Field(ge=0, description="round of the first crash"), FloatRange(0, 200)] = 20
    every: Annotated[int, Field(ge=0, description="rounds from one crash to the next"), FloatRange(0, 100)] = 20

    @property
    def threat(self) -> ThreatModel:
        """Return the inner threat model, with the own vectors, read together, and messages."""
        inner = self.inner.threat
        return replace(inner, knowledge=inner.knowledge | {"own", "byzantine"}, surface=inner.surface | {"messages"})

    def targets(self, topic: str) -> bool:
        """Return True: an agent that has crashed sends no messages of any topic."""
        return True

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: those of the inner attack, or honest ones, but none of crashed agents."""
        messages = honest_messages(context, self.threat)
        if self.inner.targets(context.topic):
            messages, memory = self.inner.craft_messages(context, memory, rng)
            messages = with_form_of(self.threat, messages, self.inner.threat, context)
        crashed = self.first + self.every * torch.arange(len(context.byzantine)) <= context.round
        if self.threat.equivocates:
            crashed = crashed[torch.as_tensor(context.edges)[:, 0]]
        silent = crashed if messages.silent is None else crashed | messages.silent
        return ByzantineMessages(messages.vectors, silent), memory
