"""Rush: messages that are sent last, having seen what their receiver holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.core import Attack, AttackContext, ByzantineMessages, Setting, State, ThreatModel, Timing
from byzbench.core.timing_attack import TimingAttack
from byzbench.core.wrapped_attack import with_form_of
from byzbench.errors import Undefined


@dataclass(frozen=True)
class Rush(TimingAttack):
    """Wrapper that sends the inner attack's messages last, as a rushing adversary does: `rush(alie(z=1.5))`.

        m[k -> i] = inner(honest = x of agent i and of those from whom i has received, own),
        sent when agent i has q_i - b_i messages of others than its b_i Byzantine neighbours

    q_i is the quorum of agent i. So all Byzantine messages are in the inbox of every honest agent, at most q_i - b_i
    others beside them, and they are crafted with knowledge of these: where the inner attack sees honest vectors, those
    are the ones that the receiver holds, and for agents from whom it holds none the newest ones that they have sent.
    A message is crafted for each receiver by itself, and has the receiver's round, so that it is never stale. The own
    vectors of Byzantine agents take no time to compute.

    Without `rush`, Byzantine agents send at times of their own, and know what honest agents have sent by then. In lock
    step, and at a server, every attack sees the honest vectors of its round, and `rush` changes nothing.

    Source: a rushing adversary is the usual assumption of synchronous protocols, for example Feldman, Micali 1997, "An
    optimal probabilistic protocol for synchronous Byzantine agreement"; here with the order of messages in the
    adversary's power, as in asynchronous ones.

    Memory: the inner attack's.
    """

    source: ClassVar[str] = "rushing adversary, e.g. Feldman, Micali 1997"
    inner: Annotated[Attack, Field(description="the attack that crafts messages")] = field(
        default_factory=lambda: Alie(z=1.5)
    )

    @property
    def threat(self) -> ThreatModel:
        """Return the inner threat model, with power over the network, own vectors, and equivocation."""
        threat = super().threat
        return replace(threat, knowledge=threat.knowledge | {"own"}, equivocates=True)

    @property
    def timing(self) -> Timing:
        """Return the timing: messages are sent last, and Byzantine agents compute in no time."""
        return replace(self.inner.timing, is_last=True, is_instant=True)

    def check(self, setting: Setting) -> None:
        """Reject an inner attack that crafts no messages; otherwise check the inner attack."""
        if "messages" not in self.inner.threat.surface:
            raise Undefined(f"rush sends crafted messages last, and {type(self.inner).__name__} crafts none")
        super().check(setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return the remarks of the inner attack, and one where no quorum can be seen."""
        at_server = "rush: a server that handles messages by itself has no quorum; messages are sent at once"
        affected = setting.is_asynchronous and setting.handles_messages
        return [*([at_server] if affected else []), *super().notes(setting)]

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages of the inner attack, on every edge."""
        messages, memory = self.inner.craft_messages(context, memory, rng)
        return with_form_of(self.threat, messages, self.inner.threat, context), memory
