"""Environments as they are: each runs, or its fault is named in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from pettingzoo import ParallelEnv

from byzbench import registry, run
from byzbench.cli import main
from byzbench.core import Task
from byzbench.core.environment_spec import environment_facts
from byzbench.core.gymnasium_task import as_vectors
from byzbench.errors import BrokenEnvironment, BrokenPlugin, Undefined, UserError
from byzbench.experiments.environment_check import check_environment
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.result import Result
from byzbench.randomness import Streams
from byzbench.rl.checked_environments import CheckedEnvironments, fit_actions
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, plan_sweep
from byzbench.sweeps.sweep import run_sweep

TINY: dict[str, Any] = {"agents": 2, "byzantine": 0, "trajectories": 2, "algo": "gpomdp(N=1)", "policy": "linear"}
TINY |= {"evaluations": 1, "evaluation_episodes": 1}
ID = "Sound-v0"
TASK = f"gymnasium(id='{ID}')"


class Sound(gymnasium.Env[Any, Any]):
    """An environment without faults, whose parts are replaced."""

    observation_space: Any = Box(-1, 1, (3,), np.float32)
    action_space: Any = Discrete(2)
    shared = np.random.default_rng(0)

    def observe(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def pay(self) -> Any:
        return 1.0

    def end(self) -> Any:
        return False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        assert self.action_space.contains(action), f"{action!r} is outside of {self.action_space}"
        return self.observe(), self.pay(), self.end(), False, {}


@pytest.fixture
def registered() -> Iterator[Callable[..., Any]]:
    """A function that registers an environment with some parts replaced, and returns its task."""

    def register(steps: Any = 6, **parts: Any) -> Any:
        gymnasium.register(ID, type("Faulty", (Sound,), parts), max_episode_steps=steps)
        return registry.make("task", TASK)

    environment_facts.cache_clear()
    yield register
    gymnasium.registry.pop(ID, None)
    environment_facts.cache_clear()


def late(value: Any, step: int = 30) -> Callable[[Sound], Any]:
    """Return a reward function that gives `value` in one step, after the check at the start."""
    return lambda env: value if env.t == step else 1.0


def deep(depth: int) -> float:
    return 1 / 0 if depth == 0 else deep(depth - 1)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "nan observation": (
        {"observe": lambda env: np.full(3, np.nan)},
        "reset returned an observation that is not finite",
    ),
    "inf observation": ({"observe": lambda env: np.full(3, env.t * 1e300)}, "step 1 of an episode returned observatio"),
    "longer": ({"observe": lambda env: np.zeros(4)}, "observation of type ndarray and shape [4], expected one of Box("),
    "shorter": ({"observe": lambda env: np.zeros(1)}, "reset returned an observation of type ndarray and shape [1]"),
    "scalar": ({"observe": lambda env: 0.5}, "reset returned an observation of type float"),
    "text": ({"observe": lambda env: ["0", "1", "2"]}, "reset returned an observation of type list and shape [3]"),
    "complex": ({"observe": lambda env: 1j * np.ones(3)}, "reset returned an observation of type ndarray"),
    "none": ({"observe": lambda env: None}, "reset returned an observation of type NoneType"),
    "ragged": ({"observe": lambda env: [[1], 2, 3]}, "reset returned an observation of type list"),
    "other kind": (
        {"observation_space": Discrete(4), "observe": lambda env: 4},
        "type int, expected one of Discrete(4)",
    ),
    "negative kind": ({"observation_space": Discrete(4), "observe": lambda env: -1}, "expected one of Discrete(4)"),
    "part of a kind": (
        {"observation_space": Discrete(4), "observe": lambda env: 0.5},
        "of type float, expected one of",
    ),
    "no key": ({"observation_space": Dict(a=Discrete(2), b=Box(0, 1, (1,))), "observe": lambda env: {"a": 0}}, "dict"),
    "no part": ({"observation_space": Tuple([Discrete(2), Discrete(2)]), "observe": lambda env: (0,)}, "type tuple"),
    "other counts": (
        {"observation_space": MultiDiscrete([2, 2]), "observe": lambda env: np.array([0, 2])},
        "returned an observation of type ndarray and shape [2], expected one of MultiDiscrete([2 2])",
    ),
    "unseeded": (
        {"observe": lambda env: env.shared.random(3)},
        "episodes from the same seed differ: it has state that",
    ),
    "older": ({"pay": lambda env: env.__dict__.setdefault("paid", []).append(0) or len(env.paid)}, "it has state that"),
    "nan reward": ({"pay": lambda env: np.nan}, "step 1 of an episode returned rewards that are not finite numbers"),
    "none reward": (
        {"pay": lambda env: None},
        "step 1 of an episode returned a reward of type NoneType, expected a fin",
    ),
    "array reward": (
        {"pay": lambda env: np.ones(1)},
        "returned a reward of type ndarray and shape [1], expected a fin",
    ),
    "text reward": ({"pay": lambda env: "1.5"}, "returned a reward of type str"),
    "huge reward": ({"pay": lambda env: 1e39}, "returned rewards that are not finite numbers of float32"),
    "larger reward": ({"pay": lambda env: 10**400}, "returned a reward of type int, expected a finite number"),
    "text end": ({"end": lambda env: "False"}, "returned terminated of type str"),
    "four": (
        {"step": lambda env, a: (env.observe(), 1.0, False, {})},
        "returned 4 values, expected the 5 values observ",
    ),
    "nothing": ({"step": lambda env, a: None}, "returned a value of type NoneType, expected the 5 values"),
    "old reset": ({"reset": lambda env, seed, options=None: env.observe()}, "expected the 2 values observation, info"),
    "no seed": ({"reset": lambda env: (np.zeros(3), {})}, "TypeError: "),
    "deep": ({"pay": lambda env: deep(30)}, "ZeroDivisionError: division by zero ("),
    "exit": ({"end": lambda env: sys.exit(0)}, "SystemExit: 0 ("),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_the_start_is_one_line_and_leaves_no_files(name: str, registered: Any, tmp_path: Path) -> None:
    parts, message = FAULTS[name]
    registered(**parts)
    with pytest.raises(BrokenPlugin) as error:
        run(**TINY, env=TASK, out=tmp_path)
    assert str(error.value).startswith(f"env {TASK}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


SOUND: dict[str, dict[str, Any]] = {
    "list": {"observe": lambda env: [0.5, 1, True]},
    "float64": {"observe": lambda env: np.full(3, 0.5)},
    "outside of its bounds": {"observe": lambda env: np.full(3, 9.0, np.float32)},
    "integers": {"observation_space": Box(0, 255, (3,), np.uint8), "observe": lambda env: np.arange(3)},
    "dict": {
        "observation_space": Dict(a=Discrete(2), b=Box(0, 1, (2, 2))),
        "observe": lambda env: {"b": np.ones((2, 2)), "a": np.int64(1)},
    },
    "tuple": {"observation_space": Tuple([Discrete(2), MultiDiscrete([2, 3])]), "observe": lambda env: (1, [0, 2])},
    "0-d reward": {"pay": lambda env: np.array(1.0)},
    "integer reward": {"pay": lambda env: np.int8(1), "end": lambda env: env.t > 1},
    "ends at once": {"end": lambda env: np.True_},
    "float32 actions": {"action_space": Box(np.float32(1.37), np.float32(2.79), (2,), np.float32)},
    "float16 actions": {"action_space": Box(np.float16(-0.1), np.float16(0.1), (2,), np.float16)},
    "float64 actions": {"action_space": Box(0.1, 0.3, (2,), np.float64)},
    "integer actions": {"action_space": Box(-3, 3, (2,), np.int8)},
    "half-bounded actions": {"action_space": Box(np.float32([0, -np.inf]), np.float32([np.inf, 0.1]))},
    "actions from 5": {"action_space": Discrete(3, start=5)},
    "observations from 5": {"observation_space": Discrete(3, start=5), "observe": lambda env: 7},
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_environment_runs(name: str, registered: Any, tmp_path: Path) -> None:
    registered(**SOUND[name])
    result = run(**TINY, env=TASK, out=tmp_path)
    assert (result.verdict.name, result.num_malformed, result.trajectories) == ("ok", 0, 2)


@pytest.mark.parametrize(
    "reward, message",
    [
        (np.nan, "step 30 of an episode returned rewards that are not finite numbers of float32"),
        (None, "step 30 of an episode returned a reward of type NoneType, expected a finite number"),
    ],
)
def test_a_late_fault_ends_the_cell_of_a_sweep_in_one_line(
    reward: Any, message: str, registered: Any, tmp_path: Path
) -> None:
    registered(steps=40, pay=late(reward))
    plan = plan_sweep(SweepGrid.of({**TINY, "algo": [TINY["algo"]], "attack": ["none"], "env": ["cartpole", TASK]}))
    with make_executor("serial", tmp_path, jobs=1) as executor:
        summary = run_sweep(plan, tmp_path, executor)
    ((label, outcome),) = summary.failed.items()
    assert outcome.error == f"env {TASK}: {message}"
    assert len(summary.outcomes) == 2
    folder = tmp_path / plan.cells[label].hash
    assert json.loads((folder / "failure.json").read_text())["error"] == outcome.error
    assert not (folder / "result.json").exists()


def test_an_exception_far_inside_a_late_step_is_one_line(
    registered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(steps=40, pay=lambda env: deep(30) if env.t == 30 else 1.0)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in {**TINY, "env": TASK}.items()]
    monkeypatch.setattr(sys, "argv", ["byzbench", "run", *options, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert lines[-1].startswith(f"byzbench: error: env {TASK}: ZeroDivisionError: division by zero (")


def test_environments_of_a_process_do_not_share_random_numbers(registered: Any) -> None:
    def reset(env: Any, *, seed: int | None = None, options: Any = None) -> Any:
        np.random.seed(seed)  # noqa: NPY002
        return np.random.uniform(-1, 1, 3), {}  # noqa: NPY002

    task = registered(reset=reset, observe=lambda env: np.random.uniform(-1, 1, 3), step=lambda env, a: (  # noqa: NPY002
        env.observe(), 1.0, False, False, {}))  # fmt: skip
    with pytest.raises(BrokenEnvironment, match="episodes from the same seed differ"):
        check_environment(task, 2)


def test_the_check_makes_two_environments_once_and_moves_no_numbers(registered: Any, tmp_path: Path) -> None:
    made = []

    def initial(env: Any) -> None:
        made.append(env)

    registered(__init__=initial)
    before = len(made)
    result = run(**TINY, env=TASK, out=tmp_path)
    total = len(made) - before
    again = len(made)
    assert run(**TINY, env=TASK, out=tmp_path) == result
    assert len(made) == again, "a finished run is not checked"
    unchecked = len(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("byzbench.experiments.runner.check_environment", lambda *_: None)
        other = run(**TINY, env=TASK, out=tmp_path / "unchecked")
    assert total - (len(made) - unchecked) == 2
    assert other.trace == result.trace


def test_a_policy_that_diverged_acts_inside_the_space() -> None:
    actions = np.array([[np.nan, np.inf], [-np.inf, 0.5], [1e30, -1e30]], np.float32)
    for space in (Box(0.1, 0.3, (2,), np.float64), Box(-3, 3, (2,), np.int8), Box(-np.inf, np.inf, (2,), np.float16)):
        with np.errstate(over="ignore"):
            fitted = fit_actions(actions, space)
        assert fitted.dtype == space.dtype
        assert all(map(space.contains, fitted))


def test_an_overflow_after_a_huge_action_is_not_the_environments_fault(registered: Any) -> None:
    unbounded = Box(-np.inf, np.inf, (1,), np.float32)
    task = registered(action_space=unbounded, step=lambda env, a: (env.observe(), float(a[0]) * 1e35, False, False, {}))
    environments = CheckedEnvironments(task.make(1, 1), 1, 3, lambda: "x")
    environments.reset([np.random.default_rng(0)])
    assert np.isinf(environments.step(np.full((1, 1), 1e10, np.float32))[1])
    with pytest.raises(BrokenEnvironment, match="env x: step 2 of an episode returned rewards"):
        environments.step(np.full((1, 1), 1e5, np.float32))


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"observation_space": Discrete(2_000_000)}, "has 2000000 discrete observations; supported are 1 to 1000000"),
        ({"action_space": Discrete(10**12)}, "has 1000000000000 discrete actions; supported are 1 to 1000000"),
        ({"observation_space": MultiDiscrete([10**9])}, "has 1000000000 numbers in its observations"),
        ({"action_space": Box(0, 1, (0,))}, "has 0 numbers in its actions"),
        ({"steps": 10**9}, "has episodes of 1000000000 steps: set steps="),
        ({"steps": None}, "has no fixed horizon: set steps="),
        ({"__init__": lambda env, maze: None}, "cannot be made: TypeError: "),
        ({"__init__": lambda env: sys.exit(1)}, "cannot be made: SystemExit: 1"),
    ],
)
def test_a_task_that_cannot_be_made_is_an_undefined_cell(parts: dict[str, Any], message: str, registered: Any) -> None:
    with pytest.raises(Undefined) as error:
        registered(**parts)
    assert message in str(error.value)
    plan = plan_sweep(SweepGrid.of({**TINY, "algo": [TINY["algo"]], "attack": ["none"], "env": ["cartpole", TASK]}))
    assert len(plan.cells) == 1
    (reason,) = plan.undefined.values()
    assert message in reason
    assert "\n" not in reason


def test_an_id_without_a_version_is_that_of_the_latest() -> None:
    task, latest = (registry.make("task", f"gymnasium:{id}") for id in ("CartPole", "CartPole-v1"))
    assert task.facts == latest.facts
    assert len(task.make(1, 2).reset([np.random.default_rng(0)])) == 2


def test_an_environment_that_moved_says_where() -> None:
    with pytest.raises(Undefined, match=r"needs more packages: .*mujoco") as error:
        registry.make("task", "gymnasium:Hopper-v2")
    assert "\n" not in str(error.value)


def test_an_index_of_a_state_is_no_negative_one() -> None:
    for state in (-1, 3, 0.5, np.array([1]), None, "1"):
        with pytest.raises(BrokenEnvironment, match="expected one of Discrete"):
            as_vectors(Discrete(3), [state])


class Pair(ParallelEnv[str, Any, Any]):
    """A game of two players without faults, whose parts are replaced."""

    metadata = {"name": "pair"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012
    max_cycles = 4
    actions: Any = Box(np.float32(1.37), np.float32(2.79), (2,), np.float32)
    left: Any = ()

    def observation_space(self, agent: str) -> Any:
        return Box(-1, 1, (2,), np.float32)

    def action_space(self, agent: str) -> Any:
        return self.actions

    def all(self, value: Any) -> dict[str, Any]:
        return dict.fromkeys(self.agents, value)

    def observe(self) -> Any:
        return self.all(self.rng.uniform(-1, 1, 2).astype(np.float32))

    def pay(self) -> Any:
        return self.all(1.0)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.rng, self.t = list(self.possible_agents), np.random.default_rng(seed), 0
        return self.observe(), self.all({})

    def step(self, actions: Any) -> Any:
        assert all(self.actions.contains(action) for action in actions.values()), actions
        self.t += 1
        rewards, observations = self.pay(), self.observe()
        results = observations, rewards, self.all(self.t > 2), self.all(False), self.all({})
        if self.t > 2:
            self.agents = []
        return results


GAME_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "one is not paid": ({"pay": lambda game: {"a": 1.0}}, "step 1 of an episode returned no reward of player 'b'"),
    "paid None": ({"pay": lambda game: game.all(None)}, "step 1 of an episode returned a reward of type NoneType"),
    "paid nan": ({"pay": lambda game: game.all(np.nan)}, "step 1 of an episode returned rewards that are not finite"),
    "one reward": ({"pay": lambda game: 1.0}, "returned rewards of type float, expected a dict by player"),
    "blind": ({"observe": lambda game: {"a": np.zeros(2)}}, "reset returned no observation of player 'b'"),
    "longer": ({"observe": lambda game: game.all(np.zeros(3))}, "observation of type ndarray and shape [3]"),
    "scalar": ({"observe": lambda game: game.all(0.5)}, "reset returned an observation of type float"),
    "four": ({"step": lambda game, actions: ({}, {}, {}, {})}, "returned 4 values, expected the 5 values observations"),
    "unseeded": ({"observe": lambda game: game.all(Sound.shared.random(2))}, "episodes from the same seed differ"),
    "raises": ({"pay": lambda game: deep(30)}, "ZeroDivisionError: division by zero ("),
}


@pytest.fixture
def game(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A function that makes a game with some parts replaced, and returns its task in written form."""

    def install(world: str = "own", **parts: Any) -> str:
        module = type(sys)("checked_games.pair")
        module.parallel_env = type("Faulty", (Pair,), parts)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "checked_games", type(sys)("checked_games"))
        monkeypatch.setitem(sys.modules, "checked_games.pair", module)
        return f"pettingzoo(id='checked_games/pair',world={world})"

    return install


