"""A task: the environment of each agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Discrete

from byzbench.core import Task


class Walks:
    """Walks on a line, a row for each episode, played at the same time."""

    def __init__(self, count: int, horizon: int) -> None:
        self.count, self.horizon = count, horizon

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start `count` episodes with each generator, and return the observations: float32 [M, 2]."""
        self.position = np.concatenate([rng.uniform(-1, 1, self.count) for rng in generators])
        self.time = 0
        return self._observe()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance all episodes, and return observations, rewards, terminated and truncated: each [M, ...]."""
        self.position = self.position + np.where(actions == 1, 0.2, -0.2)
        self.time += 1
        truncated = np.full(len(self.position), self.time >= self.horizon)
        return self._observe(), -np.abs(self.position), np.abs(self.position) > 2, truncated

    def _observe(self) -> np.ndarray:
        remaining = np.full_like(self.position, 1 - self.time / self.horizon)
        return np.stack([self.position, remaining], 1).astype(np.float32)


@dataclass(frozen=True)
class NewComponent(Task):
    """Stay near the origin of a line by steps to the left or to the right; the reward is minus the distance.

    Example:
        >>> NewComponent().action_count
        2
    """

    # Change: the sizes, and the reference scores, which are mean returns of the random policy and of a solved task.
    # An environment of Gymnasium needs no class `Walks`: derive from `byzbench.core.gymnasium_task.GymnasiumTask`.
    observation_size: ClassVar[int] = 2
    action_space: ClassVar[Discrete] = Discrete(2)
    horizon: ClassVar[int] = 20
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = {"random": -15.0, "solved": -4.0}

    def make(self, agents: int, count: int) -> Walks:
        """Return the environments of some agents, with `count` episodes each: see `Task.make`."""
        return Walks(count, self.horizon)
