"""Average zero: a vector that cancels the sum of all honest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from byzbench.contracts import MessageAttack, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class AvgZero(MessageAttack):
    """Message attack that sends one vector with which the plain mean of all K messages is zero.

        m = -(1/f) sum_{i < h} x[i],    x [h, d] the honest vectors

    Against other rules it is `ipm` with scale h/f. On a sparse graph m is still computed from all honest agents.

    Source: Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, experiments.

    Example:
        The plain mean of all messages is zero:

        >>> import torch
        >>> from byzbench.federation.view import View
        >>> attack = AvgZero()
        >>> honest = torch.tensor([[1.0, 2.0], [3.0, 6.0], [2.0, 1.0]])
        >>> view = View(attack.threat, {"byzantine": 2}, {"honest": honest, "colluders": torch.zeros(2, 2)})
        >>> crafted = attack.speak(view, {}, np.random.default_rng(0))[0].vectors
        >>> torch.cat([honest, crafted]).mean(0)
        tensor([0., 0.])
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489"

    @property
    def threat(self) -> Threat:
        """Return the threat model: omniscient and colluding."""
        return Threat(sees=frozenset({"colluders", "honest"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Craft the messages: the cancelling vector from every Byzantine agent."""
        cancelling = -view.honest.sum(0) / view.byzantine
        return Speech(cancelling.expand_as(view.colluders)), memory
