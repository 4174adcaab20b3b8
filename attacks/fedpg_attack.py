"""FedPG-BR attack: equal vectors near the edge of the filter of FedPG-BR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, Setting, State, ThreatModel
from byzbench.errors import Undefined
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class FedpgAttack(MessageAttack):
    """Message attack that sends the mean of the Byzantine agents' own vectors, moved in a random direction.

        m = mean(x) + scale * e * r/||r||,    e = max_ij ||x[i] - x[j]||,    r ~ N(0, 1)^d

    x [f, d] the Byzantine agents' own honest vectors. Their diameter e estimates two deviations of honest noise. With
    scale 3/2 the message stays near the edge of a filter that accepts vectors within a few deviations.

    Source: Fan et al. 2021, arXiv 2110.14074, official code, "FedScsPG attack".

    Differs from the source in: the vector is moved as a whole; the code moves each tensor of the network separately.
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074, official code"
    scale: Annotated[
        float,
        Field(gt=0, description="distance from the mean, in diameters of the Byzantine agents' own vectors"),
        FloatRange(0.1, 10),
    ] = 1.5

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: colluding."""
        return ThreatModel(knowledge=frozenset({"byzantine"}))

    def check(self, setting: Setting) -> None:
        """Reject a single Byzantine agent, whose diameter is zero."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        if byzantine < 2:
            raise Undefined(
                f"fedpg_attack is degenerate for K={agents}, f={byzantine}: a single vector has no diameter, and "
                "the message equals the honest vector"
            )
        super().check(setting)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the moved mean from every Byzantine agent."""
        own = context.byzantine.double()
        diameter = PairwiseDistances.of(own).squared_distances.amax().sqrt()
        direction = torch.from_numpy(rng.standard_normal(own.shape[1]))
        crafted = own.mean(0) + self.scale * diameter * direction / direction.norm()
        return ByzantineMessages(crafted.to(context.byzantine.dtype).expand_as(context.byzantine)), memory
