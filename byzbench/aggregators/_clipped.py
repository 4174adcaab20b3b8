"""Base class of rules that shorten long vectors."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from byzbench.aggregators._ordered import Array
from byzbench.aggregators.mean import Mean
from byzbench.aggregators.rfa import TINY
from byzbench.core import PreAggregator, RuleContext, RuleOutput
from byzbench.geometry.pairwise_distances import norms_from, scale_vectors, to_array, uniform_weights, weighted_sum


@dataclass(frozen=True)
class ClippingPreAggregator(PreAggregator):
    """An inner rule on the inputs, of which those longer than a radius are shortened to it.

    A subclass defines `radius_of` and `share`.
    """

    @abstractmethod
    def radius_of(self, lengths: Array, valid: Array, f: Array) -> Array | float:
        """Return the radius of each set, [..., 1], or one number for all.

        Args:
            lengths: [..., n], the lengths of the inputs.
            valid: bool [..., n], the valid inputs.
            f: int64 [...], how many of the valid inputs may be Byzantine.
        """

    def scales(self, x: Tensor, f: Tensor, valid: Tensor) -> Array:
        """Return the factor of each input of x [..., n, d]: float64 [..., n]."""
        lengths = to_array(norms_from(x))
        radius = self.radius_of(lengths, to_array(valid), to_array(f))
        return np.asarray(radius / np.maximum(np.maximum(lengths, radius), TINY))

    def transform(self, x: Tensor, f: Tensor, context: RuleContext) -> tuple[Tensor, Tensor]:
        """Shorten the inputs; see `PreAggregator.transform`."""
        valid = context.mask_of(x)
        return scale_vectors(self.scales(x, f, valid), x), valid

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Aggregate the shortened inputs; see `Aggregator.aggregate`. Their mean needs no copy of them."""
        if type(self.inner) is not Mean:
            return super().aggregate(x, f, context)
        valid = context.mask_of(x)
        return RuleOutput(weighted_sum(uniform_weights(valid), x, self.scales(x, f, valid)), None, {})
