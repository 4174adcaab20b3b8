"""Optimal ALIE: a little is enough, and how little is found out by trying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.attacks._search import Deviation


@dataclass(frozen=True)
class OptimalAlie(Deviation):
    """All liars send one vector, as many deviations from the honest mean as move the rule farthest from that mean.

        m = mean + t * std,    t = argmax_t || F(x, m, ..., m) - mean ||,    t of either sign

    x [h, d] the honest vectors, std their unbiased deviations in each coordinate, F the rule, tried on a clone.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS, for the search; Baruch, Baruch, Goldberg
    2019, arXiv 1902.06156, for the line. ByzFL's `Optimal_ALittleIsEnough` is this with twenty trial points, t >= 0.

    Differs from the source in: those twenty points are tried, then a grid on both sides and the gap around the best.

    Cost: about 14 ms an exchange against the mean, 26 ms against nnm+trimmed_mean, for 120 calls at K=13, d=386.
    """

    source: ClassVar[str] = "Shejwalkar, Houmansadr 2021, NDSS; Baruch et al. 2019, arXiv 1902.06156"

    def lines(self, honest: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Through the mean along the deviations."""
        return [(honest.mean(0), honest.std(0))]
