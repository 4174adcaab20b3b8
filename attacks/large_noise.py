"""Large noise: uniform noise, a different draw for each receiver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, On, State, ThreatModel
from byzbench.geometry.coordinate_size import coordinate_size


@dataclass(frozen=True)
class LargeNoise(MessageAttack):
    """Message attack that sends uniform noise, drawn independently for each receiver.

        m[e] ~ u U(-scale, scale)^d,    u = median_i ||x[i]|| / sqrt(d),    x [h, d] the honest vectors

    e < E edges that leave a Byzantine agent; without `equivocate`, one m[k] for all receivers. Without `relative`, u =
    1.

    Source: Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, experiments; scale 1000 on gradients and
    parameters alike, with relative=False, is the official code's.

    Differs from the source in: the strength is relative by default. An absolute strength that dominates the gradients
    of one task can be negligible on another.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489"
    scale: Annotated[
        float,
        Field(gt=0, description="half-width of the noise in each coordinate, in units u"),
        FloatRange(1e-3, 1e3, log=True),
    ] = 1000.0
    relative: Annotated[bool, Field(description="u is the size of one coordinate of an honest vector; otherwise 1")] = (
        True
    )
    equivocate: Annotated[bool, Field(description="send a different vector to each receiver")] = True
    on: On = field(default="both", kw_only=True)

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors; with `relative` also the honest vectors, for their length."""
        return ThreatModel(
            knowledge=frozenset({"own", "honest"} if self.relative else {"own"}), equivocates=self.equivocate
        )

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: noise for each edge, or for each Byzantine agent."""
        rows = len(context.edges) if self.equivocate else len(context.own)
        # Drawn in float32: on many edges the draw dominates the cost of this attack.
        noise = torch.from_numpy(rng.random((rows, context.own.shape[1]), dtype=np.float32)).to(context.own.dtype)
        size = coordinate_size(context.honest) if self.relative else 1.0
        return ByzantineMessages(noise.mul_(2).sub_(1).mul_(self.scale * size)), memory
