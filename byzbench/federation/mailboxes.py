"""Mailboxes of asynchronous agents: the newest message of each sender in each exchange."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from byzbench.core import State
from byzbench.core.inbox import Inbox
from byzbench.federation.communication_graph import CommunicationGraph


@dataclass(frozen=True, eq=False)
class Message:
    """Message of one sender in one exchange.

    Attributes:
        sender: The sender.
        round: The sender's round.
        vector: float32 [d], finite; zero if it is malformed.
        malformed: Whether it is non-finite, or has a wrong shape or type.
    """

    sender: int
    round: int
    vector: Tensor
    malformed: bool = False


class MessageTable:
    """Table of the distinct messages of a checkpoint, each of which has a number.

    Args:
        vectors: float32 [M, d], the vectors; None for an empty table.
        facts: int64 [M, 3], the sender, the round and whether the message is malformed.
    """

    def __init__(self, vectors: Tensor | None = None, facts: Tensor | None = None) -> None:
        rows = [] if vectors is None or facts is None else zip(vectors, facts.tolist(), strict=True)
        self._messages = [Message(sender, round, vector, bool(bad)) for vector, (sender, round, bad) in rows]
        self._numbers = {id(message): number for number, message in enumerate(self._messages)}

    def number(self, message: Message | None) -> int:
        """Return the number of a message, which is added if it is new; -1 for none."""
        if message is None:
            return -1
        if id(message) not in self._numbers:
            self._numbers[id(message)] = len(self._messages)
            self._messages.append(message)
        return self._numbers[id(message)]

    def numbers(self, messages: Iterable[Message | None]) -> Tensor:
        """Return the numbers of messages, int64."""
        return torch.tensor([self.number(message) for message in messages], dtype=torch.int64)

    def message(self, number: int) -> Message | None:
        """Return the message of a number; None for -1."""
        return None if number < 0 else self._messages[number]

    def messages(self, numbers: Tensor) -> list[Message]:
        """Return the messages of numbers."""
        return [self._messages[number] for number in numbers.tolist()]

    def state_dict(self) -> State:
        """Return the table for a checkpoint; empty without messages."""
        if not self._messages:
            return {}
        facts = [(m.sender, m.round, m.malformed) for m in self._messages]
        vectors = torch.stack([message.vector for message in self._messages])
        return {"vectors": vectors, "facts": torch.tensor(facts, dtype=torch.int64)}


class Mailbox:
    """The newest message of each sender that has arrived in one exchange, for all receivers.

    Args:
        members: The communication graph.

    Attributes:
        rounds: int64 [K, n], the round of the newest message in each column of an inbox; -1 where there is none.
        messages: [K, n], the messages.
    """

    def __init__(self, members: CommunicationGraph) -> None:
        self.rounds = np.full(members.senders.shape, -1, np.int64)
        self.messages = np.full(members.senders.shape, None, object)

    def put(self, message: Message, receivers: np.ndarray, columns: np.ndarray) -> None:
        """Replace older messages of the sender, of which those of later rounds stay.

        Args:
            message: The message.
            receivers: int64 [M], the agents at which it arrives.
            columns: int64 [M], the column of the sender in the inbox of each.
        """
        newer = self.rounds[receivers, columns] <= message.round
        receivers, columns = receivers[newer], columns[newer]
        self.rounds[receivers, columns] = message.round
        self.messages[receivers, columns] = message

    def state_dict(self, table: MessageTable) -> State:
        """Return the mailbox for a checkpoint, with the numbers of messages in a table."""
        numbers = table.numbers(self.messages.ravel().tolist()).reshape(self.messages.shape)
        return {"rounds": torch.from_numpy(self.rounds.copy()), "messages": numbers}

    def load_state_dict(self, saved: State, table: MessageTable) -> None:
        """Load what `state_dict` returned."""
        self.rounds = saved["rounds"].numpy().copy()
        self.messages = np.full(self.rounds.shape, None, object)
        for index, number in np.ndenumerate(saved["messages"].numpy()):
            self.messages[index] = table.message(int(number))

    def newest(self, receivers: np.ndarray, columns: np.ndarray) -> Message | None:
        """Return the message of the latest round in some columns of some receivers; None if they have none."""
        rounds = self.rounds[receivers, columns]
        last = rounds.argmax() if len(rounds) else 0
        return self.messages[receivers[last], columns[last]] if len(rounds) else None

    def inbox(
        self, members: CommunicationGraph, receivers: Sequence[int], oldest: Sequence[int], x: Sequence[Tensor]
    ) -> tuple[Inbox, list[Message], int, int]:
        """Return the inboxes of receivers that take what has arrived at the same time.

        Args:
            members: The communication graph.
            receivers: The R receivers, in ascending order.
            oldest: [R], the first round of messages that count.
            x: The vector [d] that each receiver has computed.

        Returns:
            inbox: The inboxes.
            messages: The messages of its base, by sender and round.
            num_malformed: The number of malformed messages from others.
            num_silent: The number of missing messages from others.
        """
        rows = np.array(receivers)
        mask, rounds, messages = members.mask.numpy()[rows], self.rounds[rows], self.messages[rows]
        usable = mask & (rounds >= np.array(oldest)[:, None])
        found = messages[usable].tolist()
        distinct = sorted({id(m): m for m in found}.values(), key=lambda m: (m.sender, m.round))
        number = {id(m): i for i, m in enumerate(distinct)}
        own_columns, agents = members.own_columns[rows], np.arange(len(rows))
        columns = own_columns.numpy()
        own_rows = np.array([number[id(m)] for m in messages[agents, columns].tolist()])
        senders = np.repeat(own_rows[:, None], messages.shape[1], 1)
        senders[usable] = [number[id(m)] for m in found]
        malformed = np.array([m.malformed for m in distinct])[senders] & usable
        age = np.where(usable, np.maximum(rounds[agents, columns][:, None] - rounds, 0), 0)
        others = np.arange(messages.shape[1]) != columns[:, None]
        missing = mask & ~usable
        inbox = Inbox(
            base=torch.stack([m.vector for m in distinct]),
            senders=torch.from_numpy(senders),
            authors=members.senders[rows],
            mask=torch.from_numpy(usable & ~malformed),
            own=own_columns,
            f=(members.bounds[rows] - torch.from_numpy(malformed.sum(1))).clamp(min=0),
            sent=torch.stack(list(x)),
            weights=members.mixing[rows],
            receivers=torch.tensor(receivers),
            age=torch.from_numpy(age) if age.any() else None,
        )
        return inbox, distinct, int((malformed & others).sum()), int((missing & others).sum())
