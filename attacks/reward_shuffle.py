"""Reward shuffle: rewards of the Byzantine agents in a random order within each episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Attack, AttackContext, EnvHooks, State, ThreatModel
from byzbench.core.env_hooks import episode_mask


@dataclass(frozen=True)
class RewardShuffle(Attack):
    """Environment attack that shuffles the rewards of the Byzantine agents within every episode.

        r'[k, t, n] = r[k, s(t), n],    s a random order of the steps of episode n, k < f agents, n < N episodes

    Returns do not change, only their attribution to actions. Where all rewards are equal, as on CartPole, the attack
    has no effect. An episode ends with its last reward that is not zero. The messages that the agents send are computed
    honestly from the shuffled rewards.

    Source: Fan et al. 2021, arXiv 2110.14074, official code, "random reward".
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074, official code"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: only the Byzantine agents' own environments, without knowledge."""
        return ThreatModel(surface=frozenset({"environment"}))

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return a hook that shuffles the rewards of all Byzantine agents."""
        size = (context.num_byzantine, context.task.horizon, context.num_episodes)
        keys = torch.from_numpy(rng.random(size, dtype=np.float32))

        def reward(rewards: Tensor) -> Tensor:
            # The padding has a larger key than any step, and stays at the end.
            order = keys[:, : rewards.shape[1]].masked_fill(~episode_mask(rewards), 2.0).argsort(dim=1, stable=True)
            return rewards.gather(1, order)

        return EnvHooks(reward=reward), memory
