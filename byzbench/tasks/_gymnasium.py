"""Any environment of Gymnasium, or of EnvPool, as a task: one simulator a row, seeded from its agent's generator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import gymnasium
import numpy as np
from gymnasium import error as errors
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from pydantic import Field

from byzbench.contracts import Task
from byzbench.errors import UserError

if TYPE_CHECKING:
    from byzbench.learning.rollouts import EnvironmentBatch

_EXTRAS = {
    "Box2D": "box2d",
    "pygame": "box2d",
    "mujoco": "mujoco",
    "imageio": "mujoco",
    "envpool": "envpool",
} | dict.fromkeys(("pettingzoo", "mpe2"), "pettingzoo")
"""The extra of byzbench that installs a package."""


@dataclass(frozen=True)
class Facts:
    """What an environment says of itself.

    Attributes:
        observations, actions: its spaces.
        horizon: the most steps of an episode; None if it names none.
        threshold: the return at which it counts as solved; None if it names none.
    """

    observations: Space[Any]
    actions: Space[Any]
    horizon: int | None
    threshold: float | None


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Say in one line why an environment cannot be made here."""
    with warnings.catch_warnings():
        # Box2D's SWIG types warn when they are made; where warnings are errors, that kills the interpreter.
        warnings.simplefilter("ignore")
        try:
            yield
        except (ImportError, errors.DependencyNotInstalled) as error:
            chain = (error, error.__cause__, error.__context__)
            missing = next((e.name for e in chain if isinstance(e, ImportError) and e.name), "")
            extra = _EXTRAS.get(missing.partition(".")[0])
            remedy = f"pip install 'byzbench[{extra}]'" if extra else f"pip install {missing or 'what it depends on'}"
            raise UserError(f"task {name!r} needs more packages: {remedy}") from None
        except errors.Error as error:
            said = str(error).splitlines()[0]
            raise UserError(f"Gymnasium has no environment {name!r} here: {said}") from None


@cache
def facts(id: str) -> Facts:
    """What Gymnasium's environment of that id says of itself.

    Raises:
        UserError: there is none, a package is missing, or its spaces are not supported.
    """
    with explained(id):
        spec = gymnasium.spec(id)
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco"):
            # It would say of every one of hundreds of simulators that Gymnasium's model is written in an older form.
            import_module("mujoco").set_mju_user_warning(lambda text: None)
        with gymnasium.make(id, disable_env_checker=True) as environment:
            seen, done = environment.observation_space, environment.action_space
    for what, space, fits in (
        ("observations", seen, isinstance(seen, Discrete) or (isinstance(seen, Box) and len(seen.shape) == 1)),
        ("actions", done, isinstance(done, Discrete) or (isinstance(done, Box) and len(done.shape) == 1)),
    ):
        if not fits:
            shape = f" of shape {list(space.shape)}" if space.shape else ""
            raise UserError(
                f"environment {id!r} has {what} of type {type(space).__name__}{shape}; supported are vectors "
                "(Box with one dimension) and Discrete"
            )
    return Facts(seen, done, spec.max_episode_steps, spec.reward_threshold)


class Simulators(Protocol):
    """Rows of one environment."""

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """An episode in every row, from its seed: observations [rows, ...]."""

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[Any, ...]:
        """Step some rows: observations, rewards, terminated, truncated, for them."""


class _Gymnasium:
    """A list of environments. Each has a generator of its own, and a reset seeds it anew."""

    def __init__(self, id: str, rows: int) -> None:
        with explained(id):
            self._environments = [self._make(id) for _ in range(rows)]
        self._made: dict[str, float] = {}

    def alter(self, name: str, factor: np.ndarray) -> None:
        """Multiply an attribute of the simulators, as it was made, by [rows] or by [1]."""
        made = self._made.setdefault(name, getattr(self._environments[0].unwrapped, name))
        for environment, by in zip(self._environments, np.broadcast_to(factor, len(self._environments)), strict=True):
            setattr(environment.unwrapped, name, made * float(by))

    @staticmethod
    def _make(id: str) -> gymnasium.Env[Any, Any]:
        environment = gymnasium.make(id, disable_env_checker=True)
        while type(environment) in (TimeLimit, OrderEnforcing, PassiveEnvChecker):  # the batch counts steps itself
            environment = environment.env  # type: ignore[attr-defined]
        return environment

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        pairs = zip(self._environments, seeds.tolist(), strict=True)
        return np.stack([environment.reset(seed=seed)[0] for environment, seed in pairs])

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[Any, ...]:
        pairs = zip(rows.tolist(), actions, strict=True)
        return tuple(zip(*(self._environments[row].step(action) for row, action in pairs), strict=True))


