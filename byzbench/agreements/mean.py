"""Agreement by plain averaging."""

from __future__ import annotations

from dataclasses import dataclass

from byzbench.aggregators.mean import Mean
from byzbench.agreements._iterated import Iterated
from byzbench.contracts import Aggregator


@dataclass(frozen=True)
class MeanAgreement(Iterated):
    """Iterates the mean of the inbox: gossip averaging, exact in one exchange on a complete graph, robust to nobody."""

    requires = "f = 0"

    @property
    def rule(self) -> Aggregator:
        """The mean."""
        return Mean()

    def guarantee(self, n: int, f: int) -> bool:
        """Only without liars: by reliable broadcast all agree, on whatever a liar wants."""
        return f == 0

    def contracts(self, n: int, f: int) -> bool:
        """Only without liars."""
        return f == 0

    def share(self, n: int, f: int) -> float | None:
        """One exchange is enough."""
        return 0.0
