"""Dynamics: liars whose world is another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.contracts import Attack, Range, State, Taps, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Dynamics(Attack):
    """Each liar practises in an environment of other physics; what it then sends is computed honestly from there.

        s'[k, t+1, n] = P(s'[k, t, n], a[k, t, n]; factor * c),    P(s, a; c) one step of the task with its constant c

    k < f liars, t < T steps, n < N episodes. Which constants a task offers, `Task.dynamics` says.

    Source: Jin et al. 2022, arXiv 2204.02634, on agents whose transitions differ (CartPole by the length of its pole),
    as a fault; Pinto et al. 2017, arXiv 1703.02702, on physics that an adversary has a hand in.

    Differs from the source in: the second's adversary pushes as it has learned to; here a constant changes once.
    """

    source: ClassVar[str] = "Jin et al. 2022, arXiv 2204.02634; Pinto et al. 2017, arXiv 1703.02702"
    constant: Annotated[str, Field(description="the physical constant, by the task's own name for it")] = "gravity"
    factor: Annotated[
        float, Field(gt=0, description="the changed constant, in sizes of the true one"), Range(0.1, 10, log=True)
    ] = 2.0

    @property
    def threat(self) -> Threat:
        """Blind: it needs its own environment only."""
        return Threat(surface=frozenset({"environment"}))

    def start(self, view: View) -> State:
        """Refuse a constant that the task does not offer."""
        offered = view.task.dynamics
        if self.constant not in offered:
            give = f"give constant={' or '.join(offered)}" if offered else "it offers none"
            raise Undefined(f"dynamics: this task has no constant {self.constant!r} to change; {give}")
        return {}

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """Change the constant for all liars."""
        return Taps(dynamics={self.constant: np.full(view.byzantine, self.factor)}), memory
