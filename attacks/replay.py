"""Replay: honest vectors of an earlier exchange."""

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
    """Message attack that sends the vector that each Byzantine agent honestly computed `delay` exchanges earlier.

        m_t[k] = own_{max(t - delay, 0)}[k],    own_t [f, d] in exchange t = 0, 1, ... of the topic

    Every message is a former honest message, so only its age distinguishes it. Gradients are exchanged once a round; an
    agreement may exchange parameters several times in a round.

    Source: a stale message, as of a late or a lazy agent. Without a paper of its own.

    Memory, for each topic: `<topic>.past` [min(t, delay) + 1, f, d], the oldest first.

    Example:
        With delay 1 each message is the honest vector of the exchange before; the first message is its own:

        >>> import torch
        >>> from byzbench.federation.view import View
        >>> attack, memory = Replay(delay=1), {}
        >>> for value in (1.0, 2.0, 3.0):
        ...     view = View(attack.threat, {"topic": "gradient"}, {"colluders": torch.tensor([[value]])})
        ...     messages, memory = attack.speak(view, memory, np.random.default_rng(0))
        ...     print(messages.vectors.item())
        1.0
        1.0
        2.0
    """

    source: ClassVar[str] = "stale messages, as of late agents"
    delay: Annotated[
        int, Field(ge=1, le=1000, description="age of the messages, in exchanges of the topic"), Range(1, 100)
    ] = 5

    @property
    def threat(self) -> Threat:
        """Return the threat model: the vectors of all Byzantine agents.

        They are read together so that one state holds them all. Each message depends on its own agent alone.
        """
        return Threat(sees=frozenset({"colluders"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Craft the messages: the oldest stored vectors."""
        key, current = f"{view.topic}.past", view.colluders.unsqueeze(0)
        past = torch.cat([memory[key][-self.delay :], current]) if key in memory else current.clone()
        return Speech(past[0].clone()), {**memory, key: past}
