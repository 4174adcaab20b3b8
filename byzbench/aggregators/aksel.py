"""Aksel: the mean of the inputs nearest to the coordinate-wise median."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import kappa_around
from byzbench.aggregators.krum import krum_choice
from byzbench.aggregators.median import Median, median_of
from byzbench.core import Aggregator, RuleContext, RuleOutput, RuleTraits, weighted_sum
from byzbench.geometry.pairwise_distances import coordinate_blocks, to_array, to_tensor, uniform_weights


@dataclass(frozen=True)
class Aksel(Aggregator):
    """The mean of the inputs that are nearest to the coordinate-wise median.

    Formula: t = median_of(x) [d]; value = (1/c) sum of the c inputs of least ||x_i - t||, ties by index, with c =
    floor((n+1)/2).

    Source: Boussetta, El-Mhamdi, Guerraoui, Maurer, Rouault 2020, "AKSEL: fast Byzantine SGD", OPODIS,
    LIPIcs.OPODIS.2020.8: the inputs no farther from t than the median of all distances. The count is that of the
    authors' later code (ByzantineMomentum), which averages (n+1)/2 inputs ("mid") and has n-f as its other mode.

    Differs from that code in: the median of an even count is the mean of the middle two values.

    Attributes:
        keep: how many inputs are averaged.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [100.0]])
        >>> Aksel()(x, 1)[0]
        tensor([3.])
    """

    keep: Annotated[Literal["half", "n-f"], Field(description="how many inputs are averaged")] = "half"

    source: ClassVar[str] = "Boussetta et al. 2020, OPODIS"
    cost: ClassVar[str] = "n log n d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True)
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one input is averaged."""
        return (n >= 1) & (self._count(n, f) >= 1)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return `kappa_around` of the median's k for n - f inputs, else (sqrt(1+k) + sqrt(k))^2.

        The squared distances of the c inputs nearest to t are on average at most those of S, which are v + ||t -
        mean(S)||^2 for a variance v. Hence ||value - t||^2 <= (1 + k) v, and ||t - mean(S)||^2 <= k v.
        """
        median_kappa = Median().kappa(n, f)
        if median_kappa is None:
            return None
        return (
            kappa_around(n, f, median_kappa)
            if self.keep == "n-f"
            else (sqrt(1 + median_kappa) + sqrt(median_kappa)) ** 2
        )

    def _count(self, n: Any, f: Any) -> Any:
        return (n + 1) // 2 if self.keep == "half" else n - f

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the inputs nearest to the median; see `Aggregator.aggregate`."""
        valid = context.mask_of(x)
        squared_distances = torch.where(valid, 0.0, torch.inf).double()
        for part in coordinate_blocks(x):
            medians = to_tensor(median_of(to_array(part), to_array(valid)), x)
            squared_distances += (part.double() - medians.unsqueeze(-2)).square().sum(-1)
        nearest = krum_choice(squared_distances, self._count(valid.sum(-1), f))
        weights = uniform_weights(nearest)
        return RuleOutput(weighted_sum(weights, x), weights, {})
