"""Bulyan: a trimmed mean of the inputs that Krum selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import Array, Rank, mean_around, rank
from byzbench.aggregators.krum import Krum, lowest
from byzbench.aggregators.median import by_rank, middle
from byzbench.core import Aggregator, RuleContext, RuleOutput
from byzbench.geometry.pairwise_distances import to_array, to_tensor


@dataclass(frozen=True)
class Bulyan(Aggregator):
    """The coordinate-wise mean, around the median, of the inputs that Krum selects one by one.

    Formula: theta times, Krum scores the remaining inputs among themselves, and the input of least score, ties by
    index, is selected; value_k = (1/beta) sum of the beta = theta - 2f selected values x_ik nearest to their median, of
    ties the smaller. theta = n - 2f.

    Source: El Mhamdi, Guerraoui, Rouault 2018, "The hidden vulnerability of distributed learning in Byzantium", arXiv
    1802.07927.

    Differs from the source in: Krum's score of r remaining vectors counts r - f - 2 neighbours, and r decreases to 2f +
    1 whatever n is. So n >= 4f + 3 does not keep r at the 2f + 3 that Krum requires, and with f <= 1 the last scores
    would count no neighbour. Here a score counts at least one neighbour. As two vectors may be each other's nearest,
    the last selections can be ties. `theta="n-2f-2"`, after the authors' own code, ends at r = 2f + 3, and n >= 4f + 3
    is exactly the condition for a positive beta. (This is from secondary descriptions of the source. That code scores
    once only; this rule does not.)

    Attributes:
        theta: how many inputs Krum selects.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [100.0]])
        >>> Bulyan()(x, 1)[0]
        tensor([3.])
    """

    theta: Annotated[Literal["n-2f", "n-2f-2"], Field(description="how many inputs Krum selects")] = "n-2f"

    source: ClassVar[str] = "El Mhamdi et al. 2018, arXiv 1802.07927"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 4f + 3"

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one selected value is averaged."""
        return self._num_selected(n, f) >= 2 * f + 1

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the source's condition holds."""
        return n >= 4 * f + 3

    def _num_selected(self, n: Any, f: Any) -> Any:
        return n - 2 * f - (0 if self.theta == "n-2f" else 2)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Aggregate the inputs that Krum selects; see `Aggregator.aggregate`."""
        pairs = context.distances_of(x)
        theta = self._num_selected(pairs.mask.sum(-1), f)
        remaining = pairs.mask
        for num_taken in range(int(theta.max())):
            # With f = r - 3 Krum counts one neighbour; for r = 1 it counts none.
            largest_f = (remaining.sum(-1) - 3).clamp_min(-1)
            scores = Krum().scores(pairs, remaining, f.minimum(largest_f))
            remaining = remaining & ~to_tensor(lowest(scores, to_array(theta > num_taken)), remaining)
        beta = rank(theta - 2 * f)

        def around(ordered: Array, count: Rank) -> Array:
            return mean_around(ordered, middle(ordered, count), beta)

        return RuleOutput(by_rank(around, x, pairs.mask & ~remaining), None, {})
