"""Dynamics: Byzantine agents in an environment with a changed physical constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core import Attack, AttackContext, EnvHooks, FloatRange, State, ThreatModel
from byzbench.errors import Undefined


@dataclass(frozen=True)
class Dynamics(Attack):
    """Environment attack in which each Byzantine agent collects its episodes under a changed physical constant.

        s'[k, t+1, n] = P(s'[k, t, n], a[k, t, n]; factor * c),    P(s, a; c) one step of the task with its constant c

    k < f Byzantine agents, t < T steps, n < N episodes. `Task.dynamics` lists the constants of a task. The messages
    that the agents send are computed honestly from those episodes.

    Source: Jin et al. 2022, arXiv 2204.02634, on agents whose transitions differ (CartPole by the length of its pole),
    as a fault; Pinto et al. 2017, arXiv 1703.02702, on an adversary that influences the physics.

    Differs from the source in: the adversary of the second pushes by a learned policy. Here a constant changes once.
    """

    source: ClassVar[str] = "Jin et al. 2022, arXiv 2204.02634; Pinto et al. 2017, arXiv 1703.02702"
    constant: Annotated[str, Field(description="name of the physical constant in the task")] = "gravity"
    factor: Annotated[
        float, Field(gt=0, description="factor by which the constant is multiplied"), FloatRange(0.1, 10, log=True)
    ] = 2.0

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: only the Byzantine agents' own environments, without knowledge."""
        return ThreatModel(surface=frozenset({"environment"}))

    def start(self, context: AttackContext) -> State:
        """Reject a constant that the task does not offer."""
        offered = context.task.dynamics
        if self.constant not in offered:
            advice = f"give constant={' or '.join(offered)}" if offered else "it offers none"
            raise Undefined(f"dynamics: this task has no constant {self.constant!r}; {advice}")
        return {}

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return the changed constant for all Byzantine agents."""
        return EnvHooks(dynamics={self.constant: np.full(context.num_byzantine, self.factor)}), memory
