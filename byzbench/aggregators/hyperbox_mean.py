"""The hyperbox rule for the mean (BOX-MEAN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.aggregators._hyperbox import Hyperbox, midpoint, trusted
from byzbench.aggregators._ordered import Array, Rank, mean_between, rank
from byzbench.aggregators.median import by_rank
from byzbench.core import RuleContext, RuleOutput


@dataclass(frozen=True)
class HyperboxMean(Hyperbox):
    """The midpoint of the intersection of the trusted box and the box of all possible honest means.

    Formula: per coordinate k, with x_(j) the j-th smallest of x_1k .. x_nk,

        TH = [x_(f+1), x_(n-f)],
        GH = [mean of x_(1) .. x_(n-f), mean of x_(f+1) .. x_(n)],

    and value_k = the midpoint of the intersection of TH and GH. GH contains the means of all (n-f)-subsets, one of
    which is honest. They always intersect where n >= 2f + 1: no mean of n - f values is above their largest, so GH
    begins at x_(n-f) or below; likewise it ends at x_(f+1) or above.

    Source: Cambus, Melnyk 2023, "Centroid approximation with multidimensional approximate agreement protocols", arXiv
    2306.12741: within 2 sqrt(d) times the best approximation of the honest mean, for n >= 3f + 1.

    Differs from the source in: n counts the received vectors, and f of them may be Byzantine, however many are missing;
    the source reduces f by one for each missing vector. That the value is the midpoint of the intersection is from
    secondary descriptions of the source.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> HyperboxMean()(x, 1)[0]
        tensor([2.5000])
    """

    source: ClassVar[str] = "Cambus, Melnyk 2023, arXiv 2306.12741"
    cost: ClassVar[str] = "n log n d"

    def kappa(self, n: int, f: int) -> float | None:
        """Return `Hyperbox.kappa`; zero for f = 0, where the value is the mean."""
        return super().kappa(n, f) if f else 0.0

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Intersect the two boxes; see `Aggregator.aggregate`."""
        cut = rank(f)

        def middle(ordered: Array, count: Rank) -> Array:
            means = mean_between(ordered, 0, count - cut), mean_between(ordered, cut, count)
            return midpoint(trusted(ordered, count, cut), means)

        return RuleOutput(by_rank(middle, x, context.mask), None, {})
