"""Base class of tasks on an environment of Gymnasium of which byzbench has a compiled version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.rl.rollouts import EnvironmentBatch
from byzbench.rl.simulations import Simulated, Simulation


@dataclass(frozen=True)
class SimulatedTask(GymnasiumTask):
    """A task whose back end `gymnasium` is a compiled version with the seeds and equations of Gymnasium.

    Class attributes:
        simulation: the compiled version; its constants have the names of Gymnasium's attributes.

    Example:
        >>> from byzbench.registry import make
        >>> make("task", "pendulum").dynamics
        ('g', 'm', 'l')
    """

    simulation: ClassVar[Simulation]

    @property
    def constants(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the names of the simulation's constants."""
        return tuple(self.simulation.constants)

    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """Make `count` environments for each agent."""
        if self.backend == "gymnasium":
            return Simulated(self.simulation, agents, count, self.horizon)
        return super().make(agents, count)

    def scale_dynamics(self, environments: EnvironmentBatch, factors: Mapping[str, np.ndarray]) -> None:
        """Multiply physical constants: see `Task.scale_dynamics`."""
        if isinstance(environments, Simulated):
            environments.scale_dynamics(factors)
        else:
            super().scale_dynamics(environments, factors)
