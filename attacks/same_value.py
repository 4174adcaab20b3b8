"""Same value: liars who send one number, over and over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.attacks._unit import coordinate_size
from byzbench.contracts import MessageAttack, Range, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class SameValue(MessageAttack):
    """Every liar sends one constant vector, and all of them the same.

        m[k] = scale * u * (1, ..., 1),    u = median_i ||x[i]|| / sqrt(d),    x [h, d] the honest vectors

    so that a lie is `scale` times as long as an honest vector; without `relative`, u = 1.

    Source: Li, Xu, Chen, Giannakis, Ling 2019, arXiv 1811.03761, experiments, where the constant is absolute.

    Differs from the source in: the strength is relative by default.
    """

    source: ClassVar[str] = "Li et al. 2019, arXiv 1811.03761"
    scale: Annotated[float, Field(gt=0, description="the constant, in units u"), Range(0.1, 100, log=True)] = 10.0
    relative: Annotated[bool, Field(description="u is the honest vectors' coordinate size; else 1")] = True

    @property
    def threat(self) -> Threat:
        """Blind, but for the honest vectors' length if the strength is relative to it."""
        return Threat(sees=frozenset({"own", "honest"} if self.relative else {"own"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The constant vectors."""
        unit = coordinate_size(view.honest) if self.relative else 1.0
        return Speech(torch.full_like(view.own, self.scale * unit)), memory
