"""Res-NHARPG: Hessian-aided momentum, robust aggregation, and a normalised step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Algorithm, Communication, FloatRange, State
from byzbench.rl.gradients import gpomdp, gradient_change
from byzbench.rl.optimizers import StepSchedule, adam, adam_start, learning_rate

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class ResNHARPG(Algorithm):
    """Federated policy gradients with recursive momentum by Hessian-vector products instead of importance weights.

    Each round t, at the common theta_t, with u = theta_t - theta_{t-1}, every agent k:

        q       ~ U(0, 1),    theta^ = q theta_t + (1 - q) theta_{t-1}
        w       = <grad log p(tau^ | theta^), u> g(tau^ | theta^) + grad <g(tau^ | theta^), u>      tau^ ~ theta^
        d_t^k   = (1 - eta) (d_{t-1}^k + w) + eta g(tau | theta_t)                                  tau ~ theta_t
        theta_{t+1} = theta_t + gamma A / ||A||,    A = Aggregate(d_t^1, ..., d_t^K), at the server

    E[w] is grad J(theta_t) - grad J(theta_{t-1}). A round takes 2 N episodes; the first takes N.

    Source: Ganesh, Chen, Lee, Chen, Aggarwal 2024, "Global convergence guarantees for federated policy gradient methods
    with adversaries", arXiv 2403.09940, algorithm 1; eta and gamma are the released code's.

    The preset `official` is that code: Adam steps along A / ||A||. The code's processes never return d_{t-1}, so it is
    zero in every round (`recursive=False`).
    """

    lr: Annotated[float, Field(gt=0, description="step size gamma"), FloatRange(1e-4, 5e-2, log=True)] = 5e-3
    lr_schedule: Annotated[StepSchedule, Field(description="schedule of the step size")] = "constant"
    eta: Annotated[float, Field(gt=0, le=1, description="weight of the fresh gradient"), FloatRange(0.05, 1.0)] = 0.99
    N: Annotated[
        int, Field(ge=1, le=10_000, description="episodes of each of the two batches"), FloatRange(1, 32, log=True)
    ] = 1
    optimizer: Annotated[
        Literal["normalised", "adam"], Field(description="a step of length gamma; code: Adam on the unit vector")
    ] = "normalised"
    recursive: Annotated[
        bool, Field(description="use d_{t-1} of the round before; code: false, it is zero in every round")
    ] = True

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Ganesh et al. 2024, arXiv 2403.09940 (Res-NHARPG)"
    communication: ClassVar[Communication] = Communication.SERVER
    unbiased: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "trimmed_mean", "agreement": "none"}
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cartpole": {"N": 1, "lr": 5e-3},
        "inverted_pendulum": {"N": 1, "lr": 5e-4},
        "hopper": {"N": 1, "lr": 5e-4},
        "halfcheetah": {"N": 1, "lr": 5e-4},
        "walker2d": {"N": 1, "lr": 5e-4},
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {"algorithm": {"optimizer": "adam", "recursive": False}},
    }

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, with zero momentum."""
        moments = {f"adam.{k}": v for k, v in adam_start(fed.theta0).items()}
        return {"theta": fed.theta0, "previous": fed.theta0, "momentum": torch.zeros_like(fed.theta0), **moments}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample at both points, update the momentum, gather, aggregate at the server, broadcast, and step."""
        theta, previous = state["theta"], state["previous"]
        change = None
        if fed.round:  # first, as a round reports the return of its last batch, which is that of theta_t
            q = fed.draw("q", lambda rng: rng.random()).to(theta).unsqueeze(1)
            between = q * theta + (1 - q) * previous
            change = gradient_change(fed.policy, between, fed.sample(between, self.N), fed.discount, theta - previous)
        momentum = gpomdp(fed.policy, theta, fed.sample(theta, self.N), fed.discount)
        if change is not None:
            momentum = (1 - self.eta) * (state["momentum"] * self.recursive + change) + self.eta * momentum
        aggregate, state = fed.aggregate(await fed.gather("gradient", momentum), state)
        direction = await fed.broadcast("direction", aggregate)
        fed.log_direction(direction, theta)
        return self._step(fed, direction / direction.norm(dim=1, keepdim=True), {**state, "momentum": momentum}), {}

    def _step(self, fed: Federation, unit: Tensor, state: State) -> State:
        """Step along the unit vectors [K, d]; an agent whose row is not finite does not move."""
        lr, theta = learning_rate(self.lr, self.lr_schedule, fed.round, fed.progress), state["theta"]
        new: State = {"theta": theta + lr * unit, "previous": theta}
        if self.optimizer == "adam":
            new_theta, moments = adam(theta, unit, {k: state[f"adam.{k}"] for k in ("m", "v", "t")}, lr)
            new = {"theta": new_theta, "previous": theta, **{f"adam.{k}": v for k, v in moments.items()}}
        defined = unit.isfinite().all(1, keepdim=True)
        return {**state, **{k: torch.where(defined, v, state[k]) for k, v in new.items()}}
