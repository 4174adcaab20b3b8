"""Delay: messages that arrive some rounds after they were sent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from byzbench.core import Categorical, Channel, FloatRange


@dataclass(frozen=True)
class Delay(Channel):
    """A random delay of D rounds, independent for each message and edge; late messages carry their age.

        constant:      D = mean
        geometric:     P(D = k) = (1 - q) q^k,          q = mean / (1 + mean)
        heavy_tailed:  P(D >= k) = (1 + k / c)^-1.5,    c = the scale at which the mean is `mean`, so no variance

    In lock step time is counted in rounds: a message of the k-th exchange of a topic in round t arrives at the k-th
    exchange of that topic in round t + D, if there is one. Of several messages that arrive from one sender at the same
    time the newest counts; where none arrives, the message is missing. Messages that would be later than `cap` rounds
    are lost.

    Attributes:
        mean: the mean of D, in rounds; an integer for the constant law.
        law: the distribution of D.
        cap: the maximum delay in rounds.

    Example:
        >>> Delay(mean=2.0, law="constant").draw_delays(2, 3, np.random.default_rng(0))
        array([[2, 2, 2],
               [2, 2, 2]])
    """

    mean: Annotated[float, Field(ge=0, le=100, description="mean delay in rounds"), FloatRange(0.0, 5.0)] = 0.25
    law: Annotated[
        Literal["constant", "geometric", "heavy_tailed"],
        Field(description="distribution of the delay"),
        Categorical("constant", "geometric", "heavy_tailed"),
    ] = "geometric"
    cap: Annotated[int, Field(ge=0, le=1000, description="maximum delay in rounds; later messages are lost")] = 20

    def draw_delays(self, receivers: int, senders: int, rng: np.random.Generator) -> np.ndarray:
        """Return D, or -1 for a delay beyond the cap: int64 [receivers, senders]."""
        u = 1 - rng.random((receivers, senders))  # in (0, 1]: D is the inverse of the survival function at u
        if self.law == "constant":
            delays = np.full_like(u, round(self.mean))
        elif self.mean == 0:
            delays = np.zeros_like(u)
        elif self.law == "geometric":
            delays = np.floor(np.log(u) / np.log(self.mean / (1 + self.mean)))
        else:
            delays = np.floor(_scale(self.mean) * (u ** (-1 / 1.5) - 1))
        return np.where(delays > self.cap, -1, delays).astype(np.int64)

    @property
    def max_delay(self) -> int:
        """Return `cap`, the maximum delay in rounds."""
        return self.cap


@lru_cache
def _scale(mean: float) -> float:
    """Return the c of the heavy-tailed law at which the sum over k >= 1 of P(D >= k) is the mean.

    The sum is a Hurwitz zeta function of c.
    """
    from scipy.optimize import brentq
    from scipy.special import zeta

    return float(brentq(lambda c: c**1.5 * zeta(1.5, 1 + c) - mean, 1e-9, 1e3 + 10 * mean))
