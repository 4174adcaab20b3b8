"""Anti-CGE: liars who are a little shorter than the first honest vector that a rule drops for its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch.nn.functional import normalize

from byzbench.contracts import MessageAttack, Speech, State, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View

SHORTER = 1 - 1e-6
"""How much shorter: as little as single precision still tells apart."""


@dataclass(frozen=True)
class AntiCge(MessageAttack):
    """All liars oppose what comparative gradient elimination keeps, at the largest length that it keeps.

        m = -r s/||s||,    s = the sum of the h - f shortest of the honest vectors x [h, d]

    Elimination keeps the K - f shortest of K vectors. r is just below the length of the next shortest, the h - f + 1st,
    so all f lies are kept, that vector and all longer ones are dropped, and the kept sum is as far back as it can be.

    Source: official code of El Mhamdi, Guerraoui, Rouault 2021, "Distributed Momentum for Byzantine-resilient SGD",
    ICLR. The rule: Gupta, Liu, Vaidya 2020, arXiv 2008.04699.

    Differs from the source in: the code counts the shortest vector twice in s.
    """

    source: ClassVar[str] = "El Mhamdi, Guerraoui, Rouault 2021, ICLR, official code"

    @property
    def threat(self) -> Threat:
        """Omniscient and colluding."""
        return Threat(sees=frozenset({"colluders", "honest"}))

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse so many liars that no honest vector is kept."""
        if agents <= 2 * byzantine:
            raise Undefined(
                f"anti_cge needs K > 2f, so that an honest vector is kept to oppose; got K={agents}, f={byzantine}"
            )

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The opposing vector, the same from every liar."""
        x, kept = view.honest.double(), len(view.honest) - view.byzantine
        lengths, order = x.norm(dim=1).sort(stable=True)
        against = -normalize(x[order[:kept]].sum(0), dim=0, eps=1e-150)
        lie = SHORTER * lengths[kept] * against
        return Speech(lie.to(view.honest.dtype).expand_as(view.colluders)), memory
