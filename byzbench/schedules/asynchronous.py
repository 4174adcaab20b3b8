"""The asynchronous schedule: every agent runs on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byzbench.core.communication import Communication
from byzbench.core.schedule import Quorum, Schedule
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core.setting import Setting


@dataclass(frozen=True)
class Asynchronous(Schedule):
    """Agents on their own: each starts its next round as soon as it has finished the last one.

    Every agent counts its own rounds. In the k-th exchange of a topic an agent of round t uses the newest message of
    each neighbour's k-th exchange of that topic that has arrived, if it is of round t - staleness or later. So fast
    agents need not wait for slow ones, whose messages are old, and slow agents receive messages that are newer than
    their own round. The age of a message is the number of rounds by which its sender was behind; the age of newer ones
    is 0.

    With `staleness=0` agents wait for messages of their own round, as in protocols of asynchronous agreement: with
    equal speeds, no latency and `quorum=all`, every number is that of `synchronous`.

    Byzantine agents run the protocol at their own speed; an attack crafts their messages when they send, from what the
    honest agents have sent by then. Attacks on time (`rush`, `slowdown`, `flood`) change that.

    Agents that exchange nothing never wait: each runs at its own speed.

    A method with a server is defined if its server handles every message by itself. One that aggregates a message of
    each agent in a round is `synchronous(quorum=...)`.

    Source: this project. Bounded staleness is that of stale synchronous parallel, Ho et al. 2013.

    Attributes:
        staleness: the largest age of a message that counts, in rounds of the receiver; None: any age.

    Example:
        >>> Asynchronous(speed="two_speed", quorum="n-f", staleness=None).quorum_of(13, 3)
        10
    """

    source: ClassVar[str] = "this project; bounded staleness: Ho et al. 2013"

    asynchronous: ClassVar[bool] = True

    quorum: Annotated[
        Quorum | None,
        Field(
            description="messages that an agent waits for: all, n-f, or a number; None: n-f, and 1 at a server that "
            "handles messages by itself"
        ),
    ] = None
    staleness: Annotated[
        int | None, Field(ge=0, description="largest age of a message that counts, in rounds; None: any age")
    ] = None

    def oldest(self, round: int) -> int:
        """Return the first round of messages that an agent of a round uses."""
        return 0 if self.staleness is None else max(0, round - self.staleness)

    def check(self, setting: Setting) -> None:
        """Check that agents of the algorithm can run on their own; see `Schedule.check`."""
        super().check(setting)
        name, algorithm = setting.name("schedule"), setting.name("algorithm")
        if not self.has_clock:
            raise Undefined(f"schedule {name!r} needs a speed, for example speed=equal")
        if setting.communication == Communication.SERVER and not setting.handles_messages:
            raise Undefined(
                f"schedule {name!r}: the server of {algorithm} aggregates messages of all agents in a round; give "
                f"schedule synchronous(speed=..., quorum=...)"
            )
        if setting.shared_environment:
            raise Undefined(f"schedule {name!r}: agents of a shared environment act together")
        if setting.normalizes:
            raise Undefined(f"schedule {name!r}: scenario normalized needs all agents at once, before the first round")
