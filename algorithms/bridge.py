"""BRIDGE: screen the neighbours' parameters, then step along the agent's own gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gossip import GossipThenStep, Momentum


@dataclass(frozen=True)
class BridgeGossip(GossipThenStep):
    """Policy gradients whose step starts from a screened mean, along the gradient at the agent's own parameters.

    Each round t, every agent i:

        send theta_i to the neighbours
        y_i     = Screen(theta_j of the neighbours and itself)     in each coordinate, without f extremes on either side
        theta_i = y_i + eta g_i(theta_i)                           g_i the gradient of N episodes, at the old theta_i

    Screen is the rule of the agreement `gossip+bridge`, whose parameter `screen` has the variants -T, -M, -K and -B.

    Source: Fang, Yang, Bajwa 2022, "BRIDGE: Byzantine-resilient decentralized gradient descent", IEEE Transactions on
    Signal and Information Processing over Networks 8, arXiv 1908.08098, algorithm 1.

    Differs from the source in: gradients are estimated; Adam by default (`optimizer=sgd` is the source's step, whose
    size shrinks like 1/t); `momentum`, and the gradient at y_i (`gradient_at=screened`), are options.
    """

    source: ClassVar[str] = "Fang et al. 2022, arXiv 1908.08098 (BRIDGE)"
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "mean",
        "agreement": "gossip+bridge",
    }

    momentum: Momentum = 0.0
