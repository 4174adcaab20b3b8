"""Same value: one constant vector from all Byzantine agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel
from byzbench.geometry.coordinate_size import coordinate_size


@dataclass(frozen=True)
class SameValue(MessageAttack):
    """Message attack that sends one constant vector, the same from all Byzantine agents.

        m[k] = scale * u * (1, ..., 1),    u = median_i ||x[i]|| / sqrt(d),    x [h, d] the honest vectors

    A message is `scale` times as long as an honest vector. Without `relative`, u = 1.

    Source: Li, Xu, Chen, Giannakis, Ling 2019, arXiv 1811.03761, experiments, where the constant is absolute.

    Differs from the source in: the strength is relative by default.

    Example:
        The honest vectors have coordinates of size 2:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = SameValue(scale=10.0)
        >>> known = {"honest": torch.tensor([[2.0, -2.0]]), "own": torch.zeros(1, 2)}
        >>> context = AttackContext(attack.threat, {}, known)
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors.round()
        tensor([[20., 20.]])
    """

    source: ClassVar[str] = "Li et al. 2019, arXiv 1811.03761"
    scale: Annotated[float, Field(gt=0, description="the constant, in units u"), FloatRange(0.1, 100, log=True)] = 10.0
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
        """Craft the messages: the constant vectors."""
        unit = coordinate_size(context.honest) if self.relative else 1.0
        return ByzantineMessages(torch.full_like(context.own, self.scale * unit)), memory
