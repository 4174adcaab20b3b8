"""Action flip: liars whose hand slips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from gymnasium.spaces import Discrete
from pydantic import Field

from byzbench.attacks._steps import Drawn
from byzbench.contracts import Attack, Range, State, Taps, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class ActionFlip(Attack):
    """Each action of a liar is replaced, with some probability, by another one; it learns from what it did.

        a'[k, t, n] = a[k, t, n], or with probability q one of the other A - 1 actions at random

    k < f liars, t < T steps, n < N episodes, A actions; of continuous ones, the other is -a. What it then sends is
    computed honestly from those episodes.

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
        task = view.task
        shape = (view.byzantine, view.episodes, *task.policy().action_shape)

        def slips(shape: tuple[int, ...]) -> np.ndarray:
            return rng.random(shape, dtype=np.float32) < self.q

        if not isinstance(task.action_space, Discrete):
            turned = Drawn(lambda shape: np.where(slips(shape), np.float32(-1), np.float32(1)), shape)
            return Taps(action=lambda t, actions: np.multiply(actions, turned(t), out=actions)), memory
        count = task.action_count
        if count == 2:
            off = Drawn(lambda shape: slips(shape).astype(np.int64), shape)
            return Taps(action=lambda t, actions: np.bitwise_xor(actions, off(t), out=actions)), memory
        # Going on by 1 .. A - 1 in the circle of actions comes to each of the others once.
        on = Drawn(lambda shape: rng.integers(1, count, shape) * slips(shape), shape)
        return Taps(action=lambda t, actions: np.remainder(actions + on(t), count, out=actions)), memory
