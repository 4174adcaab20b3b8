"""Orthogonal vectors: random vectors of the honest length, orthogonal to the honest vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import normalize

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class Orthogonal(MessageAttack):
    """Message attack that sends a random vector of the length of the own honest vector and orthogonal to it.

        m[k] = ||x|| p/||p||,    p = r - <r, x> x/||x||^2,    r ~ N(0, 1)^d,    x = own[k] [d]

    A rule that looks at lengths cannot detect it, and the progress along x is lost.

    Source: official code of Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489.

    Differs from the source in: it is orthogonal. The code leaves out the division by ||x||^2, so that for a long x its
    message is almost parallel to x.

    Example:
        The message has the length 5 of the honest vector, and inner product 0 with it:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = Orthogonal()
        >>> own = torch.tensor([[3.0, 4.0, 0.0]])
        >>> context = AttackContext(attack.threat, {}, {"own": own})
        >>> crafted = attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        >>> round(float(crafted.norm()), 4), round(abs(float((crafted * own).sum())), 4)
        (5.0, 0.0)
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors only."""
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: orthogonal vectors; zero in one dimension, where there are none."""
        own = context.own.double()
        own_direction = normalize(own, dim=1, eps=1e-150)
        orthogonal = torch.from_numpy(rng.standard_normal(own.shape))
        for _ in range(2):  # the second pass removes the rounding error of the first
            orthogonal = orthogonal - (orthogonal * own_direction).sum(1, keepdim=True) * own_direction
        if own.shape[1] == 1:
            orthogonal = torch.zeros_like(own)
        crafted = own.norm(dim=1, keepdim=True) * normalize(orthogonal, dim=1, eps=1e-150)
        return ByzantineMessages(crafted.to(context.own.dtype)), memory
