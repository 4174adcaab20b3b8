"""ClippedGossip: momentum, a gradient step, and gossip with differences clipped to a radius."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gossip import StepThenGossip


@dataclass(frozen=True)
class ClippedGossip(StepThenGossip):
    """Policy gradients with self-centred clipping of the neighbours' parameters, on any connected graph.

    Each round t, every agent i:

        m_i         = (1 - a) m_i + a g_i(theta_i)                    g_i the gradient of N episodes; a = 1 - `momentum`
        theta_i^1/2 = theta_i + eta m_i                               sent to the neighbours
        theta_i     = theta_i^1/2 + sum_j W_ij clip(theta_j^1/2 - theta_i^1/2, tau_i)

    with clip(z, tau) = z min(1, tau / ||z||) and the graph's mixing weights W. The last line is the rule of the
    agreement `gossip+self_centered_clipping`, whose parameters define tau_i.

    Source: He, Karimireddy, Jaggi 2022, "Byzantine-robust decentralized learning via ClippedGossip", arXiv 2202.01545.

    Differs from the source in: Adam on m_i by default (`optimizer=sgd` is the source's step).
    """

    source: ClassVar[str] = "He et al. 2022, arXiv 2202.01545 (ClippedGossip)"
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "mean",
        "agreement": "gossip+self_centered_clipping",
    }
