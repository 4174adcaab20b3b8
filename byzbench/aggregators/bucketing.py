"""Bucketing: mix the inputs before a rule sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._pre import Mixing
from byzbench.aggregators.rfa import Rfa
from byzbench.contracts import Aggregator, Range
from byzbench.errors import InvalidParameter
from byzbench.geometry.cloud import Cloud, array, tensor


@dataclass(frozen=True)
class Bucketing(Mixing):
    """An inner rule on the means of random buckets of s inputs.

    Formula: shuffle the n inputs, average s consecutive ones at a time (the last bucket may be short), and give the
    n' = ceil(n/s) means to the inner rule with the same f: each liar spoils at most one bucket, while the honest means
    lie closer together than the honest inputs.

    All receivers of one call share one shuffle of the columns, in which a receiver's invalid columns are passed over.
    Without an `rng` it is always the same one.

    Source: Karimireddy, He, Jaggi 2022, arXiv 2006.09365.

    Attributes:
        inner: the rule for the means; not one that refers to the receiver's own vector, which no bucket is.
        s: inputs in a bucket.
    """

    inner: Annotated[Aggregator, Field(description="the rule for the means")] = field(default_factory=Rfa)
    s: Annotated[int, Field(ge=1, description="inputs in a bucket"), Range(1, 3)] = 2

    source: ClassVar[str] = "Karimireddy et al. 2022, arXiv 2006.09365"
    share: ClassVar[str] = "n d"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner.self_centred:
            raise InvalidParameter(
                f"Bucketing: inner={self.inner!r} reads the receiver's own vector; no bucket is that"
            )

    @property
    def requires(self) -> str:  # type: ignore[override]
        """The inner rule's condition, on the number of buckets."""
        return f"{self.inner.requires}, where n is the number of buckets of {self.s}"

    def defined(self, n: int, f: int) -> bool:
        """Whether the inner rule is, for the number of buckets."""
        return self.inner.defined(-(-n // self.s), f)

    def guarantee(self, n: int, f: int) -> bool:
        """Whether the inner rule's covers the number of buckets."""
        return self.inner.guarantee(-(-n // self.s), f)

    def mix(self, cloud: Cloud, f: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """See `Mixing.mix`."""
        return self._shares(cloud.mask, rng)

    def shares(
        self, x: Tensor, f: Tensor | int, mask: Tensor | None, rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `Mixing.shares`. Buckets need no distances."""
        return self._shares(x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask, rng)

    def _shares(self, mask: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """The averaging matrix [..., n', n], and which of its rows are buckets [..., n']."""
        valid, n = array(mask), mask.shape[-1]
        shuffle = (rng or np.random.default_rng(0)).permutation(n)
        places = np.cumsum(valid[..., shuffle], -1)[..., shuffle.argsort()] - 1
        buckets = np.arange(-(-n // self.s))[:, None]
        inside = ((places // self.s)[..., None, :] == buckets) & valid[..., None, :]
        sizes = np.add.reduce(inside, -1)
        return tensor(inside / np.maximum(sizes, 1)[..., None], mask), tensor(sizes > 0, mask)
