"""MDPGT: momentum-based decentralised policy gradients with tracking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from byzbench.core import FloatRange, State
from byzbench.core.gossip import update_momentum
from byzbench.core.policy_gradient import BatchSize, PolicyGradient

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class Mdpgt(PolicyGradient):
    """Decentralised policy gradients with momentum, importance weights and gradient tracking.

    Each round k, every agent i, with u_i = v_i = 0 before the first:

        u_i'    = beta g_i(theta_i) + (1 - beta) (u_i + g_i(theta_i) - g_i^omega(theta_i of the round before))
        v_i     = v_i + u_i' - u_i                                    sent to the neighbours, with theta_i
        v_i     = Mix(v_j of the neighbours and itself)
        theta_i = Mix(theta_j of the neighbours and itself) + eta v_i

    g_i is the gradient of N episodes at theta_i, g_i^omega the importance-weighted gradient of the same episodes; the
    first u_i is g_i. Where Mix preserves the mean, the mean of all v_i equals the mean of all u_i.

    Mix of v is the experiment's aggregator, Mix of theta the rule of its agreement. Both are plain gossip by default
    (`weighted_mean`), without any robustness. The presets are the robust variants: `iterate`, `tracker` and `both`
    apply self-centred clipping to theta, to v, and to both. Any other rule can be used in either place.

    Source: Jiang, Lee, Tan, Tan, Balu, Lee, Hegde, Sarkar 2022, "MDPGT: Momentum-based decentralized policy gradient
    tracking", AAAI, arXiv 2112.02813, algorithm 1; the robust variants are ours.

    Differs from the source in: rewards are not whitened; Adam by default (`optimizer=sgd` is the source's step). Its
    code takes the correction of u_i at the first policy, theta_0, in every round, probably by a wrong variable name.
    """

    N: BatchSize = 10
    beta: Annotated[float, Field(gt=0, le=1, description="weight of the fresh gradient"), FloatRange(0.1, 1.0)] = 0.5

    source: ClassVar[str] = "Jiang et al. 2022, arXiv 2112.02813 (MDPGT)"
    unbiased: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "weighted_mean",
        "agreement": "gossip+weighted_mean",
    }
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cartpole": {"N": 10, "lr": 3e-3}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "iterate": {"agreement": "gossip+self_centered_clipping"},
        "tracker": {"aggregator": "self_centered_clipping"},
        "both": {"aggregator": "self_centered_clipping", "agreement": "gossip+self_centered_clipping"},
    }

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, with zero estimates and trackers."""
        zero = torch.zeros_like(fed.theta0)
        return {**super().start(fed), "estimate": zero, "at": fed.theta0, "tracked": zero}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, update estimate and tracker, exchange tracker and parameters, and step."""
        old_estimate = state["estimate"]
        state = update_momentum(self, fed, state["theta"], state, self.N, self.beta, corrected=True)
        inbox = await fed.exchange("gradient", state["tracked"] + state["estimate"] - old_estimate)
        tracked, state = fed.aggregate(inbox, state)
        theta, state = await fed.agree(state["theta"], state)
        return self.ascend(fed, tracked, {**state, "theta": theta, "tracked": tracked}), {}
