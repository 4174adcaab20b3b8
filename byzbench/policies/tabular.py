"""Tabular policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core import PolicyFamily
from byzbench.errors import InvalidParameter
from byzbench.rl.networks import FunctionApproximator, LookupTable


@dataclass(frozen=True)
class Tabular(PolicyFamily):
    """A table with a row of outputs for each state of a task with discrete observations.

    For discrete actions it is the softmax parameterisation pi(a | s) = exp(theta_sa) / sum_b exp(theta_sb), for which
    policy gradients converge to the optimum (Agarwal et al. 2021, arXiv 1908.00261). It starts at zero, where all
    actions are equally likely. A step of Adam moves each visited entry by about lr, so step sizes are larger than those
    of networks. Large batches are suggested, since rewards of tasks with discrete observations are often sparse, and a
    robust rule ignores the few agents that receive one.

    Source: Agarwal et al. 2021, arXiv 1908.00261, section 3.

    Example:
        >>> Tabular().network(16, 4, 16).dimension
        64
    """

    source: ClassVar[str] = "Agarwal et al. 2021, arXiv 1908.00261, section 3"
    suggested: ClassVar[Mapping[str, float | str]] = {"lr": 0.4, "p": 1.0, "N": 50, "baseline": "others"}

    def network(self, inputs: int, outputs: int, states: int | None) -> FunctionApproximator:
        """Return the table: see `PolicyFamily.network`.

        Raises:
            InvalidParameter: observations are vectors.
        """
        if states is None:
            raise InvalidParameter("policy 'tabular' needs a task with discrete observations; use mlp or linear")
        return LookupTable(states, outputs, indexed=inputs != states)
