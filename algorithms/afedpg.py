"""AFedPG: asynchronous federated policy gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field

from byzbench.core import FloatRange, State
from byzbench.core.reactive_server import ReactiveServer, ServerMessage

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class AFedPg(ReactiveServer):
    """Steps along a momentum of the gradients as they arrive, with a lookahead that corrects for their age.

        d_k = (1 - a) d_{k-1} + a g_k            g_k: the gradient of one agent at the lookahead that it received
        theta_{k+1} = theta_k + eta d_k / ||d_k||
        answer: theta_{k+1} + (1 - a) / a (theta_{k+1} - theta_k)

    It has no defence.
    """

    source: ClassVar[str] = "Lan, Han, Hashemi, Aggarwal, Brinton 2024, arXiv 2404.08003"

    a: Annotated[float, Field(gt=0, le=1, description="weight of a new gradient"), FloatRange(0.05, 1.0)] = 0.2

    def start_server(self, fed: Federation) -> State:
        """Return theta_0, and the lookahead and the momentum before the first message."""
        server = super().start_server(fed)
        return {**server, "lookahead": server["theta"], "momentum": torch.zeros_like(server["theta"])}

    async def handle(self, fed: Federation, server: State, message: ServerMessage) -> State:
        """Step along the momentum with the new gradient."""
        momentum = torch.lerp(server["momentum"], message.vector.unsqueeze(0), self.a)
        new = self.step(fed, {**server, "momentum": momentum}, momentum)
        lookahead = new["theta"] + (1 - self.a) / self.a * (new["theta"] - server["theta"])
        return {**new, "lookahead": lookahead}

    def answer(self, server: State) -> torch.Tensor:
        """Return the lookahead."""
        return server["lookahead"]
