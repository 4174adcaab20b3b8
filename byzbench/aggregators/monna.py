"""MoNNA's mixing rule: nearest-neighbour averaging around one's own vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import lowest
from byzbench.contracts import LinearRule, State, weighted_sum
from byzbench.contracts.rules import bounds
from byzbench.errors import Undefined
from byzbench.geometry.cloud import Cloud, array, even, lengths, picked, tensor, vector_at


def own_column(mask: Tensor, own: Tensor | None) -> Tensor:
    """Where each receiver's own vector stands, [...]; if it is not given or not valid, the first that is valid.

    Raises:
        Undefined: the receiver is a server, which has no vector of its own.
    """
    valid = array(mask)
    if own is None:
        return tensor(np.asarray(valid.argmax(-1)), mask)
    column = array(own)
    if (column < 0).any():
        raise Undefined("a rule that starts from the receiver's own vector has nothing to start from at a server")
    there = picked(valid, column)
    return own if there.all() and mask.is_cpu else tensor(np.where(there, column, valid.argmax(-1)), mask)


@dataclass(frozen=True)
class Monna(LinearRule):
    """The mean of the inputs nearest to the receiver's own vector, itself included.

    Formula: value = (1/(n - f)) sum of the n - f inputs x_j of least ||x_j - x_own||, of equals the first; n counts
    the vectors that were received. No input is kept that is farther than the farthest honest one.

    Source: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan 2023, "Robust collaborative learning with linear
    gradient overhead", ICML (arXiv 2209.10931), nearest-neighbour averaging. There an agent waits for n - f of n
    vectors and keeps all but f of those. Momentum, the other half of MoNNA, belongs to an algorithm.

    Attributes:
        keep: how many are averaged: n-f, what was received less f; or n-2f, for the source's count of n agents of whom
            f were not waited for, where all were heard.
        pivot: a column that takes the place of the own one, for all receivers.
    """

    keep: Annotated[Literal["n-f", "n-2f"], Field(description="how many are averaged")] = "n-f"
    pivot: Annotated[int | None, Field(ge=0, description="the column in the middle; the own one if none")] = None

    source: ClassVar[str] = "Farhadkhani et al. 2023, arXiv 2209.10931"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "n >= 11f"

    @property
    def self_centred(self) -> bool:  # type: ignore[override]
        """Unless all receivers share a pivot."""
        return self.pivot is None

    def defined(self, n: int, f: int) -> bool:
        """Somebody is kept, and the pivot is there."""
        return (self._count(n, f) >= 1) & (n > (self.pivot or 0))

    def guarantee(self, n: int, f: int) -> bool:
        """What the source needs for its averages to bring honest agents together."""
        return self.defined(n, f) & (n >= 11 * f)

    def _count(self, n: Any, f: Any) -> Any:
        return n - (f if self.keep == "n-f" else 2 * f)

    def weigh(self, cloud: Cloud, f: Tensor, *, own: Tensor | None = None, **unused: Any) -> tuple[Tensor, State]:
        """Equal weights on the nearest."""
        column = self._middle(cloud.mask, own)[..., None, None]
        distances = cloud.squared_distances.take_along_dim(column, -2).squeeze(-2)
        return self._nearest(distances, cloud.mask, f), {}

    def __call__(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        own: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`. The distances to one vector take no Gram matrix."""
        valid = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        middle = vector_at(x, self._middle(valid, own))
        weights = self._nearest(lengths(x, middle), valid, bounds(f, x))
        return weighted_sum(weights, x), weights, {}

    def _middle(self, mask: Tensor, own: Tensor | None) -> Tensor:
        pivot = own if self.pivot is None else torch.full(mask.shape[:-1], self.pivot)
        return own_column(mask, pivot)

    def _nearest(self, distances: Tensor, mask: Tensor, f: Tensor) -> Tensor:
        valid = array(mask)
        count = self._count(np.add.reduce(valid, -1), array(f))
        return even(tensor(lowest(np.where(valid, array(distances), np.inf), count), mask))
