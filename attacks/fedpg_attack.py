"""The attack on FedPG-BR: liars who stand together where its filter ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.contracts import MessageAttack, Range, Speech, State, Threat
from byzbench.errors import Undefined
from byzbench.geometry.cloud import Cloud

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class FedpgAttack(MessageAttack):
    """All liars send the mean of their honest vectors, moved in a random direction by about three deviations.

        m = mean(x) + scale * e * r/||r||,    e = max_ij ||x[i] - x[j]||,    r ~ N(0, 1)^d

    x [f, d] the liars' own honest vectors, whose diameter e stands for two deviations of honest noise: with scale 3/2
    the lie stays near the edge of a filter that takes what lies within a few deviations.

    Source: Fan et al. 2021, arXiv 2110.14074, official code, "FedScsPG attack".

    Differs from the source in: the vector is moved as a whole; the code moves each tensor of the network by itself.
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074, official code"
    scale: Annotated[
        float, Field(gt=0, description="distance from the mean, in diameters of the liars' vectors"), Range(0.1, 10)
    ] = 1.5

    @property
    def threat(self) -> Threat:
        """Colluding."""
        return Threat(sees=frozenset({"colluders"}))

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse a single liar, whose diameter is nothing."""
        if byzantine < 2:
            raise Undefined(
                f"fedpg_attack is degenerate for K={agents}, f={byzantine}: one liar's vectors have no diameter, and "
                "the lie is the truth"
            )

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The moved mean, the same from every liar."""
        clean = view.colluders.double()
        diameter = Cloud.of(clean).squared_distances.amax().sqrt()
        way = torch.from_numpy(rng.standard_normal(clean.shape[1]))
        lie = clean.mean(0) + self.scale * diameter * way / way.norm()
        return Speech(lie.to(view.colluders.dtype).expand_as(view.colluders)), memory
