"""Observations in units of how they scatter: their statistics, and environments that show them so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from byzbench.learning.rollouts import EnvironmentBatch, Trajectories

LARGEST = 10.0
"""A coordinate that hardly ever moved may move later; what is shown stays within this."""

SMALLEST = 1e-3
"""The least standard deviation: one of zero has no logarithm."""


def scales_of(batch: Trajectories) -> Tensor:
    """Each agent's (mean, log standard deviation) of every coordinate of what it saw: float32 [K, 2 o]."""
    rows = []
    for seen, mask in zip(batch.observations, batch.mask, strict=True):
        x = seen[mask].double()
        rows.append(torch.cat([x.mean(0), x.std(0, correction=0).clamp(min=SMALLEST).log()]))
    return torch.stack(rows).float()


def in_units(seen: np.ndarray, scales: Tensor) -> np.ndarray:
    """clip((s - mean) / deviation, -10, 10) of observations [K * N, o], by scales [K, 2 o]."""
    mean, log_std = np.split(scales.numpy()[:, None], 2, -1)
    with np.errstate(over="ignore"):  # of lies that were believed
        x = (seen.reshape(len(scales), -1, seen.shape[-1]) - mean) * np.exp(-log_std.clip(-50, 50))
    return x.clip(-LARGEST, LARGEST).reshape(seen.shape)


class Scaled(EnvironmentBatch):
    """Environments that show observations `in_units` of scales [K, 2 o]."""

    def __init__(self, inner: EnvironmentBatch, scales: Tensor) -> None:
        self._inner, self._scales = inner, scales

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """See `EnvironmentBatch`."""
        return in_units(self._inner.reset(generators), self._scales)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See `EnvironmentBatch`."""
        seen, rewards, ended, cut = self._inner.step(actions)
        return in_units(seen, self._scales), rewards, ended, cut
