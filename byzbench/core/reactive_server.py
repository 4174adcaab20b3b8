"""Base class of asynchronous server methods: the server handles every message by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from byzbench.core.communication import Communication
from byzbench.core.component import State
from byzbench.core.policy_gradient import SINGLE_BATCH_SUGGESTIONS, BatchSize, PolicyGradient
from byzbench.rl.optimizers import learning_rate

if TYPE_CHECKING:
    from byzbench.core.federation import Federation


@dataclass(frozen=True)
class ServerMessage:
    """Valid message of an agent to a server that handles messages one by one.

    Attributes:
        sender: The agent.
        vector: float32 [d], the vector; finite.
        age: The steps of the server since it sent to the agent the parameters that the agent used.
    """

    sender: int
    vector: Tensor
    age: int


@dataclass(frozen=True)
class ReactiveServer(PolicyGradient):
    """A method with a server that handles the gradient of every agent by itself, and then answers that agent.

    Each agent samples N episodes with the parameters of its last answer, sends its gradient, and waits for the next
    answer. A subclass defines `handle`, and `answer` if agents do not get the server's parameters. The state of the
    server has one row; a subclass that has more than parameters extends `start_server`.

    Under the schedule `synchronous` a round has one message of each agent, which the server handles in the order of
    agents, before it answers all of them.

    Example:
        The server steps along each gradient, as if it were new:

        >>> @dataclass(frozen=True)
        ... class EveryGradient(ReactiveServer):
        ...     async def handle(self, fed, server, message):
        ...         return self.step(fed, server, message.vector.unsqueeze(0))
        >>> EveryGradient(N=20).communication.value
        'server'
    """

    communication: ClassVar[Communication] = Communication.SERVER
    handles_messages: ClassVar[bool] = True
    uses: ClassVar[tuple[str, ...]] = ()
    unbiased: ClassVar[bool] = True
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = SINGLE_BATCH_SUGGESTIONS

    N: BatchSize = 10

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, and the state of the server under names with the prefix `server.`."""
        server = {**self.start_server(fed), "step": torch.zeros(1, 1, dtype=torch.int64)}
        server["sent"] = torch.zeros(1, fed.num_agents, dtype=torch.int64)
        return {"theta": fed.theta0, **{f"server.{name}": part for name, part in server.items()}}

    def start_server(self, fed: Federation) -> State:
        """Return the initial state of the server: theta_0, with zero moments of Adam, [1, d] each."""
        return {name: part[:1] for name, part in super().start(fed).items()}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, send the gradient to the server, and take over its answer."""
        estimate = self.gradient(fed, state["theta"], fed.sample(state["theta"], self.N))
        theta, state = await fed.serve("gradient", estimate, self, state)
        return {**state, "theta": theta}, {}

    @abstractmethod
    async def handle(self, fed: Federation, server: State, message: ServerMessage) -> State:
        """Handle a message; return the new state of the server.

        Args:
            fed: The federation, by which the server samples episodes (`sample_at_server`) and draws numbers.
            server: The state of the server, without the prefix.
            message: The message.
        """

    def answer(self, server: State) -> Tensor:
        """Return the parameters that an agent receives, [1, d]; by default those of the server."""
        return server["theta"]

    def step(self, fed: Federation, server: State, direction: Tensor) -> State:
        """Return the state of the server after a step of the optimizer along a direction [1, d].

        The step size follows the number of steps of the server.
        """
        number = int(server["step"])
        lr = learning_rate(self.lr, self.lr_schedule, number, fed.progress)
        return {**self.move(server, direction, lr), "step": server["step"] + 1}

    async def receive(self, fed: Federation, server: State, sender: int, vector: Tensor) -> State:
        """Handle the valid vector [d] of an agent; return the new state of the server."""
        age = int(server["step"] - server["sent"][0, sender])
        return await self.handle(fed, server, ServerMessage(sender, vector, age))

    def reply(self, server: State, receivers: Sequence[int]) -> tuple[Tensor, State]:
        """Return the answer [1, d] to some agents, and the state of the server after it."""
        sent = server["sent"].clone()
        sent[0, list(receivers)] = server["step"][0]
        return self.answer(server), {**server, "sent": sent}
