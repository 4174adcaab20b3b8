"""Base class of lossy codes with error feedback: the sender adds the error of a message to its next one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Categorical, Channel, On, State


@dataclass(frozen=True)
class Codec(Channel):
    """A lossy code C of messages, with error feedback unless `feedback=False`.

        m_t = C(x_t + e_t),    e_{t+1} = x_t + e_t - m_t,    e_0 = 0

    Source: Karimireddy, Rebjock, Stich, Jaggi 2019, arXiv 1901.09847, algorithm 2, without the step size.

    By default codes apply to gradients only: to an agreement, the error of coded parameters would look like
    disagreement.

    Attributes:
        feedback: whether the sender adds the error of a message to its next one.
        on: the messages that are coded.
    """

    feedback: Annotated[bool, Field(description="whether the sender adds the error of a message to its next one")] = (
        field(default=True, kw_only=True)
    )
    on: Annotated[On, Field(description="which messages are coded"), Categorical("gradient", "parameters", "both")] = (
        field(default="gradient", kw_only=True)
    )

    @abstractmethod
    def code(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the decoded values of x, float32 [M, d]."""

    def encode(self, x: Tensor, memory: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Code x with error feedback; see `Channel.encode`."""
        corrected = x + memory["left"] if memory else x
        decoded = self.code(corrected, rng)
        return decoded, {"left": corrected - decoded} if self.feedback else {}


def places(d: int) -> int:
    """Return the number of bits of the index of one of d coordinates.

    Example:
        >>> places(1000)
        10
    """
    return max(1, (d - 1).bit_length())


def keep(x: Tensor, chosen: Tensor) -> Tensor:
    """Return x [M, d] at the chosen coordinates [M, k], and zero elsewhere.

    Example:
        >>> keep(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0, 2]]))
        tensor([[1., 0., 3.]])
    """
    return torch.zeros_like(x).scatter(1, chosen, x.gather(1, chosen))
