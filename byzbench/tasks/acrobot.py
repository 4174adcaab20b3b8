"""Acrobot-v1: swing a double pendulum up by the torque at its elbow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.learning.rollouts import EnvironmentBatch
from byzbench.learning.simulations import Simulated, Simulation
from byzbench.tasks._gymnasium import GymnasiumTask
from byzbench.tasks._references import reference

_SECONDS = 0.2
_FASTEST = (4 * math.pi, 9 * math.pi)


def _start(rng: np.random.Generator, count: int) -> np.ndarray:
    """As Gymnasium's begin from these seeds."""
    generators = [np.random.default_rng(seed) for seed in rng.integers(1 << 31, size=count)]
    starts = [generator.uniform(-0.1, 0.1, 4) for generator in generators]
    return np.stack(starts).astype(np.float32).astype(np.float64)


def _step(state: np.ndarray, action: int, constants: np.ndarray) -> tuple[float, bool]:
    """Gymnasium's equations, whose links have mass, length and moment of inertia 1 and their centre in the middle.

    The state is two angles, of the first link and of the second from it, and their speeds.
    """
    torque = action - 1.0
    speed1 = speed2 = pull1 = pull2 = 0.0
    turned1 = turned2 = gained1 = gained2 = 0.0
    # Runge and Kutta's method of fourth order: slopes at points that are reached by those before.
    for reach, weight in ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)):
        by = reach * _SECONDS
        angle1, angle2 = state[0] + by * speed1, state[1] + by * speed2
        speed1, speed2 = state[2] + by * pull1, state[3] + by * pull2
        bend, cosine = 0.5 * math.sin(angle2), math.cos(angle2)
        d1, d2 = 3.5 + cosine, 1.25 + 0.5 * cosine
        phi2 = 0.5 * 9.8 * math.sin(angle1 + angle2)
        phi1 = 1.5 * 9.8 * math.sin(angle1) + phi2 - bend * speed2 * (speed2 + 2 * speed1)
        pull2 = (torque + d2 / d1 * phi1 - bend * speed1**2 - phi2) / (1.25 - d2**2 / d1)
        pull1 = -(d2 * pull2 + phi1) / d1
        turned1 += weight * speed1
        turned2 += weight * speed2
        gained1 += weight * pull1
        gained2 += weight * pull2
    angle1, angle2 = state[0] + _SECONDS * turned1, state[1] + _SECONDS * turned2
    state[0] = angle1 - 2 * math.pi * np.rint(angle1 / (2 * math.pi))
    state[1] = angle2 - 2 * math.pi * np.rint(angle2 / (2 * math.pi))
    state[2] = min(max(state[2] + _SECONDS * gained1, -_FASTEST[0]), _FASTEST[0])
    state[3] = min(max(state[3] + _SECONDS * gained2, -_FASTEST[1]), _FASTEST[1])
    up = -math.cos(state[0]) - math.cos(state[0] + state[1]) > 1.0
    return (0.0 if up else -1.0), up


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """The cosine and the sine of each angle, and both speeds."""
    out[0], out[1] = math.cos(state[0]), math.sin(state[0])
    out[2], out[3] = math.cos(state[1]), math.sin(state[1])
    out[4:] = state[2:]


_SIMULATION = Simulation(_start, _step, _show, 6)


@dataclass(frozen=True)
class Acrobot(GymnasiumTask):
    """Swing the free end above a line within 500 steps; every step before costs one point.

    All episodes that fail return the same, so that a gradient without a baseline says little at first; measured from
    what an agent's other episodes return, it tells soon who came up.
    """

    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(description="widths of the policy's hidden layers")
    ] = field(default=(16, 16), kw_only=True)

    source: ClassVar[str] = "Sutton, 1996; Gymnasium Acrobot-v1"
    gymnasium_id: ClassVar[str] = "Acrobot-v1"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = reference("acrobot")
    suggested: ClassVar[Mapping[str, float | str]] = {"N": 16, "B": 4, "p": 0.2, "lr": 5e-3, "baseline": "others"}

    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """`count` acrobots for each agent; our own have Gymnasium's seeds and equations, and run as machine code."""
        if self.backend == "gymnasium":
            return Simulated(_SIMULATION, agents, count, self.horizon)
        return super().make(agents, count)
