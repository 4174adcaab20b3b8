"""The hyperbox rule for the geometric median (BOX-GEOM)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._hyperbox import Box, Hyperbox, midpoint, trusted
from byzbench.aggregators._ordered import rank
from byzbench.aggregators.geometric_median import GeometricMedian
from byzbench.aggregators.median import ascending
from byzbench.core import RuleContext, RuleOutput
from byzbench.geometry.pairwise_distances import PairwiseDistances, coordinate_blocks, to_array, to_tensor

# In two dimensions a few of many subsets converge slowly; after 200 steps they no longer affect the corners of the box.
MEDIAN = GeometricMedian(steps=200)


@lru_cache(maxsize=32)
def _subsets(n: int, size: int) -> Tensor:
    """Return all subsets of `size` of n indices: [S, size]."""
    return torch.from_numpy(np.array(list(combinations(range(n), size))))


@dataclass(frozen=True)
class HyperboxGeometricMedian(Hyperbox):
    """The midpoint of the intersection of the trusted box and the box of all possible honest geometric medians.

    Formula: per coordinate k, with x_(j) the j-th smallest of x_1k .. x_nk, and z(S) the point of least total distance
    to the inputs in S,

        TH = [x_(f+1), x_(n-f)],
        GH = [min z_k(S), max z_k(S)]    over all S of n - f inputs,

    and value_k = the midpoint of the intersection of TH and GH. They always intersect where n >= 2f + 1: for the S of
    the n - f least values, z_k(S) is between these, so that GH begins at x_(n-f) or below; likewise it ends at x_(f+1)
    or above.

    Source: Cambus, Melnyk, Milentijevic, Schmid 2025, "Approximate agreement algorithms for Byzantine collaborative
    learning", arXiv 2504.01504.

    Differs from the source in: as `hyperbox_mean`. Where a subset has several medians (an even number on a line), z(S)
    is the one that `geometric_median` returns, whose steps end after 200 here.

    Attributes:
        limit: the maximum number of subsets C(n, f): the rule is not defined for more.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> HyperboxGeometricMedian()(x, 1)[0]
        tensor([2.5000])
    """

    limit: Annotated[int, Field(ge=1, description="maximum number of subsets of n - f inputs")] = 2000

    source: ClassVar[str] = "Cambus et al. 2025, arXiv 2504.01504"
    cost: ClassVar[str] = "C(n, f) n^2, and C(n, f) n d"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the condition of agreement and that of few subsets."""
        return f"n >= 3f + 1, and no more than {self.limit} subsets of n - f, all of which are computed"

    def defined(self, n: int, f: int) -> bool:
        """Return whether the trusted box is not empty and there are at most `limit` subsets."""
        return super().defined(n, f) & self._has_few_subsets(n, f)

    def _has_few_subsets(self, n: int | Tensor, f: int | Tensor) -> bool:
        if isinstance(n, int) and isinstance(f, int):
            return comb(n, f) <= self.limit
        pairs = torch.stack(torch.broadcast_tensors(torch.as_tensor(n), torch.as_tensor(f)), -1)
        results = [comb(a, b) <= self.limit for a, b in pairs.reshape(-1, 2).tolist()]
        return torch.tensor(results, device=pairs.device).view(pairs.shape[:-1])  # type: ignore[return-value]

    def kappa(self, n: int, f: int) -> float | None:
        """Return n - f - 1, the bound of every rule whose value is between two values of S in each coordinate.

        No one of n - f numbers of variance v is farther than sqrt((n-f-1) v) from their mean. `Hyperbox.kappa` does not
        hold: GH need not contain the mean of S.
        """
        return float(n - f - 1) if self.defined(n, f) else None

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Intersect the two boxes; see `Aggregator.aggregate`."""
        n, d = x.shape[-2:]
        valid = context.mask_of(x)
        rows = zip(x.reshape(-1, n, d), valid.reshape(-1, n), f.reshape(-1).tolist(), strict=True)
        low, high = zip(*(self._medians(vectors[received], faults) for vectors, received, faults in rows), strict=True)
        median_box = np.stack(low).reshape(*x.shape[:-2], d), np.stack(high).reshape(*x.shape[:-2], d)
        trusted_box = trusted(*ascending(to_array(x), to_array(valid)), rank(f))
        return RuleOutput(to_tensor(midpoint(trusted_box, median_box), x).to(x.dtype), None, {})

    def _medians(self, x: Tensor, f: int) -> Box:
        """Return GH of the n vectors x [n, d] of one receiver."""
        n = len(x)
        subsets = _subsets(n, n - f).to(x.device)
        weights, _ = MEDIAN.compute_weights(PairwiseDistances.of(x).select(subsets), torch.tensor(f), RuleContext())
        shares = weights.new_zeros(len(subsets), n).scatter_(1, subsets, weights)
        corners = [(shares @ part.double()).aminmax(dim=0) for part in coordinate_blocks(x)]
        return to_array(torch.cat([part.min for part in corners])), to_array(torch.cat([part.max for part in corners]))
