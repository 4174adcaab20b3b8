"""Placement on the lowest agent numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx
import numpy as np

from byzbench.core import Placement


@dataclass(frozen=True)
class First(Placement):
    """Placement on agents 0 .. f-1, as in the official code of DecByzPG.

    It is not a representative sample of placements on a graph whose positions differ.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the agents 0 .. f-1."""
        return list(range(f))
