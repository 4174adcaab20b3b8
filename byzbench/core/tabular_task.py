"""Base class of tasks that are finite Markov decision processes with a known transition law."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete, Space
from pydantic import Field
from torch import Tensor

from byzbench.core.gymnasium_task import as_vectors
from byzbench.core.learning import MAX_UNIT_VECTOR, Task
from byzbench.rl.policies import Policy
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.rl.transition_table import ExactReturns, TransitionTable, exact_returns

Steps = Annotated[int, Field(ge=1, le=100_000, description="number of steps of an episode")]
"""Type of the parameter `steps`."""
Discount = Annotated[float, Field(gt=0, le=1, description="discount")]
"""Type of the parameter `gamma`."""


@dataclass(frozen=True)
class TabularTask(Task):
    """A task with a known transition law, on which returns and their gradients are exact.

    An agent observes its state, as tasks with `num_states` do. A subclass defines `transition_table` and the fields
    `steps` and `gamma`. The references are exact, too: the expected undiscounted returns of uniformly random actions,
    and of the optimal policy.

    Example:
        >>> @dataclass(frozen=True)
        ... class Coin(TabularTask):
        ...     steps: Steps = field(default=1, kw_only=True)
        ...     gamma: Discount = field(default=1.0, kw_only=True)
        ...
        ...     def transition_table(self, factors):
        ...         return TransitionTable.from_outcomes([[[(1.0, 0, 0.0, True)], [(1.0, 0, 1.0, True)]]], [1.0])
        >>> Coin().reference
        {'random': 0.5, 'solved': 1.0}
    """

    default_policy: ClassVar[str] = "tabular"
    steps: Steps = field(kw_only=True)
    gamma: Discount = field(kw_only=True)

    @abstractmethod
    def transition_table(self, factors: Mapping[str, float]) -> TransitionTable:
        """Return the transition law.

        Args:
            factors: The factors of the constants of `dynamics`; a constant that is left out has the factor 1.
        """

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """Return `steps`."""
        return self.steps

    @property
    def discount(self) -> float:  # type: ignore[override]
        """Return `gamma`."""
        return self.gamma

    @property
    def num_states(self) -> int:  # type: ignore[override]
        """Return the number of states of the table."""
        return _table(self).successors.shape[0]

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        """Return the length of the unit vector of a state, or 1 for its index."""
        return self.num_states if self.num_states <= MAX_UNIT_VECTOR else 1

    @property
    def action_space(self) -> Space[Any]:  # type: ignore[override]
        """Return the actions of the table."""
        return Discrete(_table(self).successors.shape[1])

    @property
    def reference(self) -> Mapping[str, float]:  # type: ignore[override]
        """Return the exact returns of uniformly random actions, and of the optimal policy."""
        return dict(_references(self, self.horizon))

    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """Make `count` environments for each agent."""
        start = partial(_start, np.cumsum(_table(self).start), self.horizon)
        environments = Simulated(Simulation(start, _step, _show, self.observation_size), agents, count, self.horizon)
        environments.set_constants(_constants(_table(self))[None])
        return environments

    def scale_dynamics(self, environments: EnvironmentBatch, factors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Multiply constants of the transition law: see `Task.scale_dynamics`."""
        assert isinstance(environments, Simulated)
        environments.set_constants(np.stack([_constants(table) for table in self._tables(factors)]))

    def exact(
        self, policy: Policy, theta: Tensor, dynamics: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> ExactReturns:
        """Compute exact returns and gradients by dynamic programming: see `Task.exact`."""
        observations = as_vectors(Discrete(self.num_states), range(self.num_states))
        tables = self._tables(dynamics or {})
        return exact_returns(tables, policy, theta, observations, self.discount, self.horizon)

    def _tables(self, factors: Mapping[str, npt.NDArray[Any]]) -> list[TransitionTable]:
        """Return the table of each agent, or one of all without factors."""
        if not factors:
            return [_table(self)]
        rows = zip(*(factor.tolist() for factor in factors.values()), strict=True)
        return [self.transition_table(dict(zip(factors, row, strict=True))) for row in rows]


@cache
def _table(task: TabularTask) -> TransitionTable:
    return task.transition_table({})


@cache
def _references(task: TabularTask, horizon: int) -> tuple[tuple[str, float], ...]:
    table = _table(task)
    return ("random", table.uniform_return(horizon)), ("solved", table.optimal_return(horizon))


def _constants(table: TransitionTable) -> npt.NDArray[np.float64]:
    """Return a table as the constants of `_step`.

    They are A and B, then for each state, action and outcome: the probability of this or an earlier outcome, the
    successor, the reward, and whether the episode ends.
    """
    columns = (table.probabilities.cumsum(2), table.successors, table.rewards, table.terminated)
    return np.concatenate([table.successors.shape[1:], np.stack(columns, 3).ravel()])


def _start(law: npt.NDArray[np.float64], horizon: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw initial states: the state, the step 0, and a uniform number for each step of the episode."""
    from byzbench.rl import seeded_numbers  # a local import, as loading Numba takes time

    states = np.empty((count, 2 + horizon))
    seeded_numbers.fill_uniforms(rng.integers(1 << 31, size=count), states)
    states[:, 0] = np.searchsorted(law, states[:, 0], side="right").clip(max=len(law) - 1)
    states[:, 1] = 0
    return states


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    """Draw the outcome of the action, and move to its successor."""
    num_actions, branches, t = int(constants[0]), int(constants[1]), int(state[1])
    number = state[2 + t % (len(state) - 2)]  # the remainder is t, except for steps after the end of an episode
    num_pairs = (len(constants) - 2) // (4 * branches)
    pair = min(max(int(state[0]) * num_actions + int(action[0]), 0), num_pairs - 1)  # whatever a caller sets as states
    outcome = 2 + 4 * branches * pair
    last = outcome + 4 * (branches - 1)
    while number >= constants[outcome] and outcome < last:
        outcome += 4
    state[0], state[1] = constants[outcome + 1], t + 1
    return constants[outcome + 2], constants[outcome + 3] > 0


def _show(state: np.ndarray, out: np.ndarray) -> None:
    """Write the state as a unit vector, or as its index if there is room for one number."""
    if len(out) == 1:
        out[0] = state[0]
    else:
        for i in range(len(out)):
            out[i] = 0.0
        out[int(state[0])] = 1.0
