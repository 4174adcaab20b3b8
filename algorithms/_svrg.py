"""The body of SVRG-type policy gradients: a large batch of the agents', then steps of the server's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.algorithms._steps import PolicyGradient, note_weights
from byzbench.contracts import Range, State
from byzbench.learning.gradients import importance_weights, step_weights, whitened

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.learning.rollouts import Trajectories


@dataclass(frozen=True)
class Svrg(PolicyGradient):
    """An epoch is a round. The server has an environment of its own, and samples the small batches there."""

    needs: ClassVar[Literal["peers", "server", "solo", "nobody"]] = "server"
    server_samples: ClassVar[bool] = True
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "acrobot": {"estimator": "gpomdp"},
        "cartpole": {"N": 16, "B": 4, "lr": 1e-3},
        "lunarlander": {"N": 32, "B": 8, "lr": 1e-3},
        "halfcheetah": {"N": 48, "B": 16, "lr": 8e-5},
    }

    N: Annotated[
        int, Field(ge=1, le=1_000_000, description="episodes of an agent's batch"), Range(4, 128, log=True)
    ] = 16
    B: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of the server's"), Range(2, 16, log=True)] = 4
    estimator: Annotated[
        Literal["whitened", "gpomdp"],
        Field(description="of gradients: as the released code has it, without `baseline`; or unbiased"),
    ] = "whitened"
    weights: Annotated[
        Literal["episode", "step"], Field(description="importance weights: of whole episodes; code: of each step alone")
    ] = "episode"
    drift: Annotated[
        float | None,
        Field(gt=0, description="leave an epoch once the mean weight is farther from 1 than this; None: never"),
    ] = None
    logits: Annotated[Literal["linear", "tanh"], Field(description="the policy's last layer: linear; code: tanh")] = (
        "linear"
    )

    @property
    def squashed(self) -> bool:
        """As `logits` says."""
        return self.logits == "tanh"

    @abstractmethod
    def batch(self, rng: np.random.Generator) -> int:
        """Episodes of an agent's batch in this epoch."""

    @abstractmethod
    def steps(self, batch: int, rng: np.random.Generator) -> int:
        """Steps of this epoch."""

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, gather, aggregate at the server; step there; tell everybody where that led."""
        count = int(fed.draw_at_server("batch", self.batch))
        estimate = self._gradient(fed, state["theta"], fed.sample(state["theta"], count))
        value, state = fed.aggregate(await fed.gather("gradient", estimate), state)
        planned = int(fed.draw_at_server("steps", lambda rng: self.steps(count, rng)))
        anchor, taken = state["theta"][:1], 0
        while taken < planned:
            here = state["theta"][:1]
            episodes = await fed.sample_at_server(here, self.B)
            omega = self._weigh(fed, anchor, here, episodes)
            if self.drift is not None and abs(_mean(omega, episodes) - 1) > self.drift:
                break
            if omega.dim() == 2:
                everybody = len(fed.agents)
                note_weights(fed, omega.expand(everybody, -1), episodes.count.expand(everybody), fed.agents >= 0)
            correction = self._gradient(fed, here, episodes) - self._gradient(fed, anchor, episodes, omega)
            state = self.ascend(fed, (value + correction).expand_as(state["theta"]), state)
            taken += 1
        theta = await fed.broadcast("parameters", state["theta"][:1])
        return {**state, "theta": theta}, {"steps_planned": float(planned), "steps_taken": float(taken)}

    def _gradient(self, fed: Federation, theta: Tensor, batch: Trajectories, weights: Tensor | None = None) -> Tensor:
        if self.estimator == "whitened":
            return whitened(fed.policy, theta, batch, fed.discount, weights)
        return self.gradient(fed, theta, batch, weights)

    def _weigh(self, fed: Federation, anchor: Tensor, here: Tensor, batch: Trajectories) -> Tensor:
        """Omega, of the anchor's policy to the present one: [1, N] of episodes or [1, T, N] of steps."""
        return (importance_weights if self.weights == "episode" else step_weights)(fed.policy, anchor, here, batch)


def _mean(weights: Tensor, batch: Trajectories) -> float:
    return float(weights.sum() / (batch.mask.sum() if weights.dim() == 3 else weights.numel()))
