"""Divide and conquer (DnC): the mean of the inputs without outliers along principal directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import krum_choice
from byzbench.core import Aggregator, FloatRange, RuleContext, RuleOutput, RuleTraits, weighted_sum
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights


@dataclass(frozen=True)
class Dnc(Aggregator):
    """The mean of the inputs that deviate least along top principal directions of random coordinates.

    Formula: `steps` times, on b random coordinates, y_i = x_i less the mean of all, v = the top right singular vector
    of the n x b matrix of the y_i, score_i = <y_i, v>^2, and the ceil(c f) inputs of greatest score are dropped, of
    ties the last. value = the mean of the inputs that were never dropped.

    With y = U S V', score_i = s_1^2 u_i1^2: the scores are given by the top eigenvector of the n x n matrix y y'. All
    receivers of one call share the coordinates; without an `rng` they are always the same.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS, algorithm 2 (from memory; defaults are
    those of public copies).

    Differs from the source in: if every input is dropped at least once, the mean is of those dropped least often. Where
    there are no more than b coordinates all are used, and one step is made. c is rounded to thousandths. With c > 1
    honest vectors are dropped as well; where Byzantine vectors are so far off that honest scores have no significant
    digits, which ones is arbitrary.

    Attributes:
        steps: the number of random subsets of the coordinates.
        dimensions: b, the number of coordinates in a subset.
        c: how many inputs are dropped in a step, in units of f.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Dnc()(x, 1)[0]
        tensor([2.])
    """

    steps: Annotated[int, Field(ge=1, description="number of random subsets of the coordinates"), FloatRange(1, 10)] = 5
    dimensions: Annotated[
        int, Field(ge=1, description="number of coordinates in a subset"), FloatRange(10, 10000, log=True)
    ] = 10000
    c: Annotated[
        float, Field(gt=0, description="how many inputs are dropped in a step, in units of f"), FloatRange(0.5, 2)
    ] = 1.0

    source: ClassVar[str] = "Shejwalkar, Houmansadr 2021, NDSS"
    cost: ClassVar[str] = "n^2 b, and n^3, a step; and n d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, random=True)

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the condition: an honest majority, at least f dropped inputs, and Byzantine outliers."""
        return f"n >= 2f + 1, c >= 1 (here {self.c:g}), and Byzantine vectors that the top direction separates"

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one input remains after a step."""
        return (n >= 1) & (n > self._num_dropped(f))

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest and at least f inputs are dropped.

        That the top direction separates Byzantine from honest vectors is the source's assumption.
        """
        return self.defined(n, f) & (n >= 2 * f + 1) & (self._num_dropped(f) >= f)

    def _num_dropped(self, f: Any) -> Any:
        return -(-f * round(1000 * self.c) // 1000)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the inputs that are dropped least often; see `Aggregator.aggregate`."""
        valid = context.mask_of(x)
        num_remaining = valid.sum(-1) - self._num_dropped(f)
        drop_counts = torch.zeros_like(valid, dtype=torch.long)
        for part in self._parts(x, context.rng or np.random.default_rng(0)):
            drop_counts += ~krum_choice(_scores(PairwiseDistances.of(part, valid)), num_remaining)
        drop_counts = drop_counts.masked_fill(~valid, self.steps + 1)
        remaining = drop_counts == drop_counts.amin(-1, keepdim=True)
        weights = uniform_weights(remaining)
        return RuleOutput(weighted_sum(weights, x), weights, {})

    def _parts(self, x: Tensor, rng: np.random.Generator) -> list[Tensor]:
        d = x.shape[-1]
        if d <= self.dimensions:
            return [x]
        chosen = (rng.choice(d, self.dimensions, replace=False) for _ in range(self.steps))
        return [x[..., torch.from_numpy(np.sort(part)).to(x.device)] for part in chosen]


def _scores(pairs: PairwiseDistances) -> Tensor:
    """Return the squared entries of the top eigenvector of the centred Gram matrix; infinity at invalid inputs."""
    share = uniform_weights(pairs.mask)
    mean_products = (pairs.gram @ share.unsqueeze(-1)).squeeze(-1)
    mean_square = (mean_products * share).sum(-1)[..., None, None]
    centred = pairs.gram - mean_products.unsqueeze(-1) - mean_products.unsqueeze(-2) + mean_square
    centred = centred * (pairs.mask.unsqueeze(-1) & pairs.mask.unsqueeze(-2))
    eigenvector = torch.linalg.eigh(centred).eigenvectors[..., -1]
    return eigenvector.square().masked_fill(~pairs.mask, torch.inf)
