"""Flood: every Byzantine message many times, and at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.attacks.sign_flip import SignFlip
from byzbench.core import Attack, FloatRange, Setting, Timing
from byzbench.core.timing_attack import TimingAttack


@dataclass(frozen=True)
class Flood(TimingAttack):
    """Wrapper that sends each message of the inner attack several times and at once: `flood(sign_flip, copies=10)`.

        share of Byzantine messages at a server = f copies r / (f copies r + sum of the honest agents' rates)

    r is the rate of rounds of the fastest honest agent: flooders do not wait for their batches, whose time is none, but
    begin each round with that agent. A server that handles messages by itself, with quorum 1, takes every copy for a
    message. Copies cost their bytes.

    In exchanges between agents only the newest message of a sender counts. There, copies change nothing, and the attack
    is the inner one, sent at once.

    Source: the asynchronous parameter server handles as many Byzantine gradients as are sent to it: Damaskinos et al.
    2018, "Asynchronous Byzantine machine learning (the case of SGD)" (Kardam), whose frequency filter bounds them.

    Memory: the inner attack's.
    """

    source: ClassVar[str] = "Damaskinos et al. 2018, ICML (Kardam)"
    inner: Annotated[Attack, Field(description="the attack that crafts messages")] = field(default_factory=SignFlip)
    copies: Annotated[
        int, Field(ge=1, le=10_000, description="times that each message is sent"), FloatRange(1, 100, log=True)
    ] = 10

    @property
    def timing(self) -> Timing:
        """Return the timing: copies of messages, and Byzantine agents that compute in no time."""
        return replace(self.inner.timing, is_instant=True, copies=self.copies)

    def notes(self, setting: Setting) -> list[str]:
        """Return the remarks of the inner attack, and one where copies change nothing."""
        newest = "flood: of a sender only the newest message counts, so copies change nothing"
        unaffected = setting.is_asynchronous and not setting.handles_messages
        return [*([newest] if unaffected else []), *super().notes(setting)]
