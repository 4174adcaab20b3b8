"""Fang: liars who push each coordinate back, just beyond the last honest value or as far as Krum lets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Choice, MessageAttack, Range, Speech, State, Threat
from byzbench.errors import Undefined
from byzbench.geometry.cloud import Cloud

if TYPE_CHECKING:
    from byzbench.federation.view import View

HALVINGS = 50


@dataclass(frozen=True)
class Fang(MessageAttack):
    """Directed deviation: whatever direction the honest mean takes in a coordinate, the liars push the other way.

    x [h, d] the honest vectors, s = sign(mean(x)) [d]. With against=trim, for trimmed means and medians, each liar
    draws every coordinate anew:

        where s >= 0:  m ~ U(min / b, min) if min > 0, else U(b min, min)      min, max over the honest values
        where s < 0:   m ~ U(max, b max)   if max > 0, else U(max, max / b)

    With against=krum, all send m = -l s with the first l of l0, l0/2, l0/4, ... at which Krum selects it:

        l0 = (sqrt(S / (K - 2f - 1)) + max_i ||x[i]||) / ||s||,    S = min_i of Krum's scores among the honest

    No larger l can be selected. If none of 50 is, the last is sent, which is next to nothing.

    Source: Fang, Cao, Jia, Gong 2020, arXiv 1911.11815, full knowledge.

    Differs from the source in: it speaks about gradients, where the source's last global model is the origin; s is
    taken from the honest agents alone; the search ends after a number of halvings, not at an absolute l.
    """

    source: ClassVar[str] = "Fang et al. 2020, arXiv 1911.11815"
    against: Annotated[
        Literal["trim", "krum"], Field(description="the family of rules that it is made for"), Choice("trim", "krum")
    ] = "trim"
    b: Annotated[
        float, Field(gt=1, description="trim: how far beyond the last honest value, as a factor"), Range(1.1, 20)
    ] = 2.0

    @property
    def threat(self) -> Threat:
        """Omniscient; colluding against Krum."""
        return Threat(sees=frozenset({"honest", "own" if self.against == "trim" else "colluders"}))

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse what Krum would refuse."""
        if self.against == "krum" and agents <= 2 * byzantine + 2:
            raise Undefined(f"fang: against=krum needs K > 2f + 2, as Krum does; got K={agents}, f={byzantine}")

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The deviating vectors."""
        x = view.honest.double()
        if self.against == "krum":
            return Speech(_selected(x, view.byzantine).to(view.honest.dtype).expand_as(view.colluders)), memory
        up = x.mean(0) >= 0
        edge = torch.where(up, x.amin(0), x.amax(0))
        # Towards zero a value moves on by being divided, away from zero by being multiplied.
        far = torch.where((edge > 0) == up, edge / self.b, edge * self.b)
        share = torch.from_numpy(rng.random(view.own.shape))
        return Speech((edge + share * (far - edge)).to(view.own.dtype)), memory


def _selected(x: Tensor, f: int) -> Tensor:
    """-l s [d], with the first l that Krum selects when f of h + f vectors say it."""
    sign, squares, apart = x.mean(0).sign(), x.square().sum(1), Cloud.of(x).squared_distances
    length, near = float(sign.norm()), len(x) - 2
    if length == 0:
        return sign
    apart = apart + torch.diag(torch.full((len(x),), torch.inf, dtype=apart.dtype))
    bound = apart.sort(1).values[:, :near].sum(1).amin()
    step = float((bound / (len(x) - f - 1)).sqrt() + squares.amax().sqrt()) / length
    for _ in range(HALVINGS):
        gaps = (squares + 2 * step * (x @ sign) + (step * length) ** 2).clamp_min(0)
        honest = torch.cat([apart, gaps.unsqueeze(1).expand(-1, f)], 1).sort(1).values[:, :near].sum(1)
        # The other f - 1 liars stand at the same place.
        if gaps.sort().values[: near - (f - 1)].sum() < honest.amin():
            break
        step /= 2
    return -step * sign
