"""Action flip: liars whose hand slips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Attack, Range, State, Taps, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class ActionFlip(Attack):
    """Each action of a liar is replaced, with some probability, by another one; it learns from what it did.

        a'[k, t, n] = a[k, t, n], or with probability q one of the other A - 1 actions at random

    k < f liars, t < T steps, n < N episodes, A actions. What it then sends is computed honestly from those episodes.

    Source: Tessler, Efroni, Mannor 2019, arXiv 1901.09184, "probabilistic action robust" processes.

    Differs from the source in: the other action is random; theirs is chosen by an adversary that is itself trained.
    """

    source: ClassVar[str] = "Tessler, Efroni, Mannor 2019, arXiv 1901.09184"
    q: Annotated[float, Field(gt=0, le=1, description="probability that an action is replaced"), Range(0.01, 1)] = 0.5

    @property
    def threat(self) -> Threat:
        """Blind: it needs its own environment only."""
        return Threat(surface=frozenset({"environment"}))

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """Replace some actions of all liars."""
        actions, size = view.task.action_count, (view.task.horizon, view.byzantine, view.episodes)
        slips = rng.random(size, dtype=np.float32) < self.q
        # Going on by 1 .. A - 1 in the circle of actions comes to each of the others once.
        on = torch.from_numpy(np.where(slips, rng.integers(1, actions, size) if actions > 2 else 1, 0))

        def action(t: int, observations: Tensor, chosen: Tensor) -> Tensor:
            return (chosen + on[t]).remainder_(actions)

        return Taps(action=action), memory
