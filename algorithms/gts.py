"""GTS gossip: momentum, a gradient step, and a sum over the neighbours without the farthest of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gossip import StepThenGossip


@dataclass(frozen=True)
class GtsGossip(StepThenGossip):
    """Policy gradients with gossip of parameters by a trimmed sum over the neighbours.

    Each round t, every agent i:

        m_i         = beta m_i + (1 - beta) g_i(theta_i)              g_i the gradient of N episodes; beta is `momentum`
        theta_i^1/2 = theta_i + eta m_i                               sent to the neighbours
        theta_i     = theta_i^1/2 - F((w_ij, theta_i^1/2 - theta_j^1/2) over the neighbours j)

    with F the sum of w_ij z_j without the farthest neighbours, up to the weight of the Byzantine agents: the rule of
    the agreement `gossip+gts`.

    Source: Gaucher, Dieuleveut, Hendrikx 2025, "Unified breakdown analysis for Byzantine robust gossip", ICML, arXiv
    2410.10418: the scheme F-RG, in stochastic gradient descent with local momentum (which is from memory).

    Differs from the source in: Adam on m_i by default (`optimizer=sgd` is the source's step).
    """

    source: ClassVar[str] = "Gaucher et al. 2025, arXiv 2410.10418 (GTS-RG)"
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "mean",
        "agreement": "gossip+gts",
    }
