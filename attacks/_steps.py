"""What step-by-step taps have in common: noise for every step, of which few are ever played."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

NUMBERS = 1 << 14
"""Drawn at once: enough to make a call cheap, few beside a whole horizon of a large batch, which hardly ever lasts."""


class Drawn:
    """Noise by step, drawn in the order of steps whatever the order in which they are asked for.

    Args:
        draw: makes noise of a shape [steps, ...].
        shape: of one step's noise, [f, N, ...].
    """

    def __init__(self, draw: Callable[[tuple[int, ...]], np.ndarray], shape: Sequence[int]) -> None:
        self._draw, self._shape = draw, (max(1, NUMBERS // math.prod(shape)), *shape)
        self._steps: list[np.ndarray] = []

    def __call__(self, t: int) -> np.ndarray:
        """The noise of step t."""
        while t >= len(self._steps):
            self._steps.extend(self._draw(self._shape))
        return self._steps[t]
