"""Base class of lossy compression with error feedback: the sender adds the error of a message to its next one."""

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
class CompressedChannel(Channel):
    """A lossy compression C of messages, with error feedback unless `feedback=False`.

        m_t = C(x_t + e_t),    e_{t+1} = x_t + e_t - m_t,    e_0 = 0

    Source: Karimireddy, Rebjock, Stich, Jaggi 2019, arXiv 1901.09847, algorithm 2, without the step size.

    By default only gradients are compressed: to an agreement, the error of compressed parameters would look like
    disagreement.

    A subclass defines `compress`, and `pack` for the size of a message.

    Attributes:
        feedback: whether the sender adds the error of a message to its next one.
        on: the messages that are compressed.

    Example:
        Integers of one byte:

        >>> from byzbench.core import MessageFormat
        >>> @dataclass(frozen=True)
        ... class Rounded(CompressedChannel):
        ...     def pack(self, form, d):
        ...         return MessageFormat(form.num_values, 8, form.extra_bits)
        ...
        ...     def compress(self, x, rng):
        ...         return x.round().clamp(-128, 127)
        >>> channel, rng = Rounded(), np.random.default_rng(0)
        >>> decoded, memory = channel.encode(torch.tensor([[0.4, 3.0]]), {}, rng)
        >>> channel.encode(torch.tensor([[0.4, 3.0]]), memory, rng)[0]
        tensor([[1., 3.]])
    """

    feedback: Annotated[bool, Field(description="whether the sender adds the error of a message to its next one")] = (
        field(default=True, kw_only=True)
    )
    on: Annotated[
        On, Field(description="which messages are compressed"), Categorical("gradient", "parameters", "both")
    ] = field(default="gradient", kw_only=True)

    @abstractmethod
    def compress(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the decoded values of x, float32 [M, d]."""

    def encode(self, x: Tensor, memory: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Compress x with error feedback; see `Channel.encode`."""
        corrected = x + memory["left"] if memory else x
        decoded = self.compress(corrected, rng)
        return decoded, {"left": corrected - decoded} if self.feedback else {}


def index_bits(d: int) -> int:
    """Return the number of bits of the index of one of d coordinates.

    Example:
        >>> index_bits(1000)
        10
    """
    return max(1, (d - 1).bit_length())


def select_coordinates(x: Tensor, chosen: Tensor) -> Tensor:
    """Return x [M, d] at the chosen coordinates [M, k], and zero elsewhere.

    Example:
        >>> select_coordinates(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0, 2]]))
        tensor([[1., 0., 3.]])
    """
    return torch.zeros_like(x).scatter(1, chosen, x.gather(1, chosen))
