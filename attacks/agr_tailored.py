"""AGR-tailored attack: the honest mean with the most damaging perturbation for the given rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Categorical
from byzbench.core.oracle_attack import LineSearchAttack
from byzbench.geometry.deviations import standard_deviations


@dataclass(frozen=True)
class AgrTailored(LineSearchAttack):
    """Adaptive attack that sends the honest mean plus the most damaging multiple of a perturbation.

        m = mean + t p,    t = argmax_t || F(x, m, ..., m) - mean ||,    t of either sign

    x [h, d] the honest vectors, F the rule, evaluated on a clone; p [d] the unbiased standard deviations of the
    coordinates (std), the mean itself (unit), or its signs times the root mean square of the deviations (sign). All
    Byzantine agents send m. `best` searches all three, each with a third of the evaluations. Its lines include those of
    `optimal_alie` and `optimal_ipm`.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS.

    Differs from the source in: the objective is the damage for every rule. The authors have one program for each rule
    (for Krum: the largest t with which a Byzantine agent is chosen). Both sides of the mean are searched, in place of t
    < 0.

    Cost: about 27 ms an exchange against the mean, 56 ms against nnm+trimmed_mean, for 240 calls at K=13, d=386.
    """

    source: ClassVar[str] = "Shejwalkar, Houmansadr 2021, NDSS"
    calls: Annotated[
        int,
        Field(
            ge=120,
            le=100_000,
            description="candidates evaluated on the rule oracle (a clone of the rule) in one exchange",
        ),
    ] = 240
    direction: Annotated[
        Literal["best", "std", "unit", "sign"],
        Field(description="the perturbation: deviations by coordinate, the mean, its signs, or the best of the three"),
        Categorical("best", "std", "unit", "sign"),
    ] = "best"

    def lines(self, honest: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return one line for each perturbation."""
        mean, std = honest.mean(0), standard_deviations(honest)
        lines = {
            "std": (mean, std),
            "unit": (torch.zeros_like(mean), -mean),
            "sign": (mean, -mean.sign() * std.square().mean().sqrt()),
        }
        return list(lines.values()) if self.direction == "best" else [lines[self.direction]]
