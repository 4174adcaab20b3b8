"""Multi-Krum: the mean of the vectors with the closest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import Krum, lowest
from byzbench.contracts import State
from byzbench.errors import InvalidParameter
from byzbench.geometry.cloud import Cloud, array, even, tensor


@dataclass(frozen=True)
class MultiKrum(Krum):
    """The mean of the m inputs that Krum likes best.

    Formula: with Krum's scores, value = (1/m) sum of the x_i of the m least scores, of equals the first. `iterative`
    takes one winner at a time, and scores the others among themselves before it takes the next.

    Source: Blanchard et al. 2017, arXiv 1703.02757, which has m <= n-f-2; `iterative` is its m-Krum, proposition 3,
    proved for 2f + 2 < n - m. The guarantee here of `one_shot` is elementary: up to m = n-f nobody is chosen whose
    score is above the worst honest one, so with n >= 2f + 3 all of them are near honest vectors.

    Attributes:
        power, neighbours: as in `Krum`.
        mode: scores are computed once, or anew for every winner.
        m: how many are averaged; by default the most that the source allows: n-f-2, or n-2f-3 in `iterative`. byzfl,
            and most of the literature on (f, kappa)-robustness, average n-f.
    """

    mode: Annotated[Literal["one_shot", "iterative"], Field(description="when scores are computed")] = "one_shot"
    m: Annotated[
        int | Literal["n-f", "n-f-2", "n-2f-3"] | None,
        Field(description="how many are averaged, at least 1; the most that the source allows if none"),
    ] = None

    source: ClassVar[str] = "Blanchard et al. 2017, arXiv 1703.02757"
    cost: ClassVar[str] = "n^2 d"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.m, int) and self.m < 1:
            raise InvalidParameter(f"MultiKrum: m={self.m!r}: Input should be greater than or equal to 1")

    @property
    def requires(self) -> str:  # type: ignore[override]
        """The mode's condition."""
        return "n >= 2f + 3 and m <= n - f" if self.mode == "one_shot" else "n >= 2f + 3 + m"

    def defined(self, n: int, f: int) -> bool:
        """There are m to choose, and every score counts somebody."""
        m = self._chosen(n, f)
        scored = n if self.mode == "one_shot" else n - m + 1
        return (m >= 1) & (m <= n) & super().defined(scored, f)

    def guarantee(self, n: int, f: int) -> bool:
        """The mode's condition."""
        m = self._chosen(n, f)
        enough = m <= n - f if self.mode == "one_shot" else 2 * f + 2 < n - m
        return self.defined(n, f) & super().guarantee(n, f) & enough

    def kappa(self, n: int, f: int) -> float | None:
        """Krum's, for `one_shot` with m <= n-f: the m best scores are on average no more than those of S."""
        return super().kappa(n, f) if self.mode == "one_shot" and self._chosen(n, f) <= n - f else None

    def _chosen(self, n: Any, f: Any) -> Any:
        if isinstance(self.m, int):
            return self.m
        m = self.m or ("n-f-2" if self.mode == "one_shot" else "n-2f-3")
        return {"n-f": n - f, "n-f-2": n - f - 2, "n-2f-3": n - 2 * f - 3}[m]

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """Equal weights on the chosen vectors."""
        m = np.asarray(self._chosen(np.add.reduce(array(cloud.mask), -1), array(f)))
        if self.mode == "one_shot":
            return even(tensor(lowest(self.scores(cloud, cloud.mask, f), m), f)), {}
        left = cloud.mask
        for taken in range(int(m.max())):
            left = left & ~tensor(lowest(self.scores(cloud, left, f), m > taken), f)
        return even(cloud.mask & ~left), {}
