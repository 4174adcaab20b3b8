"""Replay: liars who say what was true some time ago."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.contracts import MessageAttack, Range, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Replay(MessageAttack):
    """Each liar sends what it honestly computed `delay` exchanges of the topic ago.

        m_t[k] = own_{max(t - delay, 0)}[k],    own_t [f, d] in exchange t = 0, 1, ... of the topic

    Every message was once a good one, so nothing about it is out of the ordinary but its age. Gradients are exchanged
    once a round; an agreement may exchange parameters several times in one.

    Source: a stale message, as of a late or a lazy agent. Without a paper of its own.

    Memory, for each topic: `<topic>.past` [min(t, delay) + 1, f, d], the oldest first.
    """

    source: ClassVar[str] = "stale messages, as of late agents"
    delay: Annotated[
        int, Field(ge=1, le=1000, description="exchanges of a topic by which it is late"), Range(1, 100)
    ] = 5

    @property
    def threat(self) -> Threat:
        """Local, in effect: all liars are looked at together, so as to be remembered together, but each apart."""
        return Threat(sees=frozenset({"colluders"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The oldest of what is remembered."""
        key, now = f"{view.topic}.past", view.colluders.unsqueeze(0)
        past = torch.cat([memory[key][-self.delay :], now]) if key in memory else now.clone()
        return Speech(past[0].clone()), {**memory, key: past}
