"""Optimal IPM: inner product manipulation with the most damaging factor for the given rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from byzbench.core.oracle_attack import LineSearchAttack


@dataclass(frozen=True)
class OptimalIpm(LineSearchAttack):
    """Adaptive attack that sends the most damaging multiple of the honest mean.

        m = -t * mean,    t = argmax_t || F(x, m, ..., m) - mean ||,    t of either sign

    x [h, d] the honest vectors, F the rule, evaluated on a clone.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS, for the search; Xie, Koyejo, Gupta 2019,
    arXiv 1903.03936, for the line. ByzFL's `Optimal_InnerProductManipulation` is this with twenty points, t >= 0.

    Differs from the source in: those twenty points are tried, then a grid on both sides and the gap around the best.

    Cost: about 11 ms an exchange against the mean, 24 ms against nnm+trimmed_mean, for 120 calls at K=13, d=386.
    """

    source: ClassVar[str] = "Shejwalkar, Houmansadr 2021, NDSS; Xie et al. 2019, arXiv 1903.03936"

    def lines(self, honest: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the line through the origin against the mean."""
        mean = honest.mean(0)
        return [(torch.zeros_like(mean), -mean)]
