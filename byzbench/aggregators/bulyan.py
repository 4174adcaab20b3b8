"""Bulyan: a trimmed mean of the inputs that Krum selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import Array, Rank, mean_around, mean_between, rank, value_at
from byzbench.aggregators.krum import Krum, lowest
from byzbench.aggregators.median import by_rank, middle
from byzbench.core import Aggregator, RuleContext, RuleOutput
from byzbench.geometry.pairwise_distances import (
    PairwiseDistances,
    combine_vectors,
    to_array,
    to_tensor,
    uniform_weights,
)


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
    is exactly the condition for a positive beta. (This is from secondary descriptions of the source.)

    Two programs select means instead of inputs: in the i-th of theta = n - 2f - 2 choices, i = 0, 1, .., the mean of
    the n - f - 2 - i remaining inputs of least score. They are had by `compat`:

    - `authors` (LPD-EPFL/ByzantineMomentum): scores are sums of plain distances, computed once; the input of least
      score is removed; the median of an even count is the lower of the middle two.
    - `krum` (the package krum 0.9.1): scores are sums of squared distances, computed anew in each choice; the input
      nearest to the selected mean is removed, of ties that of least score; value_k is the mean of the selected values
      without the f smallest and the f largest.

    Attributes:
        theta: how many inputs Krum selects; n - 2f - 2 wherever `compat` is not `exact`.
        compat: which program's conventions hold; `exact`: the formula above.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [100.0]])
        >>> Bulyan()(x, 1)[0]
        tensor([3.])
    """

    theta: Annotated[Literal["n-2f", "n-2f-2"], Field(description="how many inputs Krum selects")] = "n-2f"
    compat: Annotated[
        Literal["exact", "authors", "krum"],
        Field(description="inputs are selected as in the formula, or means, as in the code of the authors or of krum"),
    ] = "exact"

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
        return n - 2 * f - (0 if (self.theta, self.compat) == ("n-2f", "exact") else 2)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Aggregate the inputs that Krum selects; see `Aggregator.aggregate`."""
        pairs = context.distances_of(x)
        theta = self._num_selected(pairs.mask.sum(-1), f)
        if self.compat == "exact":
            selected, valid = x, self._selected_inputs(pairs, theta, f)
        else:
            choose = _authors_means if self.compat == "authors" else _krum_means
            selected = combine_vectors(choose(pairs, theta, f), x)
            valid = torch.arange(selected.shape[-2]) < theta.unsqueeze(-1)
        num_byzantine = rank(f)
        beta = rank(theta - 2 * f)

        def around(ordered: Array, count: Rank) -> Array:
            pivot = value_at(ordered, (count - 1) // 2) if self.compat == "authors" else middle(ordered, count)
            return mean_around(ordered, pivot, beta)

        def trimmed(ordered: Array, count: Rank) -> Array:
            return mean_between(ordered, num_byzantine, count - num_byzantine)

        return RuleOutput(by_rank(trimmed if self.compat == "krum" else around, selected, valid), None, {})

    def _selected_inputs(self, pairs: PairwiseDistances, theta: Tensor, f: Tensor) -> Tensor:
        """Return which inputs Krum selects one by one: bool [..., n]."""
        remaining = pairs.mask
        for num_taken in range(int(theta.max())):
            # With f = r - 3 Krum counts one neighbour; for r = 1 it counts none.
            largest_f = (remaining.sum(-1) - 3).clamp_min(-1)
            scores = Krum().scores(pairs, remaining, f.minimum(largest_f))
            remaining = remaining & ~to_tensor(lowest(scores, to_array(theta > num_taken)), remaining)
        return pairs.mask & ~remaining


def _authors_means(pairs: PairwiseDistances, theta: Tensor, f: Tensor) -> Tensor:
    """Return the weights of the means that the authors' code selects: float64 [..., max theta, n].

    As scores are computed once and the input of least score is removed, choice i averages the ranks i to n - f - 3.
    """
    ranks = Krum(power=1).scores(pairs, pairs.mask, f).argsort(-1, kind="stable").argsort(-1, kind="stable")
    ranks, start = ranks[..., None, :], np.arange(int(theta.max()))[:, None]
    stop = to_array(pairs.mask.sum(-1) - f - 2)[..., None, None]
    # Beyond the last choice of a receiver with fewer inputs no rank may be left; `valid` leaves out what stands there.
    is_averaged = (ranks >= np.minimum(start, stop - 1)) & (ranks < stop)
    return uniform_weights(to_tensor(is_averaged, f))


def _krum_means(pairs: PairwiseDistances, theta: Tensor, f: Tensor) -> Tensor:
    """Return the weights of the means that the package krum 0.9.1 selects: float64 [..., max theta, n]."""
    remaining, means = pairs.mask, []
    for _ in range(int(theta.max())):
        # A receiver with fewer inputs has no neighbour left after its last choice; `valid` leaves out what follows.
        num_averaged = (remaining.sum(-1) - f - 2).clamp_min(1)
        scores = Krum().scores(pairs, remaining, f.minimum(remaining.sum(-1) - 3))
        is_averaged = lowest(scores, to_array(num_averaged))
        means.append(uniform_weights(to_tensor(is_averaged, f)))
        gaps = np.where(is_averaged, to_array(pairs.distances_to(means[-1])), np.inf)
        # The tolerance makes two inputs tie: both are equally far from their mean, except for rounding.
        is_nearest = gaps <= gaps.min(-1, keepdims=True) * (1 + 1e-9)
        removed = np.where(is_nearest, scores, np.inf).argmin(-1)
        remaining = remaining & to_tensor(np.arange(gaps.shape[-1]) != removed[..., None], remaining)
    return torch.stack(means, -2)
