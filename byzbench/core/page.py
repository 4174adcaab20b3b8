"""Base classes of the PAGE family: Gargiani et al., ICML 2022, arXiv 2202.00308; Jordan et al., arXiv 2401.03489."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Communication, FloatRange, State
from byzbench.core.policy_gradient import Logits, PolicyGradient, log_importance_weights
from byzbench.errors import Undefined
from byzbench.rl.gradients import importance_weights, product_weights
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import CategoricalPolicy

if TYPE_CHECKING:
    from byzbench.core import Federation

OFFICIAL: Mapping[str, Any] = {
    "reference": "local",
    "snapshot": "after_step",
    "weights": "product",
    "logits": "tanh",
    "streams": "official",
}
"""The parameters with which the family behaves as the released code of DecByzPG, and not as its pseudo-code."""


@dataclass(frozen=True)
class PageAlgorithm(PolicyGradient):
    """The PAGE estimator, shared by the family; subclasses define the communication of a round.

    `DecentralizedPage`, `ServerPage` and `IndependentPage` are the usual rounds. A subclass with another round defines
    `round`, which uses `estimate` and `step`.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "official": {"algorithm": OFFICIAL}}

    N: Annotated[
        int, Field(ge=1, le=1_000_000, description="episodes of a large batch"), FloatRange(2, 128, log=True)
    ] = 50
    B: Annotated[
        int, Field(ge=1, le=1_000_000, description="episodes of a small batch"), FloatRange(2, 32, log=True)
    ] = 4
    p: Annotated[float, Field(gt=0, le=1, description="probability of a large batch"), FloatRange(0.05, 1.0)] = 0.2
    reference: Annotated[
        Literal["aggregated", "local"],
        Field(
            description="v_{t-1} of small batches: paper: the agent's last aggregate; code (Q7): its last estimate, "
            "which preserves the spread of the last large batch between agents, behind which Byzantine messages hide"
        ),
    ] = "aggregated"
    snapshot: Annotated[
        Literal["previous", "after_step"],
        Field(
            description="where small batches take their old gradient: paper: theta_{t-1}; code (Q1): the parameters "
            "after the last step, which differ from theta_t only by the agreement, so there is hardly a correction"
        ),
    ] = "previous"
    weights: Annotated[
        Literal["log", "product"],
        Field(
            description="importance weights: log: summed logarithms; code (Q2): float32 products over 1e-9 more, which "
            "underflow to 0 in long episodes, so small batches add up instead of correcting"
        ),
    ] = "log"
    max_weight: Annotated[
        float | None,
        Field(
            ge=1,
            description="largest importance weight of an episode; larger ones are clipped, which bounds the variance "
            "of the correction and biases it; None: not clipped, as in the source",
        ),
    ] = None
    logits: Annotated[
        Logits,
        Field(
            description="the policy's last layer: linear; code (Q3): tanh, which caps the probability of an action "
            "(0.881 of two, 0.711 of four), so no policy becomes nearly deterministic"
        ),
    ] = "linear"
    streams: Annotated[
        Literal["independent", "official"],
        Field(
            description="independent: every seed has its own; official (Q4): all seeds share one initial policy, one "
            "coin sequence and one action stream, as the code re-seeds with 0, so its seeds are hardly repetitions"
        ),
    ] = "independent"

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Return whether first estimates are unbiased: not with action noise that is fixed (`streams=official`)."""
        return self.streams == "independent"

    @property
    def squashed(self) -> bool:
        """Return whether the logits pass through tanh (`logits=tanh`)."""
        return self.logits == "tanh"

    @property
    def fixed_streams(self) -> frozenset[str]:
        """Return the names of the random streams that ignore the seed (`streams=official`)."""
        return frozenset({"init", "coin", "action"} if self.streams == "official" else ())

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, with a zero reference, as the first batch is large.

        Raises:
            Undefined: `streams=official` needs a policy for discrete actions.
        """
        theta = fed.theta0
        if self.streams == "official":
            network = fed.policy.network if isinstance(fed.policy, CategoricalPolicy) else None
            if not isinstance(network, FeedForward):
                raise Undefined(
                    "streams=official has the released code's initial policy, which is for discrete actions: "
                    "use -p algo.streams=independent"
                )
            theta = draw_official_parameters(network.sizes).to(theta).expand_as(theta).clone()
        return {**super().start(fed), "theta": theta, "previous": theta, "reference": torch.zeros_like(theta)}

    async def estimate(self, fed: Federation, state: State) -> tuple[Tensor, Tensor]:
        """Compute the PAGE estimate of every agent.

            v~_t = g_N(theta_t)                                              if the coin c_t is 1: a large batch
            v~_t = v_{t-1} + g_B(theta_t) - g_B^omega(theta_{t-1})           if it is 0: a small batch

        g_B^omega is taken over the same episodes, sampled at theta_t and weighted by omega = p(tau | theta_{t-1}) /
        p(tau | theta_t), which makes it an unbiased gradient at theta_{t-1} unless `max_weight` clips them (truncated
        importance sampling: Ionides 2008).

        Returns:
            The estimates [K, d], and which agents drew a large batch, bool [K].
        """
        coin = await fed.common("coin", lambda rng: float(self._coin(fed.round, rng)))
        large = coin.bool() | (fed.round == 0)
        batch = fed.sample(state["theta"], torch.where(large, self.N, self.B))
        log_probs = None if large.all() else torch.zeros_like(batch.rewards)
        value = self.gradient(fed, state["theta"], batch, log_probs=log_probs)
        if log_probs is not None:
            weigh = importance_weights if self.weights == "log" else product_weights
            omega = weigh(fed.policy, state["previous"], state["theta"], batch, log_probs)
            if self.max_weight is not None:
                omega = omega.clamp(max=self.max_weight)
            old = self.gradient(fed, state["previous"], batch, omega)
            log_importance_weights(fed, omega, batch.count, ~large)
            step2 = (state["theta"] - state["previous"]).square().sum(1).cpu()
            fed.log(
                "importance_weight_constant", ((value - old).square().sum(1).cpu() / step2).where(~large, torch.nan)
            )
            small = state["reference"] + value - old
            value = torch.where(large.unsqueeze(1).to(value.device), value, small)
        return value, large

    def _coin(self, round: int, rng: np.random.Generator) -> bool:
        return (draw_official_uniform(round) if self.streams == "official" else rng.random()) < self.p

    def step(self, fed: Federation, direction: Tensor, estimate: Tensor, state: State) -> State:
        """Step along the direction, and store the reference of the next small batch.

        Args:
            fed: The federation.
            direction: The aggregates [K, d]. A row with NaN is undefined, and its agent does not move.
            estimate: The agents' own estimates [K, d], the reference of `reference=local`.
            state: The algorithm's state.

        Returns:
            The new state.
        """
        new = self.ascend(fed, direction, state)
        reference = direction if self.reference == "aggregated" else estimate
        previous = state["theta"] if self.snapshot == "previous" else new["theta"]
        defined = direction.isfinite().all(1, keepdim=True)
        return {
            **new,
            "previous": torch.where(defined, previous, state["previous"]),
            "reference": torch.where(defined, reference, state["reference"]),
        }


