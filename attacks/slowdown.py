"""Slowdown: messages of some honest agents that come too late."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.core import Attack, FloatRange, Setting, Timing
from byzbench.core.timing_attack import TimingAttack
from byzbench.errors import Undefined


@dataclass(frozen=True)
class Slowdown(TimingAttack):
    """Wrapper that holds the messages of some honest agents on their links, and sends at once: `slowdown(alie(z=1.5))`.

        message of victim j to honest agent i: delayed by `seconds`; None: until the end of the run

    The victims are the honest agents with the lowest numbers, at most as many as there are Byzantine agents. A quorum
    of n - f is then decided by n - 2f honest messages, and by all f Byzantine ones, as the batches of Byzantine agents
    take no time. Victims receive all other messages, and go on.

    The content of honest messages is neither read nor changed. In an asynchronous network any finite time of a message
    is possible, and so is the end of the run; a message is held so long only if its receiver has a quorum without it.
    So with quorum=all nothing is held for ever. Under a bound on times, give `seconds`.

    Source: the adversary of asynchronous protocols, which decides when messages arrive: Fischer, Lynch, Paterson 1985;
    Ben-Or 1983. Byzantine agents whose messages are never late: Damaskinos et al. 2018 (Kardam).

    Memory: the inner attack's.
    """

    source: ClassVar[str] = "asynchronous adversary: Ben-Or 1983; Fischer, Lynch, Paterson 1985"
    inner: Annotated[Attack, Field(description="the attack that crafts messages")] = field(
        default_factory=lambda: Alie(z=1.5)
    )
    victims: Annotated[
        int | None, Field(ge=0, description="honest agents whose messages are held; None: as many as Byzantine ones")
    ] = None
    seconds: Annotated[
        float | None,
        Field(ge=0, le=1e9, description="time for which they are held; None: until the end of the run"),
        FloatRange(0.01, 100.0, log=True),
    ] = None

    @property
    def timing(self) -> Timing:
        """Return the timing: messages of victims are held, and Byzantine agents compute in no time."""
        seconds = math.inf if self.seconds is None else self.seconds
        return replace(self.inner.timing, is_instant=True, num_held=self.victims, seconds=seconds)

    def check(self, setting: Setting) -> None:
        """Reject more victims than Byzantine agents, and times where no message can come too late."""
        if self.victims is not None and self.victims > setting.num_byzantine:
            raise Undefined(
                f"slowdown: victims={self.victims} must be at most the number of Byzantine agents, "
                f"{setting.num_byzantine}"
            )
        if setting.is_asynchronous and setting.handles_messages and self.seconds is None:
            raise Undefined("slowdown: a server that handles messages by itself has no quorum; give seconds")
        super().check(setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return the remarks of the inner attack, and one where agents wait for all messages."""
        waits = setting.is_asynchronous and not setting.num_spare and self.seconds is None
        return [*(["slowdown holds no message, as agents wait for all of them"] * waits), *super().notes(setting)]
