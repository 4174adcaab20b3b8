"""Noise for step-by-step hooks, drawn only for the steps that are played."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

NUMBERS = 1 << 14
"""Numbers of one draw: enough to make a step cheap, and few beside a whole horizon, which few episodes reach."""


class StepNoise:
    """Noise of each step, drawn in the order of steps, whatever the order of the calls.

    Args:
        draw: returns noise of a shape [steps, ...].
        shape: the shape of one step's noise, [f, N, ...].
    """

    def __init__(self, draw: Callable[[tuple[int, ...]], np.ndarray], shape: Sequence[int]) -> None:
        self._draw, self._shape = draw, (max(1, NUMBERS // math.prod(shape)), *shape)
        self._steps: list[np.ndarray] = []

    def __call__(self, t: int) -> np.ndarray:
        """Return the noise of step t."""
        while t >= len(self._steps):
            self._steps.extend(self._draw(self._shape))
        return self._steps[t]
