"""Krum: the input with the closest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._ordered import Array
from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array, to_tensor


def krum_choice(values: Tensor, count: Tensor) -> Tensor:
    """Return which of values [..., n] are the `count` [...] smallest, ties by index: bool [..., n].

    Example:
        >>> import torch
        >>> krum_choice(torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor(2))
        tensor([False,  True, False,  True])
    """
    return to_tensor(lowest(to_array(values), to_array(count)), values)


def lowest(values: Array, count: Array | int) -> npt.NDArray[np.bool_]:
    """Return the result of `krum_choice` for arrays; the count may be one integer for all."""
    rank = values.argsort(axis=-1, kind="stable").argsort(axis=-1)
    return np.asarray(rank < np.asarray(count)[..., None])


@dataclass(frozen=True)
class Krum(LinearRule):
    """The input of least total squared distance to its nearest neighbours.

    Formula: score_i = sum of ||x_i - x_j||^2 over the n - f - 2 others nearest to x_i; value = the x_i of least score,
    ties by index.

    Source: Blanchard et al. 2017, "Machine learning with adversaries", section 4 (arXiv 1703.02757).

    Attributes:
        power: exponent of the distances in the score. The source has 2; several libraries sum plain distances. The code
            of `decbyzpg`, epfml's and blades' have 4: they square squared distances.
        neighbours: how many others the score counts. The source has n-f-2; byzfl and others count n-f-1.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [7.0], [100.0]])
        >>> value, weights, _ = Krum()(x, 1)
        >>> value, weights
        (tensor([2.]), tensor([0., 1., 0., 0., 0.], dtype=torch.float64))
    """

    power: Annotated[Literal[1, 2, 4], Field(description="exponent of the distances in the score")] = 2
    neighbours: Annotated[Literal["n-f-2", "n-f-1"], Field(description="how many others the score counts")] = "n-f-2"

    source: ClassVar[str] = "Blanchard et al. 2017, arXiv 1703.02757"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 2f + 3"

    def defined(self, n: int, f: int) -> bool:
        """Return whether the score counts at least one neighbour."""
        return self._count(n, f) >= 1

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the source's 2f + 2 < n holds."""
        return n >= 2 * f + 3

    def kappa(self, n: int, f: int) -> float | None:
        """Return (n-f) (4c/(n-f-1) + 2) / (c-f+1) for scores of c others; for c = n-f-1 it is 6 (1 + f/(n-2f)).

        The latter is Allouah et al. 2023, arXiv 2302.01772. For any c: with V the sum of ||x_i - mean(S)||^2 over S,
        the mean score over S is at most 2V c/(n-f-1). The c others and the selected input include at least c-f+1 of S,
        and for each x_j of them ||value - mean(S)||^2 <= 2 ||value - x_j||^2 + 2 ||x_j - mean(S)||^2.
        """
        c = self._count(n, f)
        if self.power != 2 or not c - f + 1 >= 1 or n - f < 2:
            return None
        return (n - f) * (4 * c / (n - f - 1) + 2) / (c - f + 1)

    def _count(self, n: Any, f: Any) -> Any:
        return n - f - (2 if self.neighbours == "n-f-2" else 1)

    def scores(self, pairs: PairwiseDistances, mask: Tensor, f: Tensor) -> Array:
        """Return the scores [..., n] of the vectors in `mask`, among themselves; infinity for other vectors."""
        valid = to_array(mask)
        nearest = to_array(pairs.distances if self.power == 1 else pairs.squared_distances)
        if self.power == 4:
            nearest = nearest * nearest
        nearest = np.sort(np.where(valid[..., None, :], nearest, np.inf), axis=-1)
        # The first sorted distance of each vector is zero, to itself; it adds nothing to the score.
        others = np.asarray(self._count(np.add.reduce(valid, -1), to_array(f)))[..., None, None]
        scores = np.add.reduce(nearest, -1, where=np.arange(valid.shape[-1]) <= others)
        return np.where(valid, scores, np.inf)

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give weight one to the selected vector."""
        selected = self.scores(pairs, pairs.mask, f).argmin(-1)
        return to_tensor((np.arange(pairs.mask.shape[-1]) == selected[..., None]).astype(np.float64), f), {}
