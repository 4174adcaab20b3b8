"""Observation noise: liars who do not see where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.attacks._steps import Drawn
from byzbench.contracts import Attack, Choice, Range, State, Taps, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class ObservationNoise(Attack):
    """Each liar's policy is shown observations that are off; it acts upon them, and learns from them as if true.

        o'[k, t, n] = o[k, t, n] + epsilon * z,    z ~ N(0, 1)^o (gaussian), U(-1, 1)^o (uniform)
        o'[k, t, n] = o[k, t, n] - epsilon * sign(o[k, t, n])                             (sign)

    k < f liars, t < T steps, n < N episodes. Uniform noise and the sign shift stay within epsilon in every coordinate.
    The sign shift is a corner of that box, the one that looks most like its opposite: the worst that can be chosen
    without the policy.

    Source: Zhang et al. 2020, arXiv 2003.08938, on observations perturbed within a box. Theirs is the worst corner for
    the policy, as `fgsm` estimates it.
    """

    source: ClassVar[str] = "Zhang et al. 2020, arXiv 2003.08938"
    epsilon: Annotated[
        float, Field(gt=0, description="size of the error, in units of the observations"), Range(0.01, 10, log=True)
    ] = 0.1
    shape: Annotated[
        Literal["gaussian", "uniform", "sign"],
        Field(description="how the error is drawn, or that it shifts every coordinate towards its opposite"),
        Choice("gaussian", "uniform", "sign"),
    ] = "uniform"

    @property
    def threat(self) -> Threat:
        """Blind: it needs its own environment only."""
        return Threat(surface=frozenset({"environment"}))

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """Blur what all liars see."""
        if self.shape == "sign":
            return Taps(observation=lambda t, seen: seen - self.epsilon * np.sign(seen)), memory
        shape = (view.byzantine, view.episodes, view.task.observation_size)

        def draw(shape: tuple[int, ...]) -> np.ndarray:
            if self.shape == "gaussian":
                return self.epsilon * rng.standard_normal(shape, dtype=np.float32)
            return 2 * self.epsilon * (rng.random(shape, dtype=np.float32) - np.float32(0.5))

        error = Drawn(draw, shape)
        return Taps(observation=lambda t, seen: np.add(seen, error(t), out=seen)), memory
