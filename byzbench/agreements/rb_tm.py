"""Averaging agreement by reliable broadcast and trimmed mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.core import Aggregator, Measure
from byzbench.core.iterated_agreement import IteratedAgreement


@dataclass(frozen=True)
class RbTmAgreement(IteratedAgreement):
    """Iterated coordinate-wise trimmed mean over reliable broadcast, by which all agents receive the same messages.

    In lock step on a complete graph all honest agents then hold the same messages and agree in one exchange. Reliable
    broadcast costs 2 n (n - 1) echo messages for each vector sent; all of them are counted.

    Source: El-Mhamdi et al., 2021, arXiv 2008.00742 (n >= 3f + 1, which is optimal).

    Differs from the source in: lock step instead of asynchrony; on a graph that is not complete the broadcast reaches
    the sender's neighbours, which a real one could only do with the help of relays.
    """

    version: ClassVar[int] = 2
    source: ClassVar[str] = "El-Mhamdi et al. 2021, arXiv 2008.00742"
    requires: ClassVar[str] = "n > 3f"
    quorum_multiple: ClassVar[int] = 3
    measure: ClassVar[Measure] = "box"

    reliable: Annotated[bool, Field(description="reliable broadcast; without it, the plain iterated trimmed mean")] = (
        True
    )

    @property
    def rule(self) -> Aggregator:
        """Return the trimmed mean."""
        return TrimmedMean()

    def contracts(self, n: int, f: int) -> bool:
        """Return whether n > 3f."""
        return n > 3 * f

    def contraction_factor(self, n: int, f: int) -> float | None:
        """Return f / (n - 2f), in every coordinate, where n > 3f.

        Each of f Byzantine agents can shift the n - 2f averaged values by one rank, which changes their sum by at most
        the honest interval.
        """
        return f / (n - 2 * f) if self.contracts(n, f) else None
