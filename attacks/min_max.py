"""Min-Max: a vector no farther from any honest vector than the honest diameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.core.shifted_mean import ShiftedMeanAttack
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class MinMax(ShiftedMeanAttack):
    """Message attack that sends the honest mean, shifted as far as the honest diameter allows.

        m = mean - g p,    g = the largest number with max_i ||m - x[i]|| <= D = max_ij ||x[i] - x[j]||

    x [h, d] the honest vectors, p [d] a direction of length one. With a[i] = x[i] - mean, each i allows g up to the
    positive root of g^2 + 2 g <p, a[i]> + ||a[i]||^2 = D^2; g is the least of these.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS.

    Differs from the source in: g is exact; the authors' search halves a step from g = 10, so that it never gets past 20
    lengths of its direction.

    Example:
        The message is no farther from any honest vector than the honest diameter, 2:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> import numpy as np
        >>> attack = MinMax(direction="unit")
        >>> honest = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
        >>> known = {"honest": honest, "byzantine": torch.zeros(1, 2)}
        >>> context = AttackContext(attack.threat, {"num_byzantine": 1}, known)
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[1., 0.]])
    """

    source: ClassVar[str] = 'Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS'

    def shift_length(self, deviations: Tensor, back: Tensor) -> Tensor:
        """Return the least positive root."""
        along = deviations @ back
        slack = PairwiseDistances.of(deviations).squared_distances.amax() - deviations.square().sum(1)
        return (along + (along.square() + slack).clamp_min(0).sqrt()).amin()
