"""Normalised observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from byzbench.core import Scenario
from byzbench.errors import InvalidParameter

if TYPE_CHECKING:
    from byzbench.core import Setting


@dataclass(frozen=True)
class NormalizedObservations(Scenario):
    """Observations that are normalised by a mean and a deviation on which agents agree before training.

    Each agent estimates them on episodes of the first policy, which are charged to it. The federation aggregates the
    estimates by its rule, under attack as gradients are, and all agents normalise by the result.

    Attributes:
        episodes: the episodes from which each agent estimates.
    """

    episodes: Annotated[
        int, Field(ge=0, le=10_000, description="episodes to estimate the agreed statistics of observations")
    ] = 8

    def check(self, setting: Setting) -> None:
        """Check that observations are normalised once; see `Component.check`."""
        super().check(setting)
        if self.inner is not None and self.inner.normalizes:
            raise InvalidParameter("scenario: normalized is given twice, and observations are normalised once")

    @property
    def normalization_episodes(self) -> int:  # type: ignore[override]
        """Return the episodes from which each agent estimates the statistics of its observations."""
        return self.episodes
