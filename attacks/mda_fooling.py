"""MDA fooling: liars whom every minimum-diameter subset takes in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from byzbench.attacks.min_max import MinMax
from byzbench.contracts import On
from byzbench.errors import Undefined
from byzbench.geometry.cloud import Cloud
from byzbench.geometry.subsets import narrowest

_INSIDE = 1 - 1e-6
"""Not quite the full distance, lest rounding to float32 carry the lie out of the subset."""


@dataclass(frozen=True)
class MdaFooling(MinMax):
    """All liars send one vector, as far from the narrowest honest subset's mean as leaves its diameter what it is.

        m = mean(S) - g p,    g = the largest number with max_{i in S} ||m - x[i]|| <= diam(S)

    S are the h - f of the honest vectors x [h, d] with the least diameter, p [d] a direction of length one. Together
    with f liars at m they are n - f vectors no wider than S, and any n - f vectors hold h - f honest ones: minimum
    diameter averaging takes all the liars in. On a sparse graph S is still taken from all honest agents.

    Source: the official code of Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, where nothing calls it.

    Differs from the source in: it is an attacker's message, where the code has it inside the honest agreement; g is
    exact, for a bisection; p is a direction of `min_max`, of S alone.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"
    on: On = field(default="parameters", kw_only=True)

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse where the subset is a single vector: it is no wider than a point."""
        if agents - 2 * byzantine < 2:
            raise Undefined(
                f"mda_fooling needs K >= 2f + 2, got K={agents}, f={byzantine}: the n - f nearest vectors must hold "
                "two honest ones that are apart"
            )

    def lie(self, honest: Tensor, byzantine: int) -> Tensor:
        """See `Setback.lie`; of the narrowest subset."""
        everyone = torch.ones(len(honest), dtype=torch.bool)
        subset, _ = narrowest(Cloud.of(honest).distances, everyone, torch.tensor(byzantine))
        centre = honest[subset].mean(0)
        return centre + _INSIDE * (super().lie(honest[subset], byzantine) - centre)
