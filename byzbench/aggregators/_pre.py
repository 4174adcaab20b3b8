"""What pre-aggregators have in common: an inner rule sees other vectors than were sent."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.contracts import Aggregator, LinearRule, State, weighted_sum
from byzbench.contracts.rules import bounds
from byzbench.geometry.cloud import Cloud, array, blocks, small, tensor

Seen: TypeAlias = tuple[Tensor, Tensor]


def both(mine: str, inner: str) -> str:
    """Two conditions as one."""
    return inner if inner.startswith(mine) else f"{mine} and {inner}"


@dataclass(frozen=True)
class PreAggregator(Aggregator):
    """An inner rule on vectors made from the inputs.

    Class attributes:
        share: how the time grows that it adds to the inner rule's, as `cost`.
    """

    share: ClassVar[str]
    inner: Annotated[Aggregator, Field(description="the rule for the new vectors")] = field(default_factory=TrimmedMean)

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """As the inner rule."""
        return self.inner.stateful

    @property
    def random(self) -> bool:  # type: ignore[override]
        """As the inner rule."""
        return self.inner.random

    @property
    def self_centred(self) -> bool:  # type: ignore[override]
        """As the inner rule."""
        return self.inner.self_centred

    @property
    def requires(self) -> str:  # type: ignore[override]
        """The inner rule's condition."""
        return self.inner.requires

    @property
    def cost(self) -> str:  # type: ignore[override]
        """Its own, and the inner rule's."""
        return f"{self.share}, and {self.inner.cost}"

    @property
    def scale_equivariant(self) -> bool:  # type: ignore[override]
        """As the inner rule."""
        return self.inner.scale_equivariant

    @property
    def asks(self) -> frozenset[str]:  # type: ignore[override]
        """As the inner rule."""
        return self.inner.asks

    def defined(self, n: int, f: int) -> bool:
        """Whether the inner rule is."""
        return self.inner.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Whether the inner rule has one."""
        return self.inner.guarantee(n, f)

    @abstractmethod
    def transform(self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **given: Any) -> Seen:
        """What the inner rule sees in place of x [..., n, d]: [..., n', d] in its dtype, and which are valid."""

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **given: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        seen, valid = self.transform(x, f, mask=mask, **given)
        value, _, new = self.inner(seen, f, mask=valid, **given)
        return value, None, new


@dataclass(frozen=True)
class Mixing(PreAggregator, LinearRule):
    """An inner rule on averages of the inputs: it is linear if the inner rule is."""

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """As the inner rule: the averages are linear."""
        return self.inner.linear

    @abstractmethod
    def mix(self, cloud: Cloud, f: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """The averaging matrix [..., n', n], and which of its rows are valid; the others are zero."""

    def transform(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        rng: np.random.Generator | None = None,
        **unused: Any,
    ) -> Seen:
        """See `PreAggregator.transform`."""
        shares, valid = self.shares(x, f, mask, rng)
        return mixed(shares, x), valid

    def shares(
        self, x: Tensor, f: Tensor | int, mask: Tensor | None, rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """What `mix` returns, for plain tensors; to be overridden by what needs no distances."""
        return self.mix(Cloud.of(x, mask), bounds(f, x), rng)

    def weigh(
        self, cloud: Cloud, f: Tensor, *, rng: np.random.Generator | None = None, **given: Any
    ) -> tuple[Tensor, State]:
        """The inner rule's weights of the averages, handed down to their members; for an inner rule that has them."""
        assert isinstance(self.inner, LinearRule)
        shares, valid = self.mix(cloud, f, rng)
        weights, new = self.inner.weigh(cloud.combine(shares, valid), f, rng=rng, **given)
        return weighted_sum(weights, shares), new

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **given: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        if isinstance(self.inner, LinearRule) and self.inner.linear:
            return LinearRule.__call__(self, x, f, mask=mask, **given)
        shares, valid = self.shares(x, f, mask, given.get("rng"))
        value, weights, new = self.inner(mixed(shares, x), f, mask=valid, **given)
        return value, None if weights is None else weighted_sum(weights, shares), new


def mixed(shares: Tensor, x: Tensor) -> Tensor:
    """The averages shares [..., n', n] @ x [..., n, d], in the dtype of x."""
    if small(x):
        rows = array(x)
        return tensor((array(shares) @ rows.astype(np.float64)).astype(rows.dtype), x)
    parts = [(shares @ part.double()).to(x.dtype) for part in blocks(x)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
