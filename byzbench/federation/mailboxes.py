"""Mailboxes of asynchronous agents: the newest message of each sender in each exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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
        usable = members.mask.numpy()[rows] & (self.rounds[rows] >= np.array(oldest)[:, None])
        messages = self.messages[rows]
        distinct = sorted({id(m): m for m in messages[usable]}.values(), key=lambda m: (m.sender, m.round))
        number = {id(m): i for i, m in enumerate(distinct)}
        own_columns, agents = members.own_columns[rows], np.arange(len(rows))
        own_rows = np.array([number[id(m)] for m in messages[agents, own_columns.numpy()]])
        senders = np.repeat(own_rows[:, None], messages.shape[1], 1)
        senders[usable] = [number[id(m)] for m in messages[usable]]
        malformed = np.array([m.malformed for m in distinct])[senders] & usable
        own_rounds = self.rounds[rows][agents, own_columns.numpy()][:, None]
        age = np.where(usable, np.maximum(own_rounds - self.rounds[rows], 0), 0)
        others = np.arange(messages.shape[1]) != own_columns.numpy()[:, None]
        missing = members.mask.numpy()[rows] & ~usable
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
