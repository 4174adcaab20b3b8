"""Dec-PG: DecByzPG without variance reduction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.algorithms._recommended import ONE_BATCH
from byzbench.core import Recommendation
from byzbench.core.policy_gradient import DecentralizedGradient


@dataclass(frozen=True)
class DecPG(DecentralizedGradient):
    """DecByzPG without variance reduction: robust aggregation and averaging agreement of plain policy gradients.

        g_t^k = (1/N) sum_i g(tau_i | theta_t^k)                                  N episodes of agent k
        v_t^k = Aggregate(g_t^1, ..., g_t^K as received by k)
        theta_{t+1}^k = Avg-Agree(theta_t^1 + eta v_t^1, ..., theta_t^K + eta v_t^K)

    It is `decbyzpg` with p=1, from which it shows what variance reduction adds. It needs no common coin.

    Source: an ablation of Jordan, Groetschla, Fan, Wattenhofer, 2024, arXiv 2401.03489.
    """

    source: ClassVar[str] = "ablation of Jordan et al. 2024, arXiv 2401.03489 (DecByzPG with p=1)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "complete", "aggregator": "rfa", "agreement": "mda"}
    recommended: ClassVar[Mapping[str, Recommendation]] = ONE_BATCH
