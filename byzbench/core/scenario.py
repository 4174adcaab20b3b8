"""Scenarios: what is different in the environments of agents than in the task, and when agents take part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeAlias

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core.component import Component, State
from byzbench.core.learning import Task

if TYPE_CHECKING:
    from byzbench.core.setting import Setting

Absence: TypeAlias = tuple[int, float, float]
"""An agent, and the shares of the budget at which its absence starts and ends."""


@dataclass(frozen=True)
class RewardBatch:
    """The rewards of a batch of episodes, as a scenario transforms them.

    Attributes:
        rewards: float32 [P, T, N], zero where masked.
        mask: bool [P, T, N], True while an episode runs.
        agents: the P agents.
        progress: the share of the budget that is spent.
        horizon: the largest number of steps of an episode, at least T. Draw noise for all of them, so that it does not
            depend on the longest episode of the batch.
        generator: a function of an agent that returns a generator at the beginning of its stream for this batch.
    """

    rewards: Tensor
    mask: Tensor
    agents: Sequence[int]
    progress: float
    horizon: int
    generator: Callable[[int], np.random.Generator]


@dataclass(frozen=True)
class Scenario(Component):
    """A deviation of the agents' environments from the task; `heterogeneous+reward_noise` applies both.

    The parts of a composition are applied from left to right. A trusted server has the environment of the task, except
    for changes that apply to all agents. Every random draw of a part is from a stream of the part and of one agent, so
    that neither the number of agents nor another component changes it.

    Class attributes:
        normalization_episodes: the episodes of the first policy from which each agent estimates the mean and deviation
            of its observations; 0 without normalisation. It may be a property.

    Attributes:
        inner: the scenario that is applied next.

    Example:
        >>> from byzbench.registry import make
        >>> scenario = make("scenario", "heterogeneous(spread=0.3)+reward_noise")
        >>> [type(part).__name__ for part in scenario.parts]
        ['Heterogeneous', 'RewardNoise']
    """

    kind: ClassVar[str] = "scenario"
    normalization_episodes: ClassVar[int] = 0

    inner: Annotated[Scenario | None, Field(description="the scenario that is applied next")] = field(
        default=None, kw_only=True
    )

    @property
    def parts(self) -> Iterator[Scenario]:
        """Yield this scenario and all that are applied after it."""
        part: Scenario | None = self
        while part is not None:
            yield part
            part = part.inner

    @property
    def normalizes(self) -> bool:
        """Return whether a part of the composition normalises observations."""
        return any(part.normalization_episodes for part in self.parts)

    def check(self, setting: Setting) -> None:
        """Check every part of the composition; see `Component.check`."""
        if self.inner is not None:
            self.inner.check(setting)

    @property
    def stream(self) -> str:
        """Return the name of the random streams of the part."""
        return f"scenario/{type(self).__name__}"

    @property
    def has_absences(self) -> bool:
        """Return whether agents can be inactive in a part of the budget, or crash."""
        return False

    @property
    def has_own_starts(self) -> bool:
        """Return whether episodes can start in states of their agent, see `own_starts`."""
        return False

    def start(self, task: Task, num_agents: int, generator: Callable[[int], np.random.Generator]) -> State:
        """Draw what differs between agents; called once, before training and after a resumption.

        Args:
            task: the task.
            num_agents: K, the number of agents.
            generator: a function of an agent that returns a generator at the beginning of the agent's stream.

        Returns:
            Tensors with a row for each agent, and a last one for the server.
        """
        return {}

    def physics_factors(
        self, state: State, task: Task, agents: Sequence[int], progress: float
    ) -> Mapping[str, np.ndarray]:
        """Return the factors of physical constants at a point of the budget.

        Args:
            state: the result of `start`.
            task: the task.
            agents: the P agents; K is the server.
            progress: the share of the budget that is spent.

        Returns:
            By constant of `task.dynamics`, float64 [P]; constants that do not change are left out.
        """
        return {}

    def absences(self, state: State) -> Sequence[Absence]:
        """Return when agents are inactive; an absence until 1 includes the end of the budget.

        Args:
            state: the result of `start`.
        """
        return ()

    def crashes(self, state: State) -> Mapping[int, float]:
        """Return when agents crash: by agent, a share of the budget.

        A crashed agent does nothing any more, and the others still expect its messages. Byzantine agents do not crash.

        Args:
            state: the result of `start`.
        """
        return {}

    def own_starts(
        self, state: State, agents: Sequence[int], count: int, generator: Callable[[int], np.random.Generator]
    ) -> np.ndarray:
        """Return which episodes start in a state of their agent, where `has_own_starts` holds.

        An agent has as many states of its own as there are numbers. Each is the one that the task draws from a fixed
        seed of the part, the number and the agent. The seed fixes everything that the environment draws in the episode:
        where its steps are random, equal actions then have equal results.

        Args:
            state: the result of `start`.
            agents: the P agents; K is the server.
            count: N, the number of episodes of each agent. The numbers of the first ones must not depend on it.
            generator: a function of an agent that returns a generator at the beginning of its stream for this batch.

        Returns:
            int64 [P, N], the number of the agent's state, from 0, or -1 for a state that the task draws.
        """
        return np.full((len(agents), count), -1)

    def reward_factors(self, state: State, agents: Sequence[int], progress: float) -> np.ndarray | None:
        """Return the factors by which `transform_rewards` changes the expectation of rewards.

        Args:
            state: the result of `start`.
            agents: the P agents; K is the server.
            progress: the share of the budget that is spent.

        Returns:
            float64 [P]; None where rewards change in another way, so that exact gradients are not known.
        """
        return np.ones(len(agents)) if type(self).transform_rewards is Scenario.transform_rewards else None

    def transform_rewards(self, state: State, batch: RewardBatch) -> Tensor:
        """Transform the rewards with which agents train; reported returns stay those of the task.

        Args:
            state: the result of `start`.
            batch: the rewards of the task, or of the part that is applied before, and what they depend on.

        Returns:
            The new rewards, float32 [P, T, N], zero where masked.
        """
        return batch.rewards
