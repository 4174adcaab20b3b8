"""What convergence theorems assume, as far as a run can show it: bounded gradients, variance, likeness and weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from byzbench.experiments.metrics import mean_of
from byzbench.learning.gradients import gpomdp
from byzbench.learning.policies import Policy
from byzbench.learning.rollouts import Trajectories


def moments(policy: Policy, theta: Tensor, batch: Trajectories, discount: float) -> dict[str, float | None]:
    """How gradients scatter within agents and between them, from episodes of each, an even number n each.

    With g_k and h_k the gradients of agent k's two halves of its episodes, m_k their mean and m the mean of those:

    - gradient_variance: the mean over k of (n/4) ||g_k - h_k||^2. It is sigma^2, the variance of the gradient of one
      episode, unbiased;
    - gradient_dissimilarity: (1/K) (sum_k ||m_k - m||^2 - (K - 1) sigma^2 / n). It is zeta^2, the mean of
      ||grad J_k - grad J||^2, unbiased, and so below zero half of the time where agents are alike; each agent's
      gradient is that at its own parameters.

    Args:
        policy: the policy family.
        theta: [K, d].
        batch: the episodes, sampled at theta.
        discount: gamma.
    """
    n, agents = batch.mask.shape[2], len(theta)
    first, second = (
        gpomdp(policy, theta, batch.part(rows), discount).double() for rows in (slice(n // 2), slice(n // 2, n))
    )
    variance = float((first - second).square().sum(1).mean()) * n / 4
    means = (first + second) / 2
    apart = float((means - means.mean(0)).square().sum())
    found = {"gradient_variance": variance, "gradient_dissimilarity": (apart - (agents - 1) * variance / n) / agents}
    return {key: value if math.isfinite(value) else None for key, value in found.items()}


def assumptions(lines: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Of all rounds of a run.

    - gradient_norm_largest, gradient_norm_99: of the longest honest gradient of a round, the largest and the 99 %
      quantile over rounds;
    - gradient_variance, gradient_dissimilarity: see `moments`, the mean over evaluations;
    - weight_largest: the largest importance weight of an episode;
    - weight_effective: the smallest effective sample size, as a share: (sum w)^2 / (n sum w^2);
    - weight_constant: the largest ||g - g^w||^2 / ||theta - theta'||^2 for the gradients g and g^w of a batch at theta
      and, weighted, at theta'. It stays below C_w.
    """
    norms = _values(lines, "gradient_norm")
    return {
        "gradient_norm_largest": max(norms, default=None),
        "gradient_norm_99": float(np.quantile(norms, 0.99)) if norms else None,
        **{key: mean_of(_values(lines, key)) for key in ("gradient_variance", "gradient_dissimilarity")},
        "weight_largest": max(_values(lines, "weight_largest"), default=None),
        "weight_effective": min(_values(lines, "weight_effective"), default=None),
        "weight_constant": max(_values(lines, "weight_constant"), default=None),
    }


def _values(lines: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [line[key] for line in lines if line.get(key) is not None]
