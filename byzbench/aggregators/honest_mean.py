"""The mean of the honest vectors: the best possible result of a defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.core import LinearRule, RuleContext, State
from byzbench.errors import Undefined
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights


@dataclass(frozen=True)
class HonestMean(LinearRule):
    """The average of the valid vectors of honest senders, whose mask is passed to the rule.

    Formula: value = (1/|H|) sum_{i in H} x_i, H the honest senders. A receiver without a vector of an honest sender,
    such as a Byzantine agent among Byzantine agents, averages all valid vectors.

    No agent can know H. The rule is the upper reference of what a defence can do, and the unit of the leaderboards. As
    an agreement it is written `gossip+honest_mean`. On graphs that are not complete, several exchanges bring agents
    together: `gossip(honest_mean, exchanges=8)`.

    Source: the target of (f, kappa)-robustness, Allouah et al. 2023, arXiv 2302.01772, definition 2.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [3.0], [100.0]])
        >>> HonestMean()(x, 1, RuleContext(honest=torch.tensor([True, True, False])))[0]
        tensor([2.])
    """

    source: ClassVar[str] = "Allouah et al. 2023, arXiv 2302.01772, definition 2"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "n >= 1"
    required_inputs: ClassVar[frozenset[str]] = frozenset({"honest"})

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the valid vectors of honest senders.

        Raises:
            Undefined: the context has no `honest`.
        """
        if context.honest is None:
            raise Undefined("honest_mean needs the mask of honest senders, which only a simulation knows")
        valid_honest = pairs.mask & context.honest
        return uniform_weights(valid_honest.where(valid_honest.any(-1, keepdim=True), pairs.mask)), {}
