"""A policy family: the network that agents train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from byzbench.core import ModulePolicyFamily


class ResidualNetwork(nn.Module):
    """Hidden layer of tanh units beside a linear path."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.linear, self.hidden = nn.Linear(inputs, outputs), nn.Linear(inputs, width)
        self.last = nn.Linear(width, outputs)

    def forward(self, observations: Tensor) -> Tensor:
        """Map observations [M, inputs] to the parameters of the action distribution [M, outputs], row by row."""
        return self.linear(observations) + self.last(self.hidden(observations).tanh())


@dataclass(frozen=True)
class NewComponent(ModulePolicyFamily):
    """A hidden layer of tanh units beside a linear path: outputs are o W + b + tanh(o U + c) V + d.

    Attributes:
        width: the number of units.

    Example:
        >>> NewComponent(width=3).network(4, 2, None).dimension
        33
    """

    source: ClassVar[str] = ""
    width: Annotated[int, Field(ge=1, description="units of the hidden layer")] = 8

    def module(self, inputs: int, outputs: int) -> nn.Module:
        """Return the network: see `ModulePolicyFamily.module`."""
        # Change: any torch module whose state is parameters only: no buffers, no dropout.
        return ResidualNetwork(inputs, outputs, self.width)
