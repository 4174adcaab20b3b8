"""Base class of policy-gradient methods: gradient estimate and ascent step.

Algorithms of byzbench and of other distributions subclass it, or one of its two usual rounds, or one of
`byzbench.core.gossip`, `byzbench.core.page` and `byzbench.core.svrg`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Algorithm, Communication, FloatRange, State
from byzbench.rl.gradients import gpomdp
from byzbench.rl.optimizers import StepSchedule, adam, adam_start, learning_rate

if TYPE_CHECKING:
    from byzbench.core import Federation
    from byzbench.rl.rollouts import Trajectories

BatchSize: TypeAlias = Annotated[
    int, Field(ge=1, le=1_000_000, description="episodes of a round"), FloatRange(2, 128, log=True)
]
"""Type of the parameter N of methods with one batch a round."""

SINGLE_BATCH_SUGGESTIONS: Mapping[str, Mapping[str, Any]] = {"cartpole": {"N": 10, "lr": 5e-3}}
"""Batches and step sizes of methods with one batch a round, by task; see `Algorithm.suggested`."""


Logits: TypeAlias = Literal["linear", "tanh"]
"""The last layer of a policy for discrete actions: `tanh` bounds the logits."""


@dataclass(frozen=True)
class PolicyGradient(Algorithm):
    """A policy-gradient method with a step size, its schedule and an optimizer.

    Source of the optimizers: for normalized and clipped steps Zhang, He, Sra, Jadbabaie 2020, arXiv 1905.11881, which
    shows that they converge where the smoothness of the objective grows with its gradient, as it does where gradients
    grow with the length of episodes.

    A subclass defines `round`, which uses `gradient` and `ascend`. It extends `start` if it has a state of its own.

    Example:
        Every agent steps along its own gradient, and receives no messages:

        >>> from byzbench.core import Communication
        >>> @dataclass(frozen=True)
        ... class Independent(PolicyGradient):
        ...     communication = Communication.NONE
        ...     N: BatchSize = 10
        ...
        ...     async def round(self, fed, state):
        ...         batch = fed.sample(state["theta"], self.N)
        ...         return self.ascend(fed, self.gradient(fed, state["theta"], batch), state), {}
        >>> sorted(Independent.search_space())
        ['N', 'lr']
    """

    lr: Annotated[float, Field(gt=0, description="step size eta"), FloatRange(1e-4, 3e-2, log=True)] = 5e-4
    optimizer: Annotated[
        Literal["adam", "sgd", "normalized", "clipped"],
        Field(
            description="sgd: the pseudo-code's step; normalized: a step of length eta; clipped: sgd along v scaled "
            "down to the length `max_norm`; adam: the code's (Q8), on the aggregate, with moments per agent that are "
            "not agreed on. Steps of adam and normalized do not depend on scale, which hides attacks on magnitude"
        ),
    ] = "adam"
    max_norm: Annotated[
        float, Field(gt=0, description="largest length of v_t for `optimizer=clipped`, in units of the gradient")
    ] = 1.0
    lr_schedule: Annotated[StepSchedule, Field(description="schedule of the step size")] = "constant"
    baseline: Annotated[
        Literal["none", "others"],
        Field(
            description="baseline of returns: none, as in the papers; others: the mean reward-to-go of the agent's "
            "other episodes, which lowers the variance of the gradient and does not change its expectation"
        ),
    ] = "none"

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, with zero moments of Adam."""
        return {"theta": fed.theta0, **{f"adam.{k}": v for k, v in adam_start(fed.theta0).items()}}

    def gradient(
        self,
        fed: Federation,
        theta: Tensor,
        batch: Trajectories,
        weights: Tensor | None = None,
        log_probs: Tensor | None = None,
    ) -> Tensor:
        """Estimate the policy gradient at theta from a batch of episodes.

        Args:
            fed: The federation, which has the policy and the discount.
            theta: The parameters, [K, d].
            batch: The episodes of all agents.
            weights: Importance weights of the episodes, [K, N]; None: all are 1.
            log_probs: Zeros, float32 [K, T, N], in which log pi(a|s) of every step is written; None: nothing is.

        Returns:
            The gradients [K, d]; see `byzbench.rl.gradients.gpomdp`.
        """
        return gpomdp(fed.policy, theta, batch, fed.discount, weights, self.baseline == "others", log_probs)

    def ascend(self, fed: Federation, direction: Tensor, state: State) -> State:
        """Return the state after one step of the optimizer along v_t.

            sgd:         theta_{t+1} = theta_t + eta v_t
            normalized:  theta_{t+1} = theta_t + eta v_t / ||v_t||
            clipped:     theta_{t+1} = theta_t + eta v_t min(1, max_norm / ||v_t||)
            adam:        theta_{t+1} = theta_t + eta times the step of `byzbench.rl.optimizers.adam`

        Args:
            fed: The federation, which has the round and the share of the budget that is spent.
            direction: The vectors v_t, [K, d]. An agent whose row is not finite does not move.
            state: The algorithm's state; `at` [K, d] are the parameters at which v_t was estimated, if not theta_t.
        """
        fed.log_direction(direction, state.get("at", state["theta"]))
        return self.move(state, direction, learning_rate(self.lr, self.lr_schedule, fed.round, fed.progress))

    def move(self, state: State, direction: Tensor, lr: float) -> State:
        """Return the state after one step of the optimizer along v_t with a step size; see `ascend`."""
        theta = state["theta"]
        if self.optimizer == "adam":
            new_theta, moments = adam(theta, direction, {k: state[f"adam.{k}"] for k in ("m", "v", "t")}, lr)
            new: State = {"theta": new_theta, **{f"adam.{k}": v for k, v in moments.items()}}
        else:
            new = {"theta": theta + lr * self._rescale(direction)}
        defined = direction.isfinite().all(1, keepdim=True)
        return {**state, **{k: torch.where(defined, v, state[k]) for k, v in new.items()}}

    def _rescale(self, direction: Tensor) -> Tensor:
        """Return the vectors [K, d] with the lengths that the optimizer gives them; a zero vector stays zero."""
        if self.optimizer == "sgd":
            return direction
        norms = direction.norm(dim=1, keepdim=True)
        if self.optimizer == "clipped":
            return direction * (self.max_norm / norms.clamp(min=self.max_norm))
        return direction / norms.where(norms > 0, 1.0)


