"""The trimmed midpoint of approximate agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.aggregators._hyperbox import Hyperbox, midpoint, trusted
from byzbench.aggregators._ordered import rank
from byzbench.aggregators.median import by_rank
from byzbench.core import RuleContext, RuleOutput


@dataclass(frozen=True)
class TrimmedMidpoint(Hyperbox):
    """The midpoint, in each coordinate, of the values without the f largest and the f smallest.

    Formula: value_k = (x_(f+1)k + x_(n-f)k) / 2, with x_(j)k the j-th smallest of x_1k .. x_nk. It reads only the
    outermost two of the values that are surely in the honest range. So it halves the honest diameter in every exchange
    of an agreement, but is less accurate than a trimmed mean.

    Source: Dolev, Lynch, Pinter, Stark, Weihl 1986, "Reaching approximate agreement in the presence of faults", J. ACM
    33(3), for numbers; n >= 3f + 1.

    Differs from the source in: vectors, each coordinate by itself.

    Example:
        >>> import torch
        >>> TrimmedMidpoint()(torch.tensor([[1.0], [2.0], [6.0], [100.0]]), 1)[0]
        tensor([4.])
    """

    source: ClassVar[str] = "Dolev et al. 1986, J. ACM 33(3)"
    cost: ClassVar[str] = "n log n d"

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Return the trimmed midpoint of each coordinate; see `Aggregator.aggregate`."""
        cut = rank(f)
        value = by_rank(lambda ordered, count: midpoint(trusted(ordered, count, cut)), x, context.mask)
        return RuleOutput(value, None, {})
