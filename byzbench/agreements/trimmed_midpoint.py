"""Approximate agreement by trimmed midpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from byzbench.aggregators.trimmed_midpoint import TrimmedMidpoint
from byzbench.core import Aggregator, Measure
from byzbench.core.iterated_agreement import IteratedAgreement


@dataclass(frozen=True)
class TrimmedMidpointAgreement(IteratedAgreement):
    """Iterated coordinate-wise midpoint of the values without the f least and the f greatest.

    Two agents receive the same messages except from the f Byzantine agents. So their trimmed intervals are within the
    honest values and share the honest median: the midpoints are at most half the honest interval apart, if n > 3f. All
    agents stay in the honest bounding box.

    Source: Dolev, Lynch, Pinter, Stark, Weihl 1986, "Reaching approximate agreement in the presence of faults", J. ACM
    33(3), in one dimension.

    Differs from the source in: every coordinate by itself; a fixed number of exchanges, which an agent ends early only
    when it sees that all agree.
    """

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Dolev et al. 1986, J. ACM 33(3)"
    requires: ClassVar[str] = "n > 3f"
    measure: ClassVar[Measure] = "box"

    @property
    def rule(self) -> Aggregator:
        """Return the trimmed midpoint."""
        return TrimmedMidpoint()

    def contracts(self, n: int, f: int) -> bool:
        """Return whether n > 3f."""
        return n > 3 * f

    def contraction_factor(self, n: int, f: int) -> float | None:
        """Return one half where n > 3f; zero for f = 0, where all agents receive the same messages."""
        return (0.5 if f else 0.0) if self.contracts(n, f) else None
