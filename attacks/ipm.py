"""Inner product manipulation (IPM): the honest mean with its sign reversed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class Ipm(MessageAttack):
    """Message attack that sends the reversed honest mean, so that the aggregate has a negative inner product with it.

        m = -scale * (1/h) sum_{i < h} x[i],    x [h, d] the honest vectors

    A small scale is not an outlier among honest vectors whose spread is larger than their mean; it is meant for
    distance-based rules such as Krum. A large scale is meant for medians and means. The plain mean reverses only above
    scale h/f.

    Source: Xie, Koyejo, Gupta 2019, arXiv 1903.03936. The scale, there epsilon, is the adversary's choice; 0.1 is what
    several later benchmarks use.

    Example:
        Half of the honest mean, reversed:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = Ipm(scale=0.5)
        >>> honest = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
        >>> context = AttackContext(attack.threat, {}, {"honest": honest, "byzantine": torch.zeros(1, 2)})
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[-1., -2.]])
    """

    source: ClassVar[str] = "Xie, Koyejo, Gupta 2019, arXiv 1903.03936"
    scale: Annotated[
        float,
        Field(gt=0, description="length of the message, in lengths of the honest mean"),
        FloatRange(0.05, 50, log=True),
    ] = 0.1

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the reversed mean from every Byzantine agent."""
        return ByzantineMessages((-self.scale * context.honest.mean(0)).expand_as(context.byzantine)), memory
