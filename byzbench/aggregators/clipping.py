"""Clipping: shorten the vectors that are longer than a fixed radius."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.aggregators._clipped import ClippingPreAggregator
from byzbench.aggregators._ordered import Array
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.core import Aggregator, FloatRange, RuleTraits


@dataclass(frozen=True)
class Clipping(ClippingPreAggregator):
    """An inner rule on the inputs, of which those longer than a radius are shortened to it.

    Formula: y_i = x_i min(1, radius / ||x_i||); value = inner(y, f).

    It is not robust, whatever the inner rule guarantees. Far from a solution all honest vectors are longer than the
    radius, and their mean changes when they are clipped. No fixed radius leaves an (f, kappa)-robust rule robust for
    any kappa (Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan 2024, arXiv 2405.14432). `arc` adapts the radius.

    Source: byzfl 0.0.11, `Clipping`, whose radius is 2.

    Attributes:
        inner: the rule that aggregates the clipped vectors.
        radius: the maximum length, in the units of the inputs.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [100.0]])
        >>> Clipping()(x, 1)[0]
        tensor([2.])
    """

    inner: Annotated[Aggregator, Field(description="rule that aggregates the transformed vectors")] = field(
        default_factory=TrimmedMean
    )
    radius: Annotated[float, Field(gt=0, description="maximum length"), FloatRange(0.1, 100, log=True)] = 2.0

    source: ClassVar[str] = "byzfl 0.0.11; that it is not robust: Allouah et al. 2024, arXiv 2405.14432"
    share: ClassVar[str] = "n d"
    requires: ClassVar[str] = "a radius that adapts to the vectors, as arc's does"

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return those of `PreAggregator`, without scale equivariance: the radius is in the units of the inputs."""
        return replace(super().traits, scale_equivariant=False)

    def guarantee(self, n: int, f: int) -> bool:
        """Return False: there is no guarantee for any n and f."""
        return False

    def radius_of(self, lengths: Array, valid: Array, f: Array) -> float:
        """Return the fixed radius."""
        return self.radius
