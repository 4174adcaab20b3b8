"""DecByzPG: Byzantine-tolerant policy gradients without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from byzbench.algorithms._official import OFFICIAL_MDA, OFFICIAL_RFA
from byzbench.algorithms._recommended import FEDERATED
from byzbench.core import Recommendation
from byzbench.core.page import OFFICIAL, DecentralizedPage


@dataclass(frozen=True)
class DecByzPG(DecentralizedPage):
    """Decentralised federated policy gradients with robust aggregation, averaging agreement and a common coin.

    Each round t, every agent k:

        c_t        = 1 if t = 0, else the common coin Bernoulli(p)
        v~_t^k     = PAGE estimate at theta_t^k with reference v_{t-1}^k         (large batch N if c_t, else B)
        v_t^k      = Aggregate(v~_t^1, ..., v~_t^K as received by k)
        theta_{t+1}^k = Avg-Agree(theta_t^1 + eta v_t^1, ..., theta_t^K + eta v_t^K)

    Source: Jordan, Groetschla, Fan, Wattenhofer, 2024, arXiv 2401.03489.

    Differs from the source in: Adam on the aggregate by default, as in the authors' code (`optimizer=sgd` is the
    pseudo-code's step); the graph need not be complete, and an agent aggregates what it receives. The preset `official`
    is the authors' code, which differs from this pseudo-code: see the parameters.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489 (DecByzPG)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "complete", "aggregator": "rfa", "agreement": "mda"}
    recommended: ClassVar[Mapping[str, Recommendation]] = FEDERATED
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {"algorithm": OFFICIAL, "aggregator": OFFICIAL_RFA, "agreement": OFFICIAL_MDA},
    }
