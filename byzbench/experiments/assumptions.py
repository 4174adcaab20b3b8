"""Measured constants of convergence theorems' assumptions: gradient norms, variance, dissimilarity and weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from byzbench.experiments.verdict import mean_of
from byzbench.rl.gradients import gpomdp
from byzbench.rl.policies import Policy
from byzbench.rl.rollouts import Trajectories


def moments(policy: Policy, theta: Tensor, batch: Trajectories, discount: float) -> dict[str, float | None]:
    """Estimate the variance of gradients within agents, and their dissimilarity between agents.

    Every agent has the same even number n of episodes. Let g_k and h_k be the gradients of the two halves of agent k's
    episodes, m_k their mean, and m the mean of all m_k:

    - gradient_variance: the mean over k of (n/4) ||g_k - h_k||^2. It is an unbiased estimate of sigma^2, the variance
      of the gradient of one episode.
    - gradient_dissimilarity: (1/K) (sum_k ||m_k - m||^2 - (K - 1) sigma^2 / n). It is an unbiased estimate of zeta^2,
      the mean of ||grad J_k - grad J||^2, and therefore negative half of the time where agents have the same task. Each
      agent's gradient is taken at its own parameters.

    Args:
        policy: The policy.
        theta: The parameters, [K, d].
        batch: The episodes, sampled at theta.
        discount: The discount gamma.

    Returns:
        Both estimates by name; None for one that is not finite.
    """
    n, agents = batch.mask.shape[2], len(theta)
    first, second = (
        gpomdp(policy, theta, batch.part(rows), discount).double() for rows in (slice(n // 2), slice(n // 2, n))
    )
    variance = float((first - second).square().sum(1).mean()) * n / 4
    means = (first + second) / 2
    squares = float((means - means.mean(0)).square().sum())
    values = {"gradient_variance": variance, "gradient_dissimilarity": (squares - (agents - 1) * variance / n) / agents}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def assumptions(lines: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Summarise the constants of all rounds of a run.

    - gradient_norm_max, gradient_norm_p99: the maximum and the 99 % quantile over rounds of the largest norm of an
      honest gradient.
    - gradient_variance, gradient_dissimilarity: the means over evaluations, see `moments`.
    - importance_weight_max: the largest importance weight of an episode.
    - relative_effective_sample_size: the smallest relative effective sample size, (sum w)^2 / (n sum w^2).
    - importance_weight_constant: the largest ||g - g^w||^2 / ||theta - theta'||^2, where g is the gradient of a batch
      at theta, and g^w its importance-weighted gradient at theta'. It is at most C_w.

    Args:
        lines: The lines of metrics of a run.

    Returns:
        The constants by name; None for one that was not measured.
    """
    norms = _values(lines, "gradient_norm")
    return {
        "gradient_norm_max": max(norms, default=None),
        "gradient_norm_p99": float(np.quantile(norms, 0.99)) if norms else None,
        **{key: mean_of(_values(lines, key)) for key in ("gradient_variance", "gradient_dissimilarity")},
        "importance_weight_max": max(_values(lines, "importance_weight_max"), default=None),
        "relative_effective_sample_size": min(_values(lines, "relative_effective_sample_size"), default=None),
        "importance_weight_constant": max(_values(lines, "importance_weight_constant"), default=None),
    }


def _values(lines: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [line[key] for line in lines if line.get(key) is not None]
