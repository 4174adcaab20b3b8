"""The network of asynchronous agents: Byzantine messages, the channel, times of arrival, and traffic."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from contextlib import closing
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Channel, MessageFormat, Schedule, State
from byzbench.core.messages import ValidatedMessages
from byzbench.errors import BrokenPlugin
from byzbench.federation.adversary import Adversary
from byzbench.federation.agent_federation import Exchange, Service
from byzbench.federation.clock import link_seconds
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.mailboxes import Mailbox, Message
from byzbench.federation.statistics import Counters
from byzbench.geometry.pairwise_distances import to_array
from byzbench.randomness import Streams

_HOPS_OF_RELIABLE = 3
"""The successive messages of a reliable broadcast: the message, its echo, and the echo of that (Bracha 1987)."""

Contents: TypeAlias = list[tuple[Message | None, np.ndarray]]
"""Messages of one sender, each with a mask of its receivers; None for silence."""


class Sender(NamedTuple):
    """An agent that sends.

    Attributes:
        number: The agent.
        round: Its round.
        num_sent: The number of exchanges in which it has sent messages in this round.
    """

    number: int
    round: int
    num_sent: int


class EventNetwork:
    """Network of agents that send at different times.

    Args:
        members: The communication graph.
        adversary: The adversary that crafts Byzantine messages.
        channel: The channel that encodes and loses messages.
        schedule: The law of the time that messages take.
        streams: The random streams of the experiment.
        counters: The counters of messages.

    Attributes:
        quorums: int64 [K], the number of messages that each agent waits for.
        timing: When messages arrive under the attack.
        row_of: The row of each Byzantine agent among the Byzantine agents.
    """

    def __init__(
        self,
        members: CommunicationGraph,
        adversary: Adversary,
        channel: Channel,
        schedule: Schedule,
        streams: Streams,
        counters: Counters,
    ) -> None:
        self._members, self._adversary, self._schedule, self._streams = members, adversary, schedule, streams
        self._parts, self._counters = list(channel.parts), counters
        self.timing = adversary.timing
        self.row_of = {agent: row for row, agent in enumerate(members.byzantine_ids)}
        self._honest, self._mask = ~members.byzantine.numpy(), members.mask.numpy()
        counts = zip(self._mask.sum(1).tolist(), members.bounds.tolist(), strict=True)
        self.quorums = np.array([schedule.quorum_of(n, f) for n, f in counts])
        to_honest = self._honest[:, None] & members.byzantine.numpy()[members.senders.numpy()] & self._mask
        self._without_last = self._mask & ~to_honest, np.maximum(self.quorums - to_honest.sum(1), 1)
        self._positions = _positions_of_senders(members)
        self._held = self._held_messages()
        self._codes: dict[str, State] = {}
        self._latest: dict[str, tuple[Tensor, np.ndarray]] = {}

    def transmit(self, sender: Sender, exchange: Exchange) -> list[tuple[Message, np.ndarray, np.ndarray, np.ndarray]]:
        """Return the messages that an agent sends, with their receivers, columns and times in seconds."""
        number, topic, members = sender.number, exchange.topic, self._members
        receivers, columns = self._positions[number]
        own, name, count = receivers == number, exchange.key, len(receivers)
        contents = self._contents(sender, topic, exchange.x, members.byzantine_edges[:, :2], exchange.reliable)
        if number in self.row_of and self.is_last(topic):
            contents = [(message, at & ~self._honest[receivers]) for message, at in contents]
        message_format, contents, lost = self._apply_channel(sender, topic, name, contents, count, exchange.reliable)
        hops = _HOPS_OF_RELIABLE if exchange.reliable else 1
        seconds = np.zeros(count)
        num_others = int((~own).sum())
        seconds[~own] = self._link_seconds(name, sender.round, number, message_format.bytes, num_others, hops)
        if number in self._held:
            seconds[self._held[number]] += self.timing.seconds
        num_messages = int(members.broadcasts[number]) if exchange.reliable else 0
        sent = []
        if contents[0][0] is None:  # an agent has its own vector, even if it sends none
            sent.append((new_message(number, sender.round, exchange.x), receivers[own], columns[own], seconds[own]))
        for message, at in contents:
            if message is not None:
                num_messages += 0 if exchange.reliable else int((at & ~own).sum())
                arriving = at & ~(lost & ~own) & np.isfinite(seconds)
                sent.append((message, receivers[arriving], columns[arriving], seconds[arriving]))
        self._counters.charge_agent(topic, number, num_messages, message_format.bytes)
        return sent

    def transmit_to_server(self, sender: Sender, service: Service) -> tuple[Message | None, float]:
        """Return the message that an agent sends to a server, and its time in seconds.

        The message is None if it is not sent, or lost.
        """
        number, topic, name = sender.number, service.topic, f"{service.topic}/0"
        rows = torch.arange(len(self.row_of))
        edges = torch.stack([rows, torch.full_like(rows, self._members.num_agents)], 1)
        message = self._contents(sender, topic, service.x, edges)[0][0]
        contents: Contents = [(message, np.ones(1, bool))]
        message_format, [(message, _)], lost = self._apply_channel(sender, topic, name, contents, 1, reliable=False)
        num_messages = 0 if message is None else self.num_copies(number)
        self._counters.charge_agent(topic, number, num_messages, message_format.bytes)
        if message is None or lost[0]:
            return None, 0.0
        seconds = float(self._link_seconds(name, sender.round, number, message_format.bytes, 1, 1)[0])
        return message, seconds + (self.timing.seconds if number in self._held else 0.0)

    def num_copies(self, sender: int) -> int:
        """Return the number of times that a server receives each message of an agent."""
        return self.timing.copies if sender in self.row_of else 1

    def transmit_answer(self, receiver: int, round: int, dimension: int) -> float:
        """Return the time of an answer of the server to an agent in its round, in seconds."""
        server, size = self._members.num_agents, MessageFormat(dimension).bytes
        self._counters.charge_agent("parameters", server, 1, size)
        return float(self._link_seconds(f"parameters/broadcast/{receiver}", round, server, size, 1, 1)[0])

    def awaited(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the messages for which agents wait in an exchange, bool [K, n], and the quorums of these, int64 [K].

        For Byzantine messages that are sent last, nobody waits.
        """
        return self._without_last if self.is_last(key.rpartition("/")[0]) else (self._mask, self.quorums)

    def is_last(self, topic: str) -> bool:
        """Return whether Byzantine agents send their messages of a topic last."""
        return self.timing.is_last and self._adversary.targets(topic)

    def reached_by_last(self, topic: str, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the receivers of the last vector of an agent, and its column in the inbox of each."""
        receivers, columns = self._positions[number]
        reached = np.ones(len(receivers), bool)
        if number in self.row_of and self.is_last(topic):
            reached = ~self._honest[receivers]
        elif number in self._held and math.isinf(self.timing.seconds):
            reached = ~self._held[number]
        return receivers[reached], columns[reached]

    def send_last(self, receiver: Sender, exchange: Exchange, box: Mailbox, oldest: int) -> None:
        """Let Byzantine agents send an honest agent their messages, crafted from the messages that it has received.

        By reliable broadcast, their messages are those that another honest agent has received for this round or a later
        one, if there are any.

        Args:
            receiver: The honest agent.
            exchange: The exchange for which it waits.
            box: The mailbox of the exchange.
            oldest: The first round of messages that count for it.
        """
        number, topic, key = receiver.number, exchange.topic, exchange.key
        edges = self._members.byzantine_edges
        edges = edges[edges[:, 1] == number]
        vectors = self._newest(topic, exchange.x)
        usable = self._without_last[0][number] & (box.rounds[number] >= oldest)
        for message in box.messages[number, usable]:
            if not message.malformed:
                vectors[message.sender] = message.vector
        self._adversary.resume_exchange(receiver.round, receiver.num_sent - 1)
        updated = torch.zeros(len(self.row_of), dtype=torch.bool)
        crafted = run_at_once(self._adversary.craft_messages(topic, vectors, edges[:, :2], updated=updated))
        for i, (row, _, column) in enumerate(edges.tolist()):
            sender = self._members.byzantine_ids[row]
            receivers, columns = self._positions[sender]
            message = box.newest(receivers[self._honest[receivers]], columns[self._honest[receivers]])
            if not exchange.reliable or message is None or message.round < receiver.round:
                at = receivers == number
                message = _crafted_message(
                    sender, receiver.round, crafted, i if self._adversary.equivocates else row, exchange.x
                )
                contents: Contents = [(message, at), (None, ~at)]
                message_format, [(message, _), _], lost = self._apply_channel(
                    receiver._replace(number=sender), topic, key, contents, len(receivers), exchange.reliable
                )
                if message is not None and not exchange.reliable:
                    self._counters.charge_agent(topic, sender, 1, message_format.bytes)
                message = None if lost[at].any() else message
            if message is not None:
                box.put(message, np.array([number]), np.array([column]))

    def state_dict(self) -> State:
        """Return the memories of channel codes, and the newest vectors of each topic, for a checkpoint."""
        return {
            **{f"code/{where}/{name}": part for where, code in self._codes.items() for name, part in code.items()},
            **{f"latest/{topic}/table": rows for topic, (rows, _) in self._latest.items()},
            **{f"latest/{topic}/sent": torch.from_numpy(sent) for topic, (_, sent) in self._latest.items()},
        }

    def load_state_dict(self, saved: State) -> None:
        """Load what `state_dict` returned."""
        self._codes = dict(groups(saved, "code", 4))
        self._latest = {topic: (p["table"], p["sent"].numpy().copy()) for topic, p in groups(saved, "latest", 1)}

    def _link_seconds(self, name: str, round: int, sender: int, size: int, messages: int, hops: int) -> np.ndarray:
        """Return the time of the messages of one sender in one exchange, float64 [messages]."""
        return link_seconds(self._schedule, self._streams, name, round, sender, size, messages, hops)

    def _apply_channel(
        self, sender: Sender, topic: str, name: str, contents: Contents, count: int, reliable: bool
    ) -> tuple[MessageFormat, Contents, np.ndarray]:
        """Encode the messages of one sender, and draw which are lost.

        Args:
            sender: The sender.
            topic: The topic.
            name: The name of the exchange.
            contents: The messages.
            count: The number of receivers.
            reliable: Whether messages are repeated until they arrive.

        Returns:
            The format of a message, the messages as receivers decode them, and the lost ones, bool [count].
        """
        dimension = next((len(message.vector) for message, _ in contents if message is not None), 0)
        message_format, lost = MessageFormat(dimension), np.zeros(count, bool)
        for i, part in enumerate(self._parts):
            if part.applies_to(topic):
                rng = self._streams.generator(f"channel/{name}/{i}", sender.round, sender.number + 1)
                message_format = part.pack(message_format, dimension)
                contents = self._encode(f"{name}/{i}/{sender.number}", part, contents, rng)
                delays = None if reliable else part.draw_delays(count, 1, rng)
                if delays is not None:
                    lost |= delays[:, 0] < 0
        return message_format, contents, lost

    def _contents(self, sender: Sender, topic: str, x: Tensor, edges: Tensor, reliable: bool = False) -> Contents:
        """Return the messages of an agent before the channel, each with the receivers that get it; None for silence.

        An attack crafts the messages of a Byzantine agent from the newest vectors that honest agents have sent.

        Args:
            sender: The agent.
            topic: The topic.
            x: The vector that the agent has computed, [d].
            edges: int64 [E, 2], the edges on which Byzantine agents send.
            reliable: Whether all receivers get the same message.
        """
        number, round, num_sent = sender
        receivers, _ = self._positions[number]
        everyone = np.ones(len(receivers), bool)
        own_message = new_message(number, round, x)
        if not self.row_of:
            return [(own_message, everyone)]
        if topic not in self._latest:
            num_agents = self._members.num_agents
            self._latest[topic] = x.new_zeros(num_agents, len(x)), np.zeros(num_agents, bool)
        table, has_sent = self._latest[topic]
        table[number], has_sent[number] = x, True
        if number not in self.row_of:
            return [(own_message, everyone)]
        row, own = self.row_of[number], receivers == number
        self._adversary.resume_exchange(round, num_sent)
        updated = torch.arange(len(self.row_of)) == row
        crafted = run_at_once(self._adversary.craft_messages(topic, self._newest(topic, x), edges, updated=updated))
        if crafted is None:
            return [(own_message, everyone)]

        def crafted_message(i: int) -> Message | None:
            return _crafted_message(number, round, crafted, i, x)

        own_edges = (edges[:, 0] == row).nonzero().squeeze(1).tolist()
        if not self._adversary.equivocates:
            return [(crafted_message(row), everyone)]
        if len(own_edges) == 1:
            return [(crafted_message(own_edges[0]), everyone)]
        if reliable and own_edges:
            return [(own_message, own), (crafted_message(own_edges[0]), ~own)]
        receiver_of = {edge: int(edges[edge, 1]) for edge in own_edges}
        return [(own_message, own), *((crafted_message(e), receivers == receiver_of[e]) for e in own_edges)]

    def _newest(self, topic: str, x: Tensor) -> Tensor:
        """Return the newest vectors [K, d] of a topic that agents have sent, and x [d] in place of missing ones."""
        table, has_sent = self._latest[topic]
        return torch.where(torch.from_numpy(has_sent).unsqueeze(1).to(table.device), table, x)

    def _held_messages(self) -> dict[int, np.ndarray]:
        """Return the messages of honest agents that the adversary holds: by sender, a mask of its receivers."""
        held, spare = {}, self._members.mask.sum(1).numpy() - self.quorums
        count = len(self.row_of) if self.timing.num_held is None else self.timing.num_held
        for sender in np.flatnonzero(self._honest)[:count].tolist():
            receivers = self._positions[sender][0]
            held[sender] = self._honest[receivers] & (receivers != sender)
            if math.isinf(self.timing.seconds):
                held[sender] &= spare[receivers] > 0
                spare[receivers[held[sender]]] -= 1
        return held

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


def new_message(sender: int, round: int, vector: Tensor) -> Message:
    """Return the message with a vector, which is malformed if it is not finite."""
    finite = bool(np.isfinite(to_array(vector)).all())
    return Message(sender, round, vector if finite else torch.zeros_like(vector), not finite)


def _crafted_message(sender: int, round: int, crafted: ValidatedMessages, row: int, x: Tensor) -> Message | None:
    """Return a row of crafted messages as a message with the type of x; None for silence."""
    if crafted.silent[row]:
        return None
    return Message(sender, round, crafted.vectors[row].to(x), bool(crafted.malformed[row]))


def groups(saved: State, group: str, depth: int) -> list[tuple[str, State]]:
    """Return the parts of a group of a checkpoint, by the `depth` parts of their paths after the group.

    Example:
        >>> groups({"mail/a/0/x": torch.ones(1), "other/b": torch.ones(1)}, "mail", depth=2)
        [('a/0', {'x': tensor([1.])})]
    """
    found: dict[str, State] = {}
    for path, part in saved.items():
        head, *names = path.split("/")
        if head == group:
            found.setdefault("/".join(names[:depth]), {})["/".join(names[depth:])] = part
    return list(found.items())


def _positions_of_senders(members: CommunicationGraph) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the receivers of each agent, itself included, and its column in the inbox of each."""
    mask, senders = members.mask.numpy(), members.senders.numpy()
    receivers, columns = mask.nonzero()
    authors = senders[receivers, columns]
    order = np.lexsort((receivers, authors))
    starts = np.searchsorted(authors[order], np.arange(members.num_agents + 1))
    return [(receivers[order[a:b]], columns[order[a:b]]) for a, b in pairwise(starts)]


def run_at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that does not wait."""
    with closing(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
    raise BrokenPlugin("an attack waited for something")
