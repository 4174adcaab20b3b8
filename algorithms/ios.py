"""IOS: a gradient step, and gossip that iteratively discards the neighbour farthest from the mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gossip import Momentum, StepThenGossip


@dataclass(frozen=True)
class IosGossip(StepThenGossip):
    """Policy gradients with gossip of parameters by iterative outlier scissors.

    Each round t, every agent i:

        theta_i^1/2 = theta_i + eta g_i(theta_i)           g_i the gradient of N episodes; sent to the neighbours
        theta_i     = the mean of theta_i^1/2 and its neighbours', by mixing weights, without f outliers

    where an outlier is the neighbour that is farthest from the mean of the remaining ones. The last line is the rule of
    the agreement `gossip+ios`.

    Source: Wu, Chen, Ling 2023, "Byzantine-resilient decentralized stochastic optimization with robust aggregation
    rules", IEEE Transactions on Signal Processing, arXiv 2206.04568, algorithm 1.

    Differs from the source in: Adam by default (`optimizer=sgd, lr_schedule=inverse_sqrt` is nearer to its steps, which
    shrink); `momentum` is an option.
    """

    source: ClassVar[str] = "Wu et al. 2023, arXiv 2206.04568 (IOS)"
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "mean",
        "agreement": "gossip+ios",
    }

    momentum: Momentum = 0.0
