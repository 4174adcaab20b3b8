"""Chain: reach the end of a chain by one action, from starts at many distances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.core.tabular_task import Discount, Steps, TabularTask
from byzbench.rl.transition_table import TransitionTable


@dataclass(frozen=True)
class Chain(TabularTask):
    """Walk to the end of a chain: action 1 moves one state nearer, action 0 ends the episode.

    The last step has the reward 1, all others none. The start is d steps from the end with a probability proportional
    to 1/d. Returns and gradients are exact (`Task.exact`).

    The landscape is flat for long: a small gradient does not mean that little is left to gain, as it does on
    `riverswim`. A uniform policy succeeds from d steps away with probability 2^-d, so far states have nearly no
    gradient until all nearer ones are learned. They are learned one after another, each in a time proportional to its
    distance, while the length of the gradient is about the probability of a start at the next one. So after t steps
    of gradient ascent about sqrt(t) states are learned, and the gradient has a length of about 1/sqrt(t), the slowest
    rate that theorems for smooth functions allow: the number of steps to a mean length eps grows like eps^-2 until
    all states are learned, and like eps^-1 from there on, as it does on `riverswim` at once.

    Source: byzbench, after the combination lock of Kakade 2003, "On the sample complexity of reinforcement learning".

    Attributes:
        states: the number of states, of which each is one step from the next.
        steps: the number of steps of an episode; with fewer than `states` the farthest starts are lost.
        gamma: the discount.
    """

    source: ClassVar[str] = "byzbench, after Kakade 2003 (combination lock)"
    states: Annotated[int, Field(ge=2, le=1000, description="number of states")] = 40
    steps: Steps = field(default=40, kw_only=True)
    gamma: Discount = field(default=1.0, kw_only=True)

    def transition_table(self, factors: Mapping[str, float]) -> TransitionTable:
        """Return the transition law: see `TabularTask.transition_table`."""
        outcomes = [[[(1.0, s, 0.0, True)], [(1.0, max(s - 1, 0), float(s == 0), s == 0)]] for s in range(self.states)]
        weights = [1 / (1 + s) for s in range(self.states)]
        return TransitionTable.from_outcomes(outcomes, [weight / sum(weights) for weight in weights])
