"""CVA, closest vectors averaging: the mean of the inputs nearest to a pivot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import krum_choice
from byzbench.aggregators.monna import Monna
from byzbench.core import Aggregator, RuleContext, RuleOutput, RuleTraits, weighted_sum
from byzbench.geometry.pairwise_distances import uniform_weights


@dataclass(frozen=True)
class Cva(Aggregator):
    """The mean of the n - f inputs nearest to a pivot: the receiver's own vector, or the value of another rule.

    Formula: value = (1/(n - f)) sum of the n - f inputs x_j of least ||x_j - p||, ties by index. With the own vector, p
    = x_i, it is `monna`, of which it is the earlier name. A pivot rule is for a server, which has no vector of its own.

    Source: `cva` in the code of Farhadkhani et al. 2023, "Robust collaborative learning with linear gradient overhead",
    arXiv 2209.10931. We know of no paper that defines the form with a pivot rule.

    Attributes:
        pivot: the rule that computes the pivot; if None, the pivot is the own vector.

    Example:
        >>> from byzbench.aggregators.median import Median
        >>> x = torch.tensor([[1.0], [2.0], [6.0], [100.0]])
        >>> Cva(pivot=Median())(x, 1)[0]
        tensor([3.])
    """

    pivot: Annotated[
        Aggregator | None, Field(description="rule that computes the pivot; if none, the pivot is the own vector")
    ] = None

    source: ClassVar[str] = "the code of Farhadkhani et al. 2023, arXiv 2209.10931"

    @property
    def _pivot_rule(self) -> Aggregator:
        return self.pivot or Monna()

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the pivot rule's traits; the mean of inputs is linear, whatever the pivot."""
        return replace(self._pivot_rule.traits, linear=True)

    @property
    def required_inputs(self) -> frozenset[str]:  # type: ignore[override]
        """Return the fields of the context that the pivot rule needs."""
        return self._pivot_rule.required_inputs

    @property
    def cost(self) -> str:  # type: ignore[override]
        """Return its own cost and that of the pivot rule."""
        return f"n d, and {self.pivot.cost}" if self.pivot else "n d"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the pivot rule's condition."""
        return self._pivot_rule.requires

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one input is averaged and the pivot is defined."""
        return (n > f) & self._pivot_rule.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the pivot rule has a guarantee.

        No averaged input is farther from the pivot than the farthest honest one.
        """
        return (n > f) & self._pivot_rule.guarantee(n, f)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the inputs nearest to the pivot; see `Aggregator.aggregate`."""
        if self.pivot is None:
            return Monna().aggregate(x, f, context)
        mask = context.mask_of(x)
        pivot, _, state = self.pivot.aggregate(x, f, context)
        squared_distances = (x.double() - pivot.double().unsqueeze(-2)).square().sum(-1)
        nearest = krum_choice(squared_distances.masked_fill(~mask, torch.inf), mask.sum(-1) - f)
        weights = uniform_weights(nearest)
        return RuleOutput(weighted_sum(weights, x), weights, state)
