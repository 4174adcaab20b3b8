"""Bucketing: average random groups of inputs before an inner rule aggregates them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.rfa import Rfa
from byzbench.core import Aggregator, AveragingPreAggregator, FloatRange, RuleContext, RuleTraits
from byzbench.errors import InvalidParameter
from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array, to_tensor


@dataclass(frozen=True)
class Bucketing(AveragingPreAggregator):
    """An inner rule on the means of random buckets of s inputs.

    Formula: shuffle the n inputs, average s consecutive ones at a time (the last bucket may be smaller), and give the
    n' = ceil(n/s) means to the inner rule with the same f. Each Byzantine input is in one bucket only, and the means of
    honest buckets are closer together than the honest inputs.

    All receivers of one call share one shuffle of the columns; a receiver's invalid columns are skipped. Without an
    `rng` the shuffle is always the same.

    Source: Karimireddy, He, Jaggi 2022, arXiv 2006.09365.

    Attributes:
        inner: the rule that aggregates the means. It must not read the receiver's own vector, which is none of the
            means.
        s: how many inputs are in a bucket.
    """

    inner: Annotated[Aggregator, Field(description="rule that aggregates the means")] = field(default_factory=Rfa)
    s: Annotated[int, Field(ge=1, description="number of inputs in a bucket"), FloatRange(1, 3)] = 2

    source: ClassVar[str] = "Karimireddy et al. 2022, arXiv 2006.09365"
    share: ClassVar[str] = "n d"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner.traits.self_centered:
            raise InvalidParameter(
                f"Bucketing: inner={self.inner!r} reads the receiver's own vector, which is not one of the buckets"
            )

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the inner rule's traits; the shuffle is random."""
        return replace(super().traits, random=True)

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the inner rule's condition, on the number of buckets."""
        return f"{self.inner.requires}, where n is the number of buckets of {self.s}"

    def defined(self, n: int, f: int) -> bool:
        """Return whether the inner rule is defined for the number of buckets."""
        return self.inner.defined(-(-n // self.s), f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the inner rule has a guarantee for the number of buckets."""
        return self.inner.guarantee(-(-n // self.s), f)

    def averaging_matrix(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, Tensor]:
        """Return the matrix that averages the buckets; see `AveragingPreAggregator.averaging_matrix`."""
        valid, n = to_array(pairs.mask), pairs.mask.shape[-1]
        shuffle = (context.rng or np.random.default_rng(0)).permutation(n)
        positions = np.cumsum(valid[..., shuffle], -1)[..., shuffle.argsort()] - 1
        buckets = np.arange(-(-n // self.s))[:, None]
        is_member = ((positions // self.s)[..., None, :] == buckets) & valid[..., None, :]
        sizes = np.add.reduce(is_member, -1)
        return to_tensor(is_member / np.maximum(sizes, 1)[..., None], pairs.mask), to_tensor(sizes > 0, pairs.mask)
