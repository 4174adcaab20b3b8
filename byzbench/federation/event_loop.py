"""Event-driven simulation of asynchronous agents on a virtual clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Algorithm, Channel, MessageFormat, State
from byzbench.core.reactive_server import ReactiveServer
from byzbench.errors import BrokenPlugin, Undefined
from byzbench.federation.adversary import Adversary
from byzbench.federation.agent_federation import AgentFederation, Batch, Exchange, ServerFederation, Service
from byzbench.federation.clock import batch_seconds, link_seconds, never_met
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.federation import SERVER, SimulatedFederation, server_state
from byzbench.federation.mailboxes import Mailbox, Message
from byzbench.geometry.pairwise_distances import to_array
from byzbench.randomness import Streams
from byzbench.schedules.asynchronous import Asynchronous

_HOPS_OF_RELIABLE = 3
"""The successive messages of a reliable broadcast: the message, its echo, and the echo of that (Bracha 1987)."""


Contents: TypeAlias = list[tuple[Message | None, np.ndarray]]
"""Messages of one sender, each with a mask of its receivers; None for silence."""


class Event(IntEnum):
    """Kind of an event."""

    BEGIN = 0
    SEND = 1
    DELIVER = 2
    TIMEOUT = 3
    FINISH = 4
    ARRIVE = 5
    SERVE = 6
    ANSWER = 7


@dataclass(frozen=True, eq=False)
class Delivery:
    """A message on its way, which arrives at several receivers at the same time.

    Attributes:
        key: The key of the mailbox.
        message: The message.
        receivers: int64 [M], the receivers.
        columns: int64 [M], the column of the sender in the inbox of each.
    """

    key: str
    message: Message
    receivers: np.ndarray
    columns: np.ndarray


@dataclass(eq=False)
class Agent:
    """An agent that runs on its own.

    Attributes:
        federation: The federation as it uses it.
        state: Its state at the start of its round.
        round: The number of its finished rounds.
        seconds: The time that it computes from now on.
        busy: The time that it has computed.
        num_batches: The number of batches that it has computed in its round.
        num_waits: The number of times that it has waited; a timeout is for one of them.
        exchange: What it waits for, or computes for.
        coroutine: Its round; None between rounds.
    """

    federation: AgentFederation
    state: State
    round: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    num_batches: int = 0
    num_waits: int = 0
    num_sent: int = 0
    exchange: Exchange | Service | None = None
    coroutine: Coroutine[Any, Any, tuple[State, Mapping[str, float]]] | None = None
    results: list[tuple[Batch, int]] = field(default_factory=list)


class EventLoop:
    """Event-driven simulation of agents that run the rounds of an algorithm on their own.

    Events are ordered by time, and those of the same time in the order in which they were scheduled. Agents whose
    quorum is met at the same time, in the same exchange of the same round, go on together: they share distances and
    outputs of rules.

    Args:
        algorithm: The algorithm.
        federation: The federation of all agents.
        adversary: The adversary.
        schedule: The law of the time.
        channel: The channel of messages.
        streams: The random streams of the experiment.
        members: The communication graph.
        budget: The trajectories of each agent.

    Attributes:
        now: The time, in seconds.
    """

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        federation: SimulatedFederation,
        adversary: Adversary,
        schedule: Asynchronous,
        channel: Channel,
        streams: Streams,
        members: CommunicationGraph,
        budget: int,
    ) -> None:
        self.now = 0.0
        self._algorithm, self._federation, self._adversary, self._schedule = algorithm, federation, adversary, schedule
        self._parts, self._streams, self._members, self._budget = list(channel.parts), streams, members, budget
        num_agents = members.num_agents
        self._honest = ~members.byzantine.numpy()
        self._num_honest = int(self._honest.sum())
        self._speeds = schedule.draw_speeds(num_agents, streams.generator("schedule/speed"))
        self._row_of = {agent: row for row, agent in enumerate(members.byzantine_ids)}
        mask, bounds = members.mask.numpy(), members.bounds.tolist()
        self._quorums = np.array([schedule.quorum_of(n, f) for n, f in zip(mask.sum(1).tolist(), bounds, strict=True)])
        self._positions = _positions_of_senders(members)
        self._mailboxes: dict[str, Mailbox] = {}
        self._codes: dict[str, State] = {}
        self._closed: dict[str, dict[int, tuple[int, Message]]] = {}
        self._coins: dict[tuple[str, int], Tensor] = {}
        self._latest: dict[str, tuple[Tensor, np.ndarray]] = {}
        self._direction: tuple[Tensor, Tensor, np.ndarray] | None = None
        self._events: list[tuple[float, int, Event, int]] = []
        self._deliveries: dict[int, Delivery] = {}
        self._sequence, self._finished, self._line = 0, 0, 0
        self._ready: list[int] = []
        self._waiting = np.full(num_agents, None, object)
        self._oldest = np.zeros(num_agents, np.int64)
        self._ages: list[np.ndarray] = []
        self._extra: Mapping[str, float] = {}
        self.num_events = 0
        self._agents = []
        for agent in range(num_agents):
            view = AgentFederation(federation, agent, self)
            view.begin(0, 0.0)
            state = algorithm.start(view)
            self._agents.append(Agent(view, _without_server(state)))
        self._server, self._server_state = ServerFederation(federation, self), server_state(state)
        self._server_quorum = schedule.quorum_of(num_agents, members.bound(num_agents), at_server=True)
        self._server_rounds, self._server_seconds, self._server_free = 0, 0.0, 0.0
        self._arrived: list[tuple[int, Message]] = []
        self._on_the_way: dict[int, tuple[int, Message]] = {}
        self._answers: dict[int, Tensor] = {}
        for agent in range(num_agents):
            self._schedule_event(0.0, Event.BEGIN, agent)

    # What the runner uses.

    @property
    def state(self) -> State:
        """Return the state of all agents after their last finished rounds."""
        states = [agent.state for agent in self._agents]
        state = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        return {**state, **{SERVER + name: part for name, part in self._server_state.items()}}

    def advance(self) -> dict[str, float]:
        """Run until the honest agents have finished as many further rounds as there are honest agents.

        Returns:
            The metrics of the method, and those of the clock.
        """
        self._line += 1
        self._federation.reset_statistics()
        self._ages.clear()
        while self._finished < self._line * self._num_honest:
            if self._events and (not self._ready or self._events[0][0] <= self.now):
                self.now, sequence, event, number = heapq.heappop(self._events)
                self.num_events += 1
                self._handle(event, number, sequence)
            elif self._ready:
                self._release()
            else:
                raise self._stuck()
        oldest = min(agent.round for agent in self._agents)
        self._coins = {key: values for key, values in self._coins.items() if key[1] >= oldest}
        statistics = self._federation.statistics
        statistics.aggregation = statistics.mixing = statistics.agreement = None
        if self._direction is not None and self._direction[2][self._honest].all():
            statistics.direction = self._direction[:2]
        return {**self._extra, **self.metrics()}

    def _stuck(self) -> Undefined:
        """Return the error of a simulation in which nobody can go on."""
        if self._arrived:
            return never_met(self._server_quorum, len(self._arrived))
        number = next(k for k in range(len(self._agents)) if self._waiting[k] is not None)
        return never_met(int(self._quorums[number]), self._num_arrived(number))

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the clock: the time, the ages of messages since the last line, and idleness."""
        ages = np.concatenate(self._ages) if self._ages else np.zeros(1)
        busy = np.array([agent.busy for agent in self._agents])[self._honest]
        return {
            "seconds": self.now,
            "staleness": float(ages.mean()),
            "staleness_max": float(ages.max()),
            "idle_share": float(1 - busy.mean() / self.now) if self.now else math.nan,
        }

    # What the agents use.

    def compute(self, agent: int, steps: int) -> None:
        """Let an agent compute a batch of environment steps from now on."""
        record = self._agents[agent]
        record.seconds += batch_seconds(
            self._schedule, self._speeds, self._streams, record.round, agent, record.num_batches, steps
        )
        record.num_batches += 1

    def compute_at_server(self, steps: int) -> None:
        """Let the server compute a batch of environment steps, at speed 1."""
        self._server_seconds += steps / self._schedule.rate

    def before_hooks(self, agent: int) -> None:
        """Prepare the adversary for environment hooks of a Byzantine agent."""
        self._adversary.resume_exchange(self._agents[agent].round, self._agents[agent].num_sent)

    def coin(self, name: str, round: int, toss: Callable[[], Tensor]) -> Tensor:
        """Return the common value of a round, which the first agent that takes part draws: float64 [K]."""
        if (name, round) not in self._coins:
            self._coins[name, round] = toss()
        return self._coins[name, round]

    def log_direction(self, agent: int, direction: Tensor, at: Tensor) -> None:
        """Record the gradient estimate [1, d] of an agent, and the parameters at which it was taken."""
        if self._direction is None:
            rows = [tensor.new_zeros(len(self._agents), tensor.shape[1]) for tensor in (direction, at)]
            self._direction = (rows[0], rows[1], np.zeros(len(self._agents), bool))
        self._direction[0][agent], self._direction[1][agent] = direction[0], at[0]
        self._direction[2][agent] = True

    def close(self, topic: str, first: int, agent: int, vector: Tensor) -> None:
        """Let the last vector of an agent be its message in all further exchanges of a topic in its round.

        Args:
            topic: The topic.
            first: The number of the first exchange in which the agent does not take part.
            agent: The agent.
            vector: float32 [d], the vector.
        """
        record = self._agents[agent]
        message = _message(agent, record.round, vector)
        self._closed.setdefault(topic, {})[agent] = (first, message)
        receivers, columns = self._positions[agent]
        index = first
        while (key := f"{topic}/{index}") in self._mailboxes:
            self._deliver(Delivery(key, message, receivers, columns))
            index += 1

    # Events.

    def _schedule_event(self, time: float, event: Event, number: int) -> int:
        """Add an event; return its sequence number."""
        self._sequence += 1
        heapq.heappush(self._events, (time, self._sequence, event, number))
        return self._sequence

    def _handle(self, event: Event, number: int, sequence: int) -> None:
        if event == Event.BEGIN:
            self._begin(number)
        elif event == Event.SEND:
            self._send(number)
        elif event == Event.DELIVER:
            self._deliver(self._deliveries.pop(sequence))
        elif event == Event.FINISH:
            self._finish(number)
        elif event == Event.ARRIVE:
            self._arrived.append(self._on_the_way.pop(sequence))
            self._take_up()
        elif event == Event.SERVE:
            self._take_up()
        elif event == Event.ANSWER:
            self._resume(number, self._answers.pop(sequence))
        else:
            agent, wait = divmod(number, 1 << 32)
            if self._waiting[agent] is not None and self._agents[agent].num_waits & 0xFFFFFFFF == wait:
                self._waiting[agent] = None
                self._ready.append(agent)

    def _begin(self, number: int) -> None:
        agent = self._agents[number]
        spent = int(self._federation.counters.trajectories[number])
        agent.num_batches, agent.num_sent, agent.results = 0, 0, []
        agent.federation.begin(agent.round, spent / self._budget)
        agent.coroutine = self._algorithm.round(agent.federation, agent.state)
        self._resume(number, None)

    def _resume(self, number: int, value: tuple[Batch, int] | Tensor | None) -> None:
        """Run an agent until it waits for messages or ends its round; what it computes ends later."""
        agent = self._agents[number]
        assert agent.coroutine is not None
        try:
            exchange = agent.coroutine.send(value)
        except StopIteration as stop:
            agent.coroutine = None
            state, self._extra = stop.value
            agent.state = _without_server(state)
            event = Event.FINISH
        else:
            if not isinstance(exchange, Exchange | Service):
                with closing(agent.coroutine):
                    raise BrokenPlugin("a round waited for something that is not the federation")
            agent.exchange, event = exchange, Event.SEND
        self._schedule_event(self.now + agent.seconds, event, number)

    def _finish(self, number: int) -> None:
        agent = self._agents[number]
        self._account(agent)
        agent.round += 1
        agent.results = []
        if number in self._row_of:
            self._adversary.end_round_of(number)
        else:
            self._finished += 1
        self._schedule_event(self.now, Event.BEGIN, number)

    def _account(self, agent: Agent) -> None:
        """Add the time that an agent has just computed to its total."""
        agent.busy += agent.seconds
        agent.seconds = 0.0

    def _send(self, number: int) -> None:
        """Send the vector of an agent, and let it wait."""
        agent = self._agents[number]
        exchange = agent.exchange
        self._account(agent)
        if isinstance(exchange, Service):
            self._send_to_server(number, exchange)
            return
        assert isinstance(exchange, Exchange)
        key = exchange.key
        for message, receivers, columns, seconds in self._transmit(number, exchange):
            times = self.now + seconds
            for time in np.unique(times):
                at = times == time
                delivery = Delivery(key, message, receivers[at], columns[at])
                if time == self.now:
                    self._deliver(delivery)
                else:
                    self._deliveries[self._schedule_event(float(time), Event.DELIVER, number)] = delivery
        staleness = self._schedule.staleness
        self._oldest[number] = 0 if staleness is None else max(0, agent.round - staleness)
        agent.num_waits += 1
        self._waiting[number] = key
        if self._num_arrived(number) >= self._quorums[number]:
            self._waiting[number] = None
            self._ready.append(number)
        elif self._schedule.timeout is not None:
            wait = (number << 32) + (agent.num_waits & 0xFFFFFFFF)
            self._schedule_event(self.now + self._schedule.timeout, Event.TIMEOUT, wait)

    def _send_to_server(self, number: int, service: Service) -> None:
        """Send the vector of an agent to the server."""
        agent, server_node = self._agents[number], len(self._agents)
        edges = torch.stack([torch.arange(len(self._row_of)), torch.full((len(self._row_of),), server_node)], 1)
        message = self._contents(number, service.topic, service.x, edges)[0][0]
        format_of_message, [(message, _)], lost = self._apply_channel(
            number, service.topic, f"{service.topic}/0", [(message, np.ones(1, bool))], 1, reliable=False
        )
        self._federation.counters.charge_agent(service.topic, number, int(message is not None), format_of_message.bytes)
        agent.num_sent += 1
        if message is None or lost[0]:
            self._answer([number], self.now)  # without a message, an agent gets what others have got
            return
        seconds = self._link_seconds(f"{service.topic}/0", agent.round, number, format_of_message.bytes, 1, 1)
        sequence = self._schedule_event(self.now + float(seconds[0]), Event.ARRIVE, number)
        self._on_the_way[sequence] = (number, message)

    def _take_up(self) -> None:
        """Let the server handle the messages that have arrived, if it is free and they are a quorum."""
        senders = {sender for sender, _ in self._arrived}
        if self.now < self._server_free or len(senders) < self._server_quorum:
            return
        arrived, self._arrived = sorted(self._arrived, key=lambda item: item[0]), []
        progress = self._federation.counters.trajectories_spent(torch.from_numpy(self._honest)) / self._budget
        self._server.begin(self._server_rounds, progress)
        self._server_rounds += 1
        for sender, message in arrived:
            if message.malformed:
                self._federation.counters.num_malformed += 1
                continue
            method, state = self._method(), self._server_state
            self._ages.append((state["step"] - state["sent"][0, sender]).numpy().ravel())
            self._server_state = _run(method.receive(self._server, self._server_state, sender, message.vector))
        self._server_free = self.now + self._server_seconds
        self._server_seconds = 0.0
        self._answer(sorted(senders), self._server_free)
        if self._server_free > self.now:
            self._schedule_event(self._server_free, Event.SERVE, 0)

    def _answer(self, receivers: Sequence[int], time: float) -> None:
        """Answer agents at a time."""
        answer, self._server_state = self._method().reply(self._server_state, receivers)
        size = MessageFormat(answer.shape[1]).bytes
        server = len(self._agents)
        self._federation.counters.charge_agent("parameters", server, len(receivers), size)
        for receiver in receivers:
            round = self._agents[receiver].round
            seconds = self._link_seconds(f"parameters/broadcast/{receiver}", round, server, size, 1, 1)
            sequence = self._schedule_event(time + float(seconds[0]), Event.ANSWER, receiver)
            self._answers[sequence] = answer.clone()

    def _method(self) -> ReactiveServer:
        """Return the method of the server."""
        assert isinstance(self._algorithm, ReactiveServer)
        return self._algorithm

    def _num_arrived(self, number: int) -> int:
        """Return the number of messages that an agent could use now."""
        box = self._mailbox(self._waiting[number])
        return int((box.rounds[number] >= self._oldest[number])[self._members.mask[number].numpy()].sum())

    def _mailbox(self, key: str) -> Mailbox:
        """Return the mailbox of an exchange; agents that have stopped earlier have their last vectors in it."""
        box = self._mailboxes.get(key)
        if box is None:
            box = self._mailboxes[key] = Mailbox(self._members)
            topic, _, index = key.rpartition("/")
            for agent, (first, message) in self._closed.get(topic, {}).items():
                if first <= int(index):
                    box.put(message, *self._positions[agent])
        return box

    def _deliver(self, delivery: Delivery) -> None:
        """Deliver a message; receivers whose quorum it completes are ready."""
        box = self._mailbox(delivery.key)
        box.put(delivery.message, delivery.receivers, delivery.columns)
        waiting = delivery.receivers[self._waiting[delivery.receivers] == delivery.key]
        if len(waiting):
            usable = (box.rounds[waiting] >= self._oldest[waiting, None]) & self._members.mask.numpy()[waiting]
            for receiver in waiting[usable.sum(1) >= self._quorums[waiting]].tolist():
                self._waiting[receiver] = None
                self._ready.append(receiver)

    def _release(self) -> None:
        """Let all ready agents go on, those of the same exchange of the same round together."""
        groups: dict[tuple[str, int], list[int]] = {}
        for number in self._ready:
            exchange = self._agents[number].exchange
            assert isinstance(exchange, Exchange)
            groups.setdefault((exchange.key, self._agents[number].round), []).append(number)
        self._ready = []
        for (key, _), numbers in groups.items():
            self._resume_together(key, sorted(numbers))

    def _resume_together(self, key: str, numbers: Sequence[int]) -> None:
        x = []
        for number in numbers:
            exchange = self._agents[number].exchange
            assert isinstance(exchange, Exchange)
            x.append(exchange.x)
        inbox, messages, num_malformed, num_silent = self._mailbox(key).inbox(
            self._members, numbers, self._oldest[numbers].tolist(), x
        )
        self._federation.counters.num_malformed += num_malformed
        self._federation.counters.num_silent += num_silent
        ages = np.zeros(1) if inbox.age is None else inbox.age.numpy()[inbox.mask.numpy()]
        self._ages.append(ages)
        batch = Batch(inbox, messages)
        for row, number in enumerate(numbers):
            self._agents[number].results.append((batch, row))
            self._resume(number, (batch, row))

    # Messages.

    def _transmit(self, number: int, exchange: Exchange) -> list[tuple[Message, np.ndarray, np.ndarray, np.ndarray]]:
        """Return the messages that an agent sends, with their receivers, columns and times in seconds."""
        agent, topic, members = self._agents[number], exchange.topic, self._members
        receivers, columns = self._positions[number]
        own, name, count = receivers == number, exchange.key, len(receivers)
        contents = self._contents(number, topic, exchange.x, members.byzantine_edges[:, :2], exchange.reliable)
        message_format, contents, lost = self._apply_channel(number, topic, name, contents, count, exchange.reliable)
        hops = _HOPS_OF_RELIABLE if exchange.reliable else 1
        seconds = np.zeros(count)
        num_others = int((~own).sum())
        seconds[~own] = self._link_seconds(name, agent.round, number, message_format.bytes, num_others, hops)
        num_messages = int(members.broadcasts[number]) if exchange.reliable else 0
        sent = []
        for message, at in contents:
            if message is not None:
                num_messages += 0 if exchange.reliable else int((at & ~own).sum())
                arriving = at & ~(lost & ~own)
                sent.append((message, receivers[arriving], columns[arriving], seconds[arriving]))
        self._federation.counters.charge_agent(topic, number, num_messages, message_format.bytes)
        agent.num_sent += 1
        return sent

    def _link_seconds(self, name: str, round: int, sender: int, size: int, messages: int, hops: int) -> np.ndarray:
        """Return the time of the messages of one sender in one exchange, float64 [messages]."""
        return link_seconds(self._schedule, self._streams, name, round, sender, size, messages, hops)

    def _apply_channel(
        self, number: int, topic: str, name: str, contents: Contents, count: int, reliable: bool
    ) -> tuple[MessageFormat, Contents, np.ndarray]:
        """Encode the messages of one sender, and draw which are lost.

        Args:
            number: The sender.
            topic: The topic.
            name: The name of the exchange.
            contents: The messages.
            count: The number of receivers.
            reliable: Whether messages are repeated until they arrive.

        Returns:
            The format of a message, the messages as receivers decode them, and the lost ones, bool [count].
        """
        dimension = self._federation.theta0.shape[1]
        message_format, lost = MessageFormat(dimension), np.zeros(count, bool)
        for i, part in enumerate(self._parts):
            if part.applies_to(topic):
                rng = self._streams.generator(f"channel/{name}/{i}", self._agents[number].round, number + 1)
                message_format = part.pack(message_format, dimension)
                contents = self._encode(f"{name}/{i}/{number}", part, contents, rng)
                delays = None if reliable else part.draw_delays(count, 1, rng)
                if delays is not None:
                    lost |= delays[:, 0] < 0
        return message_format, contents, lost

    def _contents(self, number: int, topic: str, x: Tensor, edges: Tensor, reliable: bool = False) -> Contents:
        """Return the messages of an agent before the channel, each with the receivers that get it; None for silence.

        An attack crafts the messages of a Byzantine agent from the newest vectors that honest agents have sent.

        Args:
            number: The agent.
            topic: The topic.
            x: The vector that the agent has computed, [d].
            edges: int64 [E, 2], the edges on which Byzantine agents send.
            reliable: Whether all receivers get the same message.
        """
        agent, (receivers, _) = self._agents[number], self._positions[number]
        everyone = np.ones(len(receivers), bool)
        own_message = _message(number, agent.round, x)
        if not self._row_of:
            return [(own_message, everyone)]
        if topic not in self._latest:
            self._latest[topic] = x.new_zeros(len(self._agents), len(x)), np.zeros(len(self._agents), bool)
        table, has_sent = self._latest[topic]
        table[number], has_sent[number] = x, True
        if number not in self._row_of:
            return [(own_message, everyone)]
        vectors = torch.where(torch.from_numpy(has_sent).unsqueeze(1).to(table.device), table, x)
        self._adversary.resume_exchange(agent.round, agent.num_sent)
        crafted = _run(self._adversary.craft_messages(topic, vectors, edges))
        if crafted is None:
            return [(own_message, everyone)]
        row, own = self._row_of[number], receivers == number

        def crafted_message(i: int) -> Message | None:
            if crafted.silent[i]:
                return None
            return Message(number, agent.round, crafted.vectors[i].to(x), bool(crafted.malformed[i]))

        own_edges = (edges[:, 0] == row).nonzero().squeeze(1).tolist()
        if not self._adversary.equivocates:
            return [(crafted_message(row), everyone)]
        if len(own_edges) == 1:
            return [(crafted_message(own_edges[0]), everyone)]
        if reliable and own_edges:
            return [(own_message, own), (crafted_message(own_edges[0]), ~own)]
        receiver_of = {edge: int(edges[edge, 1]) for edge in own_edges}
        return [(own_message, own), *((crafted_message(e), receivers == receiver_of[e]) for e in own_edges)]

    def _encode(self, where: str, part: Channel, contents: Contents, rng: np.random.Generator) -> Contents:
        """Encode and decode the messages of one sender with one part of the channel.

        A message to all has a memory of its sender; messages on single edges have none.
        """
        encoded: Contents = []
        for message, at in contents:
            if message is None or message.malformed:
                encoded.append((message, at))
                continue
            shared = len(contents) == 1
            decoded, memory = part.encode(
                message.vector.unsqueeze(0), self._codes.get(where, {}) if shared else {}, rng
            )
            if shared and memory:
                self._codes[where] = memory
            encoded.append((Message(message.sender, message.round, decoded[0]), at))
        return encoded


def _message(sender: int, round: int, vector: Tensor) -> Message:
    """Return the message with a vector, which is malformed if it is not finite."""
    finite = bool(np.isfinite(to_array(vector)).all())
    return Message(sender, round, vector if finite else torch.zeros_like(vector), not finite)


def _without_server(state: State) -> State:
    """Return the entries of a state that belong to an agent."""
    return {name: part for name, part in state.items() if not name.startswith(SERVER)}


def _positions_of_senders(members: CommunicationGraph) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the receivers of each agent, itself included, and its column in the inbox of each."""
    mask, senders = members.mask.numpy(), members.senders.numpy()
    receivers, columns = mask.nonzero()
    authors = senders[receivers, columns]
    order = np.lexsort((receivers, authors))
    starts = np.searchsorted(authors[order], np.arange(members.num_agents + 1))
    return [(receivers[order[a:b]], columns[order[a:b]]) for a, b in pairwise(starts)]


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that does not wait."""
    with closing(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
    raise BrokenPlugin("an attack waited for something")
