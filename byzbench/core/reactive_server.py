"""Base class of asynchronous server methods: the server handles every message by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core.communication import Communication
from byzbench.core.component import FloatRange, State
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

    With `rate_limit` the server ignores messages of an agent of which it has already handled

        rate_limit (1 + m)        or more, m the median over all agents of the messages that it has handled

    so that f < K / 2 agents cannot send most of what it handles. It limits honest agents, too, that are more than
    `rate_limit` times as fast as the median. An agent whose message is ignored is answered like all others.

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
    rate_limit: Annotated[
        float | None,
        Field(ge=1, description="largest number of handled messages of an agent, relative to the median; None: any"),
    ] = None

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, and the state of the server under names with the prefix `server.`."""
        server = {**self.start_server(fed), "step": torch.zeros(1, 1, dtype=torch.int64)}
        server["sent"] = torch.zeros(1, fed.num_agents, dtype=torch.int64)
        if self.rate_limit is not None:
            server["handled"] = torch.zeros_like(server["sent"])
        return {"theta": fed.theta0, **{f"server.{name}": part for name, part in server.items()}}

    def start_server(self, fed: Federation) -> State:
        """Return the initial state of the server: theta_0, with zero moments of Adam, [1, d] each."""
        return {name: part[:1] for name, part in super().start(fed).items()}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, send the gradient to the server, and take over its answer."""
        estimate = self.gradient(fed, state["theta"], fed.sample(state["theta"], self.N))
        fed.log_direction(estimate, state["theta"])
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

    def step(self, fed: Federation, server: State, direction: Tensor, scale: float = 1.0) -> State:
        """Return the state of the server after a step of the optimizer along a direction [1, d].

        The step size follows the number of steps of the server; `scale` multiplies it.
        """
        number = int(server["step"])
        lr = scale * learning_rate(self.lr, self.lr_schedule, number, fed.progress)
        return {**self.move(server, direction, lr), "step": server["step"] + 1}

    async def receive(self, fed: Federation, server: State, sender: int, vector: Tensor) -> State:
        """Handle the valid vector [d] of an agent, unless it exceeds its rate; return the new state of the server."""
        if self.rate_limit is not None:
            handled = server["handled"].clone()
            if handled[0, sender] >= self.rate_limit * (1 + handled.median()):
                return server
            handled[0, sender] += 1
            server = {**server, "handled": handled}
        age = int(server["step"] - server["sent"][0, sender])
        return await self.handle(fed, server, ServerMessage(sender, vector, age))

    def reply(self, server: State, receivers: Sequence[int]) -> tuple[Tensor, State]:
        """Return the answer [1, d] to some agents, and the state of the server after it."""
        sent = server["sent"].clone()
        sent[0, list(receivers)] = server["step"][0]
        return self.answer(server), {**server, "sent": sent}


@dataclass(frozen=True)
class ReferenceServer(ReactiveServer):
    """A server that compares every message with a reference, the gradient of its own episodes.

    It needs an environment, which few applications offer. A subclass defines `screen`.

    The reference is of B episodes at the server's parameters. It is renewed after `refresh` messages, accepted or not,
    so that a bad one cannot block the server. While the server samples, it handles no messages.

    Example:
        Accept what has a positive product with the reference:

        >>> @dataclass(frozen=True)
        ... class Aligned(ReferenceServer):
        ...     def screen(self, gradient, reference):
        ...         return gradient if (gradient * reference).sum() > 0 else None
        >>> Aligned(N=20, B=20).server_samples
        True
    """

    server_samples: ClassVar[bool] = True

    B: Annotated[
        int, Field(ge=1, le=1_000_000, description="episodes of a batch of the server"), FloatRange(2, 64, log=True)
    ] = 10
    refresh: Annotated[
        int, Field(ge=1, description="number of messages after which the server samples again"), FloatRange(1, 50)
    ] = 10

    def start_server(self, fed: Federation) -> State:
        """Return the initial state of the server, which samples before it handles the first message."""
        server = super().start_server(fed)
        return {**server, "reference": torch.zeros_like(server["theta"]), "uses": torch.zeros(1, 1, dtype=torch.int64)}

    async def handle(self, fed: Federation, server: State, message: ServerMessage) -> State:
        """Step along the message as far as `screen` accepts it."""
        theta, reference = server["theta"], server["reference"]
        if int(server["uses"]) % self.refresh == 0:
            reference = self.gradient(fed, theta, await fed.sample_at_server(theta, self.B))
        server = {**server, "reference": reference, "uses": server["uses"] + 1}
        direction = self.screen(message.vector.unsqueeze(0), reference)
        return server if direction is None else self.step(fed, server, direction)

    @abstractmethod
    def screen(self, gradient: Tensor, reference: Tensor) -> Tensor | None:
        """Return the direction of a step [1, d]; None rejects the message.

        Args:
            gradient: The message, [1, d].
            reference: The gradient of the server's own episodes, [1, d].
        """
