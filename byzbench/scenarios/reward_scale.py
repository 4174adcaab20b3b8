"""Scaled rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

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

    def transform_rewards(self, state: State, batch: RewardBatch) -> Tensor:
        """Multiply all rewards by the factor: see `Scenario.transform_rewards`."""
        return batch.rewards * self.factor
