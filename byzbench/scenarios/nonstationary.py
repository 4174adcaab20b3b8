"""Nonstationary environments: physics and rewards that change during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core import RewardBatch, Scenario, State, Task
from byzbench.errors import InvalidParameter, Undefined, suggest

if TYPE_CHECKING:
    from byzbench.core import Setting

_FACTORS = r"^(\w+=[0-9]+(\.[0-9]+)?( \w+=[0-9]+(\.[0-9]+)?)*)?$"


@dataclass(frozen=True)
class Nonstationary(Scenario):
    """Physical constants and rewards that are multiplied by factors from a point of the budget on, for all agents.

    Returns in reports are those of the changed physics and of the true rewards.

    Attributes:
        at: the share of the budget at which the change starts.
        physics: the factors of physical constants: "length=2 gravity=1.5".
        rewards: the factor of the rewards.
        drift: the share of the budget over which the factors move from 1 to their values, at an even rate of their
            logarithms for physics, and at an even rate for rewards; 0: an abrupt change.

    Example:
        >>> from byzbench.registry import make
        >>> make("scenario", "nonstationary(at=0.3, physics='length=2 gravity=1.5')").factors
        {'length': 2.0, 'gravity': 1.5}
    """

    at: Annotated[float, Field(gt=0, lt=1, description="share of the budget at which the change starts")] = 0.5
    physics: Annotated[
        str, Field(pattern=_FACTORS, description='factors of physical constants: "length=2 gravity=1.5"')
    ] = ""
    rewards: Annotated[float, Field(description="factor of the rewards")] = 1.0
    drift: Annotated[
        float, Field(ge=0, le=1, description="share of the budget over which the change takes place; 0: at once")
    ] = 0.0

    def __post_init__(self) -> None:
        """Reject a constant that is given twice, and a factor of zero."""
        super().__post_init__()
        if zero := [name for name, factor in self.factors.items() if factor == 0]:
            raise InvalidParameter(f"{type(self).__name__}: physics: the factor of {zero[0]} must be above 0")
        if len(self.factors) < len(self.physics.split()):
            raise InvalidParameter(f"{type(self).__name__}: physics={self.physics!r} has a constant twice")

    @property
    def factors(self) -> dict[str, float]:
        """Return `physics` as a dict: the factor of each constant."""
        pairs = (item.partition("=") for item in self.physics.split())
        return {name: float(factor) for name, _, factor in pairs}

    def check(self, setting: Setting) -> None:
        """Check that the task has the physical constants; see `Component.check`."""
        super().check(setting)
        unknown = [name for name in self.factors if setting.dynamics is not None and name not in setting.dynamics]
        if unknown and setting.dynamics:
            raise Undefined(
                f"nonstationary: task {setting.name('task')!r} has no constant {unknown[0]!r}. "
                f"{suggest(unknown[0], setting.dynamics)}Constants: {', '.join(setting.dynamics)}."
            )
        if unknown:
            raise Undefined(f"nonstationary: task {setting.name('task')!r} has no physical constants that can change")

    def _share(self, progress: float) -> float:
        """Return the share of the change that has taken place."""
        if progress < self.at:
            return 0.0
        return min((progress - self.at) / self.drift, 1.0) if self.drift else 1.0

    def physics_factors(
        self, state: State, task: Task, agents: Sequence[int], progress: float
    ) -> Mapping[str, np.ndarray]:
        """Return the factors of the physical constants, equal for all agents: see `Scenario.physics_factors`."""
        share = self._share(progress)
        return {name: np.full(len(agents), factor**share) for name, factor in self.factors.items()} if share else {}

    def reward_factors(self, state: State, agents: Sequence[int], progress: float) -> np.ndarray:
        """Return the factor at a point of the budget: see `Scenario.reward_factors`."""
        return np.full(len(agents), self._reward_factor(progress))

    def _reward_factor(self, progress: float) -> float:
        return 1 + self._share(progress) * (self.rewards - 1)

    def transform_rewards(self, state: State, batch: RewardBatch) -> Tensor:
        """Multiply all rewards by the factor: see `Scenario.transform_rewards`."""
        factor = self._reward_factor(batch.progress)
        return batch.rewards * factor if factor != 1 else batch.rewards
