"""Base classes of pre-aggregators: they transform the inputs and apply an inner rule to the result."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, TypeAlias

from pydantic import Field
from torch import Tensor

from byzbench.core.component import State
from byzbench.core.rules import Aggregator, LinearRule, RuleContext, RuleOutput, RuleTraits
from byzbench.geometry.pairwise_distances import PairwiseDistances, combine_vectors, weighted_sum

Transformed: TypeAlias = tuple[Tensor, Tensor]
"""The vectors [..., n', d] that the inner rule aggregates, and a mask [..., n'] of the valid ones."""


@dataclass(frozen=True)
class PreAggregator(Aggregator):
    """An aggregator that applies an inner rule to vectors made from the inputs.

    A subclass defines `transform` and `share`; it may define `condition`, and a default of `inner`.

    Class attributes:
        share: how the time that it adds to the inner rule's grows, written as `cost`.
        condition: the condition that it adds to the inner rule's, written as `requires`.

    Attributes:
        inner: the rule that aggregates the transformed vectors.

    Example:
        >>> from byzbench.registry import make
        >>> @dataclass(frozen=True)
        ... class Halve(PreAggregator):
        ...     share = "n d"
        ...     def transform(self, x, f, context):
        ...         return x / 2, context.mask_of(x)
        >>> Halve(make("aggregator", "median"))([[2.0], [4.0], [100.0]], f=1).value
        tensor([2.], dtype=torch.float64)
    """

    share: ClassVar[str]
    condition: ClassVar[str] = ""
    inner: Annotated[Aggregator, Field(description="rule that aggregates the transformed vectors")]

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the inner rule's traits, without `linear`: the weights of the inputs are not known."""
        return replace(self.inner.traits, linear=False)

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return its own condition and that of the inner rule, which is not repeated if the latter starts with it."""
        inner = self.inner.requires
        return inner if inner.startswith(self.condition) else f"{self.condition} and {inner}"

    @property
    def cost(self) -> str:  # type: ignore[override]
        """Return the cost of the transformation and that of the inner rule."""
        return f"{self.share}, and {self.inner.cost}"

    @property
    def required_inputs(self) -> frozenset[str]:  # type: ignore[override]
        """Return the fields of the context that the inner rule needs."""
        return self.inner.required_inputs

    def defined(self, n: int, f: int) -> bool:
        """Return whether the inner rule is defined."""
        return self.inner.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the inner rule has a guarantee."""
        return self.inner.guarantee(n, f)

    @abstractmethod
    def transform(self, x: Tensor, f: Tensor, context: RuleContext) -> Transformed:
        """Transform the inputs for the inner rule.

        Args:
            x: [..., n, d], the inputs.
            f: int64 [...], how many of the valid inputs may be Byzantine.
            context: as in `Aggregator.aggregate`.

        Returns:
            The transformed vectors [..., n', d] in the dtype of x, and a mask [..., n'] of the valid ones.
        """

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Aggregate the transformed vectors by the inner rule; see `Aggregator.aggregate`."""
        transformed, valid = self.transform(x, f, context)
        value, _, state = self.inner.aggregate(transformed, f, context.of_inner_rule(valid))
        return RuleOutput(value, None, state)


@dataclass(frozen=True)
class AveragingPreAggregator(PreAggregator, LinearRule):
    """An aggregator that applies an inner rule to averages of the inputs; it is linear if the inner rule is.

    A subclass defines `averaging_matrix` and `share`.
    """

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the inner rule's traits: the averages are linear."""
        return self.inner.traits

    @abstractmethod
    def averaging_matrix(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, Tensor]:
        """Return the averaging matrix.

        Args:
            pairs: the distances and inner products of the n inputs, and the mask of valid ones.
            f: int64 [...], how many of the valid inputs may be Byzantine.
            context: as in `Aggregator.aggregate`; its mask is not read, as `pairs` has one.

        Returns:
            The matrix [..., n', n], and a mask [..., n'] of its valid rows; other rows are zero.
        """

    def transform(self, x: Tensor, f: Tensor, context: RuleContext) -> Transformed:
        """Average the inputs; see `PreAggregator.transform`."""
        matrix, valid = self.averaging_matrix(context.distances_of(x), f, context)
        return combine_vectors(matrix, x), valid

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the inner rule's weights of the averages, distributed over the inputs.

        The inner rule must be linear.
        """
        assert isinstance(self.inner, LinearRule)
        matrix, valid = self.averaging_matrix(pairs, f, context)
        weights, state = self.inner.compute_weights(pairs.combine(matrix, valid), f, context.of_inner_rule(valid))
        return weighted_sum(weights, matrix), state

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Aggregate the averages by the inner rule; see `Aggregator.aggregate`."""
        if isinstance(self.inner, LinearRule) and self.inner.traits.linear:
            return LinearRule.aggregate(self, x, f, context)
        matrix, valid = self.averaging_matrix(context.distances_of(x), f, context)
        value, weights, state = self.inner.aggregate(combine_vectors(matrix, x), f, context.of_inner_rule(valid))
        return RuleOutput(value, None if weights is None else weighted_sum(weights, matrix), state)
