"""Scaled rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core import RewardBatch, Scenario, State


@dataclass(frozen=True)
class RewardScale(Scenario):
    """Rewards that are multiplied by a factor as agents receive them; returns in reports are those of the true rewards.

    Attributes:
        factor: the factor.
    """

    factor: Annotated[float, Field(gt=0, description="factor of the rewards")] = 10.0

    def reward_factors(self, state: State, agents: Sequence[int], progress: float) -> np.ndarray:
        """Return the factor: see `Scenario.reward_factors`."""
        return np.full(len(agents), self.factor)

    def transform_rewards(self, state: State, batch: RewardBatch) -> Tensor:
        """Multiply all rewards by the factor: see `Scenario.transform_rewards`."""
        return batch.rewards * self.factor
