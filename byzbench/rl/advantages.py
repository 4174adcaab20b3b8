"""Advantage estimates of actions, relative to a critic's values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from byzbench.rl.rollouts import Trajectories


def advantages(batch: Trajectories, values: Tensor, final_values: Tensor, discount: float, trace: float) -> Tensor:
    """Compute generalised advantage estimates.

        A_h = delta_h + gamma lambda A_{h+1},    delta_h = r_h + gamma V(s_{h+1}) - V(s_h)

    After the last step of an episode, V is 0 if the episode terminated, and the critic's value of the final observation
    if it was truncated.

    Args:
        batch: The episodes.
        values: The critic's values V(s_h), [K, T, N].
        final_values: The critic's values of the final observations of truncated episodes, [K, N].
        discount: The discount gamma.
        trace: The decay lambda.

    Returns:
        The advantages [K, T, N], zero where masked.

    Source: Schulman, Moritz, Levine, Jordan, Abbeel 2016, arXiv 1506.02438, equation 16.

    Example:
        >>> rewards = torch.tensor([1.0, 1.0]).reshape(1, 2, 1)
        >>> batch = Trajectories(
        ...     observations=torch.zeros(1, 2, 1, 1),
        ...     actions=torch.zeros(1, 2, 1),
        ...     rewards=rewards,
        ...     mask=rewards > 0,
        ...     terminated=torch.tensor([[True]]),
        ...     count=torch.tensor([1]),
        ...     final_observations=torch.zeros(1, 1, 1),
        ... )
        >>> advantages(batch, torch.zeros(1, 2, 1), torch.zeros(1, 1), discount=0.5, trace=1.0).flatten()
        tensor([1.5000, 1.0000])
    """
    from byzbench.rl import kernels  # a local import, as loading Numba takes time

    rewards, mask, terminated, values_at_steps, final = (
        x.numpy(force=True) for x in (batch.rewards, batch.mask, batch.terminated, values, final_values)
    )
    result = np.zeros(mask.shape, np.float32)
    kernels.fill_advantages(rewards, mask, terminated, values_at_steps, final, discount, discount * trace, result)
    return torch.from_numpy(result).to(values.device)
