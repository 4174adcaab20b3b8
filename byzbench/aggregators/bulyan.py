"""Bulyan: a trimmed mean of what Krum chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import Array, Rank, mean_around, rank
from byzbench.aggregators.krum import Krum, lowest
from byzbench.aggregators.median import by_rank, middle
from byzbench.contracts import Aggregator, State
from byzbench.geometry.cloud import Cloud, array, tensor


@dataclass(frozen=True)
class Bulyan(Aggregator):
    """In each coordinate, the mean around the median of the inputs that Krum chooses one by one.

    Formula: theta times, Krum scores those that are left among themselves, and its winner, of equals the first, is
    moved to the chosen; value_k = (1/beta) sum of the beta = theta - 2f chosen values x_ik nearest to their median, of
    equals the smaller. theta = n - 2f.

    Source: El Mhamdi, Guerraoui, Rouault 2018, "The hidden vulnerability of distributed learning in Byzantium",
    arXiv 1802.07927.

    Differs from the source in: Krum's score counts r - f - 2 of r vectors that are left, and r comes down to 2f + 1
    whatever n is: n >= 4f + 3 does not keep r at the 2f + 3 that Krum asks for, and with f <= 1 the last scores would
    count nobody. Here a score counts one neighbour at least. As two vectors may be each other's nearest, the last
    choices can be ties. `theta="n-2f-2"`, after the authors' own code, ends at r = 2f + 3, and n >= 4f + 3 is just what
    makes its beta positive. (Read in others' accounts of the source; that code scores once only, and this does not.)

    Attributes:
        theta: how many Krum chooses.
    """

    theta: Annotated[Literal["n-2f", "n-2f-2"], Field(description="how many Krum chooses")] = "n-2f"

    source: ClassVar[str] = "El Mhamdi et al. 2018, arXiv 1802.07927"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 4f + 3"

    def defined(self, n: int, f: int) -> bool:
        """Some of the chosen values are averaged."""
        return self._chosen(n, f) >= 2 * f + 1

    def guarantee(self, n: int, f: int) -> bool:
        """The source's."""
        return n >= 4 * f + 3

    def _chosen(self, n: Any, f: Any) -> Any:
        return n - 2 * f - (0 if self.theta == "n-2f" else 2)

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        cloud, bound = Cloud.of(x, mask), torch.as_tensor(f, device=x.device).expand(x.shape[:-2])
        theta = self._chosen(cloud.mask.sum(-1), bound)
        left = cloud.mask
        for taken in range(int(theta.max())):
            # Krum with a bound of r - 3 counts one neighbour; of a single vector, none.
            most = (left.sum(-1) - 3).clamp_min(-1)
            scores = Krum().scores(cloud, left, bound.minimum(most))
            left = left & ~tensor(lowest(scores, array(theta > taken)), left)
        beta = rank(theta - 2 * bound)

        def around(ordered: Array, count: Rank) -> Array:
            return mean_around(ordered, middle(ordered, count), beta)

        return by_rank(around, x, cloud.mask & ~left), None, {}
