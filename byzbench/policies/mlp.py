"""Networks of dense layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from byzbench.core import Categorical, PolicyFamily
from byzbench.rl.networks import Activation, FeedForward, FunctionApproximator, Initialization
from byzbench.rl.policies import GaussianPolicy, StateGaussianPolicy


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
        std: the standard deviation of continuous actions: `shared` by all states; or of the `state`, as in the code of
            arXiv 2110.14074, see `byzbench.rl.policies.StateGaussianPolicy`, for which `squash` and `log_std` change
            nothing.

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
    std: Annotated[
        Literal["shared", "state"],
        Field(description="standard deviation of continuous actions: one for all states, or an output of the network"),
    ] = "shared"

    def gaussian(
        self, inputs: int, low: tuple[float, ...], high: tuple[float, ...], states: int | None
    ) -> GaussianPolicy:
        """Return the policy of one player for continuous actions: see `PolicyFamily.gaussian`."""
        if self.std == "shared":
            return super().gaussian(inputs, low, high, states)
        return StateGaussianPolicy(self.network(inputs, 2 * len(low), states), False, low, high)

    def network(self, inputs: int, outputs: int, states: int | None) -> FunctionApproximator:
        """Return the network of one player: see `PolicyFamily.network`."""
        is_indexed = states is not None and inputs != states
        first = states if is_indexed and states is not None else inputs
        return FeedForward((first, *self.hidden, outputs), self.activation, self.initialization, is_indexed)
