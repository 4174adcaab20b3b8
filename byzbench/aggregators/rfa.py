"""RFA: the geometric median by a few smoothed Weiszfeld steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.median import median_of
from byzbench.contracts import LinearRule, Range, State
from byzbench.geometry.cloud import Cloud, array, picked, squares_to, tensor

# Stands for zero in a denominator: far below any distance, and the sum of many reciprocals of it is still finite.
TINY = 1e-150


@dataclass(frozen=True)
class Rfa(LinearRule):
    """An approximate geometric median, argmin_z sum_i ||x_i - z||.

    Formula: z <- sum_i w_i x_i with w_i proportional to 1 / max(||x_i - z||, floor), a fixed number of steps. The whole
    iteration runs on the Gram matrix; only the weights come out.

    The default start is the *central* input: the one whose median distance to all inputs is least. With an honest
    majority it is no farther from some honest input than the honest inputs are from each other, and as no step raises
    the (smoothed) objective, all iterates stay near. From the mean, a step divides the distance of a far iterate by
    about (n - f) / f only, so that vectors of length 1e30 are not undone in any practical number of steps.

    Source: Pillutla, Kakade, Harchaoui 2022, arXiv 1912.13445, the smoothed Weiszfeld algorithm.

    Differs from the source in: the start; the floor is relative by default, since with an absolute one the rule turns
    into the mean once inputs are closer together than that. `nu=0.1, start="zero", relative=False` is the rule of the
    official code of DecByzPG (eight steps) and of byzfl (three).

    Attributes:
        nu: the floor of the distances; smooths the objective near inputs.
        relative: whether nu is in units of the central input's median distance to all inputs (itself included).
        steps: how many steps.
        start: z before the first step: the central input, the mean, or the origin.
    """

    nu: Annotated[float, Field(gt=0, description="floor of the distances"), Range(1e-3, 1, log=True)] = 0.1
    relative: Annotated[bool, Field(description="nu counts median distances from the central input")] = True
    steps: Annotated[int, Field(ge=1, description="Weiszfeld steps")] = 8
    start: Annotated[Literal["central", "mean", "zero"], Field(description="where the steps begin")] = "central"

    source: ClassVar[str] = "Pillutla et al. 2022, arXiv 1912.13445"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 2f + 1"

    @property
    def scale_equivariant(self) -> bool:  # type: ignore[override]
        """If the floor is relative."""
        return self.relative

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority."""
        return n >= 2 * f + 1

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """The weights of the last step. Does not read f."""
        valid, gram = array(cloud.mask), array(cloud.gram)
        medians = np.where(valid, median_of(array(cloud.distances), valid), np.inf)
        floor = self.nu * (medians.min(-1, keepdims=True) if self.relative else 1.0)
        if self.start == "zero":
            squares = np.square(array(cloud.norms))
        elif self.start == "mean":
            squares = squares_to(gram, valid / valid.sum(-1, keepdims=True))
        else:
            squares = picked(array(cloud.squared_distances), np.asarray(medians.argmin(-1)))
        least = np.square(np.maximum(floor, TINY))

        def weights(squares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            pull = valid / np.sqrt(np.maximum(squares, least))
            return np.asarray(pull / np.add.reduce(pull, -1, keepdims=True))

        step = weights(squares)
        for _ in range(self.steps - 1):
            step = weights(squares_to(gram, step))
        return tensor(step, cloud.mask), {}
