"""What Min-Max and Min-Sum have in common: as far back from the honest mean as honest vectors are from each other."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from byzbench.contracts import Choice, MessageAttack, Speech, State, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Setback(MessageAttack):
    """All liars send the honest mean, set back along a direction by a distance that leaves them inconspicuous."""

    source: ClassVar[str] = 'Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS'
    direction: Annotated[
        Literal["std", "unit", "sign"],
        Field(description="what is subtracted: coordinates' deviations, the mean itself, or its signs"),
        Choice("std", "unit", "sign"),
    ] = "std"

    @property
    def threat(self) -> Threat:
        """Omniscient and colluding, but blind to the rule."""
        return Threat(sees=frozenset({"colluders", "honest"}))

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse a single honest vector, which has no distances."""
        if agents - byzantine < 2:
            raise Undefined(
                f"{type(self).__name__} is degenerate for K={agents}, f={byzantine}: with fewer than two honest "
                "vectors there is no spread to hide in, and the lie is the truth"
            )

    @abstractmethod
    def distance(self, deviations: Tensor, back: Tensor) -> Tensor:
        """How far to go along the unit vector `back` [d]; deviations [h, d] of the honest vectors from their mean."""

    def lie(self, honest: Tensor, byzantine: int) -> Tensor:
        """The mean of honest vectors float64 [h, d], set back: [d]."""
        mean = honest.mean(0)
        deviations = honest - mean
        if self.direction == "std":
            forth = deviations.square().mean(0).sqrt()
        else:
            forth = mean if self.direction == "unit" else mean.sign()
        back = -normalize(forth, dim=0, eps=1e-150)
        return mean + self.distance(deviations, back) * back

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The lie, the same from every liar."""
        lie = self.lie(view.honest.double(), view.byzantine)
        return Speech(lie.to(view.honest.dtype).expand_as(view.colluders)), memory
