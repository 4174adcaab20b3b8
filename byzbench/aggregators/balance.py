"""BALANCE: average with those neighbours that are similar to oneself, ever more strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, blend
from byzbench.contracts import LinearRule, Range, State
from byzbench.geometry.cloud import Cloud


@dataclass(frozen=True)
class Balance(LinearRule):
    """The own vector and the mean of the neighbours within a share of its length, which shrinks from call to call.

    Formula: j is accepted if ||x_i - x_j|| <= gamma exp(-kappa t/T) ||x_i||; value = alpha x_i + (1 - alpha) times the
    mean of the accepted x_j, or x_i if there is none. t = 0, 1, .. counts the calls, and stays at T once it is there.

    The bound is in lengths of the own vector, made for parameters. Gradients, which share no common part, are farther
    apart than a third of their length, and would all be refused.

    Source: Fang, Zhang, Hairi, Khanduri, Liu, Lu, Liu, Gong 2024, "Byzantine-robust decentralized federated learning",
    CCS (arXiv 2406.10416).

    Differs from the source in: it is silent, as far as we know, on nobody being accepted; some then take the nearest,
    which may be a liar. gamma is from memory; copies of it have from 0.3 to 2.

    State: `rounds` [..., 1], how often each receiver called.

    Attributes:
        alpha: the own vector's part.
        gamma: the first bound, in lengths of the own vector.
        decay: kappa, how fast the bound shrinks.
        horizon: T, how many calls it shrinks for. An exchange is a call: several a round count as several.
    """

    alpha: Annotated[float, Field(ge=0, le=1, description="the own vector's part"), Range(0.1, 0.9)] = 0.5
    gamma: Annotated[
        float, Field(gt=0, description="the first bound, in lengths of the own vector"), Range(0.03, 3, log=True)
    ] = 0.3
    decay: Annotated[float, Field(ge=0, description="kappa, how fast the bound shrinks"), Range(0.1, 5, log=True)] = 1.0
    horizon: Annotated[int, Field(ge=1, description="T, how many calls the bound shrinks for")] = 100

    source: ClassVar[str] = "Fang et al. 2024, arXiv 2406.10416"
    cost: ClassVar[str] = "n d"
    stateful: ClassVar[bool] = True
    self_centred: ClassVar[bool] = True
    requires: ClassVar[str] = "n >= 1, and a gamma that tells liars from honest agents"

    def weigh(
        self, cloud: Cloud, f: Tensor, *, own: Tensor | None = None, state: State | None = None, **unused: Any
    ) -> tuple[Tensor, State]:
        """The part alpha for itself, the rest for the accepted alike. Reads neither f nor mixing weights."""
        around = Neighbourhood.of(cloud.mask, own, None)
        column = around.column.unsqueeze(-1)
        rounds = state["rounds"] if state else torch.zeros_like(column, dtype=torch.float64)
        shrunk = self.gamma * torch.exp(-self.decay * (rounds / self.horizon).clamp_max(1))
        accepted = around.gaps(cloud) <= shrunk * cloud.norms.gather(-1, column)
        return blend(accepted, around.column, self.alpha), {"rounds": rounds + 1}
