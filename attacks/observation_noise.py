"""Observation noise: liars who do not see where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

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

    Source: Zhang et al. 2020, arXiv 2003.08938, on observations perturbed within a box.

    Differs from the source in: its worst corner is searched for with the policy's gradient, which an adversary of
    byzbench does not see.
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
            return Taps(observation=lambda t, observations: observations - self.epsilon * observations.sign()), memory
        size = (view.task.horizon, view.byzantine, view.episodes, view.task.observation_size)
        if self.shape == "gaussian":
            table = torch.from_numpy(rng.standard_normal(size, dtype=np.float32)).mul_(self.epsilon)
        else:
            table = torch.from_numpy(rng.random(size, dtype=np.float32)).mul_(2 * self.epsilon).sub_(self.epsilon)

        def observation(t: int, observations: Tensor) -> Tensor:
            return observations + table[t]

        return Taps(observation=observation), memory
