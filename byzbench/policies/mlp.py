"""Networks of dense layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.core import Categorical, PolicyFamily
from byzbench.rl.networks import Activation, FeedForward, FunctionApproximator, Initialization


@dataclass(frozen=True)
class Mlp(PolicyFamily):
    """A multilayer perceptron: dense layers with an activation after each hidden one.

        h_0 = o,    h_l = activation(h_{l-1} W_l + b_l),    outputs = h_{L-1} W_L + b_L

    Without hidden layers it equals `linear`. The state of a task with discrete observations is embedded: its row of W_1
    is looked up.

    Source: the network of Jordan et al. 2024, arXiv 2401.03489, is mlp(hidden=[16, 16]).

    Attributes:
        hidden: the widths of the hidden layers.
        activation: the function after each hidden layer.
        initialization: the law of the initial parameters: `uniform` within 1/sqrt(fan-in), as in the source's code, or
            `orthogonal` as PPO is usually started (Andrychowicz et al. 2021, arXiv 2006.05990).

    Example:
        >>> Mlp(hidden=(16, 16)).network(4, 2, None).dimension
        386
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489"
    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(description="widths of the hidden layers")
    ] = (64, 64)
    activation: Annotated[
        Activation, Field(description="function after each hidden layer"), Categorical("tanh", "relu")
    ] = "tanh"
    initialization: Annotated[
        Initialization,
        Field(description="law of initial parameters: uniform within 1/sqrt(fan-in), or orthogonal"),
        Categorical("uniform", "orthogonal"),
    ] = "uniform"

    def network(self, inputs: int, outputs: int, states: int | None) -> FunctionApproximator:
        """Return the network of one player: see `PolicyFamily.network`."""
        is_indexed = states is not None and inputs != states
        first = states if is_indexed and states is not None else inputs
        return FeedForward((first, *self.hidden, outputs), self.activation, self.initialization, is_indexed)
