"""A scenario: what differs from the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from byzbench.core import Scenario, State, Task
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core import Setting


@dataclass(frozen=True)
class NewComponent(Scenario):
    """Multiply a physical constant of agent k by 1 - loss u_k t, with u_k uniform in (0, 1) and t the share spent.

    Attributes:
        loss: the largest share that is lost at the end.
        constant: the physical constant.

    Example:
        >>> NewComponent(loss=0.9).constant
        'force_mag'
    """

    loss: Annotated[float, Field(ge=0, lt=1, description="largest share that is lost at the end")] = 0.5
    constant: Annotated[str, Field(description="physical constant that is lost")] = "force_mag"

    # Change: override the hooks of `Scenario` that differ: `physics_factors`, `transform_rewards` with
    # `reward_factors`, `own_starts`, `absences` and `crashes`.

    def check(self, setting: Setting) -> None:
        """Check that the task has the constant."""
        super().check(setting)
        if setting.dynamics is not None and self.constant not in setting.dynamics:
            raise Undefined(f"NAME: task {setting.name('task')!r} has no constant {self.constant!r}")

    def start(self, task: Task, num_agents: int, generator: Callable[[int], np.random.Generator]) -> State:
        """Draw the rate of each agent; the last row is that of a server, which loses nothing."""
        rates = [generator(agent).random() for agent in range(num_agents)]
        return {"rates": torch.tensor([*rates, 0.0], dtype=torch.float64)}

    def physics_factors(
        self, state: State, task: Task, agents: Sequence[int], progress: float
    ) -> Mapping[str, np.ndarray]:
        """Return the factors of the constant: see `Scenario.physics_factors`."""
        return {self.constant: 1 - self.loss * progress * state["rates"][list(agents)].numpy()}
