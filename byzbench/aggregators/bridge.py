"""BRIDGE: gossip by a robust rule over the neighbourhood, the receiver included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.aggregators.bulyan import Bulyan
from byzbench.aggregators.krum import Krum
from byzbench.aggregators.median import Median, ascending
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.contracts import Aggregator, State
from byzbench.geometry.cloud import array, tensor


@dataclass(frozen=True)
class Bridge(Aggregator):
    """The neighbourhood's vectors through a robust rule, by default a trimmed mean that always counts the own value.

    Formula: trimmed: value_k = (1/(n - 2f)) (x_ik + the sum of the neighbours' x_jk without the f largest and the f
    smallest of them), the own x_ik not trimmed. median, krum, bulyan: that rule on all n vectors, the own one like any
    other. Mixing weights have no part in it.

    Source: Fang, Yang, Bajwa 2022, "BRIDGE: Byzantine-resilient decentralized gradient descent", IEEE Transactions on
    Signal and Information Processing over Networks 8 (arXiv 1908.08098), BRIDGE-T, -M, -K and -B. The gradient step
    that follows belongs to an algorithm.

    Attributes:
        screen: the rule.
        keep_own: whether the trimmed mean spares the own value, as the source does; the authors' code trims it like any
            other. The other rules do not look.
    """

    screen: Annotated[Literal["trimmed", "median", "krum", "bulyan"], Field(description="the rule")] = "trimmed"
    keep_own: Annotated[bool, Field(description="whether the trimmed mean spares the own value")] = True

    source: ClassVar[str] = "Fang et al. 2022, arXiv 1908.08098"

    @property
    def _rule(self) -> Aggregator:
        return {"trimmed": TrimmedMean, "median": Median, "krum": Krum, "bulyan": Bulyan}[self.screen]()

    @property
    def _spares(self) -> bool:
        return self.keep_own and self.screen == "trimmed"

    @property
    def self_centred(self) -> bool:  # type: ignore[override]
        """If it spares the own value."""
        return self._spares

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """As the rule."""
        return self._rule.linear

    @property
    def cost(self) -> str:  # type: ignore[override]
        """As the rule."""
        return self._rule.cost

    @property
    def requires(self) -> str:  # type: ignore[override]
        """The rule's condition; `guarantee` says what more."""
        count = "n >= 2f + 2" if self.screen == "trimmed" else self._rule.requires
        return f"{count}, and a graph that stays connected whichever f neighbours each agent loses"

    def defined(self, n: int, f: int) -> bool:
        """Whether the rule is."""
        return self._rule.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """The rule's condition; for the trimmed mean 2f + 1 neighbours.

        The source proves convergence for the trimmed mean alone.
        """
        return self._rule.guarantee(n, f) & ((self.screen != "trimmed") | (n >= 2 * f + 2))

    def kappa(self, n: int, f: int) -> float | None:
        """The rule's, where the own value is like any other."""
        return None if self._spares else self._rule.kappa(n, f)

    def __call__(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        own: Tensor | None = None,
        **given: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        if not self._spares:
            return self._rule(x, f, mask=mask, own=own, **given)
        mask = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        around = Neighbourhood.of(mask, own, None)
        values, valid = ascending(array(x), array(around.others))
        ordered, count = tensor(values, x), tensor(np.asarray(valid), x)
        cut = torch.as_tensor(f, device=x.device)[..., None, None]
        rank = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1)
        kept = ordered.where((rank >= cut) & (rank < count - cut), 0)
        here = x.take_along_dim(around.column[..., None, None], -2).squeeze(-2).double()
        total = here + kept.sum(-2, dtype=torch.float64)
        return (total / (count + 1 - 2 * cut).squeeze(-2)).to(x.dtype), None, {}
