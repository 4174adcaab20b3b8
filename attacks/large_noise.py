"""Large noise: liars who shout nonsense, a different one into every ear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.contracts import MessageAttack, On, Range, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class LargeNoise(MessageAttack):
    """Every message of a liar is replaced by uniform noise, fresh for each receiver.

        m[e] ~ U(-scale, scale)^d,    e < E edges that leave a liar    (one m[k] for all receivers without `equivocate`)

    Source: Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, experiments; scale 1000 on gradients and
    parameters alike is the official code's.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489"
    scale: Annotated[
        float, Field(gt=0, description="half-width of the noise in each coordinate"), Range(1e-3, 1e3, log=True)
    ] = 1000.0
    equivocate: Annotated[bool, Field(description="a different vector to each receiver")] = True
    on: On = field(default="both", kw_only=True)

    @property
    def threat(self) -> Threat:
        """Blind: of its own vector only the shape is used."""
        return Threat(sees=frozenset({"own"}), equivocates=self.equivocate)

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Noise for every edge, or for every liar."""
        rows = len(view.edges) if self.equivocate else len(view.own)
        # Drawn in float32: over many edges the draw is the whole cost of this attack, and it needs no more digits.
        unit = torch.from_numpy(rng.random((rows, view.own.shape[1]), dtype=np.float32)).to(view.own.dtype)
        return Speech(self.scale * (2 * unit - 1)), memory
