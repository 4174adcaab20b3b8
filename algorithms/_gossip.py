"""The body of methods whose agents tell each other where they are: a step of one's own, and a rule over neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from byzbench.algorithms._steps import PolicyGradient, note_weights
from byzbench.contracts import Range, State
from byzbench.learning.gradients import importance_weights

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation

Momentum: TypeAlias = Annotated[
    float, Field(ge=0, lt=1, description="share of the old estimate that stays in the new one"), Range(0.0, 0.99)
]
Batch: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a round"), Range(2, 128, log=True)]
GradientAt: TypeAlias = Annotated[
    Literal["own", "screened"],
    Field(description="where the gradient is taken: at the agent's parameters, or at what the rule made of all"),
]
SUGGESTED: Mapping[str, Mapping[str, Any]] = {"cartpole": {"N": 10, "lr": 5e-3}}
"""Batches and step sizes of methods that have one batch a round, by task."""


def follow(
    method: PolicyGradient, fed: Federation, theta: Tensor, state: State, N: int, fresh: float, corrected: bool
) -> State:
    """The agents' new estimates at theta [K, d], and where they were made: `estimate` and `at` of the state, [K, d].

        u_t = a g_t + (1 - a) u_{t-1}                              momentum: a is `fresh`
        u_t = a g_t + (1 - a) (u_{t-1} + g_t - g_t^omega)          `corrected`

    g_t is the gradient of N episodes at theta_t; g_t^omega that of the same ones at theta_{t-1}, weighted by omega =
    p(tau | theta_{t-1}) / p(tau | theta_t). What is corrected follows the gradient instead of lagging behind it. The
    first estimate is g_0.
    """
    batch = fed.sample(theta, N)
    value = method.gradient(fed, theta, batch)
    if fed.round and fresh < 1:
        old = state["estimate"]
        if corrected:
            omega = importance_weights(fed.policy, state["at"], theta, batch)
            note_weights(fed, omega, batch.count, torch.ones(len(theta), dtype=torch.bool))
            old = old + value - method.gradient(fed, state["at"], batch, omega)
        value = fresh * value + (1 - fresh) * old
    return {**state, "estimate": value, "at": theta}


@dataclass(frozen=True)
class Gossip(PolicyGradient):
    """Agents that exchange parameters only: of the experiment's rules, the agreement meets them."""

    uses: ClassVar[tuple[str, ...]] = ("agreement",)
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = SUGGESTED

    N: Batch = 10
    momentum: Momentum = 0.9
    corrected: Annotated[
        bool, Field(description="momentum that is corrected for the step since, by importance weights, as in mdpgt")
    ] = False

    def start(self, fed: Federation) -> State:
        """theta_0 everywhere, and no estimate yet."""
        return {**super().start(fed), "estimate": torch.zeros_like(fed.theta0), "at": fed.theta0}

    def step(self, fed: Federation, at: Tensor, state: State) -> State:
        """From theta up the estimate at `at` [K, d]."""
        state = follow(self, fed, at, state, self.N, 1 - self.momentum, self.corrected)
        return self.ascend(fed, state["estimate"], state)


@dataclass(frozen=True)
class StepThenGossip(Gossip):
    """Agents tell where their step led."""

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, step, exchange, move to what the rule makes of it."""
        state = self.step(fed, state["theta"], state)
        theta, state = await fed.agree(state["theta"], state)
        return {**state, "theta": theta}, {}


@dataclass(frozen=True)
class GossipThenStep(Gossip):
    """Agents tell where they are, and step from what the rule makes of it."""

    gradient_at: GradientAt = "own"

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Exchange, screen, sample, step from what was screened."""
        screened, new = await fed.agree(state["theta"], state)
        at = state["theta"] if self.gradient_at == "own" else screened
        return self.step(fed, at, {**new, "theta": screened}), {}
