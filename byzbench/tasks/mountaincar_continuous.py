"""MountainCarContinuous-v0: drive a car with a weak engine out of a valley, by a continuous force."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from byzbench.core.simulated_task import SimulatedTask
from byzbench.rl.simulations import Simulation, draw_uniform_states
from byzbench.tasks._references import task_reference

_MIN_POSITION, _MAX_POSITION, _GOAL_POSITION = np.float32(-1.2), np.float32(0.6), np.float32(0.45)
_MAX_SPEED = np.float32(0.07)


def _start(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw initial states, equal to those of Gymnasium's MountainCarContinuous-v0 from the same seeds."""
    return draw_uniform_states([-0.6, 0.0], [-0.4, 0.0], rng, count)


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    """Advance the state, a position and a velocity, by one step of Gymnasium's equations in float32."""
    position, three_positions = np.float32(state[0]), 3 * state[0]
    if position == state[0]:  # all states but the first are float32, and so is then the argument of the cosine
        three_positions = np.float32(three_positions)
    force = np.float32(min(max(action[0], -1.0), 1.0))
    acceleration = force * np.float32(constants[0]) - np.float32(0.0025 * math.cos(three_positions))
    velocity = min(max(np.float32(state[1]) + acceleration, -_MAX_SPEED), _MAX_SPEED)
    position = min(max(np.float32(state[0] + velocity), _MIN_POSITION), _MAX_POSITION)
    if position == _MIN_POSITION and velocity < 0:
        velocity = np.float32(0)
    state[0], state[1] = position, velocity
    terminated = bool(position >= _GOAL_POSITION and velocity >= 0)
    return (100.0 if terminated else 0.0) - action[0] * action[0] * 0.1, terminated


def _show(state: np.ndarray, out: np.ndarray) -> None:
    out[0], out[1] = state[0], state[1]


@dataclass(frozen=True)
class MountainCarContinuous(SimulatedTask):
    """Reach the flag within 999 steps, with reward 100 at the flag and -0.1 times the squared force in every step.

    A policy that does not reach the flag learns to use no force.
    """

    source: ClassVar[str] = "Moore, 1990; Gymnasium MountainCarContinuous-v0"
    gymnasium_id: ClassVar[str] = "MountainCarContinuous-v0"
    simulation: ClassVar[Simulation] = Simulation(_start, _step, _show, 2, {"power": 0.0015})
    discount: ClassVar[float] = 0.999
    reference: ClassVar[Mapping[str, float]] = task_reference("mountaincar_continuous")
    suggested: ClassVar[Mapping[str, float]] = {"N": 16, "B": 4, "p": 0.2, "lr": 1e-3}
