"""Replay: honest vectors of an earlier exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class Replay(MessageAttack):
    """Message attack that sends the vector that each Byzantine agent honestly computed `delay` exchanges earlier.

        m_t[k] = own_{max(t - delay, 0)}[k],    own_t [f, d] in exchange t = 0, 1, ... of the topic

    Every message is a former honest message that is sent as if it were new, so nothing but its content shows its age.
    Gradients are exchanged once a round; an agreement may exchange parameters several times in a round. Under an
    asynchronous schedule, t counts the exchanges of each Byzantine agent by itself.

    Source: a stale message, as of a late or a lazy agent. Without a paper of its own.

    Memory, for each topic: `<topic>.past` [min(t, delay) + 1, f, d], the oldest first; of asynchronous agents also
    `<topic>.started` bool [f], those that have computed a vector.

    Example:
        With delay 1 each message is the honest vector of the exchange before; the first message is its own:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack, memory = Replay(delay=1), {}
        >>> for value in (1.0, 2.0, 3.0):
        ...     context = AttackContext(attack.threat, {"topic": "gradient"}, {"byzantine": torch.tensor([[value]])})
        ...     messages, memory = attack.craft_messages(context, memory, np.random.default_rng(0))
        ...     print(messages.vectors.item())
        1.0
        1.0
        2.0
    """

    source: ClassVar[str] = "stale messages, as of late agents"
    delay: Annotated[
        int, Field(ge=1, le=1000, description="age of the messages, in exchanges of the topic"), FloatRange(1, 100)
    ] = 5

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: the vectors of all Byzantine agents.

        They are read together so that one state holds them all. Each message depends on its own agent alone.
        """
        return ThreatModel(knowledge=frozenset({"byzantine"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the oldest stored vectors."""
        key, current = f"{context.topic}.past", context.byzantine.unsqueeze(0)
        before = memory.get(key, current)
        past = torch.cat([before[-self.delay :], current]) if key in memory else current.clone()
        memory = {**memory, key: past}
        if context.updated is not None:
            started = memory.get(f"{context.topic}.started", torch.zeros_like(context.updated))
            unchanged = torch.cat([before[:1], before])[-len(past) :]
            past[:, ~context.updated] = unchanged[:, ~context.updated]
            past[:, ~started] = current[:, ~started]
            memory[f"{context.topic}.started"] = started | context.updated
        return ByzantineMessages(past[0].clone()), memory
