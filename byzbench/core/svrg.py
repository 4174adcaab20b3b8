"""Base class of SVRG-type policy gradients: a large batch of the agents, then corrected steps of the server."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Communication, FloatRange, State
from byzbench.core.policy_gradient import Logits, PolicyGradient, log_importance_weights
from byzbench.rl.gradients import gpomdp, importance_weights, step_weights, whitened

if TYPE_CHECKING:
    from byzbench.core import Federation
    from byzbench.core.setting import Setting
    from byzbench.rl.rollouts import Trajectories


DECAY = 0.9
"""The factor by which the server's measurement of the first round decreases in each further round; it is not tuned."""

OFFICIAL: Mapping[str, Any] = {"weights": "step", "drift": 0.005, "logits": "tanh"}
"""The parameters with which SVRPG and FedPG-BR behave as the released code of the latter."""

OFFICIAL_POLICIES: Mapping[str, str] = {
    "cartpole": "mlp(hidden=[16, 16], activation=relu)",
    "lunarlander": "mlp",
    "halfcheetah": "mlp(std=state)",
}
"""The policies of that code by task."""

Scale: TypeAlias = Annotated[
    Literal["none", "server"],
    Field(
        description="server: in the first round the server measures how far apart honest gradients are, for a rule "
        "that estimates a scale; its measurement counts a tenth less in each further round"
    ),
]
"""Type of the parameter `scale`."""


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
        "lunarlander": {"N": 32, "B": 8, "lr": 1e-3, "discount": 0.99},
        "halfcheetah": {"N": 48, "B": 16, "lr": 8e-5, "discount": 0.995},
    }

    discount: Annotated[float | None, Field(gt=0, le=1, description="discount gamma; None: the task's")] = None
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
    pool: Annotated[
        Literal["steps", "episodes"],
        Field(description="mean of whitened gradients: over all steps of a batch, as in the code; or over episodes"),
    ] = "steps"
    weights: Annotated[
        Literal["episode", "step"], Field(description="importance weights: of whole episodes; code: of single steps")
    ] = "episode"
    drift: Annotated[
        float | None,
        Field(gt=0, description="end an epoch once the mean weight differs from 1 by more than this; None: never"),
    ] = None
    fallback: Annotated[
        Literal["stay", "own"],
        Field(
            description="steps of an epoch in which the rule has no aggregate: none; code: own: along the gradients of "
            "the server's episodes"
        ),
    ] = "stay"
    scale: Scale = "none"
    logits: Annotated[Logits, Field(description="the policy's last layer: linear; code: tanh")] = "linear"

    def notes(self, setting: Setting) -> list[str]:
        """Return remarks on the server's episodes, and on a baseline without effect."""
        lines = super().notes(setting)
        if self.estimator == "whitened" and self.baseline != "none":
            lines.append(
                f"{setting.name(self.kind)}: whitened returns have no baseline: baseline={self.baseline} changes "
                "nothing; estimator=gpomdp has one"
            )
        return lines

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
        state, deviation = await self._measure_deviation(fed, state)
        count = int(fed.draw_at_server("batch", self.batch_size))
        estimate = self._gradient(fed, state["theta"], fed.sample(state["theta"], count))
        aggregate, state = fed.aggregate(await fed.gather("gradient", estimate), state, deviation)
        planned = int(fed.draw_at_server("steps", lambda rng: self.num_steps(count, rng)))
        anchor, taken = state["theta"][:1], 0
        is_alone = self.fallback == "own" and not bool(aggregate.isfinite().all())
        while taken < planned:
            current = state["theta"][:1]
            episodes = await fed.sample_at_server(current, self.B)
            direction = self._gradient(fed, current, episodes)
            if not is_alone:
                omega = self._weigh(fed, anchor, current, episodes)
                if self.drift is not None and abs(_mean(omega, episodes) - 1) > self.drift:
                    break
                if omega.dim() == 2:
                    num_agents = len(fed.agents)
                    log_importance_weights(
                        fed, omega.expand(num_agents, -1), episodes.count.expand(num_agents), fed.agents >= 0
                    )
                direction = aggregate + (direction - self._gradient(fed, anchor, episodes, omega))
            state = self.ascend(fed, direction.expand_as(state["theta"]), state)
            taken += 1
        theta = await fed.broadcast("parameters", state["theta"][:1])
        return {**state, "theta": theta}, {"inner_steps_planned": float(planned), "inner_steps_taken": float(taken)}

    async def _measure_deviation(self, fed: Federation, state: State) -> tuple[State, float | None]:
        """Return the new state, and the distance of two honest gradients by the server's episodes with `scale=server`.

        In the first round the server samples N episodes. With g_i the gradient of one of them without a baseline, the
        distance is d = sqrt(2 / N) (sum_i ||g_i - mean(g)||^2 / (N - 1))^(1/2); it is d DECAY^t in round t.
        """
        if self.scale == "none":
            return state, None
        if fed.round == 0:
            theta = state["theta"][:1]
            single = (await fed.sample_at_server(theta, max(2, self.N))).as_agents()
            single_method = replace(self, baseline="none", pool="episodes")
            gradients = single_method._gradient(fed, theta.repeat(len(single.count), 1), single).double()
            distance = gradients.var(0).sum().mul(2 / self.N).sqrt()
            state = {**state, "deviation": torch.full_like(state["deviation"], float(distance))}
        return state, float(state["deviation"][0]) * DECAY**fed.round

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, with zero moments of Adam, and the deviation for `scale=server`."""
        state = super().start(fed)
        return state if self.scale == "none" else {**state, "deviation": fed.theta0.new_zeros(len(fed.agents), 1)}

    def _gradient(self, fed: Federation, theta: Tensor, batch: Trajectories, weights: Tensor | None = None) -> Tensor:
        discount = fed.discount if self.discount is None else self.discount
        if self.estimator == "whitened":
            return whitened(fed.policy, theta, batch, discount, weights, self.pool)
        return gpomdp(fed.policy, theta, batch, discount, weights, self.baseline == "others")

    def _weigh(self, fed: Federation, anchor: Tensor, current: Tensor, batch: Trajectories) -> Tensor:
        """Return the weights p(tau | anchor) / p(tau | current): [1, N] of episodes, or [1, T, N] of steps."""
        return (importance_weights if self.weights == "episode" else step_weights)(fed.policy, anchor, current, batch)


def _mean(weights: Tensor, batch: Trajectories) -> float:
    return float(weights.sum() / (batch.mask.sum() if weights.dim() == 3 else weights.numel()))
