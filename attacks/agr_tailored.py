"""AGR-tailored: liars who cut their lie to the rule, along the perturbation that suits it best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.attacks._search import Deviation
from byzbench.contracts import Choice


@dataclass(frozen=True)
class AgrTailored(Deviation):
    """All liars send one vector, set off from the honest mean by the most damaging multiple of a perturbation.

        m = mean + t p,    t = argmax_t || F(x, m, ..., m) - mean ||,    t of either sign

    x [h, d] the honest vectors, F the rule, tried on a clone; p [d] the coordinates' unbiased deviations (std), the
    mean itself (unit), or its signs at the deviations' root mean square (sign). `best` searches all three, each with a
    third of the calls, and so covers the lines of `optimal_alie` and `optimal_ipm`.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS.

    Differs from the source in: the objective is the damage, whatever the rule; the authors have one program for each
    (for Krum: the largest t with which a liar is chosen). Both sides of the mean are searched, in place of t < 0.

    Cost: about 27 ms an exchange against the mean, 56 ms against nnm+trimmed_mean, for 240 calls at K=13, d=386.
    """

    source: ClassVar[str] = "Shejwalkar, Houmansadr 2021, NDSS"
    calls: Annotated[int, Field(ge=120, le=100_000, description="lies tried on the clone in one exchange")] = 240
    direction: Annotated[
        Literal["best", "std", "unit", "sign"],
        Field(description="the perturbation: coordinates' deviations, the mean, its signs, or the worst of them"),
        Choice("best", "std", "unit", "sign"),
    ] = "best"

    def lines(self, honest: Tensor) -> list[tuple[Tensor, Tensor]]:
        """One for each perturbation."""
        mean, std = honest.mean(0), honest.std(0)
        found = {
            "std": (mean, std),
            "unit": (torch.zeros_like(mean), -mean),
            "sign": (mean, -mean.sign() * std.square().mean().sqrt()),
        }
        return list(found.values()) if self.direction == "best" else [found[self.direction]]
