"""Agreement by plain averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from byzbench.aggregators.mean import Mean
from byzbench.core import Aggregator
from byzbench.core.iterated_agreement import IteratedAgreement


@dataclass(frozen=True)
class MeanAgreement(IteratedAgreement):
    """Iterated mean of the inbox: gossip averaging, exact in one exchange on a complete graph, and not robust."""

    version: ClassVar[int] = 2
    requires: ClassVar[str] = "f = 0"

    @property
    def rule(self) -> Aggregator:
        """Return the mean."""
        return Mean()

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether f = 0.

        By reliable broadcast all agents agree for any f, but on a value that a Byzantine agent can set.
        """
        return f == 0

    def contracts(self, n: int, f: int) -> bool:
        """Return whether f = 0."""
        return f == 0

    def contraction_factor(self, n: int, f: int) -> float | None:
        """Return zero where f = 0: one exchange is enough."""
        return 0.0 if self.contracts(n, f) else None
