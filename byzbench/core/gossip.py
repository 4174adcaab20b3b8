"""Base classes of gossip methods: a local gradient step, and a robust rule over the neighbours' parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import FloatRange, State
from byzbench.core.policy_gradient import SINGLE_BATCH_SUGGESTIONS, BatchSize, PolicyGradient, log_importance_weights
from byzbench.rl.gradients import importance_weights

if TYPE_CHECKING:
    from byzbench.core import Federation

Momentum: TypeAlias = Annotated[
    float, Field(ge=0, lt=1, description="share of the old estimate that stays in the new one"), FloatRange(0.0, 0.99)
]
"""Type of the parameter `momentum`."""
GradientAt: TypeAlias = Annotated[
    Literal["own", "screened"],
    Field(description="where the gradient is taken: at the agent's own parameters, or at the output of the rule"),
]
"""Type of the parameter `gradient_at` of `GossipThenStep`."""


def update_momentum(
    method: PolicyGradient, fed: Federation, theta: Tensor, state: State, N: int, fresh: float, corrected: bool
) -> State:
    """Update the momentum estimates of all agents at theta [K, d].

        u_t = a g_t + (1 - a) u_{t-1}                              momentum: a is `fresh`
        u_t = a g_t + (1 - a) (u_{t-1} + g_t - g_t^omega)          `corrected`

    g_t is the gradient of N episodes at theta_t. g_t^omega is the gradient of the same episodes at theta_{t-1},
    weighted by omega = p(tau | theta_{t-1}) / p(tau | theta_t). A corrected estimate does not lag behind the gradient.
    The first estimate is g_0.

    Args:
        method: The algorithm, whose `gradient` is used.
        fed: The federation, which samples the episodes.
        theta: The parameters at which the gradient is taken, [K, d].
        state: The algorithm's state, with `estimate` and `at` of the round before.
        N: The number of episodes of each agent.
        fresh: The weight a of the new gradient.
        corrected: Whether the old estimate is corrected by importance weights.

    Returns:
        The state with the new `estimate` [K, d], and with `at` [K, d], the parameters at which it was taken.
    """
    batch = fed.sample(theta, N)
    has_old_estimate = fed.round > 0 and fresh < 1
    log_probs = torch.zeros_like(batch.rewards) if has_old_estimate and corrected else None
    estimate = method.gradient(fed, theta, batch, log_probs=log_probs)
    if has_old_estimate:
        old_estimate = state["estimate"]
        if log_probs is not None:
            omega = importance_weights(fed.policy, state["at"], theta, batch, log_probs)
            log_importance_weights(fed, omega, batch.count, torch.ones(len(theta), dtype=torch.bool))
            old_estimate = old_estimate + estimate - method.gradient(fed, state["at"], batch, omega)
        estimate = fresh * estimate + (1 - fresh) * old_estimate
    return {**state, "estimate": estimate, "at": theta}


@dataclass(frozen=True)
class GossipAlgorithm(PolicyGradient):
    """A method whose agents exchange parameters only; the experiment's agreement combines them.

    `StepThenGossip` and `GossipThenStep` define its two usual rounds. A subclass with another round defines `round`,
    which uses `step`, and `fed.agree` for the exchange.

    Example:
        Agents exchange parameters in some rounds only:

        >>> @dataclass(frozen=True)
        ... class LocalSteps(GossipAlgorithm):
        ...     defaults = {"topology": "complete", "aggregator": "mean", "agreement": "gossip+weighted_mean"}
        ...     every: int = 5
        ...
        ...     async def round(self, fed, state):
        ...         state = self.step(fed, state["theta"], state)
        ...         if fed.round % self.every:
        ...             return state, {}
        ...         theta, state = await fed.agree(state["theta"], state)
        ...         return {**state, "theta": theta}, {}
        >>> LocalSteps(every=2).momentum
        0.9
    """

    uses: ClassVar[tuple[str, ...]] = ("agreement",)
    unbiased: ClassVar[bool] = True
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = SINGLE_BATCH_SUGGESTIONS

    N: BatchSize = 10
    momentum: Momentum = 0.9
    corrected: Annotated[
        bool, Field(description="correct the momentum for the last step by importance weights, as in mdpgt")
    ] = False

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, with zero estimates."""
        return {**super().start(fed), "estimate": torch.zeros_like(fed.theta0), "at": fed.theta0}

    def step(self, fed: Federation, at: Tensor, state: State) -> State:
        """Step from theta along the estimate taken at `at` [K, d]."""
        state = update_momentum(self, fed, at, state, self.N, 1 - self.momentum, self.corrected)
        return self.ascend(fed, state["estimate"], state)


@dataclass(frozen=True)
class StepThenGossip(GossipAlgorithm):
    """A gossip method whose agents step first, and exchange the stepped parameters.

    A subclass names the rule in `defaults`, as an agreement, and may change the defaults of parameters.

    Example:
        >>> @dataclass(frozen=True)
        ... class MedianGossip(StepThenGossip):
        ...     defaults = {"topology": "complete", "aggregator": "mean", "agreement": "gossip+median"}
        ...     momentum: Momentum = 0.0
        >>> MedianGossip().uses
        ('agreement',)
    """

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, step, exchange parameters, and move to the output of the rule."""
        state = self.step(fed, state["theta"], state)
        theta, state = await fed.agree(state["theta"], state)
        return {**state, "theta": theta}, {}


@dataclass(frozen=True)
class GossipThenStep(GossipAlgorithm):
    """A gossip method whose agents exchange parameters first, and step from the output of the rule.

    A subclass names the rule in `defaults`, as for `StepThenGossip`.

    Example:
        >>> @dataclass(frozen=True)
        ... class FilteredStep(GossipThenStep):
        ...     defaults = {"topology": "complete", "aggregator": "mean", "agreement": "gossip+trimmed_mean"}
        ...     gradient_at: GradientAt = "screened"
        >>> FilteredStep(N=20).gradient_at
        'screened'
    """

    gradient_at: GradientAt = "own"

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Exchange parameters, apply the rule, sample, and step from its output."""
        screened, new = await fed.agree(state["theta"], state)
        at = state["theta"] if self.gradient_at == "own" else screened
        return self.step(fed, at, {**new, "theta": screened}), {}
