"""MountainCar-v0: drive a car with a weak engine out of a valley."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from byzbench.core.simulated_task import SimulatedTask
from byzbench.rl.simulations import Simulation, draw_uniform_states
from byzbench.tasks._references import task_reference

_MIN_POSITION, _MAX_POSITION, _GOAL_POSITION, _MAX_SPEED = -1.2, 0.6, 0.5, 0.07


def _start(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw initial states, equal to those of Gymnasium's MountainCar-v0 from the same seeds."""
    return draw_uniform_states([-0.6, 0.0], [-0.4, 0.0], rng, count)


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    """Advance the state, a position and a velocity, by one step of Gymnasium's equations."""
    gravity, force = constants[0], constants[1]
    velocity = state[1] + ((action[0] - 1) * force + math.cos(3 * state[0]) * -gravity)
    velocity = min(max(velocity, -_MAX_SPEED), _MAX_SPEED)
    position = min(max(state[0] + velocity, _MIN_POSITION), _MAX_POSITION)
    if position == _MIN_POSITION and velocity < 0:
        velocity = 0.0
    state[0], state[1] = position, velocity
    return -1.0, position >= _GOAL_POSITION and velocity >= 0


def _show(state: np.ndarray, out: np.ndarray) -> None:
    out[0], out[1] = state[0], state[1]


@dataclass(frozen=True)
class MountainCar(SimulatedTask):
    """Reach the flag within 200 steps by rocking to and fro, with reward -1 in every step.

    The reward is constant until the flag is reached, which a random policy hardly ever does, so most gradients carry no
    information.
    """

    source: ClassVar[str] = "Moore, 1990; Gymnasium MountainCar-v0"
    gymnasium_id: ClassVar[str] = "MountainCar-v0"
    simulation: ClassVar[Simulation] = Simulation(_start, _step, _show, 2, {"gravity": 0.0025, "force": 0.001})
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = task_reference("mountaincar")
    suggested: ClassVar[Mapping[str, float]] = {"N": 32, "B": 8, "p": 0.2, "lr": 1e-3}
