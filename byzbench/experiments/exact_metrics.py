"""Metrics of a round on tasks with exact returns: `Task.exact`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Algorithm, Task
from byzbench.errors import Undefined
from byzbench.federation.scenarios import Scenarios
from byzbench.federation.statistics import RoundStatistics
from byzbench.rl.policies import Policy
from byzbench.rl.transition_table import ExactReturns


class ExactMetrics:
    """Exact returns and gradients of the honest agents' policies, and the errors of their gradient estimates.

    Let J_k be the return of agent k with its own physics and its rewards as it trains with them, theta_k its parameters
    at the start of the round, and g the mean of grad J_k(theta_k) over the honest agents:

    - exact_return: the mean of the returns of the true rewards, discounted.
    - exact_gradient_norm: ||g||.
    - exact_gradient_dissimilarity: the mean of ||grad J_k(theta_k) - g||^2; zeta^2 where parameters are equal.
    - estimator_error: the mean of ||v_k - g||, with v_k the estimate along which agent k steps. Methods that aggregate
      no gradients have grad J_k in the place of g. The gradients are at the parameters where v_k is taken.

    There are none where the task has no exact return of the policy, where the trained parameters are not those of the
    policy, or where a scenario changes observations or starts. The last three are left out where a scenario changes
    rewards other than by a factor.

    Args:
        task: The task.
        algorithm: The algorithm.
        policy: The policy that agents train.
        scenarios: The physics and rewards of agents.
    """

    def __init__(self, task: Task, algorithm: Algorithm, policy: Policy, scenarios: Scenarios) -> None:
        self._task, self._policy, self._scenarios = task, policy, scenarios
        self._is_defined = scenarios.has_task_episodes and algorithm.deployed_policy(policy) is policy

    def measure(
        self, theta: Tensor, present: Tensor, statistics: RoundStatistics, progress: float
    ) -> dict[str, float | None]:
        """Compute the metrics of a round.

        Args:
            theta: The parameters at the start of the round, [K, d].
            present: The honest agents that are present, bool [K].
            statistics: The measurements of the round.
            progress: The share of the budget that was spent at its start.

        Returns:
            The metrics by name; None for a number that is not finite.
        """
        if not (self._is_defined and present.any()):
            return {}
        who = present.nonzero().squeeze(1).tolist()
        try:
            exact = self._exact(theta[who], who, progress)
        except Undefined:
            self._is_defined = False
            return {}
        metrics = {"exact_return": float(exact.returns.mean())}
        factors = self._scenarios.reward_factors(who, progress)
        if factors is not None:
            scale = torch.from_numpy(factors).unsqueeze(1)
            gradients = scale * exact.gradients
            shifted = gradients - gradients[:1]  # exactly zero where gradients are equal
            metrics["exact_gradient_norm"] = float(gradients.mean(0).norm())
            metrics["exact_gradient_dissimilarity"] = float((shifted - shifted.mean(0)).square().sum(1).mean())
            if statistics.direction is not None:
                direction, at = (rows[who].detach().cpu() for rows in statistics.direction)
                if not torch.equal(at, theta[who].cpu()):
                    gradients = scale * self._exact(at, who, progress).gradients
                target = gradients if statistics.aggregation is None else gradients.mean(0)
                metrics["estimator_error"] = float((direction.double() - target).norm(dim=1).mean())
        return {name: value if math.isfinite(value) else None for name, value in metrics.items()}

    def _exact(self, theta: Tensor, who: Sequence[int], progress: float) -> ExactReturns:
        """Return the exact values of some agents, computed once for agents with equal parameters and physics."""
        physics = self._scenarios.physics(who, progress)
        rows = theta.detach().cpu().numpy()
        keys = [(row.tobytes(), *(float(factor[i]) for factor in physics.values())) for i, row in enumerate(rows)]
        number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        first = np.unique([number[key] for key in keys], return_index=True)[1]
        exact = self._task.exact(
            self._policy, torch.from_numpy(rows[first]), {name: factor[first] for name, factor in physics.items()}
        )
        index = torch.tensor([number[key] for key in keys])
        return ExactReturns(exact.returns[index], exact.gradients[index])
