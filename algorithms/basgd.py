"""BASGD: buffered asynchronous steps, as an asynchronous ByzPG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field

from byzbench.algorithms._recommended import for_unequal_agents
from byzbench.core import Recommendation, State
from byzbench.core.reactive_server import ReactiveServer, ServerMessage
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core import Federation
    from byzbench.core.setting import Setting


@dataclass(frozen=True)
class Basgd(ReactiveServer):
    """Policy gradients of an asynchronous server that averages messages in buffers and aggregates the buffers robustly.

        buffer of agent s:  b = s mod B,    h_b = the mean of the gradients in it
        once no buffer is empty:  theta_{k+1} = theta_k + eta Aggregate(h_1, ..., h_B), and all buffers are emptied

    An agent is answered at once, with the current parameters. f Byzantine agents reach at most f buffers, so the rule
    has B vectors of which f may be Byzantine, and B > 2f. By default B = 2f + 1. A step waits for the agents of the
    buffer whose first message comes last: more buffers tolerate more Byzantine agents, and wait longer for slow ones.

    With `filled=m` the server steps once m buffers have a message, and the rule has those m > 2f vectors. Then slow
    agents do not set its pace: buffers=K and filled=K - f is the quorum of a server that waits for K - f agents.

    It is `fed_pg`, ByzPG without variance reduction, for agents on their own.

    Source: Yang, Li 2021, "BASGD: Buffered asynchronous SGD for Byzantine learning", ICML, arXiv 2003.00937, which
    requires a rule that is equivariant under translation and whose output is in each coordinate between the (f+1)-th
    smallest and largest input, as the median and the trimmed mean are.

    Differs from the source in: gradients are policy gradients, with Adam along the aggregate (`optimizer=sgd` is the
    source's step), and `filled` is an addition; None is the source's. What it leaves out: the reassignment of agents to
    buffers after a long wait, and the local momentum of BASGDm (JMLR 2023).

    Example:
        >>> Basgd(N=8).num_means(assumed_byzantine=3), Basgd(N=8, buffers=13, filled=10).num_means(3)
        (7, 10)
    """

    source: ClassVar[str] = "Yang, Li 2021, arXiv 2003.00937 (BASGD)"
    uses: ClassVar[tuple[str, ...]] = ("aggregator",)
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "median", "agreement": "none"}
    recommended: ClassVar[Mapping[str, Recommendation]] = for_unequal_agents(N=2, lr=0.05)

    buffers: Annotated[
        int | None,
        Field(
            ge=1,
            description="number of buffers B, more than 2f; None: 2f + 1, f the number of agents assumed to be "
            "Byzantine",
        ),
    ] = None

    filled: Annotated[
        int | None,
        Field(ge=1, description="number of filled buffers at which the server steps, more than 2f; None: all"),
    ] = None

    def num_buffers(self, assumed_byzantine: int) -> int:
        """Return B."""
        return self.buffers or 2 * assumed_byzantine + 1

    def num_means(self, assumed_byzantine: int) -> int:
        """Return the number of buffers that are aggregated."""
        return self.filled or self.num_buffers(assumed_byzantine)

    def check(self, setting: Setting) -> None:
        """Check that f Byzantine agents reach a minority of the filled buffers, and that every buffer has an agent."""
        super().check(setting)
        name = setting.name(self.kind)
        for number, f in setting.inboxes.get("aggregator", ()):
            buffers = self.num_buffers(f)
            if number > buffers:
                raise Undefined(f"{name} steps at {number} filled buffers, and has only {buffers}")
            if number <= 2 * f:
                raise Undefined(f"{name} with f={f} needs more than {2 * f} buffers, and aggregates {number}")
            if buffers > setting.num_agents:
                raise Undefined(f"{name} has {buffers} buffers, and there are only {setting.num_agents} agents")

    def start_server(self, fed: Federation) -> State:
        """Return theta_0 and empty buffers."""
        server = super().start_server(fed)
        number = self.num_buffers(int(fed.assumed_byzantine[0]))
        buffers = server["theta"].new_zeros(1, number, server["theta"].shape[1])
        return {**server, "buffers": buffers, "counts": torch.zeros(1, number, dtype=torch.int64)}

    async def handle(self, fed: Federation, server: State, message: ServerMessage) -> State:
        """Add the gradient to the buffer of its sender, and step if enough buffers are filled."""
        buffers, counts = server["buffers"].clone(), server["counts"].clone()
        buffer = message.sender % buffers.shape[1]
        counts[0, buffer] += 1
        buffers[0, buffer] += (message.vector - buffers[0, buffer]) / counts[0, buffer]
        is_filled = counts[0] > 0
        if is_filled.sum() < (self.filled or len(is_filled)):
            return {**server, "buffers": buffers, "counts": counts}
        direction, server = fed.aggregate_at_server(buffers[0, is_filled], server)
        server = {**server, "buffers": torch.zeros_like(buffers), "counts": torch.zeros_like(counts)}
        return self.step(fed, server, direction)
