"""Federated GPOMDP: averaged REINFORCE gradients with reward-to-go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.policy_gradient import ServerGradient


@dataclass(frozen=True)
class Gpomdp(ServerGradient):
    """Federated policy gradients from one batch an agent and a mean at the server, without variance reduction.

        g_t^k = (1/N) sum_i sum_h grad log pi(a_h|s_h) sum_{j>=h} gamma^j r_j,    episodes i sampled at theta_t
        theta_{t+1} = theta_t + eta mean_k g_t^k

    Source: Baxter and Bartlett, Infinite-horizon policy-gradient estimation, 2001; the federated baseline of Fan et
    al., 2021, arXiv 2110.14074.

    Differs from the source in: no whitening of returns; Adam on the aggregate, as in the code of the latter.
    """

    source: ClassVar[str] = "Baxter and Bartlett 2001; Fan et al. 2021, arXiv 2110.14074 (GPOMDP)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "mean", "agreement": "none"}
