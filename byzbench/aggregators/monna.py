"""MoNNA's mixing rule: nearest-neighbour averaging around the receiver's own vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import lowest
from byzbench.core import LinearRule, RuleContext, RuleOutput, RuleTraits, State, weighted_sum
from byzbench.errors import Undefined
from byzbench.geometry.pairwise_distances import (
    PairwiseDistances,
    norms_from,
    select_rows,
    to_array,
    to_tensor,
    uniform_weights,
    vector_at,
)


def own_column(mask: Tensor, own: Tensor | None) -> Tensor:
    """Return the column of each receiver's own vector, [...]: if None or not valid, the first valid column.

    Args:
        mask: [..., n] bool, the valid vectors.
        own: [...], the column of the own vector; negative at a server.

    Raises:
        Undefined: a receiver is a server, which has no vector of its own.
    """
    valid = to_array(mask)
    if own is None:
        return to_tensor(np.asarray(valid.argmax(-1)), mask)
    column = to_array(own)
    if (column < 0).any():
        raise Undefined("a rule that starts from the receiver's own vector is not defined at a server, which has none")
    is_valid = select_rows(valid, column)
    return own if is_valid.all() and mask.is_cpu else to_tensor(np.where(is_valid, column, valid.argmax(-1)), mask)


@dataclass(frozen=True)
class Monna(LinearRule):
    """The mean of the inputs nearest to the receiver's own vector, including itself.

    Formula: value = (1/(n - f)) sum of the n - f inputs x_j of least ||x_j - x_own||, ties by index; n counts the
    received vectors. No averaged input is farther from x_own than the farthest honest one.

    Source: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan 2023, "Robust collaborative learning with linear
    gradient overhead", ICML (arXiv 2209.10931), nearest-neighbour averaging. There an agent waits for n - f of n
    vectors and averages all but f of those. Momentum, the other half of MoNNA, is part of an algorithm, not of this
    rule.

    Attributes:
        keep: how many inputs are averaged: n-f, the received vectors less f; or n-2f, for the source's count of n
            agents, of which f are not waited for, where all vectors arrive.
        pivot: a column that replaces the own one, for all receivers.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Monna()(x, 1, RuleContext(own=torch.tensor(0)))[0]
        tensor([2.])
    """

    keep: Annotated[Literal["n-f", "n-2f"], Field(description="how many inputs are averaged")] = "n-f"
    pivot: Annotated[int | None, Field(ge=0, description="column of the pivot; the own one if none")] = None

    source: ClassVar[str] = "Farhadkhani et al. 2023, arXiv 2209.10931"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "n >= 11f"

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the traits; it is not self-centred if all receivers share a pivot."""
        return RuleTraits(linear=True, self_centered=self.pivot is None)

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one input is averaged and the pivot's column exists."""
        return (self._count(n, f) >= 1) & (n > (self.pivot or 0))

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the source's condition for contraction holds."""
        return self.defined(n, f) & (n >= 11 * f)

    def _count(self, n: Any, f: Any) -> Any:
        return n - (f if self.keep == "n-f" else 2 * f)

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the nearest inputs."""
        column = self._pivot_column(pairs.mask, context.own)[..., None, None]
        distances = pairs.squared_distances.take_along_dim(column, -2).squeeze(-2)
        return self._nearest(distances, pairs.mask, f), {}

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the nearest inputs; see `Aggregator.aggregate`.

        Distances to a single vector are computed without a Gram matrix.
        """
        valid = context.mask_of(x)
        pivot = vector_at(x, self._pivot_column(valid, context.own))
        weights = self._nearest(norms_from(x, pivot), valid, f)
        return RuleOutput(weighted_sum(weights, x), weights, {})

    def _pivot_column(self, mask: Tensor, own: Tensor | None) -> Tensor:
        pivot = own if self.pivot is None else torch.full(mask.shape[:-1], self.pivot)
        return own_column(mask, pivot)

    def _nearest(self, distances: Tensor, mask: Tensor, f: Tensor) -> Tensor:
        valid = to_array(mask)
        count = self._count(np.add.reduce(valid, -1), to_array(f))
        return uniform_weights(to_tensor(lowest(np.where(valid, to_array(distances), np.inf), count), mask))
