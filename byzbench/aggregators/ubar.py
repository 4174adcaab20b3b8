"""UBAR: average with the neighbours that are near and whose policies are no worse than the own one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, blend
from byzbench.aggregators.krum import krum_choice
from byzbench.core import Aggregator, FloatRange, RuleContext, RuleOutput, RuleTraits, weighted_sum
from byzbench.errors import Undefined


@dataclass(frozen=True)
class Ubar(Aggregator):
    """The own vector and the mean of the near neighbours whose policies have at least the own policy's return.

    Formula: N = the rho (n - 1) neighbours of least ||x_j - x_i||, ties by index; R = those of N with J_i(x_j) >=
    J_i(x_i), or if there is none the one of N of largest J_i(x_j), ties by index; value = alpha x_i + (1 - alpha) mean
    of x_j over R. J_i is the mean return of some episodes of receiver i, the same ones for all policies. They are
    sampled for this purpose and counted.

    Source: Guo, Zhang, Yu, Xie, Ma, Xiang, Liu 2021, "Byzantine-resilient decentralized stochastic gradient descent",
    IEEE TCSVT (arXiv 2002.08569): the uniform Byzantine-resilient aggregation rule, first called Mozi.

    Differs from the source in: J replaces minus the loss on a training sample. A return is noisier, and only parameters
    have one: the rule is not for gradients. By default n - 1 - f neighbours are near, as rho is the share of honest
    ones. The default of alpha is from memory.

    Attributes:
        rho: the share of neighbours that are near, rounded down; if None, n - 1 - f neighbours are near.
        alpha: the weight of the own vector.
        episodes: the number of episodes for which each policy is evaluated.
    """

    rho: Annotated[
        float | None, Field(gt=0, le=1, description="share of neighbours that are near; if none, all but f are")
    ] = None
    alpha: Annotated[float, Field(ge=0, le=1, description="weight of the own vector"), FloatRange(0.1, 0.9)] = 0.5
    episodes: Annotated[
        int, Field(ge=1, description="episodes for which each policy is evaluated"), FloatRange(1, 16, log=True)
    ] = 4

    source: ClassVar[str] = "Guo et al. 2021, arXiv 2002.08569"
    cost: ClassVar[str] = "n d, and n times as many episodes"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, self_centered=True)
    required_inputs: ClassVar[frozenset[str]] = frozenset({"evaluator"})
    requires: ClassVar[str] = (
        "n >= f + 2, returns that separate Byzantine from honest policies, and connected honest agents"
    )

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether at least one neighbour is honest.

        The source tolerates any number of Byzantine neighbours, by its second stage.
        """
        return n >= f + 2

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the own vector and the accepted neighbours; see `Aggregator.aggregate`.

        Raises:
            Undefined: the context has no `evaluator`.
        """
        if context.evaluator is None:
            raise Undefined("ubar evaluates policies, so it needs an evaluator: use it on parameters, in an agreement")
        pairs = context.distances_of(x)
        neighbourhood = Neighbourhood.of(pairs.mask, context.own, None)
        count = neighbourhood.others.sum(-1)
        # The small number is for shares such as 0.7 of 10, which is 6.999.. in floating point.
        num_near = count - f if self.rho is None else (self.rho * count.double() + 1e-9).long()
        is_near = neighbourhood.others & krum_choice(neighbourhood.gaps(pairs), num_near)
        column = neighbourhood.column.unsqueeze(-1)
        is_evaluated = is_near.scatter(-1, column, is_near.any(-1, keepdim=True))
        returns = context.evaluator(x, is_evaluated, self.episodes)
        is_better = is_near & (returns >= returns.gather(-1, column))
        best_column = returns.masked_fill(~is_near, -torch.inf).argmax(-1, keepdim=True)
        is_best = is_near & torch.zeros_like(is_near).scatter(-1, best_column, True)
        weights = blend(is_better.where(is_better.any(-1, keepdim=True), is_best), neighbourhood.column, self.alpha)
        return RuleOutput(weighted_sum(weights, x), weights, {})
