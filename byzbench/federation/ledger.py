"""What the federation has used, and what was last made of its messages: for the runner to read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Report, State
from byzbench.federation.inbox import Inbox


@dataclass
class Ledger:
    """What the federation has used so far. The runner reads it; algorithms do not.

    Attributes:
        trajectories, steps: int64 [K], sampled by each agent.
        served: int64 [2], trajectories and steps that a trusted server has sampled itself.
        traffic: by topic, int64 [K + 1, 2], the messages and bytes that each agent has sent, and a server.
        screened, silent: messages found malformed, or missing, where they were due.
        kept: aggregations that could not be made, the rule being undefined for what was left.
        returns: float64 [K], each agent's mean undiscounted return in the round's last batch.
        noted: by name, float64 [K], what agents measured for the record in this round; NaN for those who did not.
        aggregation: the round's last use of the experiment's aggregator.
        mixing: the round's first use of another rule, which is an agreement's.
        agreed: the round's last agreement.
    """

    trajectories: Tensor
    steps: Tensor
    served: Tensor = field(default_factory=lambda: torch.zeros(2).long())
    traffic: dict[str, Tensor] = field(default_factory=dict)
    screened: int = 0
    silent: int = 0
    kept: int = 0
    returns: Tensor | None = None
    noted: dict[str, Tensor] = field(default_factory=dict)
    aggregation: Aggregation | None = None
    mixing: Aggregation | None = None
    agreed: Agreed | None = None

    def turn(self) -> None:
        """Forget what was last made of messages."""
        self.aggregation = self.mixing = self.agreed = None
        self.noted = {}

    @property
    def messages(self) -> int:
        """Sent by all over all edges."""
        return sum(int(sent[:, 0].sum()) for sent in self.traffic.values())

    @property
    def bytes(self) -> int:
        """Sent by all over all edges; a vector costs 4 d bytes unless a channel packs it."""
        return sum(int(sent[:, 1].sum()) for sent in self.traffic.values())

    def by_topic(self) -> dict[str, dict[str, int]]:
        """Of each topic the messages and bytes of all, and the most bytes that one agent sent."""
        return {
            topic: {"messages": int(sent[:, 0].sum()), "bytes": int(sent[:, 1].sum()), "most": int(sent[:-1, 1].max())}
            for topic, sent in sorted(self.traffic.items())
        }

    def charge(self, topic: str, messages: np.ndarray, size: int) -> None:
        """Count messages of so many bytes each: [K] of the agents, or [K + 1] with a server's."""
        sent = self.traffic.setdefault(topic, torch.zeros(len(self.trajectories) + 1, 2).long())
        counted = torch.from_numpy(messages)
        sent[: len(counted)] += torch.stack([counted, counted * size], 1)

    def spent(self, honest: Tensor) -> int:
        """Trajectories of the honest agent, or the server, with most of them."""
        return max(int(self.trajectories[honest].max()), int(self.served[0]))


@dataclass(frozen=True)
class Aggregation:
    """What a rule made of one exchange.

    Attributes:
        inbox: what was heard.
        value: float32 [R, d].
        weights: float64 [R, n] of a linear rule, else None.
        usable: bool [R], for whom the rule was defined.
        state: the rule's new state, a row for each receiver.
    """

    inbox: Inbox
    value: Tensor
    weights: Tensor | None
    usable: Tensor
    state: State


@dataclass(frozen=True)
class Agreed:
    """What an agreement did: parameters [K, d] before and after, and what each agent saw of it."""

    before: Tensor
    after: Tensor
    report: Report
