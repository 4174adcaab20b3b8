"""The network: inserts Byzantine messages, applies the channel, validates received messages and counts traffic."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Channel, MessageFormat, State
from byzbench.core.inbox import Inbox
from byzbench.core.messages import ValidatedMessages
from byzbench.federation.adversary import Adversary
from byzbench.federation.clock import LockstepClock
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.statistics import Counters
from byzbench.geometry.pairwise_distances import to_array
from byzbench.randomness import Streams


@dataclass(frozen=True)
class _InFlightMessages:
    """Messages of one exchange that have not all arrived, for R receivers of n: see `Inbox`.

    The names of the fields are keys of checkpoints.

    Attributes:
        base: float32 [M, d], the distinct vectors; all finite.
        bad: bool [M], True for malformed messages.
        silent: bool [M], True for missing messages.
        senders: int64 [R, n], the row of `base` for each column.
        due: int64 [R, n], the round in which each message arrives; -1 if it is lost.
    """

    base: Tensor
    bad: Tensor
    silent: Tensor
    senders: Tensor
    due: Tensor

    def __post_init__(self) -> None:
        """Check values that come from a checkpoint.

        Raises:
            ValueError: shapes do not match, or a row of `base` does not exist.
        """
        rows, consistent = len(self.base), self.senders.shape == self.due.shape
        if not (consistent and self.base.ndim == 2 and self.bad.shape == self.silent.shape == (rows,)):
            raise ValueError("a message in flight has parts of different shapes")
        if self.senders.numel() and not 0 <= int(self.senders.min()) <= int(self.senders.max()) < rows:
            raise ValueError("a message in flight has no vector")


class Network:
    """Network of one experiment: it carries the messages of all agents and of the server.

    Args:
        members: the communication graph and the Byzantine agents.
        adversary: the adversary that crafts Byzantine messages.
        channel: the channel that encodes, delays and loses messages.
        streams: the random streams of the experiment.
        counters: the counters of messages.
        clock: the clock that lets agents wait for messages; None: all messages are there at once.

    Attributes:
        round: the current round, which the federation sets.
        members: the communication graph of this round.
    """

    def __init__(
        self,
        members: CommunicationGraph,
        adversary: Adversary,
        channel: Channel,
        streams: Streams,
        counters: Counters,
        clock: LockstepClock | None = None,
    ) -> None:
        self.clock = clock
        self.members, self.round = members, 0
        self._adversary, self._streams, self._counters = adversary, streams, counters
        self._parts = list(channel.parts)
        self._longest = sum(part.max_delay for part in self._parts)
        self._exchanges = Counter[str]()
        self._codes: dict[str, State] = {}
        self._in_flight: dict[str, dict[int, _InFlightMessages]] = {}

    def begin(self, round: int, members: CommunicationGraph) -> None:
        """Start a round with its communication graph."""
        self.round, self.members, self._exchanges = round, members, Counter[str]()

    async def exchange(self, topic: str, x: Tensor, reliable: bool) -> Inbox:
        """Send each row of x [K, d] to the neighbours of its agent; see `Federation.exchange`."""
        members = self.members
        crafted = await self._adversary.craft_messages(topic, x, members.byzantine_edges[:, :2])
        senders = members.senders
        if crafted is not None and self._adversary.equivocates:
            senders = members.reliable_edge_rows if reliable else members.edge_rows
        base, malformed, silent = self._merge(x.detach(), crafted, self._adversary.equivocates)
        if reliable:
            num_messages = members.broadcasts
        elif silent.any():
            num_messages = members.count_messages(members.from_others & ~silent[senders])
        else:
            num_messages = members.num_messages
        inbox = Inbox(
            base,
            senders,
            members.senders,
            members.mask,
            members.own_columns,
            members.bounds,
            x.detach(),
            weights=members.mixing,
            receivers=members.agent_ids,
        )
        inbox = self._transmit(topic, inbox, malformed, silent, num_messages, unreliable=not reliable)
        if len(inbox.base) > members.num_agents:
            inbox = inbox.merge_equal(members.num_agents)
        return inbox

    async def gather(self, topic: str, x: Tensor, groups: int) -> Inbox:
        """Send each row of x [K, d] to the server; see `Federation.gather`."""
        members = self.members
        indices = torch.arange(len(members.byzantine_ids))
        edges = torch.stack([indices, torch.full_like(indices, members.num_agents)], 1)
        crafted = await self._adversary.craft_messages(topic, x, edges, groups)
        base, malformed, silent = self._merge(x.detach(), crafted, equivocal=False)
        silent[list(members.inactive)] = True
        senders, mask = members.partition(groups)
        bounds = torch.tensor([members.bound(n) for n in mask.sum(1).tolist()])
        inbox = Inbox(base, senders, senders, mask, torch.full_like(bounds, -1), bounds, None)
        return self._transmit(topic, inbox, malformed, silent, (~silent).numpy().astype(np.int64), unreliable=True)

    def broadcast(self, topic: str, y: Tensor) -> None:
        """Count the messages of the server that send y [1, d] to all agents; see `Federation.broadcast`."""
        num_messages = np.zeros(self.members.num_agents + 1, np.int64)
        num_messages[-1] = self.members.num_agents
        size = MessageFormat(y.shape[1]).bytes
        self._counters.charge(topic, num_messages, size)
        if self.clock is not None:
            self.clock.broadcast(topic, size)

    def state_dict(self) -> State:
        """Return the state for a checkpoint: the memories of channel codes and the messages in flight."""
        codes = {f"code/{where}/{name}": part for where, code in self._codes.items() for name, part in code.items()}
        in_flight = {
            f"mail/{where}/{sent}/{name}": part
            for where, exchanges in self._in_flight.items()
            for sent, messages in exchanges.items()
            for name, part in vars(messages).items()
        }
        return codes | in_flight

    def load_state_dict(self, saved: State) -> None:
        """Load what `state_dict` returned.

        Raises:
            ValueError: a message in flight lacks a part.
        """
        codes: dict[str, State] = {}
        exchanges: dict[tuple[str, int], State] = {}
        for path, part in saved.items():
            section, *where, name = path.split("/")
            if section == "code":
                codes.setdefault("/".join(where), {})[name] = part
            else:
                *exchange, sent = where
                exchanges.setdefault(("/".join(exchange), int(sent)), {})[name] = part
        if any(set(parts) != {f.name for f in fields(_InFlightMessages)} for parts in exchanges.values()):
            raise ValueError("a message in flight lacks a part")
        self._codes, self._in_flight = codes, {}
        for (exchange_key, sent_round), parts in exchanges.items():
            self._in_flight.setdefault(exchange_key, {})[sent_round] = _InFlightMessages(**parts)

    def _merge(self, x: Tensor, crafted: ValidatedMessages | None, equivocal: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Merge honest vectors with crafted messages.

        Args:
            x: [K, d], the vectors that all agents computed.
            crafted: the messages of the Byzantine agents; None if they send their rows of x.
            equivocal: whether there is one crafted message for each edge. These are appended after the rows of x.
                Otherwise crafted messages replace the rows of the Byzantine agents.

        Returns:
            vectors: float32 [M, d].
            malformed: bool [M].
            silent: bool [M].
        """
        malformed, crashed = torch.from_numpy(~np.isfinite(to_array(x)).all(1)), list(self.members.crashed)
        silent = torch.zeros_like(malformed)
        malformed[crashed], silent[crashed] = False, True
        if crafted is None:
            return x, malformed, silent
        if equivocal:
            return (
                torch.cat([x, crafted.vectors.to(x)]),
                torch.cat([malformed, crafted.malformed]),
                torch.cat([silent, crafted.silent]),
            )
        x, byzantine = x.clone(), list(self.members.byzantine_ids)
        x[byzantine], malformed[byzantine], silent[byzantine] = crafted.vectors.to(x), crafted.malformed, crafted.silent
        return x, malformed, silent

    def _transmit(
        self,
        topic: str,
        inbox: Inbox,
        malformed: Tensor,
        silent: Tensor,
        num_messages: np.ndarray,
        unreliable: bool,
    ) -> Inbox:
        """Apply the channel to the messages of an exchange, and return the inbox of valid messages that arrive now.

        Args:
            topic: the topic of the exchange.
            inbox: the messages as they were sent.
            malformed: bool [M], the malformed rows of its base.
            silent: bool [M], the missing rows of its base.
            num_messages: int64 [K], the number of messages that each agent sends.
            unreliable: whether messages can be delayed or lost. Reliable broadcast repeats them until they arrive.
        """
        where = f"{topic}/{self._exchanges[topic]}"
        self._exchanges[topic] += 1
        unsent = malformed | silent
        invalid = bool(unsent.any())
        if invalid:
            inbox = replace(inbox, base=inbox.base.masked_fill(unsent.unsqueeze(1).to(inbox.base.device), 0.0))
        message_format, d = MessageFormat(inbox.base.shape[1]), inbox.base.shape[1]
        receivers, width = inbox.mask.shape
        missing, delays = None, np.zeros(inbox.mask.shape, np.int64)
        parts = [(i, part) for i, part in enumerate(self._parts) if part.applies_to(topic)]
        for i, part in parts:
            rng = self._streams.generator(f"channel/{where}/{i}", self.round)
            message_format = part.pack(message_format, d)
            inbox = replace(inbox, base=self._encode(f"{where}/{i}", part, inbox.base, unsent, rng))
            if unreliable and (late := part.draw_delays(receivers, width, rng)) is not None:
                delays = np.where((late < 0) | (delays < 0), -1, delays + late)
        self._counters.charge(topic, num_messages, message_format.bytes)
        if delays.any() or where in self._in_flight:
            own = np.arange(delays.shape[1]) == inbox.own.numpy()[:, None]
            inbox, malformed, silent, missing = self._deliver(where, inbox, malformed, silent, np.where(own, 0, delays))
        elif not invalid and self.clock is None:
            return inbox
        absent = silent[inbox.senders] if missing is None else silent[inbox.senders] | missing
        if self.clock is not None:
            late = self.clock.deliver(topic, inbox, absent.numpy(), message_format.bytes, 1 if unreliable else 3)
            absent = absent | torch.from_numpy(late)
        return self._drop_invalid(inbox, malformed[inbox.senders], absent)

    def _encode(self, where: str, part: Channel, x: Tensor, unsent: Tensor, rng: np.random.Generator) -> Tensor:
        """Encode and decode vectors with one part of the channel.

        Each agent has a row of the code's memory. Messages on single edges have none.

        Args:
            where: the key of the memory.
            part: the part of the channel.
            x: [M, d], the vectors as they were sent.
            unsent: bool [M], True for malformed and missing messages.
            rng: the generator of the part.

        Returns:
            The vectors as receivers decode them, [M, d].
        """
        agents = self.members.num_agents
        memory = self._codes.get(where, {})
        edges = len(x) - agents
        rows = {name: torch.cat([value, value.new_zeros(edges, *value.shape[1:])]) for name, value in memory.items()}
        decoded, new = part.encode(x, rows, rng)
        if new:
            # An agent whose message is malformed or missing has sent nothing, so its memory does not change.
            unchanged = unsent[:agents].unsqueeze(1)
            before = {name: memory.get(name, torch.zeros_like(value[:agents])) for name, value in new.items()}
            self._codes[where] = {
                name: torch.where(unchanged.to(value.device), before[name], value[:agents])
                for name, value in new.items()
            }
        return decoded

    def _deliver(
        self, where: str, inbox: Inbox, malformed: Tensor, silent: Tensor, late: np.ndarray
    ) -> tuple[Inbox, Tensor, Tensor, Tensor]:
        """Deliver the messages that arrive in this round, of this exchange and of the same one in earlier rounds.

        If several messages of a sender arrive at a receiver, only the newest is delivered.

        Args:
            where: the key of the exchange within a round.
            inbox: the messages of this round as they were sent.
            malformed: bool [M], the malformed rows of its base.
            silent: bool [M], the missing rows of its base.
            late: int64 [R, n], the delay of each message in rounds; -1 if it is lost.

        Returns:
            inbox: the delivered messages with their ages.
            malformed: bool [M'], the malformed rows of the new base.
            silent: bool [M'], the missing rows of the new base.
            missing: bool [R, n], True where nothing arrives.
        """
        due = torch.from_numpy(np.where(late < 0, -1, late + self.round))
        exchanges = self._in_flight.setdefault(where, {})
        exchanges[self.round] = _InFlightMessages(inbox.base, malformed, silent, inbox.senders, due)
        age, senders, parts, rows = torch.full_like(due, -1), inbox.senders, [], 0
        for sent in sorted(exchanges, reverse=True):
            messages = exchanges[sent]
            arriving = (messages.due == self.round) & (age < 0)
            if sent == self.round or arriving.any():
                senders = torch.where(arriving, messages.senders + rows, senders)
                age = torch.where(arriving, self.round - sent, age)
                parts.append(messages)
                rows += len(messages.base)
            if not (messages.due > self.round).any():
                del exchanges[sent]
        if not exchanges:
            del self._in_flight[where]
        base, malformed, silent = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("base", "bad", "silent")
        )
        return replace(inbox, base=base, senders=senders, age=age.clamp(min=0)), malformed, silent, age < 0

    def _drop_invalid(self, inbox: Inbox, malformed: Tensor, silent: Tensor) -> Inbox:
        """Mask malformed and missing messages [R, n] and count them.

        A malformed message proves that its sender is Byzantine, so n and f decrease by one. A missing one decreases n
        only.
        """
        exposed, missing = malformed & inbox.mask, silent & inbox.mask
        # An agent's own vector is not a message.
        others = torch.arange(inbox.mask.shape[1]) != inbox.own.unsqueeze(1)
        self._counters.num_malformed += int((exposed & others).sum())
        self._counters.num_silent += int((missing & others).sum())
        f = (inbox.f - exposed.sum(1)).clamp(min=0)
        return replace(inbox, mask=inbox.mask & ~exposed & ~missing, f=f)
