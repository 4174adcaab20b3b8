"""CartPole-v1, on Gymnasium's own vectorised implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.spaces import Discrete, Space
from pydantic import Field

from byzbench.contracts import Task
from byzbench.tasks._references import reference

if TYPE_CHECKING:
    from byzbench.learning.rollouts import EnvironmentBatch


CONSTANTS = ("gravity", "masscart", "masspole", "length", "force_mag")
"""By Gymnasium's names. Its vector environment computes as well with one value a row as with one for all."""


class _Anything:
    """Stands for the space of actions: looking for every action in it takes a quarter of a step."""

    def contains(self, actions: object) -> bool:
        return True


class _Batch:
    """K*N cart poles. The vector environment resets from one shared generator, so the initial states are set here."""

    def __init__(self, agents: int, count: int, horizon: int) -> None:
        self._count = count
        self._vector = CartPoleVectorEnv(agents * count, max_episode_steps=horizon)
        self._vector.reset(seed=0)
        vars(self._vector)["action_space"] = _Anything()
        self._made = {name: getattr(self._vector, name) for name in CONSTANTS}

    def alter(self, factors: Mapping[str, np.ndarray]) -> None:
        rows = {name: self._made[name] * np.repeat(factor, self._count) for name, factor in factors.items()}
        constants = self._made | rows
        pole = constants["masspole"]
        vars(self._vector).update(
            constants, total_mass=pole + constants["masscart"], polemass_length=pole * constants["length"]
        )

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        states = np.concatenate([rng.uniform(-0.05, 0.05, (self._count, 4)) for rng in generators])
        vars(self._vector)["state"] = np.ascontiguousarray(states.T)  # Gymnasium declares it as None
        self._vector.steps[:] = 0
        self._vector.prev_done[:] = False
        return states.astype(np.float32)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        observations, rewards, terminated, truncated, _ = self._vector.step(actions)
        return observations, rewards, terminated, truncated


@dataclass(frozen=True)
class CartPole(Task):
    """Balance a pole on a cart for 500 steps; one point a step."""

    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(description="widths of the policy's hidden layers")
    ] = field(default=(16, 16), kw_only=True)

    source: ClassVar[str] = "Barto, Sutton and Anderson, 1983; Gymnasium CartPole-v1"
    observation_size: ClassVar[int] = 4
    action_space: ClassVar[Space[Any]] = Discrete(2)
    horizon: ClassVar[int] = 500
    discount: ClassVar[float] = 0.999
    reference: ClassVar[Mapping[str, float]] = reference("cartpole")
    gymnasium_id: ClassVar[str] = "CartPole-v1"
    suggested: ClassVar[Mapping[str, float]] = {"N": 50, "B": 4, "p": 0.2, "lr": 5e-4}
    dynamics: ClassVar[tuple[str, ...]] = CONSTANTS

    def make(self, agents: int, count: int) -> _Batch:
        """`count` cart poles for each agent."""
        return _Batch(agents, count, self.horizon)

    def alter(self, environments: EnvironmentBatch, factors: Mapping[str, np.ndarray]) -> None:
        """See `Task`."""
        assert isinstance(environments, _Batch)
        environments.alter(factors)
