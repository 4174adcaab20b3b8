"""W-MSR: discard the extremes on either side of the agent's own parameters, average the rest, then step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gossip import GossipThenStep, GradientAt, Momentum


@dataclass(frozen=True)
class WMsrGossip(GossipThenStep):
    """Policy gradients with consensus of parameters by W-MSR, and a gradient step from its result.

    Each round t, every agent i:

        send theta_i to the neighbours
        z_i     = in each coordinate, the mean of the own value and the neighbours' without the f largest of those above
                  it and the f smallest of those below it
        theta_i = z_i + eta g_i(z_i)                                  g_i the gradient of N episodes

    The middle line is the rule of the agreement `gossip+w_msr`.

    Source: Sundaram, Gharesifard 2019, "Distributed optimization under adversarial nodes", IEEE Transactions on
    Automatic Control 64(3), arXiv 1606.08939 (from memory), for the step; LeBlanc, Zhang, Koutsoukos, Sundaram 2013,
    IEEE JSAC 31(4), for the rule.

    Differs from the source in: parameters are vectors, filtered coordinate by coordinate; gradients are estimated;
    Adam by default (`optimizer=sgd, lr_schedule=inverse_sqrt` is nearer to its steps, which shrink); `momentum` is an
    option.
    """

    source: ClassVar[str] = "Sundaram, Gharesifard 2019, arXiv 1606.08939; LeBlanc et al. 2013"
    defaults: ClassVar[Mapping[str, str]] = {
        "topology": "complete",
        "aggregator": "mean",
        "agreement": "gossip+w_msr",
    }

    momentum: Momentum = 0.0
    gradient_at: GradientAt = "screened"
