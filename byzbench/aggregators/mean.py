"""The mean: no defence at all, and what every defence is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from byzbench.contracts import LinearRule, State
from byzbench.geometry.cloud import Cloud, even


@dataclass(frozen=True)
class Mean(LinearRule):
    """The plain average of the valid vectors.

    Formula: value = (1/n) sum_i x_i. One liar can move it anywhere.

    Source: McMahan et al. 2017, arXiv 1602.05629 (FedAvg), with equal weights: a weight that its sender reports, such
    as a sample count, is one more thing to lie about.
    """

    source: ClassVar[str] = "McMahan et al. 2017, arXiv 1602.05629"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "f = 0"

    def guarantee(self, n: int, f: int) -> bool:
        """Only without faults."""
        return f == 0

    def kappa(self, n: int, f: int) -> float | None:
        """Zero without faults; else no number will do."""
        return 0.0 if f == 0 else None

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """1/n for each valid vector."""
        return even(cloud.mask), {}
