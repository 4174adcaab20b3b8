"""Inner product manipulation (IPM): the honest mean with its sign reversed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.contracts import MessageAttack, Range, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


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
        >>> from byzbench.federation.view import View
        >>> attack = Ipm(scale=0.5)
        >>> honest = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
        >>> view = View(attack.threat, {}, {"honest": honest, "colluders": torch.zeros(1, 2)})
        >>> attack.speak(view, {}, np.random.default_rng(0))[0].vectors
        tensor([[-1., -2.]])
    """

    source: ClassVar[str] = "Xie, Koyejo, Gupta 2019, arXiv 1903.03936"
    scale: Annotated[
        float,
        Field(gt=0, description="length of the message, in lengths of the honest mean"),
        Range(0.05, 50, log=True),
    ] = 0.1

    @property
    def threat(self) -> Threat:
        """Return the threat model: omniscient and colluding."""
        return Threat(sees=frozenset({"colluders", "honest"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Craft the messages: the reversed mean from every Byzantine agent."""
        return Speech((-self.scale * view.honest.mean(0)).expand_as(view.colluders)), memory
