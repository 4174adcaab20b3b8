"""The power of an adversary over the time of messages."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """When messages arrive under an attack, as far as it differs from the schedule.

    The asynchronous schedule interprets it. Without one, no message has a time that an attack could change.

    Attributes:
        is_last: whether the Byzantine messages to an honest agent are crafted, and arrive, when it lacks only them for
            its quorum. The attack then sees the vectors that this agent has received. It holds for the topics that the
            attack targets. By reliable broadcast, the first honest agent of a round decides.
        is_instant: whether the batches of Byzantine agents take no time. Such an agent begins a round together with the
            first honest agent.
        copies: the number of times that a server which handles messages by itself receives each Byzantine message.
        num_held: the number of honest agents, those with the lowest numbers, whose messages are held on their links to
            other honest agents and to a server that handles messages by itself; None: as many as there are Byzantine
            agents.
        seconds: the time for which they are held; if it is infinite, they never arrive, and are only held from an agent
            as far as the others are a quorum.
    """

    is_last: bool = False
    is_instant: bool = False
    copies: int = 1
    num_held: int | None = 0
    seconds: float = math.inf
