"""The wire: what becomes of a message between its sender and its receivers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.contracts.adversary import On
from byzbench.contracts.component import Choice, Component, State


@dataclass(frozen=True)
class Format:
    """How one message is packed: so many `numbers` of so many bits of `width` each, and `extra` bits besides."""

    numbers: int
    width: int = 32
    extra: int = 0

    @property
    def bytes(self) -> int:
        """Whole bytes that the message takes."""
        return -(-(self.numbers * self.width + self.extra) // 8)


@dataclass(frozen=True)
class Channel(Component):
    """One thing that happens to messages; `loss(rate=0.2)+delay` makes both happen, the left one first.

    A liar's words travel like all others: it is bound by the format, as no receiver reads any other, and by the wire.
    Words that differ by receiver leave no memory: their speaker owes nobody a correction. What an agent says to itself
    is packed like what others hear of it, so that all who hear the same can share one computation, but is neither late
    nor lost.

    Attributes:
        inner: what happens to the message next.
        on: the messages that it happens to.
    """

    kind: ClassVar[str] = "channel"
    inner: Annotated[Channel | None, Field(description="what happens to the message next")] = field(
        default=None, kw_only=True
    )
    on: Annotated[On, Field(description="which messages"), Choice("gradient", "parameters", "both")] = field(
        default="both", kw_only=True
    )

    @property
    def parts(self) -> Iterator[Channel]:
        """This one, and all that happens next."""
        part: Channel | None = self
        while part is not None:
            yield part
            part = part.inner

    def covers(self, topic: str) -> bool:
        """Whether it happens to messages of this topic."""
        return self.on in (topic, "both")

    def pack(self, form: Format, d: int) -> Format:
        """The format of a message of d numbers that came in the format `form`."""
        return form

    def encode(self, x: Tensor, memory: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """What receivers read in place of x, float32 [M, d], a row a sender.

        Args:
            x: finite.
            memory: what the last call for this exchange of a round returned, a row a sender; empty at the first.
            rng: the exchange's stream.
        """
        return x, memory

    def late(self, receivers: int, senders: int, rng: np.random.Generator) -> np.ndarray | None:
        """By how many rounds each message is late, int64 [receivers, senders]: -1 if it is lost. None: all in time."""
        return None

    @property
    def longest(self) -> int:
        """The most rounds by which it makes a message late."""
        return 0
