"""Garnet: a random Markov decision process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core.tabular_task import Discount, Steps, TabularTask
from byzbench.errors import InvalidParameter
from byzbench.rl.transition_table import TransitionTable


@dataclass(frozen=True)
class Garnet(TabularTask):
    """Collect rewards in a random environment without any structure.

    Each action in each state has `branching` successors, drawn without repetition; their probabilities are the lengths
    into which uniform points cut the unit interval. Its reward is drawn from N(0, 1), whatever the successor. Episodes
    start in a uniformly random state and do not end before their last step. Returns and gradients are exact
    (`Task.exact`).

    Source: Archibald, McKinnon, Thomas 1995, "On the generation of Markov decision processes"; with rewards as in
    Bhatnagar, Sutton, Ghavamzadeh, Lee 2009, "Natural actor-critic algorithms".

    Attributes:
        states: the number of states.
        actions: the number of actions.
        branching: the number of successors of an action.
        seed: the seed of the environment.
        steps: the number of steps of an episode.
        gamma: the discount.
    """

    source: ClassVar[str] = "Archibald et al. 1995; Bhatnagar et al. 2009 (Garnet)"
    states: Annotated[int, Field(ge=2, le=1000, description="number of states")] = 10
    actions: Annotated[int, Field(ge=2, le=100, description="number of actions")] = 3
    branching: Annotated[int, Field(ge=1, le=100, description="number of successors of an action")] = 3
    seed: Annotated[int, Field(ge=0, description="seed of the environment")] = 0
    steps: Steps = field(default=20, kw_only=True)
    gamma: Discount = field(default=0.95, kw_only=True)

    def __post_init__(self) -> None:
        """Raise InvalidParameter where an action has more successors than there are states."""
        super().__post_init__()
        if self.branching > self.states:
            raise InvalidParameter(f"branching={self.branching} is more than states={self.states}")

    def transition_table(self, factors: Mapping[str, float]) -> TransitionTable:
        """Return the transition law: see `TabularTask.transition_table`."""
        rng = np.random.default_rng(self.seed)
        shape = (self.states, self.actions, self.branching)
        successors = rng.random((*shape[:2], self.states)).argsort(2)[:, :, : self.branching]
        cuts = np.sort(rng.random((*shape[:2], self.branching - 1)), 2)
        probabilities = np.diff(cuts, prepend=0.0, append=1.0)
        rewards = np.broadcast_to(rng.standard_normal((*shape[:2], 1)), shape)
        uniform = np.full(self.states, 1 / self.states)
        return TransitionTable(successors, probabilities, rewards, np.zeros(shape, bool), uniform)
