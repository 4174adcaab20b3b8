"""What a reward tap must know about the rewards that it is shown: where each episode ends."""

from __future__ import annotations

import torch
from torch import Tensor


def running(rewards: Tensor) -> Tensor:
    """Which of rewards [f, T, N] stand inside an episode, and not in the zeros after its end: bool [f, T, N].

    An episode counts up to its last reward that is not zero.
    """
    steps = torch.arange(1, rewards.shape[1] + 1).unsqueeze(1)
    return steps <= ((rewards != 0) * steps).amax(1, keepdim=True)
