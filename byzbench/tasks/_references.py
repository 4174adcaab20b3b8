"""Reference scores of tasks, which `benchmarks/references.py` measures and `references.json` stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from byzbench.core import Task

_ROWS_PER_AGENT = 50


@cache
def task_references() -> dict[str, dict[str, float]]:
    """Read the reference scores of all tasks.

    Returns:
        The scores by task and name: `random` is the mean return of a uniformly random policy, and `error` its standard
        error over `episodes` episodes. `solved` is the environment's threshold, or that of the task's literature where
        the environment has none. `solo`, where measured, is the mean return of a single agent after
        `solo_trajectories` episodes, over three seeds, and `solo_error` its standard error.
    """
    return dict(json.loads(files("byzbench.tasks").joinpath("references.json").read_text(encoding="utf-8")))


def task_reference(task: str) -> Mapping[str, float]:
    """Return the scores of a task: `random`, `solved` and, where measured, `solo`.

    Example:
        >>> sorted(task_reference("cartpole"))
        ['random', 'solo', 'solved']
    """
    return {name: score for name, score in task_references()[task].items() if name in ("random", "solved", "solo")}


def random_returns(task: Task, episodes: int, rng: np.random.Generator, agents: int = 1) -> npt.NDArray[np.float64]:
    """Sample the undiscounted returns of a uniformly random policy.

    Continuous actions are uniform within their range, and normal where they have none.

    Args:
        task: The task.
        episodes: The number of episodes, which is rounded up to whole batches.
        rng: The random generator of initial states and actions.
        agents: The number of agents that share an environment; their mean return counts.

    Returns:
        The returns, float64 [at least `episodes`].
    """
    environments, rows = task.make(agents, _ROWS_PER_AGENT), agents * _ROWS_PER_AGENT
    space, batches = task.action_space, []
    space.seed(int(rng.integers(1 << 31)))
    for _ in range(-(-episodes // _ROWS_PER_AGENT)):
        environments.reset([rng] * agents)
        returns, active = np.zeros(rows), np.ones(rows, bool)
        while active.any():
            samples = np.stack([space.sample() for _ in range(rows * task.players)])
            actions = samples if task.players == 1 else samples.reshape(rows, task.players, *samples.shape[1:])
            _, rewards, terminated, truncated = environments.step(actions)
            returns += rewards * active
            active &= ~(terminated | truncated)
        batches.append(returns.reshape(agents, _ROWS_PER_AGENT).mean(0))
    return np.concatenate(batches)
