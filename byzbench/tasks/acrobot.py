"""Acrobot-v1: swing up a double pendulum by a torque at its middle joint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from byzbench.core.simulated_task import SimulatedTask
from byzbench.rl.simulations import Simulation, draw_uniform_states
from byzbench.tasks._references import task_reference

_STEP_SECONDS = 0.2
_MAX_SPEEDS = (4 * math.pi, 9 * math.pi)


def _start(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw initial states, equal to those of Gymnasium's Acrobot-v1 from the same seeds."""
    return draw_uniform_states([-0.1] * 4, [0.1] * 4, rng, count).astype(np.float32).astype(np.float64)


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    """Advance the state by one step of Gymnasium's equations.

    The links have mass, length and moment of inertia 1, and their centre of mass in the middle. The state is the angle
    of the first link, the angle of the second relative to the first, and their angular velocities.
    """
    torque = action[0] - 1.0
    speed1 = speed2 = acceleration1 = acceleration2 = 0.0
    mean_speed1 = mean_speed2 = mean_acceleration1 = mean_acceleration2 = 0.0
    # The classical Runge-Kutta method: the derivatives at four points, each reached by the derivative before it.
    for fraction, weight in ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)):
        dt = fraction * _STEP_SECONDS
        angle1, angle2 = state[0] + dt * speed1, state[1] + dt * speed2
        speed1, speed2 = state[2] + dt * acceleration1, state[3] + dt * acceleration2
        half_sine, cosine = 0.5 * math.sin(angle2), math.cos(angle2)
        d1, d2 = 3.5 + cosine, 1.25 + 0.5 * cosine
        phi2 = 0.5 * 9.8 * math.sin(angle1 + angle2)
        phi1 = 1.5 * 9.8 * math.sin(angle1) + phi2 - half_sine * speed2 * (speed2 + 2 * speed1)
        acceleration2 = (torque + d2 / d1 * phi1 - half_sine * speed1**2 - phi2) / (1.25 - d2**2 / d1)
        acceleration1 = -(d2 * acceleration2 + phi1) / d1
        mean_speed1 += weight * speed1
        mean_speed2 += weight * speed2
        mean_acceleration1 += weight * acceleration1
        mean_acceleration2 += weight * acceleration2
    angle1, angle2 = state[0] + _STEP_SECONDS * mean_speed1, state[1] + _STEP_SECONDS * mean_speed2
    state[0] = angle1 - 2 * math.pi * np.rint(angle1 / (2 * math.pi))
    state[1] = angle2 - 2 * math.pi * np.rint(angle2 / (2 * math.pi))
    state[2] = min(max(state[2] + _STEP_SECONDS * mean_acceleration1, -_MAX_SPEEDS[0]), _MAX_SPEEDS[0])
    state[3] = min(max(state[3] + _STEP_SECONDS * mean_acceleration2, -_MAX_SPEEDS[1]), _MAX_SPEEDS[1])
    solved = -math.cos(state[0]) - math.cos(state[0] + state[1]) > 1.0
    return (0.0 if solved else -1.0), solved


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """Write the cosine and the sine of each angle, and both angular velocities."""
    out[0], out[1] = math.cos(state[0]), math.sin(state[0])
    out[2], out[3] = math.cos(state[1]), math.sin(state[1])
    out[4], out[5] = state[2], state[3]


@dataclass(frozen=True)
class Acrobot(SimulatedTask):
    """Swing the free end above a line within 500 steps, with reward -1 in every step before.

    All episodes that fail have the same return, so a gradient without a baseline carries little information at first.
    The baseline of the agent's other episodes (`baseline=others`) separates successful episodes soon.
    """

    source: ClassVar[str] = "Sutton, 1996; Gymnasium Acrobot-v1"
    gymnasium_id: ClassVar[str] = "Acrobot-v1"
    simulation: ClassVar[Simulation] = Simulation(_start, _step, _show, 6)
    discount: ClassVar[float] = 0.99
    default_policy: ClassVar[str] = "mlp(hidden=[16, 16])"
    reference: ClassVar[Mapping[str, float]] = task_reference("acrobot")
    suggested: ClassVar[Mapping[str, float | str]] = {"N": 16, "B": 4, "p": 0.2, "lr": 5e-3, "baseline": "others"}
