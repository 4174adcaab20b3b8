"""A schedule: how the time of agents and messages passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from byzbench.core import Schedule


@dataclass(frozen=True)
class NewComponent(Schedule):
    """Rounds in which agents add a break of a random length to a share of their batches.

    Attributes:
        share: the share of batches with a break.
        rest: the longest break.

    Example:
        >>> NewComponent(share=0.0).batch_seconds(1000, 2.0, np.random.default_rng(0))
        0.5
    """

    share: Annotated[float, Field(ge=0, le=1, description="share of batches with a break")] = 0.1
    rest: Annotated[float, Field(ge=0, description="longest break in seconds")] = 10.0

    def batch_seconds(self, steps: int, speed: float, rng: np.random.Generator) -> float:
        """Return the seconds of a batch; see `Schedule.batch_seconds`."""
        # Change: the law of a time. Times of messages are `link_seconds`, speeds of agents `draw_speeds`. Derive from
        # `byzbench.schedules.asynchronous.Asynchronous` for agents that do not wait for each other.
        seconds = super().batch_seconds(steps, speed, rng)
        return seconds + self.rest * rng.random() * (rng.random() < self.share)
