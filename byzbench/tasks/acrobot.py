"""Acrobot-v1: swing a double pendulum up by the torque at its elbow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from pydantic import Field

from byzbench.tasks._gymnasium import GymnasiumTask, Simulators
from byzbench.tasks._references import reference

_FASTEST = np.array([[AcrobotEnv.MAX_VEL_1], [AcrobotEnv.MAX_VEL_2]])
_TORQUES = np.array(AcrobotEnv.AVAIL_TORQUE)
_PULLS = np.array([[1.5 * 9.8], [0.5], [0.5 * 9.8]])
"""What stands before the sines of the first angle, of the second, and of their sum."""


class _Acrobots:
    """Rows of double pendulums: Gymnasium's starts and equations for all rows at once.

    It has no vectorised acrobot, and its own, one by one, take as long for one step as these for twenty. Numbers are
    Gymnasium's up to rounding. Both links have mass, length and moment of inertia 1 and their centre in the middle.
    """

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        generators = [np.random.default_rng(seed) for seed in seeds.tolist()]
        starts = [rng.uniform(-0.1, 0.1, 4) for rng in generators]
        # Two angles, two speeds: [4, rows].
        self._states = np.stack(starts, 1).astype(np.float32).astype(np.float64)
        return _seen(self._states)

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[Any, ...]:
        every = len(rows) == self._states.shape[1]
        y, torque, h = self._states if every else self._states.take(rows, 1), _TORQUES[actions], AcrobotEnv.dt
        # Runge and Kutta's method of fourth order.
        first = _slopes(y, torque)
        second = _slopes(y + h / 2 * first, torque)
        third = _slopes(y + h / 2 * second, torque)
        last = _slopes(y + h * third, torque)
        second += third
        second *= 2
        first += second
        first += last
        first *= h / 6
        y = y + first
        angles, speeds = y[:2], y[2:]
        angles -= 2 * np.pi * np.rint(angles / (2 * np.pi))
        np.clip(speeds, -_FASTEST, _FASTEST, out=speeds)
        if every:
            self._states = y
        else:
            self._states[:, rows] = y
        shown = _seen(y)
        ended = -np.cos(angles[0]) - np.cos(angles[0] + angles[1]) > 1.0
        return shown, ended - 1.0, ended, np.zeros(len(rows), bool)


def _slopes(y: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """How [4, rows] change in time. The numbers are what Gymnasium's constants come to."""
    turned, of = np.empty((3, y.shape[1])), np.empty_like(y)
    turned[:2] = y[:2]
    np.add(y[0], y[1], out=turned[2])
    np.sin(turned, out=turned)
    turned *= _PULLS
    pull, bend, phi2 = turned
    cosine, speed1, speed2 = np.cos(y[1]), y[2], y[3]
    d1 = cosine + 3.5
    d2 = cosine
    d2 *= 0.5
    d2 += 1.25
    # phi1 = -bend (speed2^2 + 2 speed1 speed2) + pull + phi2
    phi1 = speed1 + speed1
    phi1 += speed2
    phi1 *= speed2
    phi1 *= bend
    np.subtract(pull, phi1, out=phi1)
    phi1 += phi2
    # acceleration2 = (torque + d2 / d1 phi1 - bend speed1^2 - phi2) / (1.25 - d2^2 / d1)
    ratio = d2 / d1
    above = ratio * phi1
    above += torque
    above -= phi2
    bend *= speed1
    bend *= speed1
    above -= bend
    ratio *= d2
    np.subtract(1.25, ratio, out=ratio)
    of[:2] = y[2:]
    np.divide(above, ratio, out=of[3])
    # acceleration1 = -(d2 acceleration2 + phi1) / d1
    d2 *= of[3]
    d2 += phi1
    np.divide(d2, d1, out=of[2])
    np.negative(of[2], out=of[2])
    return of


def _seen(states: np.ndarray) -> np.ndarray:
    """The cosine and the sine of each angle, and both speeds: float32 [rows, 6]."""
    shown = np.empty((states.shape[1], 6), np.float32)
    shown[:, :4:2] = np.cos(states[:2]).T
    shown[:, 1:4:2] = np.sin(states[:2]).T
    shown[:, 4:] = states[2:].T
    return shown


@dataclass(frozen=True)
class Acrobot(GymnasiumTask):
    """Swing the free end above a line within 500 steps; every step before costs one point.

    All episodes that fail return the same, so that plain policy gradients do not get off the ground; measured from what
    an agent's other episodes return, they do.
    """

    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(description="widths of the policy's hidden layers")
    ] = field(default=(16, 16), kw_only=True)

    source: ClassVar[str] = "Sutton, 1996; Gymnasium Acrobot-v1"
    gymnasium_id: ClassVar[str] = "Acrobot-v1"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = reference("acrobot")
    suggested: ClassVar[Mapping[str, float | str]] = {"N": 16, "B": 4, "p": 0.2, "lr": 5e-3, "baseline": "others"}

    def simulators(self, rows: int) -> Simulators:
        """Our own, which take all rows at once."""
        return _Acrobots()