@pytest.mark.parametrize("world", ["own", "shared"])
@pytest.mark.parametrize("name", GAME_FAULTS)
def test_a_fault_of_a_game_is_one_line(name: str, world: str, game: Any, tmp_path: Path) -> None:
    parts, message = GAME_FAULTS[name]
    with pytest.raises(BrokenPlugin) as error:
        run(**TINY, env=game(world, **parts), out=tmp_path)
    assert message in str(error.value)
    assert str(error.value).startswith("env pettingzoo(")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("world", ["own", "shared"])
@pytest.mark.parametrize(
    "actions", [Pair.actions, Box(0.1, 0.3, (2,), np.float64), Box(-3, 3, (1,), np.int16), Discrete(3)], ids=str
)
def test_a_sound_game_runs(actions: Any, world: str, game: Any, tmp_path: Path) -> None:
    assert run(**TINY, env=game(world, actions=actions), out=tmp_path).verdict.name == "ok"


def test_players_who_share_a_policy_have_equal_actions(game: Any) -> None:
    unequal = {"action_space": lambda game, player: Box(0, 1 + (player == "a"), (2,), np.float32)}
    with pytest.raises(Undefined, match="have unequal actions"):
        registry.make("task", game(**unequal))


class OwnBatch:
    """Environments of a plug-in task with a fault in one step."""

    def __init__(self, rows: int, fault: Callable[[tuple[Any, ...]], Any], step: int) -> None:
        self._rows, self._fault, self._step = rows, fault, step

    def reset(self, generators: Any) -> Any:
        self._t = 0
        return np.zeros((self._rows, 1), np.float32)

    def step(self, actions: Any) -> Any:
        self._t += 1
        ends = np.zeros(self._rows, bool), np.full(self._rows, self._t >= 40)
        output = np.zeros((self._rows, 1), np.float32), np.ones(self._rows, np.float32), *ends
        return self._fault(output) if self._t == self._step else output


