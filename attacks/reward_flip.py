"""Reward flip: rewards of the Byzantine agents with the opposite sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core import Attack, AttackContext, EnvHooks, FloatRange, State, ThreatModel


@dataclass(frozen=True)
class RewardFlip(Attack):
    """Environment attack that reverses the sign of every reward of the Byzantine agents.

        r'[k, t, n] = -scale * r[k, t, n],    k < f Byzantine agents, t < T steps, n < N episodes

    The messages that the agents send are computed honestly from those rewards. For a method linear in the rewards it
    equals `sign_flip`, but no message is crafted.

    Source: Fan et al. 2021, arXiv 2110.14074, official code.

    Example:
        The hook changes rewards [f, T, N]:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = RewardFlip(scale=2.0)
        >>> taps, _ = attack.hook_environment(AttackContext(attack.threat, {}, {}), {}, np.random.default_rng(0))
        >>> taps.reward(torch.tensor([[[1.0], [-3.0]]])).flatten()
        tensor([-2.,  6.])
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074, official code"
    scale: Annotated[
        float,
        Field(gt=0, description="factor by which the flipped rewards are multiplied"),
        FloatRange(0.1, 10, log=True),
    ] = 1.0

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: only the Byzantine agents' own environments, without knowledge."""
        return ThreatModel(surface=frozenset({"environment"}))

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return a hook that reverses the rewards of all Byzantine agents."""
        return EnvHooks(reward=lambda rewards: -self.scale * rewards), memory
