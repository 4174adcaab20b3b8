"""Averaging agreement by hyperboxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from byzbench.aggregators.hyperbox_mean import HyperboxMean
from byzbench.core import Aggregator, Measure
from byzbench.core.iterated_agreement import IteratedAgreement


@dataclass(frozen=True)
class HyperboxAgreement(IteratedAgreement):
    """Iterated hyperbox mean: the midpoint of the trusted box and of the box of all possible honest means.

    Outputs stay in the honest bounding box and near the honest mean: within 2 sqrt(d) times the best possible distance.

    Source: Cambus, Melnyk 2023, arXiv 2306.12741 (n >= 3f + 1, which is optimal).

    Differs from the source in: a fixed number of exchanges, which an agent ends early only when it sees that all agree.
    No contraction factor of one exchange is claimed here for Byzantine agents that equivocate.
    """

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Cambus, Melnyk 2023, arXiv 2306.12741"
    requires: ClassVar[str] = "n > 3f"
    measure: ClassVar[Measure] = "box"

    @property
    def rule(self) -> Aggregator:
        """Return the hyperbox mean."""
        return HyperboxMean()

    def contracts(self, n: int, f: int) -> bool:
        """Return whether n > 3f."""
        return n > 3 * f
