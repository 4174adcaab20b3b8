"""Reward shuffle: liars who are paid the right amount at the wrong time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.attacks._episodes import running
from byzbench.contracts import Attack, State, Taps, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class RewardShuffle(Attack):
    """Each liar's rewards are shuffled within every episode; what it then sends is computed honestly from those.

        r'[k, t, n] = r[k, s(t), n],    s a random order of the steps of episode n, k < f liars, n < N episodes

    No total changes, only which action seems to have earned it. Where every step pays the same, as on CartPole, it
    changes nothing at all. An episode counts up to its last reward that is not zero.

    Source: Fan et al. 2021, arXiv 2110.14074, official code, "random reward".
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074, official code"

    @property
    def threat(self) -> Threat:
        """Blind: it needs its own environment only."""
        return Threat(surface=frozenset({"environment"}))

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """Shuffle the rewards of all liars."""
        size = (view.byzantine, view.task.horizon, view.episodes)
        keys = torch.from_numpy(rng.random(size, dtype=np.float32))

        def reward(rewards: Tensor) -> Tensor:
            # Whatever does not count has a key beyond all others, and stays behind.
            order = keys[:, : rewards.shape[1]].masked_fill(~running(rewards), 2.0).argsort(dim=1, stable=True)
            return rewards.gather(1, order)

        return Taps(reward=reward), memory
