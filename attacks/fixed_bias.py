"""Fixed bias: liars who drift, always the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.contracts import MessageAttack, Range, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class FixedBias(MessageAttack):
    """Each liar adds one vector to its own: the same from all of them, and the same in every round.

        m_t[k] = own_t[k] + b,    b = strength * u * r/||r||,    r ~ N(0, 1)^d,    u = median_k ||own_0[k]||

    own_t [f, d] in exchange t = 0, 1, ... of a topic, in the first of which b is drawn; without `relative`, u = 1. A
    small b is within the noise of any one round, and a rule without a memory cannot tell; but noise cancels over
    rounds, and b adds up.

    Source: Karimireddy, He, Jaggi 2021, arXiv 2012.10333, on attacks coupled over time, of which it is the simplest.

    Memory, for each topic: `<topic>.bias` [d].
    """

    source: ClassVar[str] = "Karimireddy et al. 2021, arXiv 2012.10333"
    strength: Annotated[
        float, Field(gt=0, description="length of the bias, in units u"), Range(0.01, 100, log=True)
    ] = 1.0
    relative: Annotated[bool, Field(description="u is the length of the liars' first vectors; else 1")] = True

    @property
    def threat(self) -> Threat:
        """Colluding."""
        return Threat(sees=frozenset({"colluders"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The biased vectors."""
        own, key = view.colluders.double(), f"{view.topic}.bias"
        if key not in memory:
            way = torch.from_numpy(rng.standard_normal(own.shape[1]))
            unit = own.norm(dim=1).quantile(0.5) if self.relative else 1.0
            memory = {**memory, key: self.strength * unit * way / way.norm()}
        return Speech((own + memory[key]).to(view.colluders.dtype)), memory
