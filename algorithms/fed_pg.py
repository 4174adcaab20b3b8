"""Fed-PG: ByzPG without variance reduction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.algorithms._recommended import ONE_BATCH
from byzbench.core import Recommendation
from byzbench.core.policy_gradient import ServerGradient


@dataclass(frozen=True)
class FedPG(ServerGradient):
    """ByzPG without variance reduction: plain policy gradients, and a robust aggregator at the server.

        v_t = Aggregate(g_t^1, ..., g_t^K),    theta_{t+1} = theta_t + eta v_t

    It is `byzpg` with p=1, from which it shows what variance reduction adds.

    Source: an ablation of Jordan, Groetschla, Fan, Wattenhofer, 2024, arXiv 2401.03489.
    """

    source: ClassVar[str] = "ablation of Jordan et al. 2024, arXiv 2401.03489 (ByzPG with p=1)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "rfa", "agreement": "none"}
    recommended: ClassVar[Mapping[str, Recommendation]] = ONE_BATCH
