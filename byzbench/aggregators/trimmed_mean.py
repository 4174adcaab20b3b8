"""The coordinate-wise trimmed mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from byzbench.aggregators.median import ascending
from byzbench.contracts import Aggregator, State


@dataclass(frozen=True)
class TrimmedMean(Aggregator):
    """In each coordinate, the mean of what remains without the f largest and the f smallest values.

    Formula: value_k = (1/(n - 2f)) sum of the order statistics f+1 .. n-f of x_1k .. x_nk.

    Source: Yin et al. 2018, arXiv 1803.01498, definition 2.

    Differs from the source in: f values are cut from each side, not a fraction of n, which rounding can make one less.
    """

    source: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 2"
    cost: ClassVar[str] = "n log n d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Something must remain."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """6f/(n-2f) (1 + f/(n-2f)): Allouah et al. 2023, arXiv 2302.01772."""
        return 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)) if self.defined(n, f) else None

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        ordered, count = ascending(x, mask)
        cut = torch.as_tensor(f, device=x.device)[..., None, None]
        rank = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1)
        # The sum of what is kept, never the whole less what is cut: 1e30 - 1e30 leaves nothing of the honest digits.
        kept = ordered.where((rank >= cut) & (rank < count - cut), 0)
        total = kept.sum(-2, dtype=torch.float64)
        return (total / (count - 2 * cut).squeeze(-2)).to(x.dtype), None, {}
