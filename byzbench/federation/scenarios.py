"""Scenarios: per-agent environment dynamics, absences, observation normalisation and reward transformations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from byzbench.core import State, Task
from byzbench.randomness import Streams
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.scales import Scaled


class Scenarios:
    """Dynamics, observations and rewards of K agents, relative to those of the task. A server has those of the task.

    With heterogeneity h, each physical constant of agent k is multiplied by 2^(h u), with u uniform in (-1, 1) from the
    stream `heterogeneity` of agent k. At h = 1 the factor is between 1/2 and 2. A `shift` multiplies constants of all
    agents from a point of the budget on. Rewards are multiplied by a scale, and independent noise from the stream
    `reward` is added to them.

    Attributes:
        scales: float32 [K + 1, 2 o], the mean and the logarithm of the standard deviation by which observations of each
            agent and of the server are normalised; None without normalisation.
    """

    def __init__(self, task: Task, streams: Streams, agents: int) -> None:
        self._task, self._streams = task, streams
        self.scales = torch.zeros(agents + 1, 2 * task.observation_size) if task.normalize else None
        self._factors: dict[str, np.ndarray] = {}
        if task.heterogeneity:
            exponents = np.zeros((agents + 1, len(task.dynamics)))
            for k in range(agents):
                exponents[k] = streams.generator("heterogeneity", 0, k).uniform(-1, 1, len(task.dynamics))
            factors = 2.0 ** (task.heterogeneity * exponents)
            self._factors = {name: factors[:, column] for column, name in enumerate(task.dynamics)}

    def state_dict(self) -> State:
        """Return the fitted scales of observations for a checkpoint."""
        return {} if self.scales is None else {"scales": self.scales}

    def load_state_dict(self, saved: State) -> None:
        """Load what `state_dict` returned."""
        self.scales = saved.get("scales")

    def physics(self, who: Sequence[int], progress: float) -> dict[str, np.ndarray]:
        """Return the factors of physical constants at a point of the budget.

        Args:
            who: the P agents.
            progress: the share of the budget that is spent.

        Returns:
            By constant, float64 [P]; constants that no agent changes are left out.
        """
        selected = {name: factors[list(who)] for name, factors in self._factors.items()}
        if progress >= self._task.shift_at:
            for name, factor in self._task.shifts.items():
                selected[name] = selected.get(name, np.ones(len(who))) * factor
        return selected

    def inactive_agents(self, progress: float) -> frozenset[int]:
        """Return the inactive agents at a point of the budget; an absence until the end includes the end."""
        return frozenset(
            a for a, start, end in self._task.absences if start <= progress and (progress < end or end == 1)
        )

    def wrap_observations(self, environments: EnvironmentBatch, who: Sequence[int]) -> EnvironmentBatch:
        """Return the environments of agents who [P] with normalised observations, if there is a normalisation."""
        return environments if self.scales is None else Scaled(environments, self.scales[list(who)])

    def transform_rewards(self, rewards: Tensor, mask: Tensor, who: Sequence[int], name: str, round: int) -> Tensor:
        """Transform the rewards with which agents train; reported returns stay those of the task.

        Args:
            rewards: float32 [P, T, N], the rewards of the task; zero where masked.
            mask: bool [P, T, N], True while an episode runs.
            who: the P agents.
            name: the suffix of the stream, which differs between the batches of a round.
            round: the round, from 0.

        Returns:
            The scaled rewards with noise, float32 [P, T, N].
        """
        task = self._task
        transformed = rewards * task.reward_scale if task.reward_scale != 1 else rewards
        if task.reward_noise:
            noise = np.empty((len(who), rewards.shape[2], task.horizon), np.float32)
            for agent, agent_noise in zip(who, noise, strict=True):
                rng = self._streams.generator(f"reward{name}", round, agent)
                heavy_tailed = task.reward_tail == "student"
                agent_noise[:] = (
                    rng.standard_t(2, agent_noise.shape) if heavy_tailed else rng.standard_normal(agent_noise.shape)
                )
            noise_by_step = torch.from_numpy(noise).transpose(1, 2)[:, : rewards.shape[1]]
            transformed = transformed + task.reward_noise * noise_by_step * mask
        return transformed
