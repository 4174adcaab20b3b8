"""Sign flip: negated honest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, State, ThreatModel


@dataclass(frozen=True)
class SignFlip(MessageAttack):
    """Message attack that sends the negative of a vector: the own honest vector, or the honest mean.

        m[k] = -scale * own[k]    or, with of=honest_mean,    m[k] = -scale * (1/h) sum_{i < h} x[i]

    x [h, d] the honest vectors, own [f, d] those of the Byzantine agents. The second variant equals `ipm`. It is
    offered here too because several libraries (ByzFL among them) call it sign flipping.

    Source: Li, Xu, Chen, Giannakis, Ling 2019, arXiv 1811.03761, experiments. FedPG-BR's code flips with scale 2.5: Fan
    et al. 2021, arXiv 2110.14074.

    Example:
        Each agent negates its own honest vector:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = SignFlip(scale=2.0)
        >>> context = AttackContext(attack.threat, {}, {"own": torch.tensor([[1.0, -3.0]])})
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[-2.,  6.]])
    """

    source: ClassVar[str] = "Li et al. 2019, arXiv 1811.03761"
    scale: Annotated[
        float,
        Field(gt=0, description="length of the flipped vector, in lengths of the original"),
        FloatRange(0.05, 50, log=True),
    ] = 1.0
    of: Annotated[Literal["own", "honest_mean"], Field(description="the vector that is flipped")] = "own"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own vectors only; omniscient and colluding with of=honest_mean."""
        return ThreatModel(knowledge=frozenset({"own"} if self.of == "own" else {"byzantine", "honest"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the negated vectors."""
        if self.of == "own":
            return ByzantineMessages(-self.scale * context.own), memory
        return ByzantineMessages((-self.scale * context.honest.mean(0)).expand_as(context.byzantine)), memory
