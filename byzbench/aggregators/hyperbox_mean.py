"""The hyperbox rule for the mean (BOX-MEAN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from byzbench.aggregators._hyperbox import Hyperbox, midpoint, trusted
from byzbench.aggregators._ordered import Array, Rank, mean_between, rank
from byzbench.aggregators.median import by_rank
from byzbench.contracts import State


@dataclass(frozen=True)
class HyperboxMean(Hyperbox):
    """The midpoint of what the box of trusted values and the box of all possible honest means share.

    Formula: per coordinate k, with x_(j) the j-th smallest of x_1k .. x_nk,

        TH = [x_(f+1), x_(n-f)],
        GH = [mean of x_(1) .. x_(n-f), mean of x_(f+1) .. x_(n)],

    and value_k = the midpoint of TH and GH together. GH bounds the means of all (n-f)-subsets, one of which is honest.
    They always meet where n >= 2f + 1: no mean of n - f values is above their largest, so GH begins at x_(n-f) or below
    it, and it ends at x_(f+1) or above likewise.

    Source: Cambus, Melnyk 2023, "Centroid approximation with multidimensional approximate agreement protocols",
    arXiv 2306.12741: within 2 sqrt(d) times the best approximation of the honest mean, for n >= 3f + 1.

    Differs from the source in: n counts what was received, and f of it may be lies, however many kept silent; there f
    less one for each of them is cut. That the two boxes meet at a midpoint is read in others' accounts of the source.
    """

    source: ClassVar[str] = "Cambus, Melnyk 2023, arXiv 2306.12741"
    cost: ClassVar[str] = "n log n d"

    def kappa(self, n: int, f: int) -> float | None:
        """See `Hyperbox.kappa`; without liars it is the mean."""
        return super().kappa(n, f) if f else 0.0

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        cut = rank(f)

        def middle(ordered: Array, count: Rank) -> Array:
            means = mean_between(ordered, 0, count - cut), mean_between(ordered, cut, count)
            return midpoint(trusted(ordered, count, cut), means)

        return by_rank(middle, x, mask), None, {}
