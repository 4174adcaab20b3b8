"""Check of a task's environments before a run."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Discrete

from byzbench.core import Task
from byzbench.errors import BrokenEnvironment
from byzbench.registry import written_form
from byzbench.rl.checked_environments import CheckedEnvironments
from byzbench.rl.simulations import Simulated

CHECKED_STEPS = 25
"""The number of steps of the episodes that are compared."""


def check_environment(task: Task, agents: int) -> None:
    """Check the first steps of episodes with random actions, which draws from no stream of a run.

    What environments return must be finite, and of the declared shapes and types. An episode must depend on nothing but
    its seed and its actions: otherwise it would depend on episodes that ran before, which a resumed run does not know,
    or on the other agents. Built-in simulations are not checked, as their tests do.

    Args:
        task: The task.
        agents: The number K of agents of the run, who share an environment if the task is `shared`.

    Raises:
        BrokenEnvironment: An environment is faulty; the message is one line.

    Example:
        >>> from byzbench.registry import make
        >>> check_environment(make("task", "gymnasium(id='FrozenLake-v1')"), agents=5)
    """
    rows = agents if task.shared else 1
    batches = [task.make(rows, 1) for _ in range(2)]
    if isinstance(batches[0], Simulated) and type(task).__module__.startswith("byzbench."):
        return
    environments = [CheckedEnvironments(b, rows, task.observation_size, lambda: written_form(task)) for b in batches]
    actions = _random_actions(task, rows)
    (first,), (second, third) = (_first_steps(part, rows, actions) for part in (environments[:1], environments))
    if not all(map(np.array_equal, first * 2, second + third)):
        raise BrokenEnvironment(
            f"env {written_form(task)}: episodes from the same seed differ: it has state that spans episodes or "
            "environments, or random numbers that reset(seed=...) does not seed"
        )


def _random_actions(task: Task, rows: int) -> np.ndarray:
    """Return random actions of the first steps, [T, rows, *a], as a policy returns them."""
    space = copy.deepcopy(task.action_space)
    space.seed(0)
    shape = (min(task.horizon, CHECKED_STEPS), rows, *[task.players] * (task.players > 1))
    samples = np.array([space.sample() for _ in range(int(np.prod(shape)))])
    if isinstance(space, Discrete):
        return (samples - space.start).reshape(shape)
    return samples.astype(np.float32).reshape(*shape, *samples.shape[1:])


def _first_steps(environments: Sequence[CheckedEnvironments], rows: int, actions: np.ndarray) -> list[list[np.ndarray]]:
    """Return all that each of several environments returns in an episode, whose steps are interleaved."""
    outputs = [[np.copy(e.reset([np.random.default_rng(row) for row in range(rows)]))] for e in environments]
    for step_actions in actions:
        for environment, output in zip(environments, outputs, strict=True):
            output.extend(map(np.copy, environment.step(step_actions.copy())))
    return outputs
