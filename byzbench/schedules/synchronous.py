"""The synchronous schedule: all agents run each round together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from byzbench.core.component import Categorical
from byzbench.core.schedule import SPEED, Schedule, Speed
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core.setting import Setting


@dataclass(frozen=True)
class Synchronous(Schedule):
    """Rounds in order: every agent uses messages of its current round only.

    Without `speed` there is no clock, and time is the number of the round. With one, each agent has a clock. In an
    exchange of round t an agent waits until messages of round t have arrived from its quorum, then takes up its work; a
    message of an earlier round is never used. An agent that is slower than others falls behind, and catches up as far
    as its speed allows, since the messages that it needs have arrived already.

    A server waits for its quorum of messages. An agent whose message comes too late finishes the batch that it has
    begun, then joins the round that is current. The simulation samples a batch of every agent in every round: one that
    takes no part in a round spends no time in it, but its episodes count in the budget and in the totals of steps.

    Source: this project. Waiting for n - f messages of a round is usual in asynchronous agreement, for example
    El-Mhamdi et al. 2021, arXiv 2008.00742.

    Example:
        >>> schedule = Synchronous(speed="two_speed", ratio=4.0, quorum="n-f")
        >>> schedule.has_clock, schedule.quorum_of(13, 3)
        (True, 10)
    """

    speed: Annotated[Speed | None, SPEED, Categorical("equal", "two_speed", "lognormal", "heavy_tailed")] = None

    def check(self, setting: Setting) -> None:
        """Check that parameters of the clock are given only with a speed; see `Schedule.check`."""
        if not self.has_clock and self != Synchronous():
            raise Undefined("schedule 'synchronous' without speed has no clock; give a speed, for example speed=equal")
        super().check(setting)
