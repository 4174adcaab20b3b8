"""BRIDGE: gossip by a robust rule over the neighbourhood, including the receiver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.aggregators.bulyan import Bulyan
from byzbench.aggregators.krum import Krum
from byzbench.aggregators.median import Median, ascending
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.core import Aggregator, RuleContext, RuleOutput, RuleTraits
from byzbench.geometry.pairwise_distances import to_array, to_tensor


@dataclass(frozen=True)
class Bridge(Aggregator):
    """A robust rule over the neighbourhood's vectors; by default, a trimmed mean that never trims the own value.

    Formula: trimmed: value_k = (1/(n - 2f)) (x_ik + the sum of the neighbours' x_jk without the f largest and the f
    smallest of them); the own value x_ik is not trimmed. median, krum, bulyan: that rule on all n vectors, including
    the own one. Mixing weights are not used.

    Source: Fang, Yang, Bajwa 2022, "BRIDGE: Byzantine-resilient decentralized gradient descent", IEEE Transactions on
    Signal and Information Processing over Networks 8 (arXiv 1908.08098), BRIDGE-T, -M, -K and -B. The gradient step
    that follows is part of an algorithm, not of this rule.

    Attributes:
        screen: the rule.
        keep_own: whether the trimmed mean never trims the own value, as in the source; the authors' code trims it like
            any other value. The other rules ignore this switch.

    Example:
        >>> x = torch.tensor([[50.0], [1.0], [2.0], [3.0], [4.0]])
        >>> Bridge()(x, 1, RuleContext(own=torch.tensor(0)))[0]
        tensor([18.3333])
        >>> Bridge(keep_own=False)(x, 1, RuleContext(own=torch.tensor(0)))[0]
        tensor([3.])
    """

    screen: Annotated[
        Literal["trimmed", "median", "krum", "bulyan"], Field(description="rule over the neighbourhood")
    ] = "trimmed"
    keep_own: Annotated[bool, Field(description="whether the trimmed mean never trims the own value")] = True

    source: ClassVar[str] = "Fang et al. 2022, arXiv 1908.08098"

    @property
    def _rule(self) -> Aggregator:
        return {"trimmed": TrimmedMean, "median": Median, "krum": Krum, "bulyan": Bulyan}[self.screen]()

    @property
    def _keeps_own(self) -> bool:
        return self.keep_own and self.screen == "trimmed"

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the rule's traits; it is self-centred where the own value is treated differently."""
        return replace(self._rule.traits, self_centered=self._keeps_own)

    @property
    def cost(self) -> str:  # type: ignore[override]
        """Return the rule's cost."""
        return self._rule.cost

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the rule's condition and that of the graph; see `guarantee`."""
        condition = "n >= 2f + 2" if self.screen == "trimmed" else self._rule.requires
        return f"{condition}, and a graph that stays connected whichever f neighbours are removed from each agent"

    def defined(self, n: int, f: int) -> bool:
        """Return whether the rule is defined."""
        return self._rule.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the rule has a guarantee; for the trimmed mean, also whether there are 2f + 1 neighbours.

        The source proves convergence for the trimmed mean alone.
        """
        return self._rule.guarantee(n, f) & ((self.screen != "trimmed") | (n >= 2 * f + 2))

    def kappa(self, n: int, f: int) -> float | None:
        """Return the rule's kappa where the own value is treated like any other, else None."""
        return None if self._keeps_own else self._rule.kappa(n, f)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Apply the rule to the neighbourhood; see `Aggregator.aggregate`."""
        if not self._keeps_own:
            return self._rule.aggregate(x, f, context)
        neighbourhood = Neighbourhood.of(context.mask_of(x), context.own, None)
        values, valid = ascending(to_array(x), to_array(neighbourhood.others))
        ordered, count = to_tensor(values, x), to_tensor(np.asarray(valid), x)
        cut = f[..., None, None]
        rank = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1)
        remaining = ordered.where((rank >= cut) & (rank < count - cut), 0)
        own_vector = x.take_along_dim(neighbourhood.column[..., None, None], -2).squeeze(-2).double()
        total = own_vector + remaining.sum(-2, dtype=torch.float64)
        return RuleOutput((total / (count + 1 - 2 * cut).squeeze(-2)).to(x.dtype), None, {})