@dataclass(frozen=True)
class Own(Task):
    """A task of a plug-in."""

    fault: ClassVar[Any]
    fault_step: ClassVar[int]
    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Any] = Discrete(2)
    horizon: ClassVar[int] = 40
    discount: ClassVar[float] = 0.9
    reference: ClassVar[Any] = {}

    def make(self, agents: int, count: int) -> Any:
        return OwnBatch(agents * count, self.fault, self.fault_step)


@pytest.mark.parametrize("step", [2, 30])
@pytest.mark.parametrize(
    "fault, message",
    [
        (lambda output: (output[0] * np.nan, *output[1:]), "returned observations that are not finite"),
        (lambda output: (output[0], output[1] * np.inf, *output[2:]), "returned rewards that are not finite"),
        (lambda output: (output[0][:, 0], *output[1:]), "returned observations of type ndarray and shape"),
        (lambda output: (output[0], 1.0, *output[2:]), "returned rewards of type float, expected an array of shape"),
        (lambda output: (*output, {}), "returned 5 values, expected the 4 values observations, rewards"),
        (lambda output: deep(20), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_fault_of_a_plug_in_task_is_one_line(fault: Any, message: str, step: int, tmp_path: Path) -> None:
    todo = Experiment.create(**TINY)
    parts = {"fault": staticmethod(fault), "fault_step": step, "__module__": __name__}
    object.__setattr__(todo, "task", type("Own", (Own,), parts)())
    for name in ("members", "setting", "trained_policy", "hash"):
        todo.__dict__.pop(name, None)
    with pytest.raises(BrokenPlugin) as error:
        run(todo, out=tmp_path)
    assert message in str(error.value)
    assert str(error.value).startswith("env test_environment_checks")
    assert "\n" not in str(error.value)
    assert (step == 2) == (not list(tmp_path.iterdir()))


# The fuzzer.

SPACES: tuple[tuple[Any, Any], ...] = (
    (Box(-1, 1, (3,), np.float32), lambda rng: rng.uniform(-1, 1, 3).astype(np.float32)),
    (Box(-1e6, 1e6, (2, 2), np.float64), lambda rng: rng.uniform(-1e6, 1e6, (2, 2))),
    (Box(0, 255, (4,), np.uint8), lambda rng: rng.integers(256, size=4)),
    (Box(-1, 1, (), np.float32), lambda rng: np.float32(rng.uniform())),
    (Discrete(5), lambda rng: int(rng.integers(5))),
    (Discrete(3000, start=-7), lambda rng: rng.integers(3000) - 7),
    (MultiDiscrete([3, 2]), lambda rng: rng.integers([3, 2])),
    (Dict(a=Discrete(2), b=Box(0, 1, (2,))), lambda rng: {"a": rng.integers(2), "b": rng.random(2)}),
    (Tuple([Discrete(2), Box(0, 1, (1,))]), lambda rng: (int(rng.integers(2)), [rng.random()])),
)
"""Observation spaces, with functions that draw observations."""
ACTIONS: tuple[Any, ...] = (
    *(
        Box(low, high, (2,), dtype)
        for low, high, dtype in ((0.1, 0.3, np.float64), (-2, 5, np.int16), (0, 1, np.uint8))
    ),
    *(Box(np.float32(low), np.float32(high), (1,)) for low, high in ((1.37, 2.79), (-np.inf, np.inf), (0, np.inf))),
    *(Discrete(1), Discrete(4), Discrete(3, start=-2)),
)
UNSUPPORTED: tuple[dict[str, Any], ...] = (
    {"observation_space": Box(0, 255, (8, 8, 3), np.uint8)},
    {"observation_space": gymnasium.spaces.Graph(Discrete(2), None)},
    {"observation_space": Discrete(10**10)},
    {"observation_space": None},
    {"action_space": Tuple([Discrete(2)])},
    {"action_space": MultiDiscrete([2, 2])},
    {"action_space": Box(0, 1, (2, 2))},
)
PLANTED: tuple[Any, ...] = (
    np.nan, np.inf, -1e39, None, "1", [1.0], np.ones(1), 1j, 10**400, {}, object(), ValueError, SystemExit, KeyError,
)  # fmt: skip
"""Rewards that are faults, and errors that are raised in their place."""


RESETS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda env, result: result[0],
    lambda env, result: (*result, False),
    lambda env, result: list(result),
    lambda env, result: (None, {}),
    lambda env, result: deep(1),
    lambda env, result: env.__dict__.update(_np_random=env.shared) or result,
)
"""What a faulty `reset` returns in place of its result, or does besides."""


def fuzzed(rng: np.random.Generator) -> tuple[dict[str, Any], int | None]:
    """Draw an environment, and the step of its episodes in which it has a fault, 0 for one at the start."""
    space, draw = SPACES[rng.integers(len(SPACES))]
    actions, length = ACTIONS[rng.integers(len(ACTIONS))], int(rng.integers(1, 45))
    rewards = (lambda x: float(x), lambda x: np.float32(x), lambda x: int(9 * x), lambda x: np.array(x))
    convert = rewards[rng.integers(len(rewards))]
    terminates = bool(rng.integers(2))
    parts: dict[str, Any] = {
        "observation_space": space,
        "action_space": actions,
        "observe": lambda env: draw(env.np_random),
        "pay": lambda env: convert(env.np_random.random()),
        "end": lambda env: terminates and env.t >= length,
        "steps": 45 if terminates else length,
    }
    fault = rng.integers(8)
    if fault == 0:
        return parts | UNSUPPORTED[rng.integers(len(UNSUPPORTED))], 0
    planted, step = PLANTED[rng.integers(len(PLANTED))], int(rng.integers(1, length + 1))

    def plant(env: Any) -> Any:
        if isinstance(planted, type):
            raise planted("two\nlines")
        return planted

    if fault == 1:
        return parts | {"pay": lambda env: plant(env) if env.t == step else 1.0}, step
    if fault == 2:
        reset = RESETS[rng.integers(len(RESETS))]
        return parts | {"reset": lambda env, seed=None, options=None: reset(env, Sound.reset(env, seed=seed))}, 0
    if fault == 3:
        return parts | {"step": lambda env, a: (env.observe(), 1.0, plant(env), False)}, 1
    if fault == 4 and not isinstance(space, Discrete):
        return parts | {"observe": lambda env: plant(env) if env.t == step else draw(env.np_random)}, step
    return parts, None


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_every_environment_runs_or_is_one_line(block: int, registered: Any, tmp_path: Path) -> None:
    """500 environments: spaces, types, rewards, ends, and faults at known steps."""
    num_faulty = 0
    for number in range(50 * block, 50 * (block + 1)):
        parts, step = fuzzed(Streams(number).generator("fuzz"))
        outcome = outcome_of(registered, parts, tmp_path / str(number))
        if step is None:
            assert not isinstance(outcome, UserError), f"{number}: {outcome}"
            assert (outcome.verdict.name, outcome.trajectories) == ("ok", 2), number
        else:
            assert isinstance(outcome, UserError), f"{number}: fault in step {step} of {parts}"
            assert "\n" not in str(outcome), number
            assert not list((tmp_path / str(number)).glob("*/result.json"))
            num_faulty += 1
    assert 10 < num_faulty < 40


def outcome_of(registered: Callable[..., Any], parts: dict[str, Any], out: Path) -> Result | UserError:
    """Return the result of a run in an environment, or the error that ends it."""
    try:
        registered(**parts)
        return run(**TINY, env=TASK, out=out)
    except UserError as error:
        return error
    finally:
        gymnasium.registry.pop(ID, None)
        environment_facts.cache_clear()
