"""What lossy codes share: the sender keeps what a message left out, and adds it to the next."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Channel, Choice, On, State


@dataclass(frozen=True)
class Codec(Channel):
    """A code C that readers decode to something near x, with error feedback unless `feedback=False`.

        m_t = C(x_t + e_t),    e_{t+1} = x_t + e_t - m_t,    e_0 = 0

    Source: Karimireddy, Rebjock, Stich, Jaggi 2019, arXiv 1901.09847, algorithm 2, without the step size.

    Codes are for gradients by default: what a code leaves out of parameters, an agreement takes for disagreement.
    """

    feedback: Annotated[bool, Field(description="the sender adds what messages left out to later ones")] = field(
        default=True, kw_only=True
    )
    on: Annotated[On, Field(description="which messages"), Choice("gradient", "parameters", "both")] = field(
        default="gradient", kw_only=True
    )

    @abstractmethod
    def code(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """What readers decode of x, float32 [M, d]."""

    def encode(self, x: Tensor, memory: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """See `Channel.encode`."""
        wanted = x + memory["left"] if memory else x
        said = self.code(wanted, rng)
        return said, {"left": wanted - said} if self.feedback else {}


def places(d: int) -> int:
    """Bits that say which of d coordinates a number is of."""
    return max(1, (d - 1).bit_length())


def keep(x: Tensor, chosen: Tensor) -> Tensor:
    """X [M, d] where it is chosen [M, k], zero elsewhere."""
    return torch.zeros_like(x).scatter(1, chosen, x.gather(1, chosen))
