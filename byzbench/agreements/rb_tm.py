"""Averaging agreement by reliable broadcast and trimmed mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.agreements._iterated import Iterated
from byzbench.contracts import Aggregator


@dataclass(frozen=True)
class RbTmAgreement(Iterated):
    """Iterates the coordinate-wise trimmed mean over reliable broadcast: everybody hears the same of a liar.

    In lock step on a complete graph all honest agents then hold the same messages, and agree in one exchange. The
    price is the echoes: 2 n (n - 1) messages for each vector sent, all of them counted.

    Source: El-Mhamdi et al., 2021, arXiv 2008.00742 (n >= 3f + 1, the most that is possible).

    Differs from the source in: lock step instead of asynchrony; on a graph that is not complete the broadcast reaches
    the sender's neighbours, which a real one could only do with the help of relays.
    """

    source: ClassVar[str] = "El-Mhamdi et al. 2021, arXiv 2008.00742"
    requires: ClassVar[str] = "n > 3f"
    measure: ClassVar[Literal["diameter", "box"]] = "box"

    reliable: Annotated[
        bool, Field(description="by reliable broadcast; without it, the plain iterated trimmed mean")
    ] = True

    @property
    def rule(self) -> Aggregator:
        """The trimmed mean."""
        return TrimmedMean()

    def contracts(self, n: int, f: int) -> bool:
        """N > 3f."""
        return n > 3 * f

    def share(self, n: int, f: int) -> float | None:
        """F / (n - 2f), in every coordinate: f liars can shift the n - 2f kept values by one rank each."""
        return f / (n - 2 * f)
