"""The federation as one asynchronous agent uses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Aggregator, Inbox, MessageServer, State
from byzbench.errors import BrokenPlugin
from byzbench.federation.adversary import ByzantineEnvHooks
from byzbench.federation.federation import SimulatedFederation
from byzbench.federation.mailboxes import Message, MessageTable
from byzbench.federation.statistics import AggregationResult
from byzbench.rl.rollouts import Trajectories


class Clock(Protocol):
    """Operations of the event loop that the federation of an agent or of a server uses."""

    def compute(self, agent: int, steps: int) -> None:
        """Let an agent compute a batch of environment steps from now on."""

    def compute_at_server(self, steps: int) -> None:
        """Let the server compute a batch of environment steps."""

    def before_hooks(self, agent: int) -> None:
        """Prepare the adversary for environment hooks of a Byzantine agent."""

    def coin(self, name: str, round: int, toss: Callable[[], Tensor]) -> Tensor:
        """Return the common value of a round: float64 [K]."""

    def log_direction(self, agent: int, direction: Tensor, at: Tensor) -> None:
        """Record the gradient estimate [1, d] of an agent, and the parameters at which it was taken."""

    def close(self, topic: str, first: int, agent: int, vector: Tensor) -> None:
        """Let the last vector [d] of an agent be its message in all further exchanges of a topic in its round."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Inboxes of agents that go on at the same time, after the same exchange of the same round.

    Attributes:
        inbox: The inboxes, a row for each agent.
        messages: The messages of its base.
        results: The outputs of rules for all rows, which the agents share.
    """

    inbox: Inbox
    messages: list[Message]
    results: dict[Any, AggregationResult] = field(default_factory=dict)

    def state_dict(self, table: MessageTable) -> State:
        """Return the inboxes for a checkpoint; the base is that of the messages."""
        parts = {f.name: getattr(self.inbox, f.name) for f in fields(Inbox) if f.name not in ("base", "whole")}
        return {
            "messages": table.numbers(self.messages),
            **{name: part for name, part in parts.items() if part is not None},
        }

    @classmethod
    def from_state_dict(cls, saved: State, table: MessageTable) -> Batch:
        """Return the batch of what `state_dict` returned."""
        parts: dict[str, Any] = dict(saved)
        messages = table.messages(parts.pop("messages"))
        return cls(Inbox(base=torch.stack([message.vector for message in messages]), **parts), messages)


@dataclass(frozen=True, eq=False)
class Exchange:
    """Request of an agent to send a vector and to wait for those of its neighbours.

    Attributes:
        topic: The topic of the exchange.
        index: The number of the exchange of this topic in the agent's round, from 0.
        x: float32 [d], the vector.
        reliable: Whether it is sent by reliable broadcast.
    """

    topic: str
    index: int
    x: Tensor
    reliable: bool

    @property
    def key(self) -> str:
        """Return the key of the mailbox of the exchange."""
        return f"{self.topic}/{self.index}"

    def __await__(self) -> Generator[Exchange, tuple[Batch, int], tuple[Batch, int]]:
        """Wait for the batch of the agent and its row in it."""
        answer = yield self
        return answer


@dataclass(frozen=True, eq=False)
class Service:
    """Request of an agent to send a vector to a server that handles it, and to wait for its answer.

    Attributes:
        topic: The topic of the message.
        x: float32 [d], the vector.
        server: The method of the server.
    """

    topic: str
    x: Tensor
    server: MessageServer

    def __await__(self) -> Generator[Service, Tensor, Tensor]:
        """Wait for the answer [1, d]."""
        answer = yield self
        return answer


class ServerFederation(SimulatedFederation):
    """The federation as a server uses it that handles messages by itself.

    Its round is the number of times that it has taken up messages.

    Args:
        whole: The federation of all agents.
        loop: The event loop that runs the agents.
    """

    def __init__(self, whole: SimulatedFederation, loop: Clock) -> None:
        vars(self).update(vars(whole))
        self._loop = loop

    def begin(self, round: int, progress: float) -> None:
        """Take up messages."""
        self.round, self.progress = round, progress
        self._num_server_samples, self._num_uses = 0, Counter[str]()

    async def sample_at_server(self, theta: Tensor, count: int) -> Trajectories:
        """Sample episodes in an environment of the server, which cannot take up messages meanwhile."""
        episodes = await super().sample_at_server(theta, count)
        self._loop.compute_at_server(int(episodes.steps.sum()))
        return episodes


class AgentFederation(SimulatedFederation):
    """The federation with the row of one agent, which counts its own rounds.

    It shares environments, streams, counters and statistics with the whole federation.

    Args:
        whole: The federation of all agents.
        agent: The agent.
        loop: The event loop that runs the agents.
    """

    def __init__(self, whole: SimulatedFederation, agent: int, loop: Clock) -> None:
        vars(self).update(vars(whole))
        self.agents = torch.tensor([agent])
        self.theta0 = whole.theta0[agent : agent + 1]
        self.assumed_byzantine = whole.assumed_byzantine[agent : agent + 1]
        self._agent, self._loop = agent, loop
        self._exchanges, self._num_uses = Counter[str](), Counter[str]()
        self._batch: Batch | None = None
        self._inbox: Inbox | None = None
        self._row = 0
        self._has_direction = False

    def begin(self, round: int, progress: float) -> None:
        """Start a round of the agent."""
        self.round, self.progress = round, progress
        self._num_samples, self._batch_size = 0, None
        self._exchanges, self._num_uses = Counter[str](), Counter[str]()
        self._batch, self._inbox, self._has_direction = None, None, False

    def _make_hooks(self, agent_ids: Sequence[int], theta: Tensor) -> ByzantineEnvHooks | None:
        """Return the environment hooks of a Byzantine agent; those of honest agents are never asked for."""
        if not self._members.byzantine[self._agent]:
            return None
        self._loop.before_hooks(self._agent)
        return super()._make_hooks(agent_ids, theta)

    def _charge_episodes(self, agent_ids: Sequence[int], episodes: Trajectories) -> None:
        """Add episodes to the counters of agents, and the time for them to what the agents compute now."""
        super()._charge_episodes(agent_ids, episodes)
        for agent, steps in zip(agent_ids, episodes.steps.tolist(), strict=True):
            self._loop.compute(agent, steps)

    def log_direction(self, direction: Tensor, at: Tensor) -> None:
        """Record the gradient estimate along which the agent steps, in the rows of all agents."""
        if not self._has_direction:
            self._loop.log_direction(self._agent, direction, at)
            self._has_direction = True

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        """Send the vector of the agent [1, d], and wait for a quorum of its neighbours."""
        index = self._exchanges[topic]
        self._exchanges[topic] += 1
        self._batch, self._row = await Exchange(topic, index, x[0].detach(), reliable)
        inbox = self._inbox = self._batch.inbox.select(torch.tensor([self._row]))
        return inbox

    async def gather(self, topic: str, x: Tensor, groups: int = 1) -> NoReturn:
        """Refuse: the server of a round needs all agents at once."""
        raise BrokenPlugin("an asynchronous agent has no server that gathers a round")

    async def broadcast(self, topic: str, y: Tensor) -> NoReturn:
        """Refuse: the server of a round needs all agents at once."""
        raise BrokenPlugin("an asynchronous agent has no server that broadcasts a round")

    async def serve(self, topic: str, x: Tensor, server: MessageServer, state: State) -> tuple[Tensor, State]:
        """Send the vector of the agent [1, d] to the server, and wait for its answer."""
        return await Service(topic, x[0].detach(), server), state

    async def common(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        """Draw the common value of the agent's round."""
        values = self._loop.coin(name, self.round, lambda: self._toss(name, draw))
        if self._members.byzantine[self._agent]:
            self._adversary.record_coin(values, self._agent)
        for num_messages, size in self._coin.cost(self.num_agents):
            self.counters.charge_agent("coin", self._agent, num_messages, size)
        return values[self.agents]

    async def agree(self, theta: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the agreement protocol; of an agent that stops early, the last vector is its message from then on."""
        agreed, state = await super().agree(theta, state)
        self._loop.close("parameters", self._exchanges["parameters"], self._agent, agreed[0].detach())
        return agreed, state

    def width(self, inbox: Inbox) -> Tensor:
        """Return the diameter of the n - f messages of minimum diameter in the inbox."""
        if self._batch is None or inbox is not self._inbox:
            return super().width(inbox)
        return self._batch.inbox.widths[self._row : self._row + 1]

    def _apply(
        self,
        purpose: str,
        rule: Aggregator,
        inbox: Inbox,
        state: State,
        batch_size: int | None = None,
        deviation: float | None = None,
    ) -> AggregationResult:
        """Apply a rule to the inbox; agents that go on at the same time share the output of a rule without state."""
        batch = self._batch
        if batch is None or inbox is not self._inbox or state or rule.traits.stateful:
            return super()._apply(purpose, rule, inbox, state, batch_size, deviation)
        key = (purpose, repr(rule), self._num_uses[purpose], batch_size, deviation)
        if key in batch.results:
            self._num_uses[purpose] += 1
        else:
            batch.results[key] = super()._apply(purpose, rule, batch.inbox, {}, batch_size, deviation)
        shared, row = batch.results[key], slice(self._row, self._row + 1)
        weights = None if shared.weights is None else shared.weights[row]
        return AggregationResult(inbox, shared.value[row], weights, shared.usable[row], {})
