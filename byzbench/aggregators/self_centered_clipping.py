"""Self-centred clipping: gossip in which no neighbour pulls harder than from a radius away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, Sorted, completed
from byzbench.aggregators.rfa import TINY
from byzbench.contracts import LinearRule, Range, State
from byzbench.errors import Undefined
from byzbench.geometry.cloud import Cloud


@dataclass(frozen=True)
class SelfCenteredClipping(LinearRule):
    """The own vector, moved towards each neighbour by its weight, but by no more than from a radius away.

    Formula: value = x_i + sum_j W_ij (x_j - x_i) min(1, tau / ||x_j - x_i||) over the neighbours j, with the mixing
    weights W [n] of the receiver i. As weights: W_ij min(1, tau / ||x_j - x_i||) for j, and the rest of one for i.

    The radius tau, where b is what the liars weigh, and d_j = ||x_j - x_i||:
    - adaptive: sqrt((1/b) sum of W_ij d_j^2 over the nearest neighbours that weigh no more than all less b together);
      zero where not even the nearest is that light. b = the sum of the f largest W_ij, the most that f can weigh; where
      it is zero nothing is clipped.
    - second: the second largest d_j, of a single neighbour its d_j. Two liars that are far away set it as they like.
    - fixed: a number, in the units of the inputs. None suits two scales, nor the start of a run and its end.
    - oracle: sqrt(sum over the honest j of W_ij d_j^2 / sum over the liars of W_ij): the radius of the source's
      analysis, which no agent can know; without liars nothing is clipped.

    The default is adaptive: it needs no knowledge but f, scales with the inputs, and bounds f liars for any f.

    Source: He, Karimireddy, Jaggi 2022, "Byzantine-robust decentralized learning via ClippedGossip", arXiv 2202.01545.
    `second` is the default of the authors' code; `adaptive` is their practical radius as in the code of Gaucher,
    Dieuleveut, Hendrikx 2025, arXiv 2410.10418.

    Differs from the source in: that code's b is f times the largest weight, and where the nearest neighbours weigh
    exactly what all do less b, it leaves out the last of them.

    Attributes:
        radius: how tau is found.
        tau: the radius where it is fixed.
    """

    radius: Annotated[
        Literal["adaptive", "second", "fixed", "oracle"], Field(description="how the radius is found")
    ] = "adaptive"
    tau: Annotated[float, Field(gt=0, description="the radius where it is fixed"), Range(0.01, 100, log=True)] = 1.0

    source: ClassVar[str] = "He et al. 2022, arXiv 2202.01545"
    cost: ClassVar[str] = "n d"
    self_centred: ClassVar[bool] = True

    @property
    def scale_equivariant(self) -> bool:  # type: ignore[override]
        """Unless the radius is fixed."""
        return self.radius != "fixed"

    @property
    def asks(self) -> frozenset[str]:  # type: ignore[override]
        """The oracle is told who is honest."""
        return frozenset({"honest"} if self.radius == "oracle" else ())

    @property
    def requires(self) -> str:  # type: ignore[override]
        """By radius; `guarantee` says why."""
        count = "f <= 1 and n >= 3f + 1" if self.radius == "second" else "n >= 5f"
        fit = ", a radius that fits their spread," if self.radius == "fixed" else ""
        return f"{count}{fit} and well connected honest agents"

    def guarantee(self, n: int, f: int) -> bool:
        """Whether complete graphs contract (see `_neighbourhood`): n - f > 2 rho f; other graphs need more.

        |E| <= b tau + sum of the honest W_ij (d_j - tau)+, and (d - tau)+ <= d^2 / 4 tau, so the oracle's
        tau = sqrt(S/b) makes rho = (5/4)^2. So does the adaptive one: b tau^2 = S - S_q + S_l, where honest neighbours
        of weight q are left out for liars l that are nearer; they add sqrt(q S_q) - q tau to |E|, and the worst is
        again q = 0. The second largest gap makes rho = 1 while f <= 1.
        """
        if self.radius == "second":
            return (n >= 1) & (f <= 1) & (n >= 3 * f + 1)
        return (n >= 1) & (n >= 5 * f)

    def weigh(
        self,
        cloud: Cloud,
        f: Tensor,
        *,
        own: Tensor | None = None,
        weights: Tensor | None = None,
        honest: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, State]:
        """The mixing weights, clipped."""
        around = Neighbourhood.of(cloud.mask, own, weights)
        if self.radius == "fixed":
            radius = torch.full_like(around.column, self.tau, dtype=torch.float64)
        elif self.radius == "second":
            radius = _second(around.near(cloud))
        elif self.radius == "adaptive":
            near, b = around.near(cloud), around.heaviest(f)
            radius = _balanced(near.gaps, near.shares.where(near.within(b), 0), b)
        elif honest is None:
            raise Undefined("the oracle's radius needs to be told who is honest")
        else:
            lies = around.shares.where(~honest, 0).sum(-1)
            radius = _balanced(around.gaps(cloud), around.shares.where(honest, 0), lies)
        return completed(around.clipped(cloud, radius), around.column), {}


def _balanced(gaps: Tensor, shares: Tensor, lies: Tensor) -> Tensor:
    """sqrt(sum of shares gaps^2 / lies) over [..., n], [...]; infinite where lies weigh nothing."""
    squares = (shares * gaps.where(shares > 0, 0).square()).sum(-1)
    return (squares / lies.clamp_min(TINY)).sqrt().masked_fill(lies <= 0, torch.inf)


def _second(near: Sorted) -> Tensor:
    """The second largest of the finite gaps, [...]; of one, that one; of none, whatever."""
    last = near.gaps.isfinite().sum(-1, keepdim=True)
    return near.gaps.gather(-1, torch.where(last >= 2, last - 2, 0)).squeeze(-1)
