"""Base class of SVRG-type policy gradients: a large batch of the agents, then corrected steps of the server."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.core import Communication, FloatRange, State
from byzbench.core.policy_gradient import Logits, PolicyGradient, log_importance_weights
from byzbench.rl.gradients import importance_weights, step_weights, whitened

if TYPE_CHECKING:
    from byzbench.core import Federation
    from byzbench.rl.rollouts import Trajectories


@dataclass(frozen=True)
class SvrgAlgorithm(PolicyGradient):
    """A method whose server takes variance-reduced steps on episodes of its own environment; a round is an epoch.

    A subclass defines `batch_size` and `num_steps`, and names the aggregator in `defaults`.

    Example:
        >>> @dataclass(frozen=True)
        ... class MedianEpochs(SvrgAlgorithm):
        ...     defaults = {"topology": "star", "aggregator": "median", "agreement": "none"}
        ...
        ...     def batch_size(self, rng):
        ...         return self.N
        ...
        ...     def num_steps(self, batch_size, rng):
        ...         return batch_size // self.B
        >>> method = MedianEpochs(N=12, B=4)
        >>> method.num_steps(method.batch_size(None), None)
        3
    """

    communication: ClassVar[Communication] = Communication.SERVER
    server_samples: ClassVar[bool] = True
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "acrobot": {"estimator": "gpomdp"},
        "cartpole": {"N": 16, "B": 4, "lr": 1e-3},
        "lunarlander": {"N": 32, "B": 8, "lr": 1e-3},
        "halfcheetah": {"N": 48, "B": 16, "lr": 8e-5},
    }

    N: Annotated[
        int, Field(ge=1, le=1_000_000, description="episodes of an agent's batch"), FloatRange(4, 128, log=True)
    ] = 16
    B: Annotated[
        int, Field(ge=1, le=1_000_000, description="episodes of a batch of the server"), FloatRange(2, 16, log=True)
    ] = 4
    estimator: Annotated[
        Literal["whitened", "gpomdp"],
        Field(description="gradient estimator: whitened returns without `baseline`, as in the code; or unbiased"),
    ] = "whitened"
    weights: Annotated[
        Literal["episode", "step"], Field(description="importance weights: of whole episodes; code: of single steps")
    ] = "episode"
    drift: Annotated[
        float | None,
        Field(gt=0, description="end an epoch once the mean weight differs from 1 by more than this; None: never"),
    ] = None
    logits: Annotated[Logits, Field(description="the policy's last layer: linear; code: tanh")] = "linear"

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Return whether the agents' estimates are unbiased (`estimator=gpomdp`)."""
        return self.estimator == "gpomdp"

    @property
    def squashed(self) -> bool:
        """Return whether the logits pass through tanh (`logits=tanh`)."""
        return self.logits == "tanh"

    @abstractmethod
    def batch_size(self, rng: np.random.Generator) -> int:
        """Return the number of episodes of each agent's batch in this epoch."""

    @abstractmethod
    def num_steps(self, batch_size: int, rng: np.random.Generator) -> int:
        """Return the number of the server's steps in this epoch, after agents' batches of `batch_size` episodes."""

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, gather, aggregate and step at the server, and broadcast the parameters."""
        count = int(fed.draw_at_server("batch", self.batch_size))
        estimate = self._gradient(fed, state["theta"], fed.sample(state["theta"], count))
        aggregate, state = fed.aggregate(await fed.gather("gradient", estimate), state)
        planned = int(fed.draw_at_server("steps", lambda rng: self.num_steps(count, rng)))
        anchor, taken = state["theta"][:1], 0
        while taken < planned:
            current = state["theta"][:1]
            episodes = await fed.sample_at_server(current, self.B)
            omega = self._weigh(fed, anchor, current, episodes)
            if self.drift is not None and abs(_mean(omega, episodes) - 1) > self.drift:
                break
            if omega.dim() == 2:
                num_agents = len(fed.agents)
                log_importance_weights(
                    fed, omega.expand(num_agents, -1), episodes.count.expand(num_agents), fed.agents >= 0
                )
            correction = self._gradient(fed, current, episodes) - self._gradient(fed, anchor, episodes, omega)
            state = self.ascend(fed, (aggregate + correction).expand_as(state["theta"]), state)
            taken += 1
        theta = await fed.broadcast("parameters", state["theta"][:1])
        return {**state, "theta": theta}, {"inner_steps_planned": float(planned), "inner_steps_taken": float(taken)}

    def _gradient(self, fed: Federation, theta: Tensor, batch: Trajectories, weights: Tensor | None = None) -> Tensor:
        if self.estimator == "whitened":
            return whitened(fed.policy, theta, batch, fed.discount, weights)
        return self.gradient(fed, theta, batch, weights)

    def _weigh(self, fed: Federation, anchor: Tensor, current: Tensor, batch: Trajectories) -> Tensor:
        """Return the weights p(tau | anchor) / p(tau | current): [1, N] of episodes, or [1, T, N] of steps."""
        return (importance_weights if self.weights == "episode" else step_weights)(fed.policy, anchor, current, batch)


def _mean(weights: Tensor, batch: Trajectories) -> float:
    return float(weights.sum() / (batch.mask.sum() if weights.dim() == 3 else weights.numel()))
