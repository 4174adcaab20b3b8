"""UBAR: average with those neighbours that are near, and do no worse than oneself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, blend
from byzbench.aggregators.krum import least
from byzbench.contracts import Aggregator, Judge, Range, State, weighted_sum
from byzbench.errors import Undefined
from byzbench.geometry.cloud import Cloud


@dataclass(frozen=True)
class Ubar(Aggregator):
    """The own vector and the mean of the near neighbours whose policies earn, where it is, at least what its own does.

    Formula: N = the rho (n - 1) neighbours of least ||x_j - x_i||, of equals the first; R = those of N with
    J_i(x_j) >= J_i(x_i), or if there is none the one of N of largest J_i(x_j), of equals the first;
    value = alpha x_i + (1 - alpha) mean of x_j over R. J_i is the mean return of some episodes of receiver i, the same
    ones for all; they are sampled for this, and counted.

    Source: Guo, Zhang, Yu, Xie, Ma, Xiang, Liu 2021, "Byzantine-resilient decentralized stochastic gradient descent",
    IEEE TCSVT (arXiv 2002.08569): the uniform Byzantine-resilient aggregation rule, first called Mozi.

    Differs from the source in: J stands for minus the loss on a training sample. A return is noisier, and only
    parameters have one: this is no rule for gradients. By default n - 1 - f neighbours are near, as rho is the share of
    honest ones. The default of alpha is from memory.

    Attributes:
        rho: the share of neighbours that are near, rounded down; by the bound f if none.
        alpha: the own vector's part.
        episodes: how many episodes each policy is tried for.
    """

    rho: Annotated[
        float | None, Field(gt=0, le=1, description="the share of neighbours that are near; by f if none")
    ] = None
    alpha: Annotated[float, Field(ge=0, le=1, description="the own vector's part"), Range(0.1, 0.9)] = 0.5
    episodes: Annotated[
        int, Field(ge=1, description="how many episodes each policy is tried for"), Range(1, 16, log=True)
    ] = 4

    source: ClassVar[str] = "Guo et al. 2021, arXiv 2002.08569"
    cost: ClassVar[str] = "n d, and n times as many episodes"
    linear: ClassVar[bool] = True
    self_centred: ClassVar[bool] = True
    asks: ClassVar[frozenset[str]] = frozenset({"judge"})
    requires: ClassVar[str] = "n >= f + 2, returns that tell liars from honest agents, and connected honest agents"

    def guarantee(self, n: int, f: int) -> bool:
        """An honest neighbour. The source bears any number of liars, by the second stage."""
        return n >= f + 2

    def __call__(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        own: Tensor | None = None,
        judge: Judge | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        if judge is None:
            raise Undefined("ubar tries policies out, and there is nobody who could: it needs a judge")
        cloud = Cloud.of(x, mask)
        around = Neighbourhood.of(cloud.mask, own, None)
        count = around.others.sum(-1)
        f = torch.as_tensor(f, device=x.device)
        # The slack is for shares such as 0.7 of 10, which is 6.999.. in binary.
        some = count - f if self.rho is None else (self.rho * count.double() + 1e-9).long()
        near = around.others & least(around.gaps(cloud), some)
        column = around.column.unsqueeze(-1)
        tried = near.scatter(-1, column, near.any(-1, keepdim=True))
        returns = judge(x, tried, self.episodes)
        better = near & (returns >= returns.gather(-1, column))
        best = returns.masked_fill(~near, -torch.inf).argmax(-1, keepdim=True)
        only = near & torch.zeros_like(near).scatter(-1, best, True)
        weights = blend(better.where(better.any(-1, keepdim=True), only), around.column, self.alpha)
        return weighted_sum(weights, x), weights, {}
