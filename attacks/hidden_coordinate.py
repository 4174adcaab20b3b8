"""Hidden coordinate: liars who are honest everywhere but in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.contracts import MessageAttack, Range, Speech, State, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class HiddenCoordinate(MessageAttack):
    """All liars send the honest mean, moved in one coordinate.

        m = mean(x) + scale * u * e_j,    u = median_i ||x[i] - mean(x)||,    x [h, d] the honest vectors

    In d dimensions honest vectors are sqrt(d) deviations of one coordinate from their mean; a distance cannot tell
    that from all of it in the coordinate j. Without `relative`, u = 1.

    Source: El Mhamdi, Guerraoui, Rouault 2018, arXiv 1802.07927.

    Differs from the source in: the strength is given, in place of a search for the largest that the rule accepts.
    """

    source: ClassVar[str] = "El Mhamdi, Guerraoui, Rouault 2018, arXiv 1802.07927"
    scale: Annotated[
        float, Field(gt=0, description="how far that coordinate is moved, in units u"), Range(0.1, 100, log=True)
    ] = 1.0
    coordinate: Annotated[int, Field(ge=0, description="j")] = 0
    relative: Annotated[bool, Field(description="u is the honest vectors' distance from their mean; else 1")] = True

    @property
    def threat(self) -> Threat:
        """Omniscient and colluding."""
        return Threat(sees=frozenset({"colluders", "honest"}))

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse a single honest vector, if its distance from itself is the strength."""
        if self.relative and agents - byzantine < 2:
            raise Undefined(
                f"hidden_coordinate is degenerate for K={agents}, f={byzantine}: with fewer than two honest vectors "
                "there is no spread to hide in; give relative=False"
            )

    def start(self, view: View) -> State:
        """Refuse a coordinate that no parameter has."""
        size = view.task.policy().dimension
        if self.coordinate >= size:
            raise Undefined(
                f"hidden_coordinate: this task's policies have {size} parameters; give coordinate=0 to {size - 1}"
            )
        return {}

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The mean with a bump, the same from every liar."""
        x = view.honest.double()
        lie = x.mean(0)
        unit = float((x - lie).norm(dim=1).quantile(0.5)) if self.relative else 1.0
        lie[self.coordinate % len(lie)] += self.scale * unit
        return Speech(lie.to(view.honest.dtype).expand_as(view.colluders)), memory
