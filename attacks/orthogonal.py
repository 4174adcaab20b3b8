"""Orthogonal: liars who go as far as they should, at a right angle to where they should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch.nn.functional import normalize

from byzbench.contracts import MessageAttack, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Orthogonal(MessageAttack):
    """Each liar sends a random vector of the length of its own honest one and orthogonal to it.

        m[k] = ||x|| p/||p||,    p = r - <r, x> x/||x||^2,    r ~ N(0, 1)^d,    x = own[k] [d]

    Rules that look at lengths see nothing, and the progress along x is lost.

    Source: official code of Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489.

    Differs from the source in: it is orthogonal. The code leaves out the division by ||x||^2, so that for a long x what
    it sends is almost parallel to x.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"

    @property
    def threat(self) -> Threat:
        """Local."""
        return Threat(sees=frozenset({"own"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The turned vectors; in one dimension there is no such direction, and a lie is zero."""
        own = view.own.double()
        along = normalize(own, dim=1, eps=1e-150)
        across = torch.from_numpy(rng.standard_normal(own.shape))
        for _ in range(2):  # the second pass takes away what rounding left of the first
            across = across - (across * along).sum(1, keepdim=True) * along
        if own.shape[1] == 1:
            across = torch.zeros_like(own)
        lies = own.norm(dim=1, keepdim=True) * normalize(across, dim=1, eps=1e-150)
        return Speech(lies.to(view.own.dtype)), memory
