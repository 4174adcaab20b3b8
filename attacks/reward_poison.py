"""Reward poisoning: liars who are paid a little less for good episodes, and a little more for bad ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.attacks._episodes import running
from byzbench.contracts import Attack, Range, State, Taps, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class RewardPoison(Attack):
    """Each liar's rewards are changed, by at most epsilon a step, so that its own update goes down.

        r'[k, t, n] = r[k, t, n] - epsilon * sign(R[k, n] - mean_n R[k, n]),    R[k, n] = sum_t r[k, t, n]

    k < f liars, t up to the end of episode n < N; an episode counts up to its last reward that is not zero. Of all
    changes D with |D| <= epsilon, this one makes the covariance over episodes of what was earned with what is told the
    least, and a policy gradient follows what it is told. What the liar sends is computed honestly from it.

    Source: Ma et al. 2023, arXiv 2303.02725, as summarised: a budget of epsilon a step, spent so that the liar's own
    update lowers the objective.

    Differs from the source in: the change is the closed form above, without critics of the liar's own.
    """

    source: ClassVar[str] = "Ma et al. 2023, arXiv 2303.02725"
    epsilon: Annotated[
        float, Field(gt=0, description="the largest change of one reward"), Range(0.01, 100, log=True)
    ] = 1.0

    @property
    def threat(self) -> Threat:
        """Blind: it needs its own environment only."""
        return Threat(surface=frozenset({"environment"}))

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """Poison the rewards of all liars."""
        return Taps(reward=self._poison), memory

    def _poison(self, rewards: Tensor) -> Tensor:
        """Rewards [f, T, N] as the liars are told of them."""
        counts = running(rewards)
        # Running sums, unlike sums, do not depend on how much padding follows.
        earned, played = rewards.double().cumsum(1)[:, -1], counts[:, 0]
        usual = earned.sum(1, keepdim=True) / played.sum(1, keepdim=True).clamp(min=1)
        change = -self.epsilon * (earned - usual).sign()
        return rewards + (change.unsqueeze(1) * counts).to(rewards.dtype)
