"""Kardam: asynchronous steps with a Lipschitz filter, a frequency filter and dampening."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.algorithms._recommended import for_unequal_agents
from byzbench.core import FloatRange, Recommendation, State
from byzbench.core.reactive_server import ReactiveServer, ServerMessage

if TYPE_CHECKING:
    from byzbench.core import Federation
    from byzbench.core.setting import Setting


@dataclass(frozen=True)
class Kardam(ReactiveServer):
    """Steps along single gradients that pass two filters, with a step size that falls with their age.

    With g and g' the last two gradients of agent s, taken at theta and theta', its empirical Lipschitz coefficient is

        L_s = ||g - g'|| / ||theta - theta'||        infinite before its second gradient, and where theta = theta'

    Lipschitz filter: L_s is at most the (K - f)-th smallest of the latest coefficients of all K agents. Frequency
    filter: no agent has sent two of any 2f + 1 successive accepted gradients, so that f agents have sent at most f of
    them. Then

        theta_{k+1} = theta_k + eta Lambda(tau) g,    Lambda(tau) = 1 / (1 + tau), or exp(-rate tau)

    with tau the age of g: the steps of the server since it answered the agent. It needs K > 3f.

    Gradients of few episodes differ by their noise more than by the distance of their parameters: then the first filter
    rejects agents at random, and accepts messages that do not change. Before two gradients of K - f agents are known it
    accepts all: with Adam, a single one of huge length then makes all later steps small.

    Source: Damaskinos, El Mhamdi, Guerraoui, Patra, Taziki 2018, "Asynchronous Byzantine machine learning (the case of
    SGD)", ICML, arXiv 1802.07928.

    Differs from the source in: its formulas were not read, only its abstract and accounts of others; a public
    re-implementation compares with the last accepted gradient in place of the agent's own last one. Adam along the
    gradient (`optimizer=sgd` is the source's step), where Lambda multiplies the step size.

    Example:
        >>> Kardam(N=8).dampen(age=3), Kardam(N=8, dampening="none").dampen(age=3)
        (0.25, 1.0)
    """

    source: ClassVar[str] = "Damaskinos et al. 2018, arXiv 1802.07928 (Kardam)"
    recommended: ClassVar[Mapping[str, Recommendation]] = for_unequal_agents(N=4, lr=0.02, dampening="none")

    dampening: Annotated[
        Literal["inverse", "exponential", "none"],
        Field(description="factor of a step by the age tau of its gradient: 1 / (1 + tau), exp(-rate tau), or 1"),
    ] = "inverse"
    rate: Annotated[float, Field(gt=0, description="rate of `dampening=exponential`"), FloatRange(0.01, 1.0)] = 0.2

    def dampen(self, age: int) -> float:
        """Return Lambda(age)."""
        if self.dampening == "inverse":
            return 1 / (1 + age)
        return math.exp(-self.rate * age) if self.dampening == "exponential" else 1.0

    def notes(self, setting: Setting) -> list[str]:
        """Return a remark if too many agents are Byzantine."""
        if setting.num_agents > 3 * setting.num_byzantine:
            return []
        return [f"{setting.name(self.kind)} has no guarantee for f={setting.num_byzantine}: it needs K > 3f"]

    def start_server(self, fed: Federation) -> State:
        """Return theta_0, and what it knows of each agent before its first message."""
        server, agents = super().start_server(fed), fed.num_agents
        points = server["theta"].unsqueeze(1).repeat(1, agents, 1)
        return {
            **server,
            "answers": points,
            "points": points,
            "gradients": torch.zeros_like(points),
            "coefficients": torch.full((1, agents), torch.inf, dtype=torch.float64),
            "accepted": torch.full((1, 2 * int(fed.assumed_byzantine[0])), -1),
        }

    async def handle(self, fed: Federation, server: State, message: ServerMessage) -> State:
        """Step along the gradient if it passes both filters."""
        sender, gradient, f = message.sender, message.vector, int(fed.assumed_byzantine[0])
        point = server["answers"][0, sender]
        distance = _distance(point, server["points"][0, sender])
        coefficient = _distance(gradient, server["gradients"][0, sender]) / distance if distance else math.inf
        server = {
            **server,
            "points": _replaced(server["points"], sender, point),
            "gradients": _replaced(server["gradients"], sender, gradient),
            "coefficients": _replaced(server["coefficients"], sender, coefficient),
        }
        bound = float(server["coefficients"][0].kthvalue(fed.num_agents - f).values)
        accepted = server["accepted"]
        if coefficient > bound or (accepted == sender).any():
            return server
        accepted = torch.cat([accepted, torch.full_like(accepted[:, :1], sender)], 1)[:, 1:]
        server = {**server, "accepted": accepted}
        return self.step(fed, server, gradient.unsqueeze(0), self.dampen(message.age))

    def reply(self, server: State, receivers: Sequence[int]) -> tuple[Tensor, State]:
        """Return the parameters, and remember at which agents have received them."""
        answer, server = super().reply(server, receivers)
        return answer, {**server, "answers": _replaced(server["answers"], list(receivers), answer)}


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the distance of two vectors."""
    return float((one.double() - other.double()).norm())


def _replaced(rows: Tensor, agents: int | list[int], values: Tensor | float) -> Tensor:
    """Return the rows [1, K, ...] with those of some agents replaced."""
    new = rows.clone()
    new[0, agents] = values
    return new