class _Envpool:
    """A pool that is made anew at every reset: it takes each row's seed then and only then, and is cheap to make."""

    def __init__(self, id: str, horizon: int) -> None:
        with explained(id):
            self._library = import_module("envpool")
        if id not in self._library.list_all_envs():
            raise UserError(f"EnvPool has no environment {id!r}: use backend=gymnasium")
        # An episode that ends by itself in the last step of EnvPool's own limit would be called truncated.
        self._id, self._limit = id, horizon + 1

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        with explained(self._id):
            self._pool = self._library.make_gymnasium(
                self._id, num_envs=len(seeds), num_threads=1, seed=seeds, max_episode_steps=self._limit
            )
            return self._pool.reset()[0]

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[Any, ...]:
        return self._pool.step(actions, rows)


class Batch:
    """K*N environments. One whose episode is over is not stepped: it shows its last observation and is paid nothing."""

    def __init__(self, simulators: Simulators, count: int, horizon: int, seen: Space[Any], done: Space[Any]) -> None:
        self._simulators, self._count, self._horizon = simulators, count, horizon
        self._kinds = np.eye(int(seen.n), dtype=np.float32) if isinstance(seen, Discrete) else None
        self._first = int(seen.start) if isinstance(seen, Discrete) else 0
        self._start = int(done.start) if isinstance(done, Discrete) else 0

    def alter(self, constants: Sequence[str], factors: Mapping[str, np.ndarray]) -> None:
        """See `Task`."""
        assert isinstance(self._simulators, _Gymnasium)
        for name in constants:
            by = np.repeat(factors[name], self._count) if name in factors else np.ones(1)
            self._simulators.alter(name, by)

    def _shown(self, observations: Any) -> np.ndarray:
        """As float32 vectors; one that is a number is shown as a unit vector."""
        if self._kinds is not None:
            return self._kinds[np.asarray(observations).astype(np.int64) - self._first]
        return np.asarray(observations, dtype=np.float32)

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        seeds = np.concatenate([rng.integers(1 << 31, size=self._count) for rng in generators])
        self._running, self._t = np.arange(len(seeds)), 0
        self._observations = self._shown(self._simulators.reset(seeds)).copy()
        return self._observations.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        self._t += 1
        rows, total = self._running, len(actions)
        rewards, terminated = np.zeros(total, np.float32), np.zeros(total, bool)
        truncated = np.full(total, self._t >= self._horizon)
        if len(rows):
            where = slice(None) if len(rows) == total else rows  # a slice costs a tenth of a list of all rows
            chosen = actions[where] + self._start if self._start else actions[where]
            seen, rewards[where], terminated[where], cut, *_ = self._simulators.step(rows, chosen)
            self._observations[where] = self._shown(seen)
            truncated[where] |= np.asarray(cut, bool)
            over = (terminated | truncated)[where]
            if over.any():
                self._running = rows[~over]
        return self._observations.copy(), rewards, terminated, truncated


@dataclass(frozen=True)
class GymnasiumTask(Task):
    """A task on the environment of `gymnasium_id`. Spaces and the horizon are the environment's own.

    Every row has a generator of its own, seeded from its agent's. The back ends have the same dynamics and different
    random numbers: returns agree in distribution, and not episode by episode.
    """

    backend: Annotated[
        Literal["gymnasium", "envpool"], Field(description="who simulates; EnvPool is faster where it knows the task")
    ] = field(default="gymnasium", kw_only=True)

    engine: ClassVar[str] = ""
    """The distribution behind Gymnasium's simulator, if any."""

    constants: ClassVar[tuple[str, ...]] = ()
    """Attributes of Gymnasium's simulator that are physical constants, and that it reads anew after a reset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend == "envpool":
            _Envpool(self.gymnasium_id, 1)
        facts(self.gymnasium_id)

    @property
    def observation_size(self) -> int:  # type: ignore[override]
        """Coordinates, or as many as there are kinds."""
        space = facts(self.gymnasium_id).observations
        return int(space.n) if isinstance(space, Discrete) else int(space.shape[0])  # type: ignore[index]

    @property
    def action_space(self) -> Space[Any]:  # type: ignore[override]
        """The environment's."""
        return facts(self.gymnasium_id).actions

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """The environment's."""
        return facts(self.gymnasium_id).horizon or 0

    @property
    def dynamics(self) -> tuple[str, ...]:  # type: ignore[override]
        """EnvPool's cannot be changed."""
        return self.constants if self.backend == "gymnasium" else ()

    @property
    def libraries(self) -> tuple[str, ...]:
        """The physics."""
        return ("envpool",) if self.backend == "envpool" else (self.engine,) if self.engine else ()

    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """`count` environments for each agent."""
        if self.backend == "envpool":
            simulators: Simulators = _Envpool(self.gymnasium_id, self.horizon)
        else:
            simulators = _Gymnasium(self.gymnasium_id, agents * count)
        return Batch(simulators, count, self.horizon, facts(self.gymnasium_id).observations, self.action_space)

    def alter(self, environments: EnvironmentBatch, factors: Mapping[str, np.ndarray]) -> None:
        """See `Task`."""
        assert isinstance(environments, Batch)
        environments.alter(self.dynamics, factors)
