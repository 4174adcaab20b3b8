"""The world that each agent lives in: its physics, which may differ from others' and shift, its looks, and its pay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Task
from byzbench.learning.rollouts import EnvironmentBatch
from byzbench.learning.scales import Scaled
from byzbench.randomness import Streams


class Worlds:
    """The physical constants and the pay of K agents, as factors of the task's; a trusted server has the task's own.

    With heterogeneity h, each constant of agent k is multiplied by 2^(h u), u uniform in (-1, 1) from the stream
    `heterogeneity` of k: at h = 1 by a half to two. A `shift` multiplies constants of all once its point of the budget
    is reached. Rewards are multiplied by a scale, and have independent noise added to them, of the stream `reward`.

    Attributes:
        scales: float32 [K + 1, 2 o], by what mean and logarithm of a deviation each agent, and the server, sees its
            observations; None as they are.
    """

    def __init__(self, task: Task, streams: Streams, agents: int) -> None:
        self._task, self._streams = task, streams
        self.scales = torch.zeros(agents + 1, 2 * task.observation_size) if task.normalize else None
        self._own: dict[str, np.ndarray] = {}
        if task.heterogeneity:
            drawn = np.zeros((agents + 1, len(task.dynamics)))
            for k in range(agents):
                drawn[k] = streams.generator("heterogeneity", 0, k).uniform(-1, 1, len(task.dynamics))
            factors = 2.0 ** (task.heterogeneity * drawn)
            self._own = {name: factors[:, column] for column, name in enumerate(task.dynamics)}

    def physics(self, who: Sequence[int], progress: float) -> dict[str, np.ndarray]:
        """What the constants of agents who [P] are multiplied by at a point of the budget: [P] for each that does."""
        found = {name: factors[list(who)] for name, factors in self._own.items()}
        if progress >= self._task.shift_at:
            for name, factor in self._task.shifts.items():
                found[name] = found.get(name, np.ones(len(who))) * factor
        return found

    def away(self, progress: float) -> frozenset[int]:
        """Who is not there at a point of the budget; who is away until its end, also at the end."""
        return frozenset(
            a for a, start, end in self._task.absences if start <= progress and (progress < end or end == 1)
        )

    def shown(self, environments: EnvironmentBatch, who: Sequence[int]) -> EnvironmentBatch:
        """The environments of agents who [P], as these see them."""
        return environments if self.scales is None else Scaled(environments, self.scales[list(who)])

    def pay(self, rewards: Tensor, mask: Tensor, who: Sequence[int], name: str, round: int) -> Tensor:
        """Rewards [P, T, N] as agents who [P] are paid; the returns that are reported are the task's.

        Args:
            rewards: of the task, zero where masked.
            mask: bool [P, T, N].
            who: the agents.
            name: what tells this batch from others of the round.
            round: the round's number.
        """
        task = self._task
        paid = rewards * task.reward_scale if task.reward_scale != 1 else rewards
        if task.reward_noise:
            noise = np.empty((len(who), rewards.shape[2], task.horizon), np.float32)
            for agent, out in zip(who, noise, strict=True):
                rng = self._streams.generator(f"reward{name}", round, agent)
                tailed = task.reward_tail == "student"
                out[:] = rng.standard_t(2, out.shape) if tailed else rng.standard_normal(out.shape)
            drawn = torch.from_numpy(noise).transpose(1, 2)[:, : rewards.shape[1]]
            paid = paid + task.reward_noise * drawn * mask
        return paid
