"""The mean by the graph's mixing weights: gossip without a defence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.contracts import LinearRule, State
from byzbench.geometry.cloud import Cloud


@dataclass(frozen=True)
class WeightedMean(LinearRule):
    """The average of the own vector and its neighbours by what the graph says that each weighs.

    Formula: value = sum_j W_ij x_j, with the mixing weights W [n] of the receiver i; without weights, the mean. Where W
    is doubly stochastic, gossip by it keeps the mean of all agents, which the mean of each inbox does not. One liar can
    move it anywhere.

    Source: Xiao, Boyd 2004, "Fast linear iterations for distributed averaging", Systems and Control Letters 53.

    Differs from the source in: what a vector that was screened out, or never came, would weigh stays with the own one.
    """

    source: ClassVar[str] = "Xiao, Boyd 2004, Systems and Control Letters 53"
    cost: ClassVar[str] = "n d"
    self_centred: ClassVar[bool] = True
    requires: ClassVar[str] = "f = 0"

    def guarantee(self, n: int, f: int) -> bool:
        """Only without faults."""
        return (n >= 1) & (f == 0)

    def weigh(
        self, cloud: Cloud, f: Tensor, *, own: Tensor | None = None, weights: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, State]:
        """The mixing weights."""
        return Neighbourhood.of(cloud.mask, own, weights).row, {}
