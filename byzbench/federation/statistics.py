"""Counters of a federation, and the measurements of a round."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from byzbench.core import AgreementReport, State
from byzbench.core.inbox import Inbox


@dataclass
class Counters:
    """Counters of a federation since its first round. The runner reads them, algorithms do not.

    Attributes:
        trajectories: int64 [K], the episodes that each agent has sampled.
        steps: int64 [K], the environment steps of these episodes.
        server_samples: int64 [2], the episodes and steps that a trusted server has sampled itself.
        traffic: by topic, int64 [K + 1, 2], the messages and bytes that each agent and the server has sent.
        num_malformed: the number of malformed messages.
        num_silent: the number of missing messages.
        num_undefined: the number of aggregations for which the rule was undefined, and agents kept their own vectors.
    """

    trajectories: Tensor
    steps: Tensor
    server_samples: Tensor = field(default_factory=lambda: torch.zeros(2).long())
    traffic: dict[str, Tensor] = field(default_factory=dict)
    num_malformed: int = 0
    num_silent: int = 0
    num_undefined: int = 0

    def state_dict(self) -> State:
        """Return the counters of episodes and steps for a checkpoint."""
        return {"trajectories": self.trajectories, "steps": self.steps, "served": self.server_samples}

    def load_state_dict(self, saved: State) -> None:
        """Load what `state_dict` returned."""
        self.trajectories, self.steps, self.server_samples = saved["trajectories"], saved["steps"], saved["served"]

    @property
    def messages(self) -> int:
        """Return the number of messages that all agents and the server have sent."""
        return sum(int(sent[:, 0].sum()) for sent in self.traffic.values())

    @property
    def bytes(self) -> int:
        """Return the bytes of all messages; a vector costs 4 d bytes unless a channel compresses it."""
        return sum(int(sent[:, 1].sum()) for sent in self.traffic.values())

    def by_topic(self) -> dict[str, dict[str, int]]:
        """Return the messages and bytes of each topic, and the most bytes that one agent sent."""
        return {
            topic: {
                "messages": int(sent[:, 0].sum()),
                "bytes": int(sent[:, 1].sum()),
                "max_bytes_per_agent": int(sent[:-1, 1].max()),
            }
            for topic, sent in sorted(self.traffic.items())
        }

    def charge(self, topic: str, messages: np.ndarray, size: int) -> None:
        """Add messages to the traffic of a topic.

        Args:
            topic: the topic of the messages.
            messages: int64 [K], the messages that each agent sent, or [K + 1] with those of a server.
            size: the bytes of one message.
        """
        part = self._sent(topic)[: len(messages)]
        part[:, 0] += messages
        part[:, 1] += messages * size

    def charge_agent(self, topic: str, agent: int, messages: int, size: int) -> None:
        """Add messages of one agent to the traffic of a topic.

        Args:
            topic: the topic of the messages.
            agent: the sender.
            messages: the number of messages.
            size: the bytes of one message.
        """
        self._sent(topic)[agent] += (messages, messages * size)

    def _sent(self, topic: str) -> np.ndarray:
        """Return the traffic of a topic, int64 [K + 1, 2], which can be written."""
        if topic not in self.traffic:
            self.traffic[topic] = torch.zeros(len(self.trajectories) + 1, 2).long()
        return self.traffic[topic].numpy()

    def trajectories_spent(self, honest: Tensor) -> int:
        """Return the largest number of episodes that one honest agent, or the server, has sampled.

        Args:
            honest: bool [K], True for honest agents.
        """
        return max(int(self.trajectories[honest].max()), int(self.server_samples[0]))


@dataclass(frozen=True)
class AggregationResult:
    """Result of an aggregation rule for one exchange.

    Attributes:
        inbox: the messages that were aggregated.
        value: float32 [R, d], the aggregated vectors.
        weights: float64 [R, n], the weights of a linear rule; None for other rules.
        usable: bool [R], True for receivers at which the rule was defined.
        state: the new state of the rule, with one row for each receiver.
    """

    inbox: Inbox
    value: Tensor
    weights: Tensor | None
    usable: Tensor
    state: State


@dataclass(frozen=True)
class AgreementResult:
    """Result of one agreement.

    Attributes:
        before: [K, d], the parameters of the agents before the agreement.
        after: [K, d], the parameters after it.
        report: the exchanges and inbox diameters of each agent.
    """

    before: Tensor
    after: Tensor
    report: AgreementReport


@dataclass
class RoundStatistics:
    """The measurements of one round, which `SimulatedFederation.finish` returns.

    Attributes:
        returns: float64 [K], each agent's mean undiscounted return in its last batch; None before the first.
        logged: by name, float64 [K], metrics that agents recorded; NaN for agents that recorded none.
        aggregation: the last use of the experiment's aggregator.
        mixing: the first use of another rule, which is the rule of an agreement.
        agreement: the last agreement.
        direction: [K, d] each, the gradient estimates along which agents stepped first, and the parameters at which
            these were taken; None for methods that record none.
    """

    returns: Tensor | None = None
    logged: dict[str, Tensor] = field(default_factory=dict)
    aggregation: AggregationResult | None = None
    mixing: AggregationResult | None = None
    agreement: AgreementResult | None = None
    direction: tuple[Tensor, Tensor] | None = None

    def reset(self) -> None:
        """Discard all measurements but the last returns."""
        self.logged = {}
        self.aggregation = self.mixing = self.agreement = self.direction = None
