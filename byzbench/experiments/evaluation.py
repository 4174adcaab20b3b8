"""Evaluation of policies on separate episodes, which do not count towards the budget.

The training return, which papers plot, is the mean return of the episodes that a round consumed. The evaluation return
is measured at dates that divide the budget evenly. Each honest agent's policy then runs fresh episodes, once with
sampled actions (stochastic) and once with its likeliest actions (greedy). Initial states and noise come from the stream
`evaluation`, so that they are the same in all experiments of a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Task
from byzbench.experiments.assumptions import moments
from byzbench.experiments.metrics import cvar
from byzbench.randomness import Streams
from byzbench.registry import written_form
from byzbench.rl.checked_environments import with_checks
from byzbench.rl.policies import Actor, Policy
from byzbench.rl.rollouts import EnvironmentBatch, draw_noise, rollout

EVALUATIONS = 20
"""The largest default number of evaluations over the budget."""

EPISODES = 10
"""The largest default number of episodes of each honest agent in an evaluation, stochastic and greedy each."""


def default_evaluations(trajectories: int) -> tuple[int, int]:
    """Return the default number of evaluations, and of episodes of each agent in one, for a budget of trajectories.

    All episodes of evaluations are at most a tenth of the budget, from 400 trajectories on. Smaller budgets have at
    least 5 evaluations of 2 episodes.

    Example:
        >>> [default_evaluations(budget) for budget in (100, 500, 2000, 8000)]
        [(5, 2), (12, 2), (20, 5), (20, 10)]
    """
    pairs = min(max(trajectories, 200) // 20, EVALUATIONS * EPISODES)
    episodes = max(2, pairs // EVALUATIONS)
    return min(EVALUATIONS, pairs // episodes), episodes


def evaluation_due(before: int, after: int, budget: int, evaluations: int = EVALUATIONS) -> int:
    """Return the number of the evaluation that is due after a round, or 0.

    Args:
        before: The trajectories that an agent had spent before the round.
        after: The trajectories that it has spent after the round.
        budget: The trajectories of the whole run.
        evaluations: The number of evaluations over the budget. The last one is due when the budget is spent.

    Example:
        >>> evaluation_due(90, 110, 1000, evaluations=10), evaluation_due(110, 130, 1000, evaluations=10)
        (1, 0)
    """
    number = min(evaluations * after // budget, evaluations)
    return number if number > min(evaluations * before // budget, evaluations) else 0


def evaluate_policy(
    task: Task,
    policy: Actor,
    theta: Tensor,
    seed: int,
    number: int,
    episodes: int = EPISODES,
    physics: Mapping[str, np.ndarray] | None = None,
    counted: Tensor | None = None,
    shown: Callable[[EnvironmentBatch], EnvironmentBatch] = lambda environments: environments,
    starts: Callable[[list[np.random.Generator]], list[np.random.Generator]] = lambda generators: generators,
) -> dict[str, float | None]:
    """Evaluate the policies of K agents.

    The metrics are the mean undiscounted return over all agents, that of the worst agent, and the mean over the worst
    fifth (`byzbench.experiments.metrics.cvar`), stochastic and greedy. A trainable policy adds the `moments` of its
    gradients, and any policy its own diagnostics, as means over agents.

    Args:
        task: The task.
        policy: The policy that acts.
        theta: The parameters, [K, d].
        seed: The seed of the experiment.
        number: The number of the evaluation, which keys its random streams.
        episodes: The number of episodes of each agent, stochastic and greedy each.
        physics: The factors of physical constants by name, [K] each, for constants that are changed.
        counted: The agents whose episodes enter the metrics, bool [K]; None: all.
        shown: A function that wraps the environments, for example to normalise observations.
        starts: A function of the K generators of initial states that returns those that are used: as many, or one for
            each episode, agent by agent.

    Returns:
        The metrics by name; None for a number that is not finite.
    """
    agents, streams = len(theta), Streams(seed)
    theta, count = theta.detach().cpu(), torch.full((len(theta),), episodes)
    counted = torch.ones(agents, dtype=torch.bool) if counted is None else counted
    environments: EnvironmentBatch | None = None
    metrics: dict[str, float | None] = {}
    for name, greedy in (("evaluation", False), ("evaluation_greedy", True)):
        generators = starts([streams.generator("evaluation", number, agent) for agent in range(agents)])
        if environments is None:
            repeated = len(generators) // agents
            environments = task.make(len(generators), episodes // repeated)
            if physics:
                task.scale_dynamics(environments, {key: np.repeat(f, repeated) for key, f in physics.items()})
        noise = np.empty((agents, episodes, task.horizon, *policy.action_shape), np.float32)
        draw_noise(policy, streams, "evaluation/action", number, range(agents), noise)
        transposed = torch.from_numpy(noise).transpose(1, 2)
        checked_batch = with_checks(environments, agents * episodes, task.observation_size, lambda: written_form(task))
        batch = rollout(policy, theta, shown(checked_batch), generators, transposed, count, greedy=greedy)
        batch = batch.select(counted)
        metrics[name], metrics[f"{name}_worst"] = float(batch.returns.mean()), float(batch.returns.min())
        metrics[f"{name}_cvar"] = cvar(batch.returns)
        if not greedy and isinstance(policy, Policy):
            metrics |= moments(policy, theta[counted], batch, task.discount)
    diagnostics = [
        policy.diagnostics(parameters.unsqueeze(0), observations[mask].unsqueeze(0))
        for parameters, observations, mask in zip(theta[counted], batch.observations, batch.mask, strict=True)
    ]
    means = {name: float(np.mean([values[name] for values in diagnostics])) for name in diagnostics[0]}
    metrics |= {f"evaluation_{name}": mean for name, mean in means.items()}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}
