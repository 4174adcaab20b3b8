"""Averaging agreement by hyperboxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from byzbench.aggregators.hyperbox_mean import HyperboxMean
from byzbench.agreements._iterated import Iterated
from byzbench.contracts import Aggregator


@dataclass(frozen=True)
class HyperboxAgreement(Iterated):
    """Iterates the midpoint of two boxes: of what is surely between honest vectors, and of all possible honest means.

    Outputs stay in the honest bounding box, and near the honest mean: within 2 sqrt(d) times the best that is possible.

    Source: Cambus, Melnyk 2023, arXiv 2306.12741 (n >= 3f + 1, the most that is possible).

    Differs from the source in: an agent stops when its own inbox is narrow, or at a cap. No bound on what one exchange
    leaves of the honest box is claimed here where liars equivocate.
    """

    source: ClassVar[str] = "Cambus, Melnyk 2023, arXiv 2306.12741"
    requires: ClassVar[str] = "n > 3f"
    measure: ClassVar[Literal["diameter", "box"]] = "box"

    @property
    def rule(self) -> Aggregator:
        """The midpoint of the two boxes."""
        return HyperboxMean()

    def contracts(self, n: int, f: int) -> bool:
        """N > 3f."""
        return n > 3 * f
