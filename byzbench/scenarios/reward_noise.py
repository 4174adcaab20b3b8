"""Noisy rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import RewardBatch, Scenario, State


@dataclass(frozen=True)
class RewardNoise(Scenario):
    """Independent noise that is added to each reward as agents receive it; reported returns are of the true rewards.

    Attributes:
        scale: the scale of the noise.
        law: its law: standard `normal`, or `student` for Student's t with two degrees of freedom, whose variance is
            infinite.
    """

    scale: Annotated[float, Field(ge=0, description="scale of the noise that is added to each reward")] = 1.0
    law: Annotated[
        Literal["normal", "student"],
        Field(description="law of the noise: normal, or Student's with two degrees of freedom"),
    ] = "normal"

    @property
    def stream(self) -> str:
        """Return the name of the random streams."""
        return "reward"

    def reward_factors(self, state: State, agents: Sequence[int], progress: float) -> np.ndarray:
        """Return ones, as the noise has the mean 0: see `Scenario.reward_factors`."""
        return np.ones(len(agents))

    def transform_rewards(self, state: State, batch: RewardBatch) -> Tensor:
        """Add noise to each reward: see `Scenario.transform_rewards`."""
        if not self.scale:
            return batch.rewards
        num_agents, num_steps, num_episodes = batch.rewards.shape
        noise = np.empty((num_agents, num_episodes, batch.horizon), np.float32)
        for agent, agent_noise in zip(batch.agents, noise, strict=True):
            rng, shape = batch.generator(agent), agent_noise.shape
            agent_noise[:] = rng.standard_t(2, shape) if self.law == "student" else rng.standard_normal(shape)
        noise_by_step = torch.from_numpy(noise).transpose(1, 2)[:, :num_steps]
        return batch.rewards + self.scale * noise_by_step * batch.mask
