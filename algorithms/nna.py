"""NNA, or MoNNA: momentum, a gradient step, and the mean of the parameters nearest to the agent's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gossip import StepThenGossip


@dataclass(frozen=True)
class Nna(StepThenGossip):
    """Policy gradients with nearest-neighbour averaging of parameters.

    Each round t, every agent i:

        m_i         = beta m_i + (1 - beta) g_i(theta_i)              g_i the gradient of N episodes; beta is `momentum`
        theta_i^1/2 = theta_i + eta m_i                               sent to the neighbours
        theta_i     = the mean of the n - f of the n received theta_j^1/2 nearest to theta_i^1/2, its own included

    The last line is the rule of the agreement `gossip+monna`.

    Source: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan 2023, "Robust collaborative learning with linear
    gradient overhead", ICML, arXiv 2209.10931.

    Differs from the source in: beta = 0.9, not 0.99, as a run has hundreds of rounds, not thousands; the first momentum
    is the first gradient, not a fraction of it; any graph; Adam on m_i by default (`optimizer=sgd` is the source's
    step).
    """

    source: ClassVar[str] = "Farhadkhani et al. 2023, arXiv 2209.10931 (MoNNA)"
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "mean",
        "agreement": "gossip+monna",
    }
