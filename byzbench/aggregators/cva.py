"""CVA, closest vectors averaging: the mean of the inputs nearest to a pivot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import least
from byzbench.aggregators.monna import Monna
from byzbench.contracts import Aggregator, State, weighted_sum
from byzbench.geometry.cloud import even


@dataclass(frozen=True)
class Cva(Aggregator):
    """The mean of the n - f inputs nearest to a pivot: the receiver's own vector, or what another rule makes of them.

    Formula: value = (1/(n - f)) sum of the n - f inputs x_j of least ||x_j - p||, of equals the first. From the own
    vector, p = x_i, it is `monna`, of which it is the earlier name; a pivot rule is for a server, which has no vector.

    Source: `cva` in the code of Farhadkhani et al. 2023, "Robust collaborative learning with linear gradient overhead",
    arXiv 2209.10931. We know of no paper that defines the form with a pivot rule.

    Attributes:
        pivot: the rule that makes the pivot; the own vector if none.
    """

    pivot: Annotated[Aggregator | None, Field(description="the rule that makes the pivot; the own vector if none")] = (
        None
    )

    source: ClassVar[str] = "the code of Farhadkhani et al. 2023, arXiv 2209.10931"
    linear: ClassVar[bool] = True

    @property
    def _base(self) -> Aggregator:
        return self.pivot or Monna()

    @property
    def self_centred(self) -> bool:  # type: ignore[override]
        """If the pivot is."""
        return self._base.self_centred

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """As the pivot."""
        return self._base.stateful

    @property
    def random(self) -> bool:  # type: ignore[override]
        """As the pivot."""
        return self._base.random

    @property
    def scale_equivariant(self) -> bool:  # type: ignore[override]
        """As the pivot."""
        return self._base.scale_equivariant

    @property
    def asks(self) -> frozenset[str]:  # type: ignore[override]
        """As the pivot."""
        return self._base.asks

    @property
    def cost(self) -> str:  # type: ignore[override]
        """Its own, and the pivot's."""
        return f"n d, and {self.pivot.cost}" if self.pivot else "n d"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """As the pivot."""
        return self._base.requires

    def defined(self, n: int, f: int) -> bool:
        """Somebody is kept, and there is a pivot."""
        return (n > f) & self._base.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """As the pivot: no input is kept that is farther from it than the farthest honest one."""
        return (n > f) & self._base.guarantee(n, f)

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **given: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        if self.pivot is None:
            return Monna()(x, f, mask=mask, **given)
        mask = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        middle, _, state = self.pivot(x, f, mask=mask, **given)
        gaps = (x.double() - middle.double().unsqueeze(-2)).square().sum(-1)
        count = mask.sum(-1) - torch.as_tensor(f, device=x.device)
        kept = least(gaps.masked_fill(~mask, torch.inf), count)
        weights = even(kept)
        return weighted_sum(weights, x), weights, state
