"""Random action: random actions of the Byzantine agents in their own environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from gymnasium.spaces import Discrete
from pydantic import Field

from byzbench.core import Attack, AttackContext, EnvHooks, State, ThreatModel
from byzbench.core.env_hooks import StepNoise
from byzbench.errors import Undefined


@dataclass(frozen=True)
class RandomAction(Attack):
    """Environment attack that replaces the actions of the Byzantine agents by random ones.

        a[k, t, n] ~ U{0, ..., A - 1},    k < f Byzantine agents, t < T steps, n < N episodes, A actions

    With `constant`, a[k, t, n] = constant. Each coordinate of a continuous action is U(-1, 1), in halves of its range
    and before any squashing. The messages that the agents send are computed honestly from those episodes.

    Source: Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, experiments. The constant variant (action 0) is
    what the official code of FedPG-BR calls random action: Fan et al. 2021, arXiv 2110.14074.

    Differs from the source in: the draws are keyed by round, so they change no other draw of the experiment.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489; constant: Fan et al. 2021, arXiv 2110.14074"
    constant: Annotated[int | None, Field(ge=0, description="always this action; None: random actions")] = None

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: only the Byzantine agents' own environments, without knowledge."""
        return ThreatModel(surface=frozenset({"environment"}))

    def start(self, context: AttackContext) -> State:
        """Reject a constant that is no action of the task."""
        if self.constant is not None and self.constant >= context.task.action_count:
            last = context.task.action_count - 1
            raise Undefined(f"random_action: constant={self.constant} is no action of this task; give 0 to {last}")
        return {}

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return a hook that replaces the actions of all Byzantine agents."""
        if self.constant is not None:
            constant = self.constant
            return EnvHooks(action=lambda t, actions: np.full_like(actions, constant)), memory
        task = context.task
        shape = (context.num_byzantine, context.num_episodes, *task.action_shape)
        if isinstance(task.action_space, Discrete):
            count = task.action_count
            random_actions = StepNoise(lambda shape: rng.integers(count, size=shape), shape)
        else:
            random_actions = StepNoise(lambda shape: 2 * rng.random(shape, dtype=np.float32) - 1, shape)
        return EnvHooks(action=lambda t, actions: random_actions(t)), memory
