"""RFA: the geometric median by a few smoothed Weiszfeld steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.median import median_of
from byzbench.core import FloatRange, LinearRule, RuleContext, RuleTraits, State
from byzbench.geometry.pairwise_distances import PairwiseDistances, select_rows, squares_to, to_array, to_tensor

# Replaces zero in denominators: far below any distance, and a sum of many of its reciprocals is still finite.
TINY = 1e-150


@dataclass(frozen=True)
class Rfa(LinearRule):
    """An approximate geometric median, argmin_z sum_i ||x_i - z||.

    Formula: z <- sum_i w_i x_i with w_i proportional to 1 / max(||x_i - z||, floor), a fixed number of steps. The whole
    iteration is on weights, with the Gram matrix.

    The default start is the *central* input: the one whose median distance to all inputs is least. With an honest
    majority it is no farther from some honest input than the honest inputs are from each other, and as no step raises
    the (smoothed) objective, all iterates stay near. A start at the mean is worse: a step divides the distance of a far
    iterate only by about (n - f) / f, so that no practical number of steps removes the effect of a vector of length
    1e30.

    Source: Pillutla, Kakade, Harchaoui 2022, arXiv 1912.13445, the smoothed Weiszfeld algorithm.

    Differs from the source in: the start. The floor is relative by default: with an absolute floor the rule becomes the
    mean once inputs are closer together than that. `nu=0.1, start="zero", relative=False` is the rule of the official
    code of DecByzPG (eight steps) and of byzfl (three).

    Attributes:
        nu: the floor of the distances; it smooths the objective near inputs.
        relative: whether nu is in units of the central input's median distance to all inputs (including itself).
        steps: the number of steps.
        start: z before the first step: the central input, the mean, or the origin.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0], [2.5]])
        >>> Rfa()(x, 1)[0].round(decimals=2)
        tensor([2.5000])
    """

    nu: Annotated[float, Field(gt=0, description="floor of the distances"), FloatRange(1e-3, 1, log=True)] = 0.1
    relative: Annotated[bool, Field(description="whether nu is in units of the central input's median distance")] = True
    steps: Annotated[int, Field(ge=1, description="number of Weiszfeld steps")] = 8
    start: Annotated[Literal["central", "mean", "zero"], Field(description="point before the first step")] = "central"

    source: ClassVar[str] = "Pillutla et al. 2022, arXiv 1912.13445"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 2f + 1"

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the traits; it is scale-equivariant if the floor is relative."""
        return RuleTraits(linear=True, scale_equivariant=self.relative)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the weights of the last step. It does not read f."""
        valid, gram = to_array(pairs.mask), to_array(pairs.gram)
        medians = np.where(valid, median_of(to_array(pairs.distances), valid), np.inf)
        floor = self.nu * (medians.min(-1, keepdims=True) if self.relative else 1.0)
        if self.start == "zero":
            squares = np.square(to_array(pairs.norms))
        elif self.start == "mean":
            squares = squares_to(gram, valid / valid.sum(-1, keepdims=True))
        else:
            squares = select_rows(to_array(pairs.squared_distances), np.asarray(medians.argmin(-1)))
        least_square = np.square(np.maximum(floor, TINY))

        def weights(squares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            inverse_distances = valid / np.sqrt(np.maximum(squares, least_square))
            return np.asarray(inverse_distances / np.add.reduce(inverse_distances, -1, keepdims=True))

        current = weights(squares)
        for _ in range(self.steps - 1):
            current = weights(squares_to(gram, current))
        return to_tensor(current, pairs.mask), {}
