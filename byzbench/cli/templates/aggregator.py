"""An aggregation rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from byzbench.core import Aggregator, RuleContext, RuleOutput


@dataclass(frozen=True)
class NewComponent(Aggregator):
    """The mean of the lower and the upper median of each coordinate.

    Example:
        >>> NewComponent()([[1.0], [2.0], [3.0], [100.0]], f=1).value
        tensor([2.5000], dtype=torch.float64)
    """

    # Change: the source, the condition of `guarantee` as text, and the growth of the time.
    source: ClassVar[str] = ""
    requires: ClassVar[str] = "n >= 2f + 1"
    cost: ClassVar[str] = "n log n d"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Aggregate the vectors x [..., n, d] of each inbox; see `Aggregator.aggregate`."""
        # Change: the formula. Vectors outside the mask are not there. A rule that only needs pairwise distances
        # derives from `LinearRule`, one that transforms the vectors for an inner rule from `PreAggregator`.
        rows = x.masked_fill(~context.mask_of(x).unsqueeze(-1), torch.nan)
        lower, upper = rows.nanmedian(-2).values, -(-rows).nanmedian(-2).values
        return RuleOutput(lower + (upper - lower) / 2, None, {})
