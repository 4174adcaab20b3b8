"""Channels: what happens to a message between its sender and its receivers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core.component import Categorical, Component, State
from byzbench.core.threat_model import On
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core.setting import Setting


@dataclass(frozen=True)
class MessageFormat:
    """The encoding of one message: `num_values` values of `bits_per_value` bits each, and `extra_bits` bits.

    Example:
        >>> MessageFormat(num_values=10, bits_per_value=1, extra_bits=32).bytes
        6
    """

    num_values: int
    bits_per_value: int = 32
    extra_bits: int = 0

    @property
    def bytes(self) -> int:
        """Return the size of the message in bytes, rounded up."""
        return -(-(self.num_values * self.bits_per_value + self.extra_bits) // 8)


@dataclass(frozen=True)
class Channel(Component):
    """A transformation of messages; `loss(rate=0.2)+delay` applies both, the left one first.

    Byzantine messages pass through the channel like all others: they are encoded in the same format, because receivers
    read no other, and they can be late or lost. A message that differs by receiver leaves no state: error feedback is
    not kept for it. The message of an agent to itself is encoded like the messages to others, so that all receivers of
    the same messages can share one computation. It is never late or lost.

    Attributes:
        inner: the channel that is applied next.
        on: the topics that the channel applies to.

    Example:
        >>> from byzbench.registry import make
        >>> channel = make("channel", "loss(rate=0.2)+delay")
        >>> [type(part).__name__ for part in channel.parts]
        ['Loss', 'Delay']
    """

    kind: ClassVar[str] = "channel"
    inner: Annotated[Channel | None, Field(description="the channel that is applied next")] = field(
        default=None, kw_only=True
    )
    on: Annotated[
        On, Field(description="topics that the channel applies to"), Categorical("gradient", "parameters", "both")
    ] = field(default="both", kw_only=True)

    @property
    def parts(self) -> Iterator[Channel]:
        """Yield this channel and all that are applied after it."""
        part: Channel | None = self
        while part is not None:
            yield part
            part = part.inner

    def check(self, setting: Setting) -> None:
        """Check that the graph is fixed if messages are relayed or late; see `Component.check`."""
        where = ""
        if setting.graph_varies:
            where = f"on topology {setting.name('topology')!r}, which varies,"
        elif setting.has_absences:
            where = "where agents are absent"
        if where and (setting.relay or any(part.max_delay for part in self.parts)):
            raise Undefined(f"{where} messages can be neither relayed nor late: both need a fixed graph")

    def applies_to(self, topic: str) -> bool:
        """Return whether the channel applies to messages of this topic."""
        return self.on in (topic, "both")

    def pack(self, form: MessageFormat, d: int) -> MessageFormat:
        """Return the format of a message after this channel.

        Args:
            form: the format before it.
            d: the number of values in the message.
        """
        return form

    def encode(self, x: Tensor, memory: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Encode messages, and return what receivers decode.

        Args:
            x: float32 [M, d], finite, a row for each sender.
            memory: the state that the last call for this exchange of a round returned, a row for each sender; empty at
                the first call.
            rng: the random stream of the exchange.

        Returns:
            The decoded vectors, float32 [M, d], and the new state.
        """
        return x, memory

    def draw_delays(self, receivers: int, senders: int, rng: np.random.Generator) -> np.ndarray | None:
        """Draw the delay of each message.

        Args:
            receivers: the number of receivers.
            senders: the number of senders.
            rng: the random stream of the exchange.

        Returns:
            Delays in rounds, int64 [receivers, senders], -1 for a lost message; None if all arrive in time.
        """
        return None

    @property
    def max_delay(self) -> int:
        """Return the largest delay in rounds."""
        return 0
