"""Reward poisoning: bounded changes of rewards that favour bad episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core import Attack, AttackContext, EnvHooks, FloatRange, State, ThreatModel
from byzbench.core.env_hooks import episode_mask


@dataclass(frozen=True)
class RewardPoison(Attack):
    """Environment attack that changes rewards by at most epsilon a step, so that the update lowers the return.

        r'[k, t, n] = r[k, t, n] - epsilon * sign(R[k, n] - mean_n R[k, n]),    R[k, n] = sum_t r[k, t, n]

    k < f Byzantine agents, t up to the end of episode n < N. An episode ends with its last reward that is not zero. Of
    all changes D with |D| <= epsilon, this one minimises the covariance over episodes between the true and the changed
    return, and a policy gradient follows the changed return. The messages that the agents send are computed honestly
    from the changed rewards.

    Source: Ma et al. 2023, arXiv 2303.02725, as summarised: a budget of epsilon a step, spent so that the agent's own
    update lowers the objective.

    Differs from the source in: the change is the closed form above, without critics of the attacker's own.

    Example:
        The rewards of the episode with return 3 are lowered, those of the episode with return 1 are raised:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = RewardPoison(epsilon=0.5)
        >>> taps, _ = attack.hook_environment(AttackContext(attack.threat, {}, {}), {}, np.random.default_rng(0))
        >>> taps.reward(torch.tensor([[[1.0, 1.0], [2.0, 0.0]]]))
        tensor([[[0.5000, 1.5000],
                 [1.5000, 0.0000]]])
    """

    source: ClassVar[str] = "Ma et al. 2023, arXiv 2303.02725"
    epsilon: Annotated[
        float, Field(gt=0, description="the largest change of one reward"), FloatRange(0.01, 100, log=True)
    ] = 1.0

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: only the Byzantine agents' own environments, without knowledge."""
        return ThreatModel(surface=frozenset({"environment"}))

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return a hook that changes the rewards of all Byzantine agents."""
        return EnvHooks(reward=self._poison), memory

    def _poison(self, rewards: Tensor) -> Tensor:
        """Return the changed rewards [f, T, N]."""
        inside = episode_mask(rewards)
        # A cumulative sum, unlike a sum, does not depend on the length of the padding.
        returns, is_played = rewards.double().cumsum(1)[:, -1], inside[:, 0]
        mean_return = returns.sum(1, keepdim=True) / is_played.sum(1, keepdim=True).clamp(min=1)
        change = -self.epsilon * (returns - mean_return).sign()
        return rewards + (change.unsqueeze(1) * inside).to(rewards.dtype)
