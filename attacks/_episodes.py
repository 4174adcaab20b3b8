"""Episode boundaries in the rewards that a reward hook receives."""

from __future__ import annotations

import torch
from torch import Tensor


def inside_episode(rewards: Tensor) -> Tensor:
    """Return which rewards belong to an episode and not to the padding after it: bool [f, T, N].

    An episode ends with its last reward that is not zero.

    Args:
        rewards: [f, T, N].

    Example:
        >>> rewards = torch.tensor([1.0, 0.0, 2.0, 0.0]).reshape(1, 4, 1)
        >>> inside_episode(rewards).flatten().tolist()
        [True, True, True, False]
    """
    steps = torch.arange(1, rewards.shape[1] + 1).unsqueeze(1)
    return steps <= ((rewards != 0) * steps).amax(1, keepdim=True)
