"""What tasks are worth: returns that `benchmarks/references.py` measures and `references.json` keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from byzbench.contracts import Task

_ROWS = 50


@cache
def references() -> dict[str, dict[str, float]]:
    """By task: `random`, the mean return of a uniformly random policy; `error`, its standard error over `episodes`.

    And `solved`, the environment's own threshold, or the one that the task's literature uses where it has none. Where
    it was measured, `solo`: the mean return of what one agent learns by itself from `solo_trajectories` episodes, over
    three seeds, and `solo_error`, the standard error of that.
    """
    return dict(json.loads(files("byzbench.tasks").joinpath("references.json").read_text(encoding="utf-8")))


def reference(task: str) -> Mapping[str, float]:
    """The scores of a task: `random`, `solved`, and where it is known, `solo`."""
    return {name: score for name, score in references()[task].items() if name in ("random", "solved", "solo")}


def random_returns(task: Task, episodes: int, rng: np.random.Generator, agents: int = 1) -> npt.NDArray[np.float64]:
    """Undiscounted returns of a uniformly random policy: float64 [at least `episodes`].

    Continuous actions are uniform within their range, and normal where they have none. Several agents share a world,
    and theirs is the mean.
    """
    environments, space, found, rows = task.make(agents, _ROWS), task.action_space, [], agents * _ROWS
    space.seed(int(rng.integers(1 << 31)))
    for _ in range(-(-episodes // _ROWS)):
        environments.reset([rng] * agents)
        returns, alive = np.zeros(rows), np.ones(rows, bool)
        while alive.any():
            drawn = np.stack([space.sample() for _ in range(rows * task.players)])
            actions = drawn if task.players == 1 else drawn.reshape(rows, task.players, *drawn.shape[1:])
            _, rewards, ended, cut = environments.step(actions)
            returns += rewards * alive
            alive &= ~(ended | cut)
        found.append(returns.reshape(agents, _ROWS).mean(0))
    return np.concatenate(found)
