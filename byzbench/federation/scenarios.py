"""The scenario of a federation: its parts, applied one after another to the agents' environments and rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Absence, RewardBatch, Scenario, State, Task
from byzbench.randomness import Streams
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.scales import Scaled


class Scenarios:
    """Physics, observations and rewards of K agents, relative to those of the task. A server has those of the task.

    The streams of a part have its name. Where a composition has several parts of one name, the later ones have streams
    of their own, with their number as a suffix.

    Attributes:
        absences: the absences of agents, see `Scenario.absences`.
        crashes: by agent, the share of the budget at which it crashes; Byzantine agents do not crash.
        normalization_episodes: the episodes from which each agent estimates the statistics of its observations.
        scales: float32 [K + 1, 2 o], the mean and the logarithm of the standard deviation by which observations of each
            agent and of the server are normalised; None without normalisation.
    """

    def __init__(
        self, scenario: Scenario, task: Task, streams: Streams, agents: int, byzantine: Sequence[int] = ()
    ) -> None:
        self._task, self._streams = task, streams
        self._parts: list[tuple[Scenario, str, State]] = []
        counts = Counter[str]()
        for part in scenario.parts:
            suffix = f"/part/{counts[part.stream]}" if counts[part.stream] else ""
            counts[part.stream] += 1
            name = part.stream + suffix
            state = part.start(task, agents, partial(streams.generator, name, 0))
            self._parts.append((part, suffix, state))
        self.absences: list[Absence] = [absence for part, _, state in self._parts for absence in part.absences(state)]
        self.crashes: dict[int, float] = {}
        for part, _, state in self._parts:
            for agent, at in part.crashes(state).items():
                if agent not in byzantine:
                    self.crashes[agent] = min(at, self.crashes.get(agent, at))
        self.normalization_episodes = sum(part.normalization_episodes for part in scenario.parts)
        self.scales = torch.zeros(agents + 1, 2 * task.observation_size) if self.normalization_episodes else None

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
        factors: dict[str, np.ndarray] = {}
        for part, _, state in self._parts:
            for name, factor in part.physics_factors(state, self._task, who, progress).items():
                factors[name] = factors[name] * factor if name in factors else factor
        return factors

    def reward_factors(self, who: Sequence[int], progress: float) -> np.ndarray | None:
        """Return the factors by which `transform_rewards` changes the expectation of rewards.

        Args:
            who: the P agents.
            progress: the share of the budget that is spent.

        Returns:
            float64 [P]; None where rewards change in another way.
        """
        product = np.ones(len(who))
        for part, _, state in self._parts:
            factors = part.reward_factors(state, who, progress)
            if factors is None:
                return None
            product = product * factors
        return product

    @property
    def has_task_episodes(self) -> bool:
        """Return whether starts and observations are those of the task; physics and rewards may differ."""
        return self.scales is None and not any(part.has_own_starts for part, _, _ in self._parts)

    def inactive_agents(self, progress: float) -> frozenset[int]:
        """Return the inactive agents at a point of the budget; an absence until the end includes the end."""
        return frozenset(a for a, start, end in self.absences if start <= progress and (progress < end or end == 1))

    def crashed_agents(self, progress: float) -> frozenset[int]:
        """Return the agents that have crashed at a point of the budget."""
        return frozenset(agent for agent, at in self.crashes.items() if at <= progress)

    def stopped_agents(self, progress: float) -> frozenset[int]:
        """Return the agents that take no part at a point of the budget: inactive or crashed."""
        return self.inactive_agents(progress) | self.crashed_agents(progress)

    def start_generators(
        self, generators: Sequence[np.random.Generator], who: Sequence[int], count: int, name: str, round: int
    ) -> list[np.random.Generator]:
        """Return the generators of initial states, where episodes may start in states of their agent.

        Args:
            generators: the P generators of the agents, from which the task draws.
            who: the P agents.
            count: N, the number of episodes of each agent.
            name: the suffix of the streams, which differs between the batches of a round.
            round: the round, from 0.

        Returns:
            The P generators, or P*N: one for each episode, in the order of the rows of an `EnvironmentBatch`. Episodes
            of an agent that the task starts share its generator.
        """
        parts = [(part, suffix, state) for part, suffix, state in self._parts if part.has_own_starts]
        if not (parts and count):
            return list(generators)
        rows = [generator for generator in generators for _ in range(count)]
        for part, suffix, state in parts:
            stream = partial(self._streams.generator, f"{part.stream}/choice{name}{suffix}", round)
            for row, number in enumerate(part.own_starts(state, who, count, stream).flatten().tolist()):
                if number >= 0:
                    rows[row] = self._streams.generator(f"{part.stream}/state{suffix}", number, who[row // count])
        return rows

    def wrap_observations(self, environments: EnvironmentBatch, who: Sequence[int]) -> EnvironmentBatch:
        """Return the environments of agents who [P] with normalised observations, if there is a normalisation."""
        return environments if self.scales is None else Scaled(environments, self.scales[list(who)])

    def transform_rewards(
        self, rewards: Tensor, mask: Tensor, who: Sequence[int], name: str, round: int, progress: float
    ) -> Tensor:
        """Transform the rewards with which agents train; reported returns stay those of the task.

        Args:
            rewards: float32 [P, T, N], the rewards of the task; zero where masked.
            mask: bool [P, T, N], True while an episode runs.
            who: the P agents.
            name: the suffix of the streams, which differs between the batches of a round.
            round: the round, from 0.
            progress: the share of the budget that is spent.

        Returns:
            The transformed rewards, float32 [P, T, N].
        """
        for part, suffix, state in self._parts:
            stream = f"{part.stream}{name}{suffix}"
            generator = partial(self._streams.generator, stream, round)
            batch = RewardBatch(rewards, mask, who, progress, self._task.horizon, generator)
            rewards = part.transform_rewards(state, batch)
        return rewards
