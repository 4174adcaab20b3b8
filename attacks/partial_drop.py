"""Partial drop: honest vectors with some coordinates set to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class PartialDrop(MessageAttack):
    """Message attack that sends the own honest vector with random coordinates set to zero.

        m[k, j] = own[k, j] if b[k, j] else 0,    b[k, j] = 1 with probability 1 - share

    own [f, d], j < d. With `equivocate`, the coordinates are drawn independently for each receiver: b[e, j] over E
    edges.

    Source: official code of Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, consistent and inconsistent
    variants.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"
    share: Annotated[
        float,
        Field(gt=0, le=1, description="share of the coordinates that is set to zero, on average"),
        FloatRange(0.05, 1),
    ] = 0.5
    equivocate: Annotated[bool, Field(description="draw the coordinates independently for each receiver")] = False

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors only."""
        return ThreatModel(knowledge=frozenset({"own"}), equivocates=self.equivocate)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: honest vectors with some coordinates set to zero."""
        vectors = context.own[context.edges[:, 0]] if self.equivocate else context.own
        dropped = torch.from_numpy(rng.random(vectors.shape, dtype=np.float32) < self.share)
        return ByzantineMessages(vectors.masked_fill(dropped, 0.0)), memory
