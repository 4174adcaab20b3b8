"""What policy-gradient methods share: the step up a direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Algorithm, Range, State
from byzbench.learning.gradients import gpomdp
from byzbench.learning.optimizers import Schedule, adam, adam_start, learning_rate

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.learning.rollouts import Trajectories


@dataclass(frozen=True)
class PolicyGradient(Algorithm):
    """The step size, its law, and the optimizer."""

    lr: Annotated[float, Field(gt=0, description="step size eta"), Range(1e-4, 3e-2, log=True)] = 5e-4
    optimizer: Annotated[
        Literal["adam", "sgd"],
        Field(
            description="sgd: the pseudo-code's step; adam: the code's (Q8), on the aggregate, with moments per agent "
            "that are not agreed on; it makes steps scale-free, which hides attacks on magnitude"
        ),
    ] = "adam"
    lr_schedule: Annotated[Schedule, Field(description="the law of the step size")] = "constant"
    baseline: Annotated[
        Literal["none", "others"],
        Field(
            description="what returns are measured from: none, as in the papers; others: what is left to come in the "
            "agent's other episodes, which takes noise out of the gradient and leaves its expectation"
        ),
    ] = "none"

    def start(self, fed: Federation) -> State:
        """theta_0 everywhere."""
        return {"theta": fed.theta0, **{f"adam.{k}": v for k, v in adam_start(fed.theta0).items()}}

    def gradient(self, fed: Federation, theta: Tensor, batch: Trajectories, weights: Tensor | None = None) -> Tensor:
        """See `byzbench.learning.gradients.gpomdp`: [K, d]."""
        return gpomdp(fed.policy, theta, batch, fed.discount, weights, self.baseline == "others")

    def ascend(self, fed: Federation, direction: Tensor, state: State) -> State:
        """theta_{t+1} = theta_t + eta v_t, or Adam's version of it; an agent without a direction (NaN) stands still."""
        lr, theta = learning_rate(self.lr, self.lr_schedule, fed.round, fed.progress), state["theta"]
        if self.optimizer == "adam":
            moved, moments = adam(theta, direction, {k: state[f"adam.{k}"] for k in ("m", "v", "t")}, lr)
            new: State = {"theta": moved, **{f"adam.{k}": v for k, v in moments.items()}}
        else:
            new = {"theta": theta + lr * direction}
        heard = direction.isfinite().all(1, keepdim=True)
        return {**state, **{k: torch.where(heard, v, state[k]) for k, v in new.items()}}


def note_weights(fed: Federation, weights: Tensor, count: Tensor, which: Tensor) -> None:
    """Note the largest importance weight and the effective sample size of agents `which` [K], for the record.

    Args:
        fed: the federation.
        weights: [K, N] of episodes.
        count: [K], how many of them are an agent's.
        which: bool [K]; the others have not weighed anything.
    """
    mine = torch.arange(weights.shape[1]) < count.cpu().unsqueeze(1)
    w = weights.detach().cpu().double().masked_fill(~mine, 0)
    effective = w.sum(1).square() / (w.square().sum(1) * count.cpu())
    fed.note("weight_largest", w.amax(1).where(which, torch.nan))
    fed.note("weight_effective", effective.where(which, torch.nan))
