"""Inner product manipulation: liars who turn the aggregate against the true direction."""

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
    """All liars send the honest mean reversed, so that the aggregate has a negative inner product with it.

        m = -scale * (1/h) sum_{i < h} x[i],    x [h, d] the honest vectors

    A small scale hides among honest vectors whose spread is larger than their mean, and is meant for distance-based
    rules such as Krum; a large one is meant for medians and means. The plain mean reverses only above scale h/f.

    Source: Xie, Koyejo, Gupta 2019, arXiv 1903.03936. The scale, there epsilon, is the adversary's choice; 0.1 is what
    several later benchmarks use.
    """

    source: ClassVar[str] = "Xie, Koyejo, Gupta 2019, arXiv 1903.03936"
    scale: Annotated[
        float, Field(gt=0, description="length of the lie, in lengths of the honest mean"), Range(0.05, 50, log=True)
    ] = 0.1

    @property
    def threat(self) -> Threat:
        """Omniscient and colluding."""
        return Threat(sees=frozenset({"colluders", "honest"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The reversed mean, the same from every liar."""
        return Speech((-self.scale * view.honest.mean(0)).expand_as(view.colluders)), memory
