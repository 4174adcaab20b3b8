"""FedSVRPG-M: local steps with momentum and variance reduction, for unequal agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.algorithms._recommended import for_unequal_agents
from byzbench.core import Communication, FloatRange, Recommendation, State
from byzbench.core.policy_gradient import PolicyGradient, log_importance_weights
from byzbench.rl.gradients import importance_weights

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class FedSvrpgM(PolicyGradient):
    """Federated policy gradients with local steps, whose drift a global momentum corrects.

    Each round r, from theta_r, with the direction u_r of the round before, every agent takes L local steps:

        g_l       = the gradient of N episodes at theta_l,    theta_0 = theta_r
        u_l       = beta g_l + (1 - beta) (u_r + g_l - g_l^omega)
        theta_l+1 = theta_l + eta_local u_l

    g_l^omega is the gradient of the same episodes at theta_{r-1}, weighted by p(tau | theta_{r-1}) / p(tau | theta_l).
    The message is the mean of u_0, ..., u_{L-1}, which is the local displacement divided by eta_local L. At the server:

        u_{r+1}     = Aggregate(messages)
        theta_{r+1} = theta_r + eta u_{r+1}

    As u_r is common to all agents, the local steps of agents with different tasks do not drift to different optima. In
    the first round u_l is g_l. Local steps have the length that the optimizer gives to a direction: with sgd that of
    u_l, with normalized and adam 1, with clipped at most `max_norm`.

    The default aggregator is the mean, without any robustness.

    Source: Wang, He, Zhang, Miao, Anderson 2024, "Momentum for the win: Collaborative federated reinforcement learning
    across heterogeneous environments", ICML, arXiv 2405.19499, algorithm 1; read in re-implementations.

    Differs from the source in: Adam at the server and local steps of fixed length by default (`optimizer=sgd` is the
    source's step in both places); N episodes in a local step, where the source has one; the first u_0 is the first
    gradient.

    Example:
        >>> FedSvrpgM(N=1, local_steps=10).communication.value
        'server'
    """

    source: ClassVar[str] = "Wang et al. 2024, arXiv 2405.19499 (FedSVRPG-M)"
    communication: ClassVar[Communication] = Communication.SERVER
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "mean", "agreement": "none"}
    recommended: ClassVar[Mapping[str, Recommendation]] = for_unequal_agents(N=2, local_steps=4, lr=0.05, local_lr=0.05)
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cartpole": {"N": 2, "lr": 5e-3}}

    N: Annotated[
        int, Field(ge=1, le=1_000_000, description="episodes of a local step"), FloatRange(1, 32, log=True)
    ] = 1
    local_steps: Annotated[int, Field(ge=1, le=10_000, description="number of local steps L"), FloatRange(1, 20)] = 5
    local_lr: Annotated[
        float, Field(gt=0, description="step size eta_local of local steps"), FloatRange(1e-4, 3e-2, log=True)
    ] = 1e-3
    beta: Annotated[float, Field(gt=0, le=1, description="weight of the fresh gradient"), FloatRange(0.05, 1.0)] = 0.2

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, with a zero direction."""
        return {**super().start(fed), "previous": fed.theta0, "direction": torch.zeros_like(fed.theta0)}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Take local steps, gather the mean of their directions, aggregate at the server, broadcast, and step."""
        theta, total = state["theta"], torch.zeros_like(state["theta"])
        for _ in range(self.local_steps):
            estimate = self._estimate(fed, theta, state)
            theta, total = theta + self.local_lr * self._rescale(estimate), total + estimate
        aggregate, state = fed.aggregate(await fed.gather("gradient", total / self.local_steps), state)
        direction = await fed.broadcast("direction", aggregate)
        new = self.ascend(fed, direction, state)
        defined = direction.isfinite().all(1, keepdim=True)
        common = {"previous": state["theta"], "direction": direction}
        return {**new, **{name: torch.where(defined, part, state[name]) for name, part in common.items()}}, {}

    def _estimate(self, fed: Federation, theta: Tensor, state: State) -> Tensor:
        """Return the corrected momentum estimates [K, d] at the local parameters."""
        batch = fed.sample(theta, self.N)
        is_corrected = fed.round > 0 and self.beta < 1
        log_probs = torch.zeros_like(batch.rewards) if is_corrected else None
        estimate = self.gradient(fed, theta, batch, log_probs=log_probs)
        if not is_corrected:
            return estimate
        omega = importance_weights(fed.policy, state["previous"], theta, batch, log_probs)
        log_importance_weights(fed, omega, batch.count, torch.ones(len(theta), dtype=torch.bool))
        old = self.gradient(fed, state["previous"], batch, omega)
        return self.beta * estimate + (1 - self.beta) * (state["direction"] + estimate - old)
