"""Action flip: random replacement of the Byzantine agents' actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from gymnasium.spaces import Discrete
from pydantic import Field

from byzbench.core import Attack, AttackContext, EnvHooks, FloatRange, State, ThreatModel
from byzbench.core.env_hooks import StepNoise


@dataclass(frozen=True)
class ActionFlip(Attack):
    """Environment attack that replaces each action of a Byzantine agent, with some probability, by another action.

        a'[k, t, n] = a[k, t, n], or with probability q one of the other A - 1 actions at random

    k < f Byzantine agents, t < T steps, n < N episodes, A actions. A continuous action a is replaced by -a. The agent
    learns from the replaced actions: the messages that it sends are computed honestly from those episodes.

    Source: Tessler, Efroni, Mannor 2019, arXiv 1901.09184, "probabilistic action robust" processes.

    Differs from the source in: the other action is random. In the source a trained adversary chooses it.
    """

    source: ClassVar[str] = "Tessler, Efroni, Mannor 2019, arXiv 1901.09184"
    q: Annotated[
        float, Field(gt=0, le=1, description="probability that an action is replaced"), FloatRange(0.01, 1)
    ] = 0.5

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: only the Byzantine agents' own environments, without knowledge."""
        return ThreatModel(surface=frozenset({"environment"}))

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return a hook that replaces some actions of all Byzantine agents."""
        task = context.task
        shape = (context.num_byzantine, context.num_episodes, *task.action_shape)

        def draw_replaced(shape: tuple[int, ...]) -> np.ndarray:
            return rng.random(shape, dtype=np.float32) < self.q

        if not isinstance(task.action_space, Discrete):
            signs = StepNoise(lambda shape: np.where(draw_replaced(shape), np.float32(-1), np.float32(1)), shape)
            return EnvHooks(action=lambda t, actions: np.multiply(actions, signs(t), out=actions)), memory
        count = task.action_count
        if count == 2:
            flips = StepNoise(lambda shape: draw_replaced(shape).astype(np.int64), shape)
            return EnvHooks(action=lambda t, actions: np.bitwise_xor(actions, flips(t), out=actions)), memory
        # Adding 1 .. A - 1 modulo A gives each of the other actions once.
        offsets = StepNoise(lambda shape: rng.integers(1, count, shape) * draw_replaced(shape), shape)
        return EnvHooks(action=lambda t, actions: np.remainder(actions + offsets(t), count, out=actions)), memory
