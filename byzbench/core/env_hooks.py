"""Parts of environment hooks: noise of the steps that are played, and the padding after an episode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

NUMBERS = 1 << 14
"""Numbers of one draw: enough to make a step cheap, and few beside a whole horizon, which few episodes reach."""


class StepNoise:
    """Noise of each step, drawn in the order of steps, whatever the order of the calls.

    Args:
        draw: returns noise of a shape [steps, ...].
        shape: the shape of one step's noise, [f, N, ...].

    Example:
        >>> noise = StepNoise(np.random.default_rng(0).random, (2, 3))
        >>> noise(5).shape, np.array_equal(noise(5), noise(5))
        ((2, 3), True)
    """

    def __init__(self, draw: Callable[[tuple[int, ...]], np.ndarray], shape: Sequence[int]) -> None:
        self._draw, self._shape = draw, (max(1, NUMBERS // math.prod(shape)), *shape)
        self._steps: list[np.ndarray] = []

    def __call__(self, t: int) -> np.ndarray:
        """Return the noise of step t."""
        while t >= len(self._steps):
            self._steps.extend(self._draw(self._shape))
        return self._steps[t]


def episode_mask(rewards: Tensor) -> Tensor:
    """Return which rewards belong to an episode and not to the padding after it: bool [f, T, N].

    An episode ends with its last reward that is not zero.

    Args:
        rewards: [f, T, N].

    Example:
        >>> rewards = torch.tensor([1.0, 0.0, 2.0, 0.0]).reshape(1, 4, 1)
        >>> episode_mask(rewards).flatten().tolist()
        [True, True, True, False]
    """
    steps = torch.arange(1, rewards.shape[1] + 1).unsqueeze(1)
    return steps <= ((rewards != 0) * steps).amax(1, keepdim=True)