@dataclass(frozen=True)
class DecentralizedPage(PageAlgorithm):
    """The PAGE round of a decentralised method: agents aggregate their neighbours' estimates, and agree on parameters.

    A subclass names the topology, the aggregator and the agreement in `defaults`.

    Example:
        >>> @dataclass(frozen=True)
        ... class MedianPage(DecentralizedPage):
        ...     defaults = {"topology": "complete", "aggregator": "median", "agreement": "mda"}
        >>> MedianPage(N=20).uses
        ('aggregator', 'agreement')
    """

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Estimate, exchange estimates, aggregate, step, and agree on parameters."""
        estimate, large = await self.estimate(fed, state)
        direction, state = fed.aggregate(await fed.exchange("gradient", estimate), state)
        state = self.step(fed, direction, estimate, state)
        theta, state = await fed.agree(state["theta"], state)
        return {**state, "theta": theta}, {"large_batch": float(large[0])}


@dataclass(frozen=True)
class ServerPage(PageAlgorithm):
    """The PAGE round with a trusted server.

    The server sends v_t rather than theta_{t+1}: agents apply the same step at the same point, and the next round needs
    v_t in any case. Where the server's rule is undefined, no agent moves.

    A subclass names the aggregator in `defaults`.

    Example:
        >>> @dataclass(frozen=True)
        ... class TrimmedServer(ServerPage):
        ...     defaults = {"topology": "star", "aggregator": "trimmed_mean", "agreement": "none"}
        >>> TrimmedServer(p=1).communication.value
        'server'
    """

    communication: ClassVar[Communication] = Communication.SERVER

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Estimate, gather, aggregate at the server, broadcast, and step."""
        estimate, large = await self.estimate(fed, state)
        aggregate, state = fed.aggregate(await fed.gather("gradient", estimate), state)
        direction = await fed.broadcast("direction", aggregate)
        return self.step(fed, direction, estimate, state), {"large_batch": float(large[0])}


@dataclass(frozen=True)
class IndependentPage(PageAlgorithm):
    """The PAGE round of an agent that receives no messages.

    Example:
        >>> from byzbench.core import Recommendation
        >>> @dataclass(frozen=True)
        ... class SmallSteps(IndependentPage):
        ...     recommended = {"cartpole": Recommendation({"lr": 1e-4}, "an example")}
        >>> SmallSteps().communication.value
        'none'
    """

    communication: ClassVar[Communication] = Communication.NONE
    defaults: ClassVar[Mapping[str, str]] = {"topology": "complete", "aggregator": "mean", "agreement": "none"}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Estimate and step."""
        estimate, large = await self.estimate(fed, state)
        return self.step(fed, estimate, estimate, state), {"large_batch": float(large[0])}


def draw_official_parameters(sizes: tuple[int, ...]) -> Tensor:
    """Return the initial policy parameters of the released code, in the order of this package: float32 [d].

    The code seeds torch with 0 and builds the layers, whose default initial values consume numbers of the generator.
    It then draws every tensor again, uniformly within 1/sqrt(its last dimension). Its weights are [out, in], those of
    this package [in, out].
    """
    rng = torch.Generator().manual_seed(0)
    shapes = [shape for i, o in pairwise(sizes) for shape in ((o, i), (o,))]
    for shape in shapes:
        torch.empty(shape).uniform_(generator=rng)
    tensors = [torch.empty(shape).uniform_(-(shape[-1] ** -0.5), shape[-1] ** -0.5, generator=rng) for shape in shapes]
    return torch.cat([(t.T if t.dim() == 2 else t).flatten() for t in tensors])


def draw_official_uniform(round: int) -> float:
    """Return the uniform number of the released code's coin in a round after the first: NumPy's legacy stream, seed 0.

    Example:
        >>> draw_official_uniform(1)
        0.5488135039273248
    """
    legacy = np.random.RandomState(0)
    return float(legacy.random_sample(max(round, 1))[-1])
