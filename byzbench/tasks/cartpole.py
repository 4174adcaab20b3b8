"""CartPole-v1, with the equations and the constants of Gymnasium's implementation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium.spaces import Discrete, Space

from byzbench.core import Task
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.tasks._references import task_reference

if TYPE_CHECKING:
    from byzbench.rl.rollouts import EnvironmentBatch

CONSTANTS = {"gravity": 9.8, "masscart": 1.0, "masspole": 0.1, "length": 0.5, "force_mag": 10.0}
"""The physical constants by Gymnasium's names; `length` is half the pole's length."""

_STEP_SECONDS = 0.02
_MAX_POSITION, _MAX_ANGLE = 2.4, math.radians(12)


def _start(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.uniform(-0.05, 0.05, (count, 4))


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    gravity, cart, pole, length, force = constants[0], constants[1], constants[2], constants[3], constants[4]
    x, speed, angle, angular_speed = state[0], state[1], state[2], state[3]
    total_mass, sine, cosine = pole + cart, math.sin(angle), math.cos(angle)
    scaled_force = ((2 * action[0] - 1) * force + pole * length * angular_speed**2 * sine) / total_mass
    angular_acceleration = (gravity * sine - cosine * scaled_force) / (length * (4 / 3 - pole * cosine**2 / total_mass))
    state[0] = x + _STEP_SECONDS * speed
    state[1] = speed + _STEP_SECONDS * (scaled_force - pole * length * angular_acceleration * cosine / total_mass)
    state[2] = angle + _STEP_SECONDS * angular_speed
    state[3] = angular_speed + _STEP_SECONDS * angular_acceleration
    return 1.0, abs(state[0]) > _MAX_POSITION or abs(state[2]) > _MAX_ANGLE


def _show(state: np.ndarray, out: np.ndarray) -> None:
    out[0], out[1], out[2], out[3] = state[0], state[1], state[2], state[3]


_SIMULATION = Simulation(_start, _step, _show, 4, CONSTANTS)


@dataclass(frozen=True)
class CartPole(Task):
    """Balance a pole on a cart for 500 steps, with reward 1 in every step."""

    source: ClassVar[str] = "Barto, Sutton and Anderson, 1983; Gymnasium CartPole-v1"
    observation_size: ClassVar[int] = 4
    action_space: ClassVar[Space[Any]] = Discrete(2)
    horizon: ClassVar[int] = 500
    discount: ClassVar[float] = 0.999
    reference: ClassVar[Mapping[str, float]] = task_reference("cartpole")
    gymnasium_id: ClassVar[str] = "CartPole-v1"
    budget: ClassVar[int] = 500
    default_policy: ClassVar[str] = "mlp(hidden=[16, 16])"
    suggested: ClassVar[Mapping[str, float]] = {"N": 50, "B": 4, "p": 0.2, "lr": 5e-4}
    dynamics: ClassVar[tuple[str, ...]] = tuple(CONSTANTS)

    def make(self, agents: int, count: int) -> Simulated:
        """Make `count` environments for each agent."""
        return Simulated(_SIMULATION, agents, count, self.horizon)

    def scale_dynamics(self, environments: EnvironmentBatch, factors: Mapping[str, np.ndarray]) -> None:
        """Multiply physical constants: see `Task.scale_dynamics`."""
        assert isinstance(environments, Simulated)
        environments.scale_dynamics(factors)
