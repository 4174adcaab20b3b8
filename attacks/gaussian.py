"""Gaussian noise: normal noise in place of the honest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel
from byzbench.geometry.coordinate_size import coordinate_size


@dataclass(frozen=True)
class Gaussian(MessageAttack):
    """Message attack that sends normal noise, drawn independently for each Byzantine agent and exchange.

        m[k] = u N(mean, sd^2)^d,    u = median_i ||x[i]|| / sqrt(d),    x [h, d] the honest vectors

    With mean 0 a message is about sd times as long as an honest vector. Without `relative`, u = 1.

    Source: Blanchard et al. 2017, arXiv 1703.02757, experiments, where the noise has an absolute sd; so it has in
    byzfl, with mean 0 and sd 1.

    Differs from the source in: the strength is relative by default. An absolute strength that dominates the gradients
    of one task can be negligible on another.
    """

    source: ClassVar[str] = "Blanchard et al. 2017, arXiv 1703.02757"
    sd: Annotated[
        float,
        Field(gt=0, description="standard deviation of each coordinate, in units u"),
        FloatRange(0.1, 100, log=True),
    ] = 1.0
    mean: Annotated[float, Field(description="mean of each coordinate, in units u")] = 0.0
    relative: Annotated[bool, Field(description="u is the size of one coordinate of an honest vector; otherwise 1")] = (
        True
    )

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors; with `relative` also the honest vectors, for their length."""
        return ThreatModel(knowledge=frozenset({"own", "honest"} if self.relative else {"own"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: noise for each Byzantine agent."""
        unit = coordinate_size(context.honest) if self.relative else 1.0
        noise = torch.from_numpy(rng.standard_normal(context.own.shape, dtype=np.float32)).to(context.own.dtype)
        return ByzantineMessages(unit * (self.mean + self.sd * noise)), memory
