"""Base class of tasks on Gymnasium or EnvPool: one simulator for each row, seeded from its agent's generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space, flatdim, flatten
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from pydantic import Field

from byzbench.core.environment_spec import (
    EnvironmentFacts,
    EnvironmentSpec,
    environment_facts,
    translate_environment_errors,
)
from byzbench.core.learning import MAX_UNIT_VECTOR, Task
from byzbench.errors import InvalidParameter, Undefined
from byzbench.rl.checked_environments import as_numbers, fit_actions, require_observations, require_results
from byzbench.rl.transition_table import ExactReturns, TransitionTable, exact_returns

if TYPE_CHECKING:
    from torch import Tensor

    from byzbench.rl.policies import Policy
    from byzbench.rl.rollouts import EnvironmentBatch


class Simulators(Protocol):
    """A batch of simulators of one environment, one for each row."""

    def reset(self, seeds: np.ndarray) -> Any:
        """Start an episode in every row from its seed, and return the observation of each row."""

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[Any, ...]:
        """Step some rows, and return their observations, rewards, terminated and truncated."""


class _Gymnasium:
    """A list of Gymnasium environments, whose random generators every reset seeds again."""

    def __init__(self, spec: EnvironmentSpec, rows: int) -> None:
        self._environments = [self._make(spec) for _ in range(rows)]
        self._original_values: dict[str, float] = {}

    def scale_dynamics(self, name: str, factors: np.ndarray) -> None:
        """Set an attribute of the simulators to its original value times factors, [rows] or [1]."""
        original = self._original_values.setdefault(name, getattr(self._environments[0].unwrapped, name))
        row_factors = np.broadcast_to(factors, len(self._environments))
        for environment, factor in zip(self._environments, row_factors, strict=True):
            setattr(environment.unwrapped, name, original * float(factor))

    @staticmethod
    def _make(spec: EnvironmentSpec) -> gymnasium.Env[Any, Any]:
        environment = spec.make()
        # The batch counts steps itself. A wrapper may need the time limit that it is around.
        while not spec.wrappers and type(environment) in (TimeLimit, OrderEnforcing, PassiveEnvChecker):
            environment = environment.env  # type: ignore[attr-defined]
        return environment

    def reset(self, seeds: np.ndarray) -> list[Any]:
        pairs = zip(self._environments, seeds.tolist(), strict=True)
        results = [environment.reset(seed=seed) for environment, seed in pairs]
        return [require_results(result, "observation", "info")[0] for result in results]

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[Any, ...]:
        pairs = zip(rows.tolist(), actions, strict=True)
        results = [self._environments[row].step(action) for row, action in pairs]
        names = ("observation", "reward", "terminated", "truncated", "info")
        return tuple(zip(*(require_results(result, *names) for result in results), strict=True))


class _Envpool:
    """An EnvPool pool, created again at every reset, as it takes the seeds of rows at its creation only."""

    def __init__(self, id: str, horizon: int) -> None:
        with translate_environment_errors(id):
            self._library = import_module("envpool")
        if id not in self._library.list_all_envs():
            raise Undefined(f"EnvPool has no environment {id!r}: use backend=gymnasium")
        # EnvPool reports an episode that terminates in the last step before its limit as truncated: hence one more.
        self._id, self._limit = id, horizon + 1

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        with translate_environment_errors(self._id):
            self._pool = self._library.make_gymnasium(
                self._id, num_envs=len(seeds), num_threads=1, seed=seeds, max_episode_steps=self._limit
            )
            return self._pool.reset()[0]

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[Any, ...]:
        return self._pool.step(actions, rows)


def as_vectors(space: Space[Any], observations: Any) -> np.ndarray:
    """Convert observations of a space to float32 vectors [rows, o].

    States become unit vectors, or indices if there are many. Observations of types other than vectors and Discrete are
    flattened by `gymnasium.spaces.flatten`.

    Raises:
        BrokenEnvironment: An observation is not one of the space.

    Example:
        >>> as_vectors(Discrete(3), [2])
        array([[0., 0., 1.]], dtype=float32)
    """
    require_observations(space, observations)
    if isinstance(space, Box) and len(space.shape) == 1:
        return np.asarray(observations, np.float32)
    if not isinstance(space, Discrete):
        return np.asarray([flatten(space, observation) for observation in observations], np.float32)
    states = np.asarray(observations).astype(np.int64) - int(space.start)
    if space.n > MAX_UNIT_VECTOR:
        return states[:, None].astype(np.float32)
    vectors = np.zeros((len(states), int(space.n)), np.float32)
    vectors[np.arange(len(states)), states] = 1
    return vectors


class SimulatorBatch:
    """A batch of K*N environments.

    An environment whose episode is over is not stepped: it repeats its last observation, with reward 0.

    Args:
        simulators: The simulators of the K*N rows.
        count: The number N of environments of each agent.
        horizon: The maximal number of steps of an episode.
        observations: The observation space of the simulators.
        actions: Their action space.
    """

    def __init__(
        self, simulators: Simulators, count: int, horizon: int, observations: Space[Any], actions: Space[Any]
    ) -> None:
        self._simulators, self._count, self._horizon = simulators, count, horizon
        self._observation_space = observations
        self._first_action = int(actions.start) if isinstance(actions, Discrete) else 0
        self._box = actions if isinstance(actions, Box) else None

    def scale_dynamics(self, constants: Sequence[str], factors: Mapping[str, np.ndarray]) -> None:
        """Multiply the original physical constants by factors [K] of each agent: see `Task.scale_dynamics`."""
        assert isinstance(self._simulators, _Gymnasium)
        for name in constants:
            row_factors = np.repeat(factors[name], self._count) if name in factors else np.ones(1)
            self._simulators.scale_dynamics(name, row_factors)

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start an episode in every row: see `EnvironmentBatch`."""
        seeds = np.concatenate([rng.integers(1 << 31, size=self._count) for rng in generators])
        self._running, self._t = np.arange(len(seeds)), 0
        self._observations = as_vectors(self._observation_space, self._simulators.reset(seeds)).copy()
        return self._observations.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance every row by one step: see `EnvironmentBatch`."""
        self._t += 1
        rows, total = self._running, len(actions)
        rewards, terminated = np.zeros(total, np.float32), np.zeros(total, bool)
        truncated = np.full(total, self._t >= self._horizon)
        if len(rows):
            index = slice(None) if len(rows) == total else rows  # a slice takes a tenth of the time of all indices
            row_actions = actions[index] + self._first_action if self._first_action else actions[index]
            if self._box is not None:
                row_actions = fit_actions(row_actions, self._box)
            observations, *results, _ = self._simulators.step(rows, row_actions)
            self._observations[index] = as_vectors(self._observation_space, observations)
            names = ("a reward", "terminated", "truncated")
            rewards[index], terminated[index], cut_off = map(as_numbers, results, names)
            truncated[index] |= cut_off.astype(bool)
            ended = (terminated | truncated)[index]
            if ended.any():
                self._running = rows[~ended]
        return self._observations.copy(), rewards, terminated, truncated


@dataclass(frozen=True)
class GymnasiumTask(Task):
    """A task on the Gymnasium environment of `gymnasium_id`, with its spaces and its horizon.

    Every row has its own generator, seeded from that of its agent. The back ends have the same dynamics and different
    random numbers: returns agree in distribution, but not episode by episode. A subclass defines `gymnasium_id`,
    `discount` and `reference`, and `engine` and `constants` where the environment has them.

    Class attributes:
        engine: the Python distribution of the physics engine, if any.
        constants: the attributes of Gymnasium's simulator that are physical constants, and that it reads again after a
            reset.

    Attributes:
        backend: the simulator library.

    Example:
        >>> @dataclass(frozen=True)
        ... class HeavyPendulum(GymnasiumTask):
        ...     gymnasium_id = "Pendulum-v1"
        ...     discount = 0.95
        ...     reference = {"random": -1200.0, "solved": -200.0}
        ...     constants = ("m", "l")
        >>> task = HeavyPendulum()
        >>> task.horizon, task.observation_size
        (200, 3)
        >>> environments = task.make(agents=2, count=3)
        >>> task.scale_dynamics(environments, {"m": np.array([1.0, 2.0])})
        >>> environments.reset([np.random.default_rng(agent) for agent in range(2)]).shape
        (6, 3)
    """

    backend: Annotated[
        Literal["gymnasium", "envpool"],
        Field(description="simulator library; EnvPool is faster where it has the environment"),
    ] = field(default="gymnasium", kw_only=True)

    engine: ClassVar[str] = ""
    constants: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend == "envpool":
            if self.environment.options or self.environment.wrappers:
                raise InvalidParameter("backend=envpool takes no options and no wrappers: use backend=gymnasium")
            _Envpool(self.gymnasium_id, 1)
        _ = self.facts

    @property
    def environment(self) -> EnvironmentSpec:
        """Return what Gymnasium makes: the environment of `gymnasium_id`, without options and wrappers."""
        return EnvironmentSpec(self.gymnasium_id)

    @property
    def facts(self) -> EnvironmentFacts:
        """Return what the environment declares."""
        return environment_facts(self.environment)

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        """Return the number of coordinates; of a unit vector for a state, or 1 for an index."""
        if (states := self.num_states) is not None:
            return states if states <= MAX_UNIT_VECTOR else 1
        return flatdim(self.facts.observations)

    @property
    def num_states(self) -> int | None:  # type: ignore[override]
        """Return the number of discrete observations; None if observations are vectors."""
        space = self.facts.observations
        return int(space.n) if isinstance(space, Discrete) else None

    @property
    def action_space(self) -> Space[Any]:  # type: ignore[override]
        """Return the environment's action space."""
        return self.facts.actions

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """Return the environment's maximal number of steps of an episode."""
        return self.facts.horizon or 0

    @property
    def dynamics(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the constants that `scale_dynamics` changes: those of Gymnasium's simulator, none of EnvPool's."""
        return self.constants if self.backend == "gymnasium" else ()

    @property
    def libraries(self) -> tuple[str, ...]:
        """Return the distributions whose versions affect results: the physics engine or EnvPool."""
        return ("envpool",) if self.backend == "envpool" else (self.engine,) if self.engine else ()

    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """Make `count` environments for each agent."""
        if self.backend == "envpool":
            simulators: Simulators = _Envpool(self.gymnasium_id, self.horizon)
        else:
            simulators = _Gymnasium(self.environment, agents * count)
        return SimulatorBatch(simulators, count, self.horizon, self.facts.observations, self.action_space)

    def scale_dynamics(self, environments: EnvironmentBatch, factors: Mapping[str, np.ndarray]) -> None:
        """Multiply physical constants: see `Task.scale_dynamics`."""
        assert isinstance(environments, SimulatorBatch)
        environments.scale_dynamics(self.dynamics, factors)

    def exact(self, policy: Policy, theta: Tensor, dynamics: Mapping[str, np.ndarray] | None = None) -> ExactReturns:
        """Compute exact returns and gradients where Gymnasium has the environment's transition law: see `Task.exact`.

        Raises:
            Undefined: it has none, or actions are not discrete.
        """
        states = self.facts.observations
        table = _transition_table(self.environment) if isinstance(states, Discrete) else None
        if table is None:
            raise Undefined(f"environment {self.gymnasium_id!r} has no transition law in Gymnasium, so no exact return")
        observations = as_vectors(states, range(len(table.start)))
        return exact_returns([table], policy, theta, observations, self.discount, self.horizon)


@cache
def _transition_table(spec: EnvironmentSpec) -> TransitionTable | None:
    """Return the transition law of an environment of Gymnasium's toy texts; None for others, and with wrappers."""
    if spec.wrappers:
        return None
    with spec.make() as environment:
        simulator: Any = environment.unwrapped
    is_known = type(simulator).__module__.startswith("gymnasium.envs.toy_text.") and hasattr(simulator, "P")
    if not is_known or getattr(simulator, "fickle_passenger", False):  # whose destination the law does not have
        return None
    return TransitionTable.from_outcomes(simulator.P, simulator.initial_state_distrib)
