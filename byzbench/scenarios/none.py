"""The scenario without deviations: every agent has the environment of the task, all the time."""

from __future__ import annotations

from dataclasses import dataclass

from byzbench.core import Scenario


@dataclass(frozen=True)
class NoScenario(Scenario):
    """The task as it is, for all agents over the whole budget.

    Example:
        >>> from byzbench.registry import make
        >>> [type(part).__name__ for part in make("scenario", "none").parts]
        ['NoScenario']
    """
