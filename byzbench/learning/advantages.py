"""How much better actions were than what a critic expected."""

from __future__ import annotations

import torch
from torch import Tensor

from byzbench.learning.rollouts import Trajectories


def advantages(batch: Trajectories, values: Tensor, beyond: Tensor, discount: float, trace: float) -> Tensor:
    """Generalised advantage estimates, zero where masked: [K, T, N].

        A_h = delta_h + gamma lambda A_{h+1},    delta_h = r_h + gamma V(s_{h+1}) - V(s_h)

    After an episode's last step V is 0 if it ended by itself, and the critic's value of what it would have seen next if
    it was truncated.

    Args:
        batch: the episodes.
        values: V(s_h) [K, T, N].
        beyond: V of what a truncated episode would have seen next [K, N].
        discount: gamma.
        trace: lambda.

    Source: Schulman, Moritz, Levine, Jordan, Abbeel 2016, arXiv 1506.02438, equation 16.
    """
    found, following = torch.zeros_like(values), torch.zeros_like(beyond)
    goes_on = torch.cat([batch.mask[:, 1:], torch.zeros_like(batch.mask[:, :1])], 1)
    after = beyond.masked_fill(batch.terminated, 0)
    for step in reversed(range(values.shape[1])):
        expected = torch.where(goes_on[:, step], values[:, (step + 1) % values.shape[1]], after)
        delta = batch.rewards[:, step] + discount * expected - values[:, step]
        following = (delta + discount * trace * following * goes_on[:, step]) * batch.mask[:, step]
        found[:, step] = following
    return found
