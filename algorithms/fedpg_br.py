"""FedPG-BR: federated policy gradients with filtered aggregation, and variance reduction at the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core.svrg import OFFICIAL, OFFICIAL_POLICIES, Scale, SvrgAlgorithm


@dataclass(frozen=True)
class FedPgBr(SvrgAlgorithm):
    """Federated policy gradients whose trusted server filters large-batch gradients and takes corrected steps alone.

    Each round t, from the common theta_0 = theta~_{t-1}:

        mu_k    = (1/N_t) sum_i g(tau_i | theta_0)            agent k, N_t uniform in N - spread .. N + spread
        mu      = Aggregate(mu_1, ..., mu_K)                  at the server
        n_t     ~ Geometric, P(n) = (N_t / (N_t + B))^n B / (N_t + B)
        v_n     = (1/B) sum_j [g(tau_j | theta_n) - omega(tau_j) g(tau_j | theta_0)] + mu      tau_j ~ theta_n
        theta_{n+1} = theta_n + eta v_n,    n < n_t;     theta~_t = theta_{n_t}

    with omega = p(tau | theta_0) / p(tau | theta_n). The server samples the tau_j itself, so it needs an environment.

    Source: Fan, Ma, Dai, Jing, Tan, Low 2021, "Fault-tolerant federated reinforcement learning with theoretical
    guarantee", NeurIPS, arXiv 2110.14074, algorithm 1; N, B and step sizes by task are the released code's.

    Differs from the source in: Adam at the server and whitened gradients by default, as in the code; the filter
    estimates sigma, for which the server samples N episodes more in the first round (`scale=server`); the last
    parameters are the result, not those of a round drawn at random. The preset `official` adds the other differences of
    the code: n_t is one more, weights are of single steps, an epoch ends once their mean has drifted by 0.005, logits
    pass through tanh, sigma and the policy are the code's for CartPole, LunarLander and HalfCheetah, and the server
    steps along its own gradients where the filter finds no majority. What it leaves out: the filter needs |G| >= n - f,
    in the code 0.6 n; HalfCheetah's episodes have 1,000 steps, in the code 500.
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074 (FedPG-BR)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "fedpg_filter", "agreement": "none"}
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **SvrgAlgorithm.suggested,
        "lunarlander": {**SvrgAlgorithm.suggested["lunarlander"], "spread": 6},
        "halfcheetah": {**SvrgAlgorithm.suggested["halfcheetah"], "spread": 2},
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {
            "algorithm": {**OFFICIAL, "least": 1, "fallback": "own", "scale": "none"},
            "aggregator": "fedpg_filter(fallback=none)",
            "tasks": {
                task: {"policy": OFFICIAL_POLICIES[task], "aggregator": f"fedpg_filter(sigma={sigma}, fallback=none)"}
                for task, sigma in (("cartpole", 0.06), ("lunarlander", 0.07), ("halfcheetah", 0.9))
            },
        },
    }

    scale: Scale = "server"
    spread: Annotated[int, Field(ge=0, description="largest difference of an agent's batch from N")] = 4
    least: Annotated[int, Field(ge=0, le=1, description="fewest steps of an epoch: 0; code: 1")] = 0

    def batch_size(self, rng: np.random.Generator) -> int:
        """Return a number of episodes, uniform in N - spread .. N + spread, and at least 1."""
        return max(1, int(rng.integers(self.N - self.spread, self.N + self.spread + 1)))

    def num_steps(self, batch_size: int, rng: np.random.Generator) -> int:
        """Return a number of steps, geometric with mean batch / B, plus `least`."""
        return int(rng.geometric(self.B / (batch_size + self.B))) - 1 + self.least
