"""Min-Sum: a vector whose summed squared distance from the honest vectors is no larger than an honest vector's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from byzbench.core.shifted_mean import ShiftedMeanAttack


@dataclass(frozen=True)
class MinSum(ShiftedMeanAttack):
    """Message attack that sends the honest mean, shifted as far as the sum of squared distances allows.

        m = mean - g p,    g = the largest number with sum_i ||m - x[i]||^2 <= max_j sum_i ||x[j] - x[i]||^2

    x [h, d] the honest vectors, p [d] a direction of length one. The sum for a point at distance r from the mean is h
    r^2 + sum_i ||x[i] - mean||^2 in every direction; so g = max_j ||x[j] - mean||.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS. With bound=min, min_j in place of max_j, it
    is the authors' code, and weaker; compare with their tables under it.

    Differs from the source in: g is exact, in place of a search.
    """

    source: ClassVar[str] = 'Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS'
    bound: Annotated[
        Literal["max", "min"], Field(description="honest sum that bounds the message's: the largest or the least")
    ] = "max"

    def shift_length(self, deviations: Tensor, back: Tensor) -> Tensor:
        """Return the distance of the farthest, or the nearest, honest vector from the mean."""
        lengths = deviations.norm(dim=1)
        return lengths.amax() if self.bound == "max" else lengths.amin()
