"""Multi-Krum: the mean of the inputs with the closest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import Krum, lowest
from byzbench.core import RuleContext, State
from byzbench.errors import InvalidParameter
from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array, to_tensor, uniform_weights


@dataclass(frozen=True)
class MultiKrum(Krum):
    """The mean of the m inputs of least Krum score.

    Formula: with Krum's scores, value = (1/m) sum of the x_i of the m least scores, ties by index. `iterative` selects
    one input at a time, and scores the remaining ones among themselves before it selects the next.

    Source: Blanchard et al. 2017, arXiv 1703.02757, which has m <= n-f-2; `iterative` is its m-Krum, proposition 3,
    proved for 2f + 2 < n - m. The guarantee here of `one_shot` is elementary: up to m = n-f no selected input has a
    score above the worst honest one, so with n >= 2f + 3 all of them are near honest vectors.

    Attributes:
        power, neighbours: as in `Krum`.
        mode: whether scores are computed once, or anew for every selected input.
        m: how many inputs are averaged; by default the most that the source allows: n-f-2, or n-2f-3 in `iterative`.
            byzfl, and most of the literature on (f, kappa)-robustness, average n-f. The code of `decbyzpg` has power 4
            and averages n-f-1.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [7.0], [100.0]])
        >>> MultiKrum(m=3)(x, 1)[0]
        tensor([2.])
    """

    mode: Annotated[
        Literal["one_shot", "iterative"],
        Field(description="whether scores are computed once or anew for every selected input"),
    ] = "one_shot"
    m: Annotated[
        int | Literal["n-f", "n-f-1", "n-f-2", "n-2f-3"] | None,
        Field(description="how many inputs are averaged, at least 1; if none, the most that the source allows"),
    ] = None

    source: ClassVar[str] = "Blanchard et al. 2017, arXiv 1703.02757"
    cost: ClassVar[str] = "n^2 d"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.m, int) and self.m < 1:
            raise InvalidParameter(f"MultiKrum: m={self.m!r}: must be greater than or equal to 1")

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the mode's condition."""
        return "n >= 2f + 3 and m <= n - f" if self.mode == "one_shot" else "n >= 2f + 3 + m"

    def defined(self, n: int, f: int) -> bool:
        """Return whether m of the inputs can be selected and every score counts at least one neighbour."""
        m = self._num_selected(n, f)
        num_scored = n if self.mode == "one_shot" else n - m + 1
        return (m >= 1) & (m <= n) & (self._count(num_scored, f) >= 1)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the mode's condition holds."""
        m = self._num_selected(n, f)
        m_is_allowed = m <= n - f if self.mode == "one_shot" else 2 * f + 2 < n - m
        return self.defined(n, f) & super().guarantee(n, f) & m_is_allowed

    def kappa(self, n: int, f: int) -> float | None:
        """Return Krum's kappa for `one_shot` with m <= n-f, else None.

        The mean of the m least scores is at most the mean score of S.
        """
        return super().kappa(n, f) if self.mode == "one_shot" and self._num_selected(n, f) <= n - f else None

    def _num_selected(self, n: Any, f: Any) -> Any:
        if isinstance(self.m, int):
            return self.m
        m = self.m or ("n-f-2" if self.mode == "one_shot" else "n-2f-3")
        return {"n-f": n - f, "n-f-1": n - f - 1, "n-f-2": n - f - 2, "n-2f-3": n - 2 * f - 3}[m]

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the selected inputs."""
        m = np.asarray(self._num_selected(np.add.reduce(to_array(pairs.mask), -1), to_array(f)))
        if self.mode == "one_shot":
            return uniform_weights(to_tensor(lowest(self.scores(pairs, pairs.mask, f), m), f)), {}
        remaining = pairs.mask
        for num_taken in range(int(m.max())):
            remaining = remaining & ~to_tensor(lowest(self.scores(pairs, remaining, f), m > num_taken), f)
        return uniform_weights(pairs.mask & ~remaining), {}
