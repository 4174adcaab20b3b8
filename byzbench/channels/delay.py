"""Delay: messages that arrive rounds after they were sent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from byzbench.contracts import Channel, Choice, Range


@dataclass(frozen=True)
class Delay(Channel):
    """Each message is late on each edge by an independent number of rounds D, and then says its age.

        constant:      D = mean
        geometric:     P(D = k) = (1 - q) q^k,          q = mean / (1 + mean)
        heavy_tailed:  P(D >= k) = (1 + k / c)^-1.5,    c = the scale at which the mean is `mean`, so no variance

    In lock step a round is what time there is: a message of the k-th exchange of a topic in round t comes to the k-th
    exchange of that topic in round t + D, if there is one then. Of several that come from one sender at a time the
    newest counts; where none comes, the receiver hears silence. What would be later than `cap` rounds is lost.

    Attributes:
        mean: of D, in rounds; of the constant one a whole number.
        law: of D.
        cap: the most rounds by which a message may be late.
    """

    mean: Annotated[float, Field(ge=0, le=100, description="mean delay in rounds"), Range(0.0, 5.0)] = 0.25
    law: Annotated[
        Literal["constant", "geometric", "heavy_tailed"],
        Field(description="distribution of the delay"),
        Choice("constant", "geometric", "heavy_tailed"),
    ] = "geometric"
    cap: Annotated[int, Field(ge=0, le=1000, description="messages that would be later than this are lost")] = 20

    def late(self, receivers: int, senders: int, rng: np.random.Generator) -> np.ndarray:
        """D, or -1 beyond the cap."""
        u = 1 - rng.random((receivers, senders))  # in (0, 1]: D is where the survival function falls below u
        if self.law == "constant":
            late = np.full_like(u, round(self.mean))
        elif self.mean == 0:
            late = np.zeros_like(u)
        elif self.law == "geometric":
            late = np.floor(np.log(u) / np.log(self.mean / (1 + self.mean)))
        else:
            late = np.floor(_scale(self.mean) * (u ** (-1 / 1.5) - 1))
        return np.where(late > self.cap, -1, late).astype(np.int64)

    @property
    def longest(self) -> int:
        """`cap`."""
        return self.cap


@lru_cache
def _scale(mean: float) -> float:
    """C of the heavy-tailed law: where sum over k >= 1 of P(D >= k) is the mean, a Hurwitz zeta function of c."""
    from scipy.optimize import brentq
    from scipy.special import zeta

    return float(brentq(lambda c: c**1.5 * zeta(1.5, 1 + c) - mean, 1e-9, 1e3 + 10 * mean))
