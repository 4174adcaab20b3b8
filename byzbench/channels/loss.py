"""Loss: messages that never arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from byzbench.core import Channel, FloatRange


@dataclass(frozen=True)
class Loss(Channel):
    """A loss of messages, independent for each message and edge, with the same probability.

    A lost message has been sent and is counted in the costs. A receiver knows that a message is missing. It reduces n
    for it but not f, as a missing message proves nothing about its sender.

    Attributes:
        rate: the probability that a message is lost.

    Example:
        >>> Loss(rate=1.0).draw_delays(2, 3, np.random.default_rng(0))
        array([[-1, -1, -1],
               [-1, -1, -1]])
    """

    rate: Annotated[
        float, Field(ge=0, le=1, description="probability that a message is lost"), FloatRange(0.0, 0.5)
    ] = 0.1

    def draw_delays(self, receivers: int, senders: int, rng: np.random.Generator) -> np.ndarray:
        """Return -1 with probability `rate`, else 0: int64 [receivers, senders]."""
        return -(rng.random((receivers, senders)) < self.rate).astype(np.int64)
