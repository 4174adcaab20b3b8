"""CartPole-v1, with the equations and the constants of Gymnasium's vectorised implementation."""

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
"""By Gymnasium's names: numbers, or one for each row."""


class _Batch:
    """K*N cart poles: Gymnasium's numbers to the bit, in half its time.

    Its vector environment says what the constants are. Steps are taken here, in place; its own steps make new arrays on
    the way, and start episodes anew from one generator for all rows, where here every agent has its own.
    """

    def __init__(self, agents: int, count: int, horizon: int) -> None:
        self._count = count
        self._vector = CartPoleVectorEnv(agents * count, max_episode_steps=horizon)
        self._made = {name: getattr(self._vector, name) for name in CONSTANTS}
        self._change = np.empty((4, agents * count))
        self._room = np.empty((4, agents * count))

    def alter(self, factors: Mapping[str, np.ndarray]) -> None:
        rows = {name: self._made[name] * np.repeat(factor, self._count) for name, factor in factors.items()}
        constants = self._made | rows
        pole = constants["masspole"]
        vars(self._vector).update(
            constants, total_mass=pole + constants["masscart"], polemass_length=pole * constants["length"]
        )

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        states = np.concatenate([rng.uniform(-0.05, 0.05, (self._count, 4)) for rng in generators])
        self._states, self._t = np.ascontiguousarray(states.T), 0
        return states.astype(np.float32)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        of, states, change = self._vector, self._states, self._change
        (x, _, angle, spin), (sine, cosine, push, spare) = states, self._room
        np.sin(angle, out=sine)
        np.cos(angle, out=cosine)
        # push = (force + polemass_length spin^2 sin) / total_mass
        np.square(spin, out=spare)
        spare *= of.polemass_length
        spare *= sine
        np.multiply(actions * 2.0 - 1.0, of.force_mag, out=push)
        push += spare
        push /= of.total_mass
        # spin' = (gravity sin - cos push) / (length (4/3 - masspole cos^2 / total_mass))
        sine *= of.gravity
        np.multiply(cosine, push, out=spare)
        sine -= spare
        np.square(cosine, out=spare)
        spare *= of.masspole
        spare /= of.total_mass
        np.subtract(4.0 / 3.0, spare, out=spare)
        spare *= of.length
        np.divide(sine, spare, out=change[3])
        # speed' = push - polemass_length spin' cos / total_mass
        np.multiply(change[3], of.polemass_length, out=spare)
        spare *= cosine
        spare /= of.total_mass
        np.subtract(push, spare, out=change[1])
        change[::2] = states[1::2]
        change *= of.tau
        states += change

        self._t += 1
        over = np.abs(x) > of.x_threshold
        over |= np.abs(angle) > of.theta_threshold_radians
        shown = np.empty((len(x), 4), np.float32)
        shown[:] = states.T
        return shown, np.ones(len(x), np.float32), over, np.full(len(x), self._t >= of.max_episode_steps)


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
