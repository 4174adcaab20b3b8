"""Linear policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.core import Categorical, PolicyFamily
from byzbench.policies.mlp import Mlp
from byzbench.rl.networks import FunctionApproximator, Initialization


@dataclass(frozen=True)
class Linear(PolicyFamily):
    """A linear policy: the outputs are o W + b for an observation o.

    It equals `mlp` without hidden layers.

    Source: Rajeswaran et al. 2017, arXiv 1703.02660, for linear policies on continuous control.

    Attributes:
        initialization: the law of the initial parameters, see `mlp`.

    Example:
        >>> Linear().network(4, 2, None).dimension
        10
    """

    source: ClassVar[str] = "Rajeswaran et al. 2017, arXiv 1703.02660"
    initialization: Annotated[
        Initialization,
        Field(description="law of initial parameters: uniform within 1/sqrt(inputs), or orthogonal"),
        Categorical("uniform", "orthogonal"),
    ] = "uniform"

    def network(self, inputs: int, outputs: int, states: int | None) -> FunctionApproximator:
        """Return the network of one player: see `PolicyFamily.network`."""
        return Mlp(hidden=(), initialization=self.initialization).network(inputs, outputs, states)
