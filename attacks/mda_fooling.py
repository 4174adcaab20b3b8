"""MDA fooling: vectors that every minimum-diameter subset contains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from byzbench.attacks.min_max import MinMax
from byzbench.core import On, Setting
from byzbench.errors import Undefined
from byzbench.geometry.pairwise_distances import PairwiseDistances
from byzbench.geometry.subsets import min_diameter_subsets

_INSIDE = 1 - 1e-6
"""Share of the distance that is used, so that rounding to float32 does not move the vector out of the subset."""


@dataclass(frozen=True)
class MdaFooling(MinMax):
    """Message attack on minimum-diameter averaging (MDA): a shifted mean within the minimum diameter.

        m = mean(S) - g p,    g = the largest number with max_{i in S} ||m - x[i]|| <= diam(S)

    S are the h - f of the honest vectors x [h, d] with the least diameter, p [d] a direction of length one. Together
    with f messages equal to m they are n - f vectors with the diameter of S, and any n - f vectors hold h - f honest
    ones. So MDA selects all Byzantine messages. On a sparse graph S is still taken from all honest agents.

    Source: the official code of Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, where nothing calls it.

    Differs from the source in: it is an attacker's message, where the code has it inside the honest agreement; g is
    exact, for a bisection; p is a direction of `min_max`, computed from S alone.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"
    on: On = field(default="parameters", kw_only=True)

    def check(self, setting: Setting) -> None:
        """Reject numbers of agents at which the subset is a single vector, whose diameter is zero."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        if agents - 2 * byzantine < 2:
            raise Undefined(
                f"mda_fooling needs K >= 2f + 2, got K={agents}, f={byzantine}: the n - f nearest vectors must hold "
                "two honest ones"
            )
        super().check(setting)

    def craft_vector(self, honest: Tensor, byzantine: int) -> Tensor:
        """Return the shifted mean of the minimum-diameter subset; see `ShiftedMeanAttack.craft_vector`."""
        valid = torch.ones(len(honest), dtype=torch.bool)
        subset, _ = min_diameter_subsets(PairwiseDistances.of(honest).distances, valid, torch.tensor(byzantine))
        centre = honest[subset].mean(0)
        return centre + _INSIDE * (super().craft_vector(honest[subset], byzantine) - centre)
