"""AFedPG: asynchronous federated policy gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from byzbench.algorithms._recommended import for_unequal_agents
from byzbench.core import FloatRange, Recommendation, State
from byzbench.core.reactive_server import ReactiveServer, ServerMessage

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class AFedPg(ReactiveServer):
    """Steps along a momentum of the gradients as they arrive, with a lookahead that corrects for their age.

    The server has taken k steps, and the gradient g is of an agent that it answered after step j <= k:

        d_{k+1}     = (1 - a_j) d_k + a_j g,    a_j = a (j + 1)^-decay
        theta_{k+1} = theta_k + eta d_{k+1} / ||d_{k+1}||
        answer:       theta_{k+1} + (1 - a_{k+1}) / a_{k+1} (theta_{k+1} - theta_k)

    The agent samples at the answer, so that to first order the old momentum and the new gradient have the mean of the
    gradient at theta_{k+1}: (1 - a) (theta_k - theta_{k+1}) + a (answer - theta_{k+1}) = 0.

    With agents that take t_i seconds for a gradient, a step takes 1 / sum_i (1 / t_i) seconds, and a round of a
    synchronous server max_i t_i.

    It has no defence.

    Source: Lan, Han, Hashemi, Aggarwal, Brinton 2024, "Asynchronous federated reinforcement learning with policy
    gradient updates", ICLR 2025, arXiv 2404.08003.

    Differs from the source in: a and eta are constant by default; those of its analysis fall with the number of steps,
    which `decay` and `lr_schedule` do. Its exponents were not read; its rate of k^-2/5 is that of normalized momentum
    with a lookahead for the exponent 4/5 (Fatkhullin et al. 2023, arXiv 2302.01734). The lookahead is computed by the
    server, which has both parameters; a review of the paper notes that its agents do not. Its experiments have
    continuous actions and the settings of a library for them.

    Example:
        >>> AFedPg(N=8, a=0.5, decay=1.0).weight(step=7)
        0.0625
    """

    source: ClassVar[str] = "Lan, Han, Hashemi, Aggarwal, Brinton 2024, arXiv 2404.08003"
    recommended: ClassVar[Mapping[str, Recommendation]] = for_unequal_agents(N=4, lr=0.15)

    optimizer: Annotated[
        Literal["adam", "sgd", "normalized", "clipped"],
        Field(description="optimizer of the server along the momentum; normalized: the source's step of length eta"),
    ] = "normalized"
    a: Annotated[float, Field(gt=0, le=1, description="weight of a new gradient"), FloatRange(0.05, 1.0)] = 0.2
    decay: Annotated[
        float, Field(ge=0, le=1, description="exponent with which the weight falls with the number of steps")
    ] = 0.0

    def weight(self, step: int) -> float:
        """Return the weight of a gradient at the answer after a step of the server, counted from 0."""
        return float(self.a * (step + 1) ** -self.decay)

    def start_server(self, fed: Federation) -> State:
        """Return theta_0, and the lookahead and the momentum before the first message."""
        server = super().start_server(fed)
        return {**server, "lookahead": server["theta"], "momentum": torch.zeros_like(server["theta"])}

    async def handle(self, fed: Federation, server: State, message: ServerMessage) -> State:
        """Step along the momentum with the new gradient."""
        sent = int(server["step"]) - message.age
        momentum = torch.lerp(server["momentum"], message.vector.unsqueeze(0), self.weight(sent))
        new = self.step(fed, {**server, "momentum": momentum}, momentum)
        weight = self.weight(int(new["step"]))
        lookahead = new["theta"] + (1 - weight) / weight * (new["theta"] - server["theta"])
        return {**new, "lookahead": lookahead}

    def answer(self, server: State) -> torch.Tensor:
        """Return the lookahead."""
        return server["lookahead"]