@dataclass(frozen=True)
class DecentralizedGradient(PolicyGradient):
    """The round of a decentralised method without variance reduction.

    Agents aggregate their neighbours' gradients, and agree on parameters. A subclass names the topology, the aggregator
    and the agreement in `defaults`.

    Example:
        >>> @dataclass(frozen=True)
        ... class MedianGradient(DecentralizedGradient):
        ...     defaults = {"topology": "complete", "aggregator": "median", "agreement": "mda"}
        >>> MedianGradient(N=20).uses
        ('aggregator', 'agreement')
    """

    unbiased: ClassVar[bool] = True

    N: BatchSize = 50

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, exchange gradients, aggregate, step, and agree on parameters."""
        estimate = self.gradient(fed, state["theta"], fed.sample(state["theta"], self.N))
        direction, state = fed.aggregate(await fed.exchange("gradient", estimate), state)
        state = self.ascend(fed, direction, state)
        theta, state = await fed.agree(state["theta"], state)
        return {**state, "theta": theta}, {}


@dataclass(frozen=True)
class ServerGradient(PolicyGradient):
    """The round of a trusted server without variance reduction. A subclass names the aggregator in `defaults`.

    Example:
        >>> @dataclass(frozen=True)
        ... class MedianServer(ServerGradient):
        ...     defaults = {"topology": "star", "aggregator": "median", "agreement": "none"}
        >>> MedianServer(N=20).communication.value
        'server'
    """

    communication: ClassVar[Communication] = Communication.SERVER
    unbiased: ClassVar[bool] = True

    N: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a batch"), FloatRange(4, 128, log=True)] = 50

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, gather, aggregate at the server, broadcast, and step."""
        estimate = self.gradient(fed, state["theta"], fed.sample(state["theta"], self.N))
        aggregate, state = fed.aggregate(await fed.gather("gradient", estimate), state)
        return self.ascend(fed, await fed.broadcast("direction", aggregate), state), {}


def log_importance_weights(fed: Federation, weights: Tensor, count: Tensor, which: Tensor) -> None:
    """Log the largest importance weight and the relative effective sample size of some agents.

        effective = (sum_i w_i)^2 / (count sum_i w_i^2)

    Args:
        fed: The federation, which logs both as metrics of the round.
        weights: The importance weights of episodes, [K, N].
        count: The number of episodes of each agent, [K].
        which: The agents that used importance weights, bool [K]. The others log NaN.
    """
    valid = torch.arange(weights.shape[1]) < count.cpu().unsqueeze(1)
    w = weights.detach().cpu().double().masked_fill(~valid, 0)
    effective = w.sum(1).square() / (w.square().sum(1) * count.cpu())
    fed.log("importance_weight_max", w.amax(1).where(which, torch.nan))
    fed.log("relative_effective_sample_size", effective.where(which, torch.nan))
