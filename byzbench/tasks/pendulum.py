"""Pendulum-v1: swing up a pendulum and hold it there, by a continuous torque."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from byzbench.core.simulated_task import SimulatedTask
from byzbench.rl.simulations import Simulation, draw_uniform_states
from byzbench.tasks._references import task_reference

_STEP_SECONDS = 0.05
_MAX_SPEED, _MAX_TORQUE = 8.0, 2.0


def _start(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw initial states, equal to those of Gymnasium's Pendulum-v1 from the same seeds."""
    return draw_uniform_states([-math.pi, -1.0], [math.pi, 1.0], rng, count)


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    """Advance the state, an angle and its velocity, by one step of Gymnasium's equations.

    Terms of the torque alone are computed in float32, the type of actions.
    """
    gravity, mass, length = constants[0], constants[1], constants[2]
    angle, speed = state[0], state[1]
    torque = np.float32(min(max(action[0], -_MAX_TORQUE), _MAX_TORQUE))
    deviation = (angle + math.pi) % (2 * math.pi) - math.pi
    cost = deviation**2 + 0.1 * speed**2 + np.float32(0.001) * (torque * torque)
    acceleration = 3 * gravity / (2 * length) * math.sin(angle) + np.float32(3.0 / (mass * length**2)) * torque
    state[1] = min(max(speed + acceleration * _STEP_SECONDS, -_MAX_SPEED), _MAX_SPEED)
    state[0] = angle + state[1] * _STEP_SECONDS
    return -cost, False


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """Write the cosine and the sine of the angle, and the angular velocity."""
    out[0], out[1], out[2] = math.cos(state[0]), math.sin(state[0]), state[1]


@dataclass(frozen=True)
class Pendulum(SimulatedTask):
    """Hold a pendulum upright for 200 steps, with penalties for angle, speed and torque."""

    source: ClassVar[str] = "Gymnasium Pendulum-v1"
    gymnasium_id: ClassVar[str] = "Pendulum-v1"
    simulation: ClassVar[Simulation] = Simulation(_start, _step, _show, 3, {"g": 10.0, "m": 1.0, "l": 1.0})
    discount: ClassVar[float] = 0.95
    reference: ClassVar[Mapping[str, float]] = task_reference("pendulum")
    suggested: ClassVar[Mapping[str, float]] = {"N": 16, "B": 4, "p": 0.2, "lr": 1e-3}
