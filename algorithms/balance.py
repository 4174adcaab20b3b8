"""BALANCE: a gradient step, and averaging with similar neighbours, whose threshold shrinks over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gossip import Momentum, StepThenGossip


@dataclass(frozen=True)
class BalanceGossip(StepThenGossip):
    """Policy gradients with averaging over neighbours within a distance that shrinks over time.

    Each round t, every agent i:

        theta_i^1/2 = theta_i + eta g_i(theta_i)           g_i the gradient of N episodes; sent to the neighbours
        S_i         = the neighbours j with ||theta_i^1/2 - theta_j^1/2|| <= gamma exp(-kappa t / T) ||theta_i^1/2||
        theta_i     = alpha theta_i^1/2 + (1 - alpha) mean of theta_j^1/2 over S_i

    The last two lines are the rule of the agreement `gossip+balance`, which has gamma, kappa, alpha and T (`horizon`).

    Source: Fang, Zhang, Hairi, Khanduri, Liu, Lu, Liu, Gong 2024, "Byzantine-robust decentralized federated learning",
    CCS, arXiv 2406.10416.

    Differs from the source in: Adam by default (`optimizer=sgd` is the source's step); T is a number of rounds that
    does not follow from the budget; `momentum` is an option.
    """

    source: ClassVar[str] = "Fang et al. 2024, arXiv 2406.10416 (BALANCE)"
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "mean",
        "agreement": "gossip+balance",
    }

    momentum: Momentum = 0.0
