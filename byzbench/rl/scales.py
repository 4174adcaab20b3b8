"""Normalisation of observations: their statistics, and environments with normalised observations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from byzbench.rl.rollouts import EnvironmentBatch, Trajectories

LARGEST = 10.0
"""The bound of normalised coordinates: one with a small standard deviation may vary more later."""

SMALLEST = 1e-3
"""The smallest standard deviation, as zero has no logarithm."""


def scales_of(batch: Trajectories) -> Tensor:
    """Compute the mean and the log standard deviation of every coordinate of each agent's observations.

    Returns:
        The means, then the log standard deviations, float32 [K, 2 o].
    """
    rows = []
    for observations, mask in zip(batch.observations, batch.mask, strict=True):
        x = observations[mask].double()
        rows.append(torch.cat([x.mean(0), x.std(0, correction=0).clamp(min=SMALLEST).log()]))
    return torch.stack(rows).float()


def in_units(observations: np.ndarray, scales: Tensor) -> np.ndarray:
    """Normalise observations [K * N, o] by scales [K, 2 o]: clip((s - mean) / std, -10, 10).

    Example:
        >>> scales = torch.tensor([[1.0, 0.0]])  # mean 1, log standard deviation 0
        >>> in_units(np.array([[3.0], [50.0]], np.float32), scales)
        array([[ 2.],
               [10.]], dtype=float32)
    """
    mean, log_std = np.split(scales.numpy()[:, None], 2, -1)
    with np.errstate(over="ignore"):  # scales may be extreme, as they are agreed on with Byzantine agents
        x = (observations.reshape(len(scales), -1, observations.shape[-1]) - mean) * np.exp(-log_std.clip(-50, 50))
    return x.clip(-LARGEST, LARGEST).reshape(observations.shape)


class Scaled(EnvironmentBatch):
    """Environments whose observations are normalised by scales [K, 2 o], as `in_units` does."""

    def __init__(self, inner: EnvironmentBatch, scales: Tensor) -> None:
        self._inner, self._scales = inner, scales

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start an episode in every row: see `EnvironmentBatch`."""
        return in_units(self._inner.reset(generators), self._scales)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance every row by one step: see `EnvironmentBatch`."""
        observations, rewards, terminated, truncated = self._inner.step(actions)
        return in_units(observations, self._scales), rewards, terminated, truncated
