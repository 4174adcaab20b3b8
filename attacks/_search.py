"""What adaptive attacks have in common: they try factors on a clone of the rule, and keep the most damaging one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import MessageAttack, Speech, State, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View

Gain: TypeAlias = Callable[[Tensor], Tensor]
"""float64 [m], factors -> float64 [m], what each is worth; NaN for nothing."""

CLIMB = 20
ZOOM = 10
EQUAL = 1e-6


def maximise(gain: Gain, calls: int, both: bool = True) -> tuple[float, float]:
    """The best factor seen, and what it is worth, of a function with plateaus and cliffs, in so many calls (from 40).

    First the climb of ByzFL's optimised attacks, which alone reaches very large factors; then a geometric grid, on both
    sides of zero if `both`; then, some points at a time, the gap around the best so far is filled. Of factors that are
    worth the same but for rounding, the smallest: on a plateau it would be chance that chooses.
    """
    seen = _climb(gain, CLIMB)
    grid = torch.logspace(-2, 2, (calls - CLIMB) // (4 if both else 2), dtype=torch.float64)
    seen = _add(seen, gain, torch.cat([-grid, grid]) if both else grid)
    if both:
        # Many rules take lies up to some distance on either side: the grid does not tell which edge is the higher.
        count = min(ZOOM, (calls - seen.shape[1]) // 2)
        seen = _add(seen, gain, torch.cat([_gap(seen, seen[0] >= 0, count), _gap(seen, seen[0] <= 0, count)]))
    while left := calls - seen.shape[1]:
        seen = _add(seen, gain, _gap(seen, seen[0].isfinite(), min(ZOOM, left)))
    factors, worth = seen
    equals = worth >= worth.amax() - EQUAL * worth.amax().abs()
    best = factors.abs().where(equals, torch.inf).argmin()
    return float(factors[best]), float(worth[best])


def _climb(gain: Gain, calls: int, delta: float = 10.0, ratio: float = 0.8) -> Tensor:
    """ByzFL's search: on from the best by a step that doubles while it pays, and then shrinks. All that it tried."""
    seen = _add(torch.empty(2, 0, dtype=torch.float64), gain, torch.zeros(1, dtype=torch.float64))
    best, reached = seen[:, 0].tolist()
    growing = True
    while seen.shape[1] < calls:
        seen = _add(seen, gain, torch.tensor([best + delta], dtype=torch.float64))
        better = float(seen[1].amax()) > reached
        if better:
            best, reached = best + delta, float(seen[1].amax())
        growing = growing and better
        delta *= 2 if growing else ratio
    return seen


def _add(seen: Tensor, gain: Gain, factors: Tensor) -> Tensor:
    """Factors and what they are worth, float64 [2, m], by factor; with some more."""
    worth = gain(factors).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    seen = torch.cat([seen, torch.stack([factors, worth])], 1)
    return seen[:, seen[0].argsort(stable=True)]


def _gap(seen: Tensor, among: Tensor, count: int) -> Tensor:
    """So many factors between the neighbours of the best of some, [m] bool."""
    best = int(seen[1].where(among, -torch.inf).argmax())
    low, high = seen[0, max(best - 1, 0)], seen[0, min(best + 1, seen.shape[1] - 1)]
    return low + (high - low) * torch.arange(1, count + 1) / (count + 1)


@dataclass(frozen=True)
class Tried(MessageAttack):
    """An attack that tries lies on a clone of the rule before it speaks."""

    calls: Annotated[int, Field(ge=40, le=100_000, description="lies tried on the clone in one exchange")] = 120

    @property
    def threat(self) -> Threat:
        """Omniscient, colluding, and knows the rule."""
        return Threat(sees=frozenset({"colluders", "honest", "defence"}), calls=self.calls)

    def try_out(self, view: View, lies: Tensor) -> Tensor:
        """What the rule makes of each of m lies [m, d] that all liars tell: float64 [m, d]."""
        told = lies.to(view.honest.dtype).unsqueeze(1).expand(-1, view.byzantine, -1)
        return view.defence(told).double()


@dataclass(frozen=True)
class Deviation(Tried):
    """All liars send the point of some lines that moves the rule farthest from the honest mean."""

    def check(self, agents: int, byzantine: int) -> None:
        """Refuse a single honest vector, which has no spread."""
        if agents - byzantine < 2:
            raise Undefined(
                f"{type(self).__name__} is degenerate for K={agents}, f={byzantine}: with fewer than two honest "
                "vectors there is no spread to search along"
            )

    @abstractmethod
    def lines(self, honest: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Where to look among honest vectors float64 [h, d]: an origin and a direction [d] for each line."""

    def damage(self, view: View, lies: Tensor) -> Tensor:
        """How far the rule is moved from the honest mean by each of m lies [m, d]: [m]."""
        return (self.try_out(view, lies) - view.honest.double().mean(0)).norm(dim=1)

    def farthest(self, view: View, calls: int) -> tuple[float, Tensor]:
        """The damage of the most damaging point of the lines that so many calls find, and the point [d]."""
        found, lines = [], self.lines(view.honest.double())
        for origin, direction in lines:

            def gain(factors: Tensor, origin: Tensor = origin, direction: Tensor = direction) -> Tensor:
                return self.damage(view, origin + factors.unsqueeze(1) * direction)

            factor, reached = maximise(gain, calls // len(lines))
            found.append((reached, origin + factor * direction))
        return max(found, key=lambda pair: pair[0])

    def search(self, view: View, rng: np.random.Generator) -> Tensor:
        """The lie, [d]."""
        return self.farthest(view, self.calls)[1]

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The lie, the same from every liar."""
        return Speech(self.search(view, rng).to(view.honest.dtype).expand_as(view.colluders)), memory
