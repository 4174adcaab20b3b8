"""Anti-CGE: vectors just short enough to pass comparative gradient elimination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch.nn.functional import normalize

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, Setting, State, ThreatModel
from byzbench.errors import Undefined

SHORTER = 1 - 1e-6
"""Ratio of lengths: the smallest difference that single precision resolves."""


@dataclass(frozen=True)
class AntiCge(MessageAttack):
    """Message attack against comparative gradient elimination (CGE): the longest opposing vector that CGE selects.

        m = -r s/||s||,    s = the sum of the h - f shortest of the honest vectors x [h, d]

    CGE selects the K - f shortest of K vectors. r is just below the length of the next shortest honest vector, the h -
    f + 1st. So all f Byzantine messages are selected, and that vector and all longer ones are dropped. The sum of the
    selected vectors then points against s as far as possible.

    Source: official code of El Mhamdi, Guerraoui, Rouault 2021, "Distributed Momentum for Byzantine-resilient SGD",
    ICLR. The rule: Gupta, Liu, Vaidya 2020, arXiv 2008.04699.

    Differs from the source in: the code counts the shortest vector twice in s.

    Example:
        The message is just shorter than the honest vector of length 8, which CGE drops instead:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = AntiCge()
        >>> honest = torch.tensor([[1.0, 0.0], [2.0, 0.0], [8.0, 0.0]])
        >>> known = {"honest": honest, "byzantine": torch.zeros(1, 2)}
        >>> context = AttackContext(attack.threat, {"num_byzantine": 1}, known)
        >>> crafted = attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        >>> round(float(crafted[0, 0]), 3), bool(crafted.norm() < 8)
        (-8.0, True)
    """

    source: ClassVar[str] = "El Mhamdi, Guerraoui, Rouault 2021, ICLR, official code"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest"}))

    def check(self, setting: Setting) -> None:
        """Reject numbers of Byzantine agents at which no honest vector is selected."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        if agents <= 2 * byzantine:
            raise Undefined(
                f"anti_cge needs K > 2f, so that an honest vector is selected; got K={agents}, f={byzantine}"
            )
        super().check(setting)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the opposing vector from every Byzantine agent."""
        x, num_selected = context.honest.double(), len(context.honest) - context.num_byzantine
        lengths, order = x.norm(dim=1).sort(stable=True)
        direction = -normalize(x[order[:num_selected]].sum(0), dim=0, eps=1e-150)
        crafted = SHORTER * lengths[num_selected] * direction
        return ByzantineMessages(crafted.to(context.honest.dtype).expand_as(context.byzantine)), memory
