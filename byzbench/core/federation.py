"""The operations of algorithms and agreements: a protocol, which simulations and tests implement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

from byzbench.core.component import State
from byzbench.core.inbox import Inbox

if TYPE_CHECKING:
    from byzbench.core.rules import Aggregator
    from byzbench.rl.policies import Policy
    from byzbench.rl.rollouts import Trajectories


class MessageServer(Protocol):
    """Method of a server that handles messages one by one; see `byzbench.core.reactive_server.ReactiveServer`."""

    async def receive(self, fed: Federation, server: State, sender: int, vector: Tensor) -> State:
        """Handle the valid vector [d] of an agent; return the new state of the server."""

    def reply(self, server: State, receivers: Sequence[int]) -> tuple[Tensor, State]:
        """Return the answer [1, d] to some agents, and the state of the server after it."""


class Federation(Protocol):
    """Federation of agents, as algorithms and agreements use it. They never learn which agents are Byzantine.

    Every method takes and returns a row for each agent. A method that sends messages is a coroutine, which waits until
    the messages of all agents have arrived.

    Attributes:
        agents: int64 [K], the agent of each row.
        num_agents: the number of agents of the whole federation, K where all of them have a row.
        round: the current round, from 0.
        progress: the share of the trajectory budget that is spent, from 0 to 1.
        theta0: float32 [K, d], the common initial parameters.
        assumed_byzantine: int64 [K], the number of Byzantine agents that each agent assumes.
        policy: the policy that all agents train, with parameters of their own.
        discount: the discount factor gamma.
    """

    agents: Tensor
    num_agents: int
    round: int
    progress: float
    theta0: Tensor
    assumed_byzantine: Tensor
    policy: Policy
    discount: float

    def sample(self, theta: Tensor, count: Tensor | int, agents: Sequence[int] | None = None) -> Trajectories:
        """Sample complete episodes of each agent with its own policy, and charge them to the agent.

        Args:
            theta: [P, d], the policy parameters of each agent.
            count: int64 [P] or one number, the exact number of episodes of each agent.
            agents: the P agents; by default all K.

        Returns:
            The episodes, with rewards as the agents receive them.
        """

    async def sample_at_server(self, theta: Tensor, count: int) -> Trajectories:
        """Sample episodes in an environment of the trusted server, and charge them to the server.

        Args:
            theta: [1, d], the policy parameters.
            count: the exact number of episodes.
        """

    def draw(
        self, name: str, draw: Callable[[np.random.Generator], float], agents: Sequence[int] | None = None
    ) -> Tensor:
        """Draw a value for each agent from a stream of its own.

        Args:
            name: the name of the stream.
            draw: returns a value, given a generator.
            agents: the P agents; by default all K.

        Returns:
            float64 [P], the value of each agent.
        """

    def draw_at_server(self, name: str, draw: Callable[[np.random.Generator], float]) -> float:
        """Draw a value at the trusted server, which neither the coin nor a Byzantine agent can influence.

        Args:
            name: the name of the stream.
            draw: returns a value, given a generator.
        """

    def log(self, name: str, values: Tensor, agents: Sequence[int] | None = None) -> None:
        """Record a metric of this round. It is not sent to any agent.

        Args:
            name: the name of the metric.
            values: [P], the value of each agent.
            agents: the P agents; by default all K.
        """

    def log_direction(self, direction: Tensor, at: Tensor) -> None:
        """Record the gradient estimates along which agents step, for metrics. They are not sent to any agent.

        Of several calls in a round the first one counts.

        Args:
            direction: [K, d], the estimates.
            at: [K, d], the parameters at which each estimates the gradient.
        """

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        """Exchange vectors between neighbours.

        With `reliable`, messages are sent by reliable broadcast (Bracha 1987): every receiver echoes each message
        twice. So a Byzantine agent cannot send different messages to its neighbours. All of them receive the message
        for its first neighbour, in the order of agent numbers.

        Args:
            topic: the topic of the exchange.
            x: [K, d], the vector that each agent sends.
            reliable: use reliable broadcast.

        Returns:
            The inboxes of all K agents.
        """

    async def gather(self, topic: str, x: Tensor, groups: int = 1) -> Inbox:
        """Send a vector of each agent to the server.

        Args:
            topic: the topic of the exchange.
            x: [K, d], the vector that each agent sends.
            groups: G, the number of groups; agent a is in group a mod G.

        Returns:
            The inboxes of the server, one for each group.
        """

    async def broadcast(self, topic: str, y: Tensor) -> Tensor:
        """Send a vector of the trusted server to all agents. The channel does not change, delay or lose it.

        Args:
            topic: the topic of the exchange.
            y: [1, d], the vector of the server.

        Returns:
            [K, d], the vector that each agent receives.
        """

    async def serve(self, topic: str, x: Tensor, server: MessageServer, state: State) -> tuple[Tensor, State]:
        """Send a vector of each agent to a server that handles every message by itself, and receive its answers.

        Args:
            topic: the topic of the messages.
            x: [K, d], the vector that each agent sends.
            server: the method of the server.
            state: the state of the algorithm; the entries `server.*` are those of the server, which only it changes.

        Returns:
            answers: [K, d], the answer to each agent.
            state: the state with new entries `server.*`.
        """

    async def common(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        """Draw a value with common randomness, which is equal at all honest agents if the coin guarantees it.

        Args:
            name: the name of the stream.
            draw: returns a value, given a generator.

        Returns:
            float64 [K], the value as each agent sees it.
        """

    async def agree(self, theta: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the agreement protocol of the experiment.

        Args:
            theta: [K, d], the parameters of each agent.
            state: the state of the algorithm; the entries `agreement.*` are those of the protocol.

        Returns:
            theta: [K, d], the parameters after the agreement.
            state: the state with new entries `agreement.*`.
        """

    def aggregate(self, inbox: Inbox, state: State, deviation: float | None = None) -> tuple[Tensor, State]:
        """Aggregate every inbox with the rule of the experiment.

        If the rule is undefined for the valid messages of an inbox, the value is the receiver's own vector. For a
        server it is NaN.

        Args:
            inbox: the messages of R receivers.
            state: the state of the algorithm; the entries `aggregator.*` are those of the rule.
            deviation: the distance of two honest messages (root mean square), if the receiver has measured it itself;
                for rules that need a scale.

        Returns:
            value: [R, d], the aggregated vectors.
            state: the state with new entries `aggregator.*`.
        """

    def aggregate_at_server(self, vectors: Tensor, state: State) -> tuple[Tensor, State]:
        """Aggregate vectors that a server has computed of messages, with the rule of the experiment.

        As many of them as agents are assumed to be Byzantine may have any value.

        Args:
            vectors: [n, d], the vectors.
            state: the state of the server; the entries `aggregator.*` are those of the rule.

        Returns:
            value: [1, d], the aggregated vector; NaN where the rule is undefined for the finite ones of them.
            state: the state with new entries `aggregator.*`.
        """

    def combine(self, rule: Aggregator, inbox: Inbox, state: State | None = None) -> tuple[Tensor, State]:
        """Aggregate every inbox with a given rule; receivers with the same messages share one computation.

        Args:
            rule: the aggregation rule.
            inbox: the messages of R receivers.
            state: the state of a stateful rule, with one row for each receiver. A row is zero until the rule is defined
                for an inbox of its receiver for the first time.

        Returns:
            value: [R, d], the aggregated vectors, as in `aggregate`.
            state: the new state of the rule.
        """

    def width(self, inbox: Inbox) -> Tensor:
        """Return the diameter of the n - f messages of minimum diameter in each inbox: float64 [R]."""
