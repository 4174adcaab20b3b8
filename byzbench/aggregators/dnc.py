"""Divide and conquer: the mean of what no principal direction singles out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.krum import least
from byzbench.contracts import Aggregator, Range, State, weighted_sum
from byzbench.geometry.cloud import Cloud, even


@dataclass(frozen=True)
class Dnc(Aggregator):
    """The mean of the inputs that lie least far along the direction in which all spread most, in parts of the space.

    Formula: `steps` times, on b random coordinates, y_i = x_i less the mean of all, v = the top right singular vector
    of the n x b matrix of the y_i, score_i = <y_i, v>^2, and the ceil(c f) of greatest score are dropped, of equals the
    last. value = the mean of those that were never dropped.

    With y = U S V', score_i = s_1^2 u_i1^2: the scores are in the top eigenvector of the n x n matrix y y'. All
    receivers of one call share the coordinates; without an `rng` they are always the same.

    Source: Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine", NDSS, algorithm 2 (from memory; defaults are
    those of public copies).

    Differs from the source in: if everybody is dropped once, the mean is of those dropped least often. Where there are
    no more than b coordinates none are left out, and one step says it all. c counts in thousandths. With c > 1 honest
    vectors are dropped as well, and which of them is chance where liars far off leave their scores no digits.

    Attributes:
        steps: how many parts of the space are looked at.
        dimensions: b, coordinates in one of them.
        c: how many are dropped, in units of f.
    """

    steps: Annotated[int, Field(ge=1, description="parts of the space that are looked at"), Range(1, 10)] = 5
    dimensions: Annotated[int, Field(ge=1, description="coordinates in a part"), Range(10, 10000, log=True)] = 10000
    c: Annotated[float, Field(gt=0, description="how many are dropped in a step, in units of f"), Range(0.5, 2)] = 1.0

    source: ClassVar[str] = "Shejwalkar, Houmansadr 2021, NDSS"
    cost: ClassVar[str] = "n^2 b, and n^3, a step; and n d"
    linear: ClassVar[bool] = True
    random: ClassVar[bool] = True

    @property
    def requires(self) -> str:  # type: ignore[override]
        """An honest majority, as many drops as liars, and liars that stand out."""
        return f"n >= 2f + 1, c >= 1 (here {self.c:g}), and liars that the top direction separates"

    def defined(self, n: int, f: int) -> bool:
        """A step leaves somebody."""
        return (n >= 1) & (n > self._dropped(f))

    def guarantee(self, n: int, f: int) -> bool:
        """As many are dropped as may be liars; that these stand out is the source's assumption."""
        return self.defined(n, f) & (n >= 2 * f + 1) & (self._dropped(f) >= f)

    def _dropped(self, f: Any) -> Any:
        return -(-f * round(1000 * self.c) // 1000)

    def __call__(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        rng: np.random.Generator | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        valid = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        stay = torch.as_tensor(valid.sum(-1) - self._dropped(f))
        drops = torch.zeros_like(valid, dtype=torch.long)
        for part in self._parts(x, rng or np.random.default_rng(0)):
            drops += ~least(_scores(Cloud.of(part, valid)), stay)
        drops = drops.masked_fill(~valid, self.steps + 1)
        kept = drops == drops.amin(-1, keepdim=True)
        weights = even(kept)
        return weighted_sum(weights, x), weights, {}

    def _parts(self, x: Tensor, rng: np.random.Generator) -> list[Tensor]:
        d = x.shape[-1]
        if d <= self.dimensions:
            return [x]
        chosen = (rng.choice(d, self.dimensions, replace=False) for _ in range(self.steps))
        return [x[..., torch.from_numpy(np.sort(part)).to(x.device)] for part in chosen]


def _scores(cloud: Cloud) -> Tensor:
    """The squared entries of the top eigenvector of the matrix of centred inner products; infinity at invalid ones."""
    share = even(cloud.mask)
    towards = (cloud.gram @ share.unsqueeze(-1)).squeeze(-1)
    length = (towards * share).sum(-1)[..., None, None]
    centred = cloud.gram - towards.unsqueeze(-1) - towards.unsqueeze(-2) + length
    centred = centred * (cloud.mask.unsqueeze(-1) & cloud.mask.unsqueeze(-2))
    top = torch.linalg.eigh(centred).eigenvectors[..., -1]
    return top.square().masked_fill(~cloud.mask, torch.inf)
