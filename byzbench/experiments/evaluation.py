"""How good the policies are, apart from how they are trained: on episodes of their own, which cost no budget.

The training return, which papers plot, is that of the episodes a round consumed. This is the other one: at dates that
divide the budget evenly each honest agent's policy plays fresh episodes, as it is (stochastic) and by its likeliest
actions (greedy). Initial states and noise come from the stream `evaluation`, so that all experiments of a seed play the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Task
from byzbench.experiments.assumptions import moments
from byzbench.experiments.metrics import cvar
from byzbench.learning.policies import Actor, Policy
from byzbench.learning.rollouts import EnvironmentBatch, rollout
from byzbench.randomness import Streams

EVALUATIONS = 20
"""Evaluations over the budget by default."""

EPISODES = 10
"""Episodes of each honest agent in an evaluation by default, stochastic and greedy each."""


def evaluation_due(before: int, after: int, budget: int, evaluations: int = EVALUATIONS) -> int:
    """Return the number of the evaluation that a round makes due, or 0.

    Args:
        before: trajectories an agent had spent before the round.
        after: those that it has spent after it.
        budget: trajectories of the whole run.
        evaluations: how many evaluations divide the budget. The last one is due when the budget is spent.

    Example:
        >>> evaluation_due(90, 110, 1000, evaluations=10), evaluation_due(110, 130, 1000, evaluations=10)
        (1, 0)
    """
    number = min(evaluations * after // budget, evaluations)
    return number if number > min(evaluations * before // budget, evaluations) else 0


def evaluate(
    task: Task,
    policy: Actor,
    theta: Tensor,
    seed: int,
    number: int,
    episodes: int = EPISODES,
    physics: Mapping[str, np.ndarray] | None = None,
    counted: Tensor | None = None,
    shown: Callable[[EnvironmentBatch], EnvironmentBatch] = lambda environments: environments,
) -> dict[str, float | None]:
    """Mean undiscounted returns of policies theta [K, d] in the `number`-th evaluation, of so many `episodes` each.

    They are over all agents, of the worst, and of the worst fifth (`byzbench.experiments.metrics.cvar`). Along with
    them, the `moments` of their gradients, if it can be trained, and what else is to be said of how it acts, as the
    mean over agents. Each plays in its own agent's world, whose constants are multiplied by `physics`, [K] for each
    that differs, and sees it as `shown`. Of all who play, only those agents are reported on who are `counted`, bool
    [K].
    """
    agents, streams = len(theta), Streams(seed)
    theta, count = theta.detach().cpu(), torch.full((len(theta),), episodes)
    mine = torch.ones(agents, dtype=torch.bool) if counted is None else counted
    environments = task.make(agents, episodes)
    if physics:
        task.alter(environments, physics)
    found: dict[str, float | None] = {}
    for name, greedy in (("evaluation", False), ("evaluation_greedy", True)):
        starts = [streams.generator("evaluation", number, agent) for agent in range(agents)]
        noise = np.empty((agents, episodes, task.horizon, *policy.action_shape), np.float32)
        for agent, out in enumerate(noise):
            policy.draw(streams.generator("evaluation/action", number, agent), out)
        drawn = torch.from_numpy(noise).transpose(1, 2)
        batch = rollout(policy, theta, shown(environments), starts, drawn, count, greedy=greedy)
        batch = batch.among(mine)
        found[name], found[f"{name}_worst"] = float(batch.returns.mean()), float(batch.returns.min())
        found[f"{name}_cvar"] = cvar(batch.returns)
        if not greedy and isinstance(policy, Policy):
            found |= moments(policy, theta[mine], batch, task.discount)
    said = [
        policy.remarks(one.unsqueeze(0), seen[mask].unsqueeze(0))
        for one, seen, mask in zip(theta[mine], batch.observations, batch.mask, strict=True)
    ]
    return found | {f"evaluation_{name}": float(np.mean([each[name] for each in said])) for name in said[0]}
