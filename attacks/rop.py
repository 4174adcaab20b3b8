"""Relocated orthogonal perturbation (ROP): the last aggregate, pushed orthogonally to its direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import normalize

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class Rop(MessageAttack):
    """Message attack that sends the last aggregate, pushed at an angle to the direction of its movement.

        loc = pi v + (1 - pi) mean,    ref = lam v + (1 - lam) mean
        p = unit(1 - <1, unit(ref)> unit(ref)) sin(angle) + unit(ref) cos(angle)
        m = loc + z s p

    v [d] is the output of the rule in the last exchange (at first, the mean), 1 the vector of ones, mean [d] of the
    honest vectors x [h, d], and s = sqrt(mean_i ||x[i] - mean||^2) their spread. It targets centred clipping, which
    starts from v: a small and constant push stays below the clipping radius, and accumulates over time.

    Source: Ozfatura, Ozfatura, Kupcu, Gunduz 2023, "Byzantines can also learn from history", arXiv 2208.09894.

    Differs from the source in: z is in units of the honest spread. pi, lam and z are the adversary's; the defaults are
    ours. Where agents receive different messages, v is the mean of the outputs at the Byzantine agents.
    """

    source: ClassVar[str] = "Ozfatura et al. 2023, arXiv 2208.09894"
    z: Annotated[
        float,
        Field(gt=0, description="length of the push, in units of the honest spread"),
        FloatRange(0.1, 10, log=True),
    ] = 1.0
    pi: Annotated[
        float, Field(ge=0, le=1, description="share of the last aggregate in the starting point"), FloatRange(0, 1)
    ] = 1.0
    lam: Annotated[float, Field(ge=0, le=1, description="share of the last aggregate in the reference direction")] = 0.9
    angle: Annotated[
        float,
        Field(ge=0, le=360, description="angle between the push and the reference direction, in degrees"),
        FloatRange(90, 270),
    ] = 90.0

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding, with the history."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest", "history"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the pushed aggregate from every Byzantine agent."""
        honest = context.honest.double()
        mean = honest.mean(0)
        last = mean if context.history is None else context.history.double().mean(0)
        direction = normalize(self.lam * last + (1 - self.lam) * mean, dim=0, eps=1e-150)
        ones = torch.ones_like(direction)
        orthogonal = normalize(ones - (ones @ direction) * direction, dim=0, eps=1e-150)
        angle = math.radians(self.angle)
        spread = (honest - mean).square().sum(1).mean().sqrt()
        push = self.z * spread * (math.sin(angle) * orthogonal + math.cos(angle) * direction)
        crafted = self.pi * last + (1 - self.pi) * mean + push
        return ByzantineMessages(crafted.to(context.honest.dtype).expand_as(context.byzantine)), memory
