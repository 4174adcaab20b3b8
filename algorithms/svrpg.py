"""SVRPG: federated policy gradients with variance reduction and a plain mean at the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core.svrg import OFFICIAL, OFFICIAL_POLICIES, SvrgAlgorithm


@dataclass(frozen=True)
class Svrpg(SvrgAlgorithm):
    """FedPG-BR with a mean instead of its filter, a fixed batch size and a fixed number of steps.

        mu      = (1/K) sum_k mu_k,    mu_k = (1/N) sum_i g(tau_i | theta_0) of agent k
        v_n     = (1/B) sum_j [g(tau_j | theta_n) - omega(tau_j) g(tau_j | theta_0)] + mu      tau_j ~ theta_n
        theta_{n+1} = theta_n + eta v_n,    n < m

    Source: Papini, Binaghi, Canonaco, Pirotta, Restelli 2018, "Stochastic variance-reduced policy gradient", ICML,
    arXiv 1806.05618; as the federated baseline of Fan et al. 2021, arXiv 2110.14074, whose N, B, m and step sizes these
    are.

    Differs from the source in: Adam at the server and whitened gradients by default, as in that baseline. The preset
    `official` is the code of that baseline: weights are of single steps, an epoch ends once their mean has drifted by
    0.005, logits pass through tanh, and the policy is the code's for CartPole, LunarLander and HalfCheetah.
    """

    source: ClassVar[str] = "Papini et al. 2018, arXiv 1806.05618 (SVRPG), federated as in arXiv 2110.14074"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "mean", "agreement": "none"}

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {
            "algorithm": OFFICIAL,
            "tasks": {task: {"policy": policy} for task, policy in OFFICIAL_POLICIES.items()},
        },
    }

    m: Annotated[int, Field(ge=1, le=1000, description="steps of an epoch")] = 3

    def batch_size(self, rng: np.random.Generator) -> int:
        """Return N."""
        return self.N

    def num_steps(self, batch_size: int, rng: np.random.Generator) -> int:
        """Return m."""
        return self.m
