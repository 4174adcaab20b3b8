"""The agents with which an agent exchanges messages."""

from __future__ import annotations

from enum import StrEnum


class Communication(StrEnum):
    """The agents with which an agent exchanges messages.

    Attributes:
        DECENTRALIZED: Agents exchange messages with their neighbours in the graph.
        SERVER: Agents send to a trusted server, which aggregates and broadcasts.
        SINGLE_AGENT: There is one agent.
        NONE: There are several agents, and no messages.
    """

    DECENTRALIZED = "decentralized"
    SERVER = "server"
    SINGLE_AGENT = "single_agent"
    NONE = "none"

    @property
    def sends_messages(self) -> bool:
        """Return whether agents send messages at all."""
        return self in (Communication.DECENTRALIZED, Communication.SERVER)
