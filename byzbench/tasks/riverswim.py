"""RiverSwim: swim against a current towards a large reward, or take a small one downstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.core.tabular_task import Discount, Steps, TabularTask
from byzbench.rl.transition_table import TransitionTable


@dataclass(frozen=True)
class RiverSwim(TabularTask):
    """Swim up a river of a few states: a large reward at its upper end, and a small one at its lower end.

    Action 0 moves one state down. Action 1 moves up with probability 0.6, stays with 0.3, and moves down with 0.1.
    Action 1 in the last state has the reward 1, action 0 in the first 0.05. Episodes start in the second or the third
    state. Returns and gradients are exact (`Task.exact`).

    The constants `advance` and `drift` are the weights 0.6 and 0.1 of moving up and down, before the three weights are
    scaled to a sum of 1.

    Source: Strehl, Littman 2008, "An analysis of model-based interval estimation for Markov decision processes".

    Differs from the source in: the starts, the rewards and the probabilities at both ends; episodes have a horizon.

    Attributes:
        states: the number of states.
        steps: the number of steps of an episode.
        gamma: the discount.
    """

    source: ClassVar[str] = "Strehl, Littman 2008 (RiverSwim)"
    dynamics: ClassVar[tuple[str, ...]] = ("advance", "drift")
    states: Annotated[int, Field(ge=3, le=1000, description="number of states")] = 6
    steps: Steps = field(default=10, kw_only=True)
    gamma: Discount = field(default=0.95, kw_only=True)

    def transition_table(self, factors: Mapping[str, float]) -> TransitionTable:
        """Return the transition law: see `TabularTask.transition_table`."""
        up, stay, down = 0.6 * factors.get("advance", 1.0), 0.3, 0.1 * factors.get("drift", 1.0)
        total, last = up + stay + down, self.states - 1
        outcomes = [
            [
                [(1.0, max(s - 1, 0), 0.05 if s == 0 else 0.0, False)],
                [
                    (weight / total, min(max(s + move, 0), last), 1.0 if s == last else 0.0, False)
                    for weight, move in ((up, 1), (stay, 0), (down, -1))
                ],
            ]
            for s in range(self.states)
        ]
        return TransitionTable.from_outcomes(outcomes, [0.5 if s in (1, 2) else 0.0 for s in range(self.states)])
