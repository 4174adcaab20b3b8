"""Base classes of pre-aggregators: they transform the inputs and apply an inner rule to the result."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.core import Aggregator, LinearRule, State, weighted_sum
from byzbench.core.rules import bounds
from byzbench.geometry.pairwise_distances import PairwiseDistances, coordinate_blocks, is_small, to_array, to_tensor

Transformed: TypeAlias = tuple[Tensor, Tensor]
"""The vectors [..., n', d] that the inner rule aggregates, and a mask [..., n'] of the valid ones."""


def both(own: str, inner: str) -> str:
    """Join two conditions by "and"; a condition that the inner one starts with is not repeated."""
    return inner if inner.startswith(own) else f"{own} and {inner}"


@dataclass(frozen=True)
class PreAggregator(Aggregator):
    """An aggregator that applies an inner rule to vectors made from the inputs.

    Class attributes:
        share: how the time that it adds to the inner rule's grows, written as `cost`.
    """

    share: ClassVar[str]
    inner: Annotated[Aggregator, Field(description="rule that aggregates the transformed vectors")] = field(
        default_factory=TrimmedMean
    )

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """Return whether the inner rule is stateful."""
        return self.inner.stateful

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Return whether the inner rule is random."""
        return self.inner.random

    @property
    def self_centered(self) -> bool:  # type: ignore[override]
        """Return whether the inner rule reads the receiver's own vector."""
        return self.inner.self_centered

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the inner rule's condition."""
        return self.inner.requires

    @property
    def cost(self) -> str:  # type: ignore[override]
        """Return the cost of the transformation and that of the inner rule."""
        return f"{self.share}, and {self.inner.cost}"

    @property
    def scale_equivariant(self) -> bool:  # type: ignore[override]
        """Return whether the inner rule is scale-equivariant."""
        return self.inner.scale_equivariant

    @property
    def required_inputs(self) -> frozenset[str]:  # type: ignore[override]
        """Return the further keywords that the inner rule needs."""
        return self.inner.required_inputs

    def defined(self, n: int, f: int) -> bool:
        """Return whether the inner rule is defined."""
        return self.inner.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the inner rule has a guarantee."""
        return self.inner.guarantee(n, f)

    @abstractmethod
    def transform(self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **keywords: Any) -> Transformed:
        """Transform the inputs x [..., n, d] for the inner rule.

        Args:
            x: [..., n, d], the inputs.
            f: how many of the valid inputs may be Byzantine.
            mask: [..., n] bool, the valid inputs; None if all are valid.
            keywords: the other keywords of `Aggregator.__call__`.

        Returns:
            The transformed vectors [..., n', d] in the dtype of x, and a mask [..., n'] of the valid ones.
        """

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **keywords: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """Aggregate the transformed vectors by the inner rule; see `Aggregator.__call__`."""
        transformed, valid = self.transform(x, f, mask=mask, **keywords)
        value, _, new_state = self.inner(transformed, f, mask=valid, **keywords)
        return value, None, new_state


@dataclass(frozen=True)
class Mixing(PreAggregator, LinearRule):
    """An aggregator that applies an inner rule to averages of the inputs; it is linear if the inner rule is."""

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Return whether the inner rule is linear; the averages are linear."""
        return self.inner.linear

    @abstractmethod
    def mix(self, cloud: PairwiseDistances, f: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the averaging matrix [..., n', n], and a mask [..., n'] of its valid rows; other rows are zero.

        Args:
            cloud: the n inputs.
            f: [...], how many of the valid inputs may be Byzantine.
            rng: the stream of a random rule.
        """

    def transform(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        rng: np.random.Generator | None = None,
        **unused: Any,
    ) -> Transformed:
        """Average the inputs; see `PreAggregator.transform`."""
        shares, valid = self.shares(x, f, mask, rng)
        return mixed(shares, x), valid

    def shares(
        self, x: Tensor, f: Tensor | int, mask: Tensor | None, rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return the result of `mix` for plain tensors; to be overridden where no distances are needed.

        Args:
            x: [..., n, d], the inputs.
            f: how many of the valid inputs may be Byzantine.
            mask: [..., n] bool, the valid inputs; None if all are valid.
            rng: the stream of a random rule.

        Returns:
            The averaging matrix [..., n', n], and a mask [..., n'] of its valid rows.
        """
        return self.mix(PairwiseDistances.of(x, mask), bounds(f, x), rng)

    def compute_weights(
        self, cloud: PairwiseDistances, f: Tensor, *, rng: np.random.Generator | None = None, **keywords: Any
    ) -> tuple[Tensor, State]:
        """Return the inner rule's weights of the averages, distributed over the inputs.

        The inner rule must be linear.
        """
        assert isinstance(self.inner, LinearRule)
        shares, valid = self.mix(cloud, f, rng)
        weights, new_state = self.inner.compute_weights(cloud.combine(shares, valid), f, rng=rng, **keywords)
        return weighted_sum(weights, shares), new_state

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **keywords: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """Aggregate the averages by the inner rule; see `Aggregator.__call__`."""
        if isinstance(self.inner, LinearRule) and self.inner.linear:
            return LinearRule.__call__(self, x, f, mask=mask, **keywords)
        shares, valid = self.shares(x, f, mask, keywords.get("rng"))
        value, weights, new_state = self.inner(mixed(shares, x), f, mask=valid, **keywords)
        return value, None if weights is None else weighted_sum(weights, shares), new_state


def mixed(shares: Tensor, x: Tensor) -> Tensor:
    """Return the averages shares [..., n', n] @ x [..., n, d], in the dtype of x."""
    if is_small(x):
        rows = to_array(x)
        return to_tensor((to_array(shares) @ rows.astype(np.float64)).astype(rows.dtype), x)
    parts = [(shares @ part.double()).to(x.dtype) for part in coordinate_blocks(x)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
