"""A server that handles the messages of asynchronous agents one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from byzbench.core import MessageServer, State
from byzbench.federation.agent_federation import ServerFederation
from byzbench.federation.event_network import run_at_once
from byzbench.federation.mailboxes import Message, MessageTable


class EventServer:
    """Server that takes up the messages that have arrived as soon as it is free and they are a quorum.

    Args:
        method: The method by which it handles messages.
        federation: The federation as the server uses it.
        state: The state of the server, without the prefix.
        quorum: The number of agents whose messages it waits for.
        progress: Returns the share of the budget that is spent.

    Attributes:
        state: The state of the server.
        quorum: The number of agents whose messages it waits for.
        arrived: The messages that it has not handled, with their senders.
        free: The time at which it is free.
    """

    def __init__(
        self,
        method: MessageServer,
        federation: ServerFederation,
        state: State,
        quorum: int,
        progress: Callable[[], float],
    ) -> None:
        self.state, self.quorum, self.free = state, quorum, 0.0
        self.arrived: list[tuple[int, Message]] = []
        self._method, self._federation, self._progress = method, federation, progress
        self._rounds, self._last_progress = 0, 0.0

    def is_ready(self, now: float) -> bool:
        """Return whether it can take up messages at a time."""
        return now >= self.free and len({sender for sender, _ in self.arrived}) >= self.quorum

    def take_up(self, now: float) -> tuple[list[int], list[int]]:
        """Handle all messages that have arrived, in the order of agents. What the server samples takes time.

        Args:
            now: The time.

        Returns:
            The agents that sent them, and the age of each valid message in steps of the server.
        """
        arrived, self.arrived = sorted(self.arrived, key=lambda item: item[0]), []
        self._federation.begin(self._rounds, self._last_progress)
        self._rounds += 1
        self.free, ages = now, []
        for sender, message in arrived:
            if message.malformed:
                self._federation.counters.num_malformed += 1
                continue
            ages.append(int(self.state["step"] - self.state["sent"][0, sender]))
            self.state = run_at_once(self._method.receive(self._federation, self.state, sender, message.vector))
        self._last_progress = self._progress()
        return sorted({sender for sender, _ in arrived}), ages

    def reply(self, receivers: Sequence[int]) -> Tensor:
        """Return the answer [1, d] to some agents."""
        answer, self.state = self._method.reply(self.state, receivers)
        return answer

    def state_dict(self, table: MessageTable) -> State:
        """Return everything but `state` for a checkpoint."""
        arrived = [[sender, table.number(message)] for sender, message in self.arrived]
        return {
            "times": torch.tensor([self.free, self._last_progress], dtype=torch.float64),
            "rounds": torch.tensor(self._rounds),
            "arrived": torch.from_numpy(np.array(arrived, np.int64).reshape(-1, 2)),
        }

    def load_state_dict(self, saved: State, table: MessageTable) -> None:
        """Load what `state_dict` returned."""
        self.free, self._last_progress = saved["times"].tolist()
        self._rounds = int(saved["rounds"])
        senders, numbers = saved["arrived"].T
        self.arrived = list(zip(senders.tolist(), table.messages(numbers), strict=True))
