"""Event-driven simulation of asynchronous agents on a virtual clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Algorithm, Channel, MessageServer, Schedule, State
from byzbench.errors import BrokenPlugin, Undefined
from byzbench.federation.adversary import Adversary
from byzbench.federation.agent_federation import AgentFederation, Batch, Exchange, ServerFederation, Service
from byzbench.federation.clock import batch_seconds, never_met
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.event_network import EventNetwork, Sender, groups, new_message
from byzbench.federation.event_server import EventServer
from byzbench.federation.federation import SERVER, SimulatedFederation, server_state
from byzbench.federation.mailboxes import Mailbox, Message, MessageTable
from byzbench.randomness import Streams

_DTYPES = dict.fromkeys(("now", "seconds", "events"), torch.float64)
"""The types of parts of a checkpoint that are not integers."""

_MEMORY = "."
"""An entry that keeps an empty memory of an attack in a checkpoint."""


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

    def state_dict(self, table: MessageTable) -> State:
        """Return the delivery for a checkpoint; its key is part of its path."""
        positions = torch.from_numpy(np.stack([self.receivers, self.columns]))
        return {"positions": positions, "message": table.numbers([self.message])}

    @classmethod
    def from_state_dict(cls, key: str, saved: State, table: MessageTable) -> Delivery:
        """Return the delivery of what `state_dict` returned."""
        receivers, columns = saved["positions"].numpy().copy()
        return cls(key, table.messages(saved["message"])[0], receivers, columns)


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
        num_sent: The number of exchanges in which it has sent messages in its round.
        coroutine: Its round; None between rounds.
        outcome: What its round returned, while it computes its batches, of an agent that exchanges nothing; else None.
        results: What it has received in its round.
        memories: The memory of the attack before each of its rollouts with environment hooks in its round.
        replayed: The number of these that it has used when its round is run again.
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
    outcome: tuple[State, Mapping[str, float]] | None = None
    results: list[tuple[Batch, int] | Tensor] = field(default_factory=list)
    memories: list[State] = field(default_factory=list)
    replayed: int = 0

    @property
    def is_running(self) -> bool:
        """Return whether it is in a round that it has begun to compute."""
        return self.coroutine is not None or self.outcome is not None


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
        num_events: The number of events so far.
    """

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        federation: SimulatedFederation,
        adversary: Adversary,
        schedule: Schedule,
        channel: Channel,
        streams: Streams,
        members: CommunicationGraph,
        budget: int,
    ) -> None:
        self.now = 0.0
        self._algorithm, self._federation, self._adversary, self._schedule = algorithm, federation, adversary, schedule
        self._streams, self._members, self._budget = streams, members, budget
        num_agents = members.num_agents
        self._honest = ~members.byzantine.numpy()
        self._num_honest = int(self._honest.sum())
        self._speeds = schedule.draw_speeds(num_agents, streams.generator("schedule/speed"))
        self._network = EventNetwork(members, adversary, channel, schedule, streams, federation.counters)
        self._row_of, self._timing, self._lead = self._network.row_of, self._network.timing, 0
        self._mailboxes: dict[str, Mailbox] = {}
        self._closed: dict[str, dict[int, tuple[int, Message]]] = {}
        self._coins: dict[tuple[str, int], Tensor] = {}
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
        self._on_the_way: dict[int, tuple[int, Message]] = {}
        self._answers: dict[int, Tensor] = {}
        self._start()

    def _start(self) -> None:
        """Let all agents begin their first rounds."""
        self._agents: list[Agent] = []
        state: State = {}
        for agent in range(self._members.num_agents):
            view = AgentFederation(self._federation, agent, self)
            view.begin(0, 0.0)
            state = self._algorithm.start(view)
            self._agents.append(Agent(view, _without_server(state)))
            self._schedule_event(0.0, Event.BEGIN, agent)
        num_agents = self._members.num_agents
        self._server = EventServer(
            method=cast(MessageServer, self._algorithm),  # one that handles messages is its own server
            federation=ServerFederation(self._federation, self),
            state=server_state(state),
            quorum=self._schedule.quorum_of(num_agents, self._members.bound(num_agents), at_server=True),
            progress=self._progress_of_server,
        )

    # What the runner uses.

    @property
    def state(self) -> State:
        """Return the state of all agents after their last finished rounds."""
        states = [agent.state for agent in self._agents]
        state = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        return {**state, **{SERVER + name: part for name, part in self._server.state.items()}}

    def _progress_of_server(self) -> float:
        """Return the share of the budget that is spent."""
        return self._federation.counters.trajectories_spent(torch.from_numpy(self._honest)) / self._budget

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
        if self._server.arrived:
            return never_met(self._server.quorum, len(self._server.arrived))
        number = next(k for k in np.argsort(~self._honest, kind="stable") if self._waiting[k] is not None)
        return never_met(int(self._network.quorums[number]), self._num_arrived(number))

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

    def state_dict(self) -> State:
        """Return everything but the state of the algorithm for a checkpoint.

        A coroutine cannot be stored. So the round of each agent is run again from its start, with what it has received.
        """
        table, agents = MessageTable(), self._agents
        boxes = sorted(self._mailboxes)
        saved: dict[str, Any] = {
            "now": [self.now],
            "counts": [self._sequence, self._finished, self._line, self.num_events],
            "events": [list(event) for event in self._events],
            "rounds": [[a.round, a.num_batches, a.num_waits, a.num_sent, a.is_running] for a in agents],
            "seconds": [[a.seconds, a.busy, a.federation.progress] for a in agents],
            "waiting": [-1 if key is None else boxes.index(key) for key in self._waiting],
            "oldest": self._oldest.tolist(),
            "ready": self._ready,
            "arriving": [[seq, sender, table.number(m)] for seq, (sender, m) in self._on_the_way.items()],
        }
        state = {name: torch.tensor(v, dtype=_DTYPES.get(name, torch.int64)) for name, v in saved.items()}
        if self._federation.statistics.returns is not None:
            state["returns"] = self._federation.statistics.returns
        groups: dict[str, State] = {
            **{f"mailbox/{key}": self._mailboxes[key].state_dict(table) for key in boxes},
            **{f"delivery/{seq}/{d.key}": d.state_dict(table) for seq, d in self._deliveries.items()},
            "network": self._network.state_dict(),
            "server": self._server.state_dict(table),
            "answer": {str(seq): answer for seq, answer in self._answers.items()},
            "coin": {f"{name}/{round}": values for (name, round), values in self._coins.items()},
            "closed": {
                topic: torch.tensor([[agent, first, table.number(m)] for agent, (first, m) in closed.items()])
                for topic, closed in self._closed.items()
            },
        }
        if self._direction is not None:
            direction, at, known = self._direction
            groups["direction"] = {"direction": direction, "at": at, "known": torch.from_numpy(known)}
        batches: dict[int, int] = {}
        for number, agent in enumerate(agents):
            for i, result in enumerate(agent.results):
                if isinstance(result, Tensor):
                    groups[f"result/{number}/{i}"] = {"answer": result}
                    continue
                batch, row = result
                if id(batch) not in batches:
                    batches[id(batch)] = len(batches)
                    groups[f"batch/{batches[id(batch)]}"] = batch.state_dict(table)
                groups[f"result/{number}/{i}"] = {"batch": torch.tensor([batches[id(batch)], row])}
            for i, memory in enumerate(agent.memories):
                groups[f"memory/{number}/{i}"] = {**memory, _MEMORY: torch.zeros(0)}
        groups["message"] = table.state_dict()
        return state | {f"{group}/{name}": part for group, parts in groups.items() for name, part in parts.items()}

    def load_state_dict(self, saved: State, state: State) -> None:
        """Load what `state_dict` returned, and run the unfinished round of each agent up to where it was.

        Args:
            saved: The checkpoint of the loop.
            state: The state of the algorithm at the checkpoint, as `state` returned it.

        Raises:
            KeyError, IndexError, ValueError: The checkpoint is not one of this experiment.
        """
        message = {name: saved[f"message/{name}"] for name in ("vectors", "facts") if f"message/{name}" in saved}
        table = MessageTable(**message)
        self._load_parts(saved, table)
        rows = _without_server(state)
        self._server.state = server_state(state)
        coins = dict(self._coins)
        batches = {int(number): Batch.from_state_dict(part, table) for number, part in groups(saved, "batch", 1)}
        results: dict[int, dict[int, tuple[Batch, int] | Tensor]] = {}
        for path, part in groups(saved, "result", 2):
            number, i = map(int, path.split("/"))
            results.setdefault(number, {})[i] = (
                part["answer"] if "answer" in part else (batches[int(part["batch"][0])], int(part["batch"][1]))
            )
        memories: dict[int, dict[int, State]] = {}
        for path, part in groups(saved, "memory", 2):
            number, i = map(int, path.split("/"))
            memories.setdefault(number, {})[i] = {name: value for name, value in part.items() if name != _MEMORY}
        facts = zip(saved["rounds"].tolist(), saved["seconds"].tolist(), strict=True)
        for number, (counts, (seconds, busy, progress)) in enumerate(facts):
            agent = self._agents[number]
            agent.state = {name: part[number : number + 1] for name, part in rows.items()}
            agent.results = [results[number][i] for i in range(len(results.get(number, {})))]
            agent.memories = [memories[number][i] for i in range(len(memories.get(number, {})))]
            agent.round, *_, is_running = counts
            agent.num_batches = agent.num_sent = agent.replayed = 0
            if is_running:
                self._replay(agent, progress)
            _, agent.num_batches, agent.num_waits, agent.num_sent, _ = counts
            agent.seconds, agent.busy = seconds, busy
        self._coins, self._lead = coins, int(saved["rounds"][self._honest, 0].max())
        self._load_parts(saved, table)  # again, as the rounds have closed agreements and recorded directions

    def _replay(self, agent: Agent, progress: float) -> None:
        """Run the round of an agent again, with what it has received."""
        agent.federation.begin(agent.round, progress)
        agent.coroutine = self._algorithm.round(agent.federation, agent.state)
        try:
            request = agent.coroutine.send(None)
            for result in agent.results:
                agent.num_sent += 1
                request = agent.coroutine.send(result)
            agent.exchange = request
        except StopIteration as stop:
            agent.coroutine, agent.outcome = None, stop.value

    def _load_parts(self, saved: State, table: MessageTable) -> None:
        """Load what does not belong to one agent."""
        self.now = float(saved["now"])
        self._sequence, self._finished, self._line, self.num_events = saved["counts"].tolist()
        self._events = [
            (time, int(seq), Event(int(kind)), int(number)) for time, seq, kind, number in saved["events"].tolist()
        ]
        self._oldest, self._ready = saved["oldest"].numpy().copy(), saved["ready"].tolist()
        self._on_the_way = {seq: (sender, table.messages(n)[0]) for seq, sender, n in _rows(saved["arriving"])}
        self._network.load_state_dict(_group(saved, "network"))
        self._server.load_state_dict(_group(saved, "server"), table)
        self._mailboxes = {}
        for key, part in groups(saved, "mailbox", 2):
            self._mailboxes[key] = Mailbox(self._members)
            self._mailboxes[key].load_state_dict(part, table)
        boxes = sorted(self._mailboxes)
        self._waiting = np.array([None if i < 0 else boxes[i] for i in saved["waiting"].tolist()], object)
        self._deliveries = {
            int(path.partition("/")[0]): Delivery.from_state_dict(path.partition("/")[2], part, table)
            for path, part in groups(saved, "delivery", 3)
        }
        self._answers = {int(name.partition("/")[2]): t for name, t in saved.items() if name.startswith("answer/")}
        coins = [(name.split("/"), t) for name, t in saved.items() if name.startswith("coin/")]
        self._coins = {("/".join(path[1:-1]), int(path[-1])): values for path, values in coins}
        self._closed = {
            name.partition("/")[2]: {agent: (first, table.messages(n)[0]) for agent, first, n in _rows(t)}
            for name, t in saved.items()
            if name.startswith("closed/")
        }
        self._direction = None
        for _, part in groups(saved, "direction", 0):
            self._direction = part["direction"], part["at"], part["known"].numpy().copy()
        self._federation.statistics.returns = saved.get("returns")

    # What the agents use.

    def compute(self, agent: int, steps: int) -> None:
        """Let an agent compute a batch of environment steps from now on."""
        record = self._agents[agent]
        if self._timing.is_instant and agent in self._row_of:
            return
        record.seconds += batch_seconds(
            self._schedule, self._speeds, self._streams, record.round, agent, record.num_batches, steps
        )
        record.num_batches += 1

    def compute_at_server(self, steps: int) -> None:
        """Let the server compute a batch of environment steps, at speed 1."""
        self._server.free += steps / self._schedule.rate

    def before_hooks(self, agent: int) -> None:
        """Prepare the adversary for environment hooks of a Byzantine agent.

        A round that is run again after an interruption finds the attack's memory as it was at the first time.
        """
        record = self._agents[agent]
        if record.replayed < len(record.memories):
            self._adversary.load_state_dict(record.memories[record.replayed])
        elif self._adversary.has_hooks:
            record.memories.append(self._adversary.state_dict())
        record.replayed += 1
        self._adversary.resume_exchange(record.round, record.num_sent)

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
        message = new_message(agent, record.round, vector)
        self._closed.setdefault(topic, {})[agent] = (first, message)
        receivers, columns = self._network.reached_by_last(topic, agent)
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
            sender, message = self._on_the_way.pop(sequence)
            self._server.arrived += [(sender, message)] * self._network.num_copies(sender)
            self._take_up()
        elif event == Event.SERVE:
            self._take_up()
        elif event == Event.ANSWER:
            answer = self._answers.pop(sequence)
            self._agents[number].results.append(answer)
            self._resume(number, answer)
        else:
            agent, wait = divmod(number, 1 << 32)
            if self._waiting[agent] is not None and self._agents[agent].num_waits & 0xFFFFFFFF == wait:
                self._waiting[agent] = None
                self._ready.append(agent)

    def _begin(self, number: int) -> None:
        agent = self._agents[number]
        spent = int(self._federation.counters.trajectories[number])
        agent.num_batches = agent.num_sent = agent.replayed = 0
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
            agent.coroutine, agent.outcome = None, stop.value
            if self._algorithm.communication.sends_messages:
                self._end_round(number)  # with the use of its last messages; a batch after them delays the next round
            event = Event.FINISH
        else:
            if not isinstance(exchange, Exchange | Service):
                with closing(agent.coroutine):
                    raise BrokenPlugin("a round waited for something that is not the federation")
            agent.exchange, event = exchange, Event.SEND
        self._schedule_event(self.now + agent.seconds, event, number)

    def _end_round(self, number: int) -> None:
        """Let an agent have the state that its round returned."""
        agent = self._agents[number]
        assert agent.outcome is not None
        state, self._extra = agent.outcome
        agent.state, agent.outcome = _without_server(state), None
        agent.results, agent.memories = [], []
        if number in self._row_of:
            self._adversary.end_round_of(number)

    def _finish(self, number: int) -> None:
        agent = self._agents[number]
        if agent.outcome is not None:
            self._end_round(number)
        self._account(agent)
        agent.round += 1
        self._finished += number not in self._row_of
        if not self._timing.is_instant:
            self._schedule_event(self.now, Event.BEGIN, number)
        else:
            self._keep_pace(number)

    def _keep_pace(self, number: int) -> None:
        """Begin the next round of an agent, if it is not a Byzantine one that would begin it before all honest agents.

        Without a time to compute, such an agent could run any number of rounds at once.
        """
        round = self._agents[number].round
        if number not in self._row_of or round <= self._lead:
            self._schedule_event(self.now, Event.BEGIN, number)
        if number not in self._row_of and round > self._lead:
            self._lead = round
            for other in self._row_of:
                if self._agents[other].round == round and self._agents[other].coroutine is None:
                    self._schedule_event(self.now, Event.BEGIN, other)

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
        for message, receivers, columns, seconds in self._network.transmit(self._sender(number), exchange):
            for time in sorted(set(seconds.tolist())):
                at = seconds == time
                delivery = Delivery(key, message, receivers[at], columns[at])
                if time == 0:
                    self._deliver(delivery)
                else:
                    self._deliveries[self._schedule_event(self.now + time, Event.DELIVER, number)] = delivery
        agent.num_sent += 1
        self._oldest[number] = self._schedule.oldest(agent.round)
        agent.num_waits += 1
        self._waiting[number] = key
        if self._num_arrived(number) >= self._network.awaited(key)[1][number]:
            self._waiting[number] = None
            self._ready.append(number)
        elif self._schedule.timeout is not None:
            wait = (number << 32) + (agent.num_waits & 0xFFFFFFFF)
            self._schedule_event(self.now + self._schedule.timeout, Event.TIMEOUT, wait)

    def _send_to_server(self, number: int, service: Service) -> None:
        """Send the vector of an agent to the server."""
        message, seconds = self._network.transmit_to_server(self._sender(number), service)
        self._agents[number].num_sent += 1
        if message is None:
            self._answer([number], self.now)  # without a message, an agent gets what others have got
        else:
            self._on_the_way[self._schedule_event(self.now + seconds, Event.ARRIVE, number)] = (number, message)

    def _take_up(self) -> None:
        """Let the server handle the messages that have arrived, if it can, and answer their senders."""
        if self._server.is_ready(self.now):
            senders, ages = self._server.take_up(self.now)
            self._ages.append(np.array(ages))
            self._answer(senders, self._server.free)
            if self._server.free > self.now:
                self._schedule_event(self._server.free, Event.SERVE, 0)

    def _answer(self, receivers: Sequence[int], time: float) -> None:
        """Answer agents at a time."""
        answer = self._server.reply(receivers)
        for receiver in receivers:
            seconds = self._network.transmit_answer(receiver, self._agents[receiver].round, answer.shape[1])
            self._answers[self._schedule_event(time + seconds, Event.ANSWER, receiver)] = answer.clone()

    def _sender(self, number: int) -> Sender:
        """Return an agent as the network knows it."""
        return Sender(number, self._agents[number].round, self._agents[number].num_sent)

    def _num_arrived(self, number: int) -> int:
        """Return the number of messages that an agent could use now."""
        key = self._waiting[number]
        usable = self._mailbox(key).rounds[number] >= self._oldest[number]
        return int((usable & self._network.awaited(key)[0][number]).sum())

    def _mailbox(self, key: str) -> Mailbox:
        """Return the mailbox of an exchange; agents that have stopped earlier have their last vectors in it."""
        box = self._mailboxes.get(key)
        if box is None:
            box = self._mailboxes[key] = Mailbox(self._members)
            topic, _, index = key.rpartition("/")
            for agent, (first, message) in self._closed.get(topic, {}).items():
                if first <= int(index):
                    box.put(message, *self._network.reached_by_last(topic, agent))
        return box

    def _deliver(self, delivery: Delivery) -> None:
        """Deliver a message; receivers whose quorum it completes are ready."""
        box = self._mailbox(delivery.key)
        box.put(delivery.message, delivery.receivers, delivery.columns)
        waiting = delivery.receivers[self._waiting[delivery.receivers] == delivery.key]
        if len(waiting):
            awaited, quorums = self._network.awaited(delivery.key)
            usable = (box.rounds[waiting] >= self._oldest[waiting, None]) & awaited[waiting]
            for receiver in waiting[usable.sum(1) >= quorums[waiting]].tolist():
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
            if self._network.is_last(exchange.topic) and self._honest[number]:
                box, oldest = self._mailbox(key), int(self._oldest[number])
                self._network.send_last(self._sender(number), exchange, box, oldest)
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


def _rows(table: Tensor) -> list[list[Any]]:
    """Return the rows of an integer table whose last column becomes a tensor [1]."""
    return [[*row[:-1].tolist(), row[-1:]] for row in table] if table.numel() else []


def _group(saved: State, name: str) -> State:
    """Return a group of a checkpoint, without its name."""
    return {path.partition("/")[2]: part for path, part in saved.items() if path.partition("/")[0] == name}


def _without_server(state: State) -> State:
    """Return the entries of a state that belong to an agent."""
    return {name: part for name, part in state.items() if not name.startswith(SERVER)}
