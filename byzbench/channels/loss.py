"""Loss: messages that never arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from byzbench.contracts import Channel, Range


@dataclass(frozen=True)
class Loss(Channel):
    """Each message is lost on each edge with the same probability, independently. It has been sent, and is paid for.

    A receiver knows that a message is missing, and lowers n for it but not f: silence proves nothing about its sender.
    """

    rate: Annotated[float, Field(ge=0, le=1, description="probability that a message is lost"), Range(0.0, 0.5)] = 0.1

    def late(self, receivers: int, senders: int, rng: np.random.Generator) -> np.ndarray:
        """-1 with probability `rate`."""
        return -(rng.random((receivers, senders)) < self.rate).astype(np.int64)
