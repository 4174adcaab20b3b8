"""Aksel: the mean of the inputs nearest to the coordinate-wise median."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import kappa_around
from byzbench.aggregators.krum import least
from byzbench.aggregators.median import Median, median_of
from byzbench.contracts import Aggregator, State, weighted_sum
from byzbench.geometry.cloud import array, blocks, even, tensor


@dataclass(frozen=True)
class Aksel(Aggregator):
    """The mean of whole inputs, those nearest to the median of each coordinate.

    Formula: t = median_of(x) [d]; value = (1/c) sum of the c inputs of least ||x_i - t||, of equals the first, with
    c = floor((n+1)/2).

    Source: Boussetta, El-Mhamdi, Guerraoui, Maurer, Rouault 2020, "AKSEL: fast Byzantine SGD", OPODIS,
    LIPIcs.OPODIS.2020.8: the inputs no farther from t than the median of all distances. Read in the authors' later code
    (ByzantineMomentum), which counts (n+1)/2 of them ("mid"), and has n-f as its other mode.

    Differs from that code in: the median of an even count is the mean of the middle two values.

    Attributes:
        keep: how many are averaged.
    """

    keep: Annotated[Literal["half", "n-f"], Field(description="how many are averaged")] = "half"

    source: ClassVar[str] = "Boussetta et al. 2020, OPODIS"
    cost: ClassVar[str] = "n log n d"
    linear: ClassVar[bool] = True
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Somebody is kept."""
        return (n >= 1) & (self._count(n, f) >= 1)

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """For n - f see `kappa_around`, with the median's k; else (sqrt(1+k) + sqrt(k))^2.

        The c nearest to t are on average no farther from it, in squares, than S is, which is v + ||t - mean(S)||^2 for
        a variance v; hence ||value - t||^2 <= (1 + k) v, and ||t - mean(S)||^2 <= k v.
        """
        pivot = Median().kappa(n, f)
        if pivot is None:
            return None
        return kappa_around(n, f, pivot) if self.keep == "n-f" else (sqrt(1 + pivot) + sqrt(pivot)) ** 2

    def _count(self, n: Any, f: Any) -> Any:
        return (n + 1) // 2 if self.keep == "half" else n - f

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        valid = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        squares = torch.where(valid, 0.0, torch.inf).double()
        for part in blocks(x):
            middle = tensor(median_of(array(part), array(valid)), x)
            squares += (part.double() - middle.unsqueeze(-2)).square().sum(-1)
        kept = least(squares, torch.as_tensor(self._count(valid.sum(-1), f), device=x.device))
        weights = even(kept)
        return weighted_sum(weights, x), weights, {}
