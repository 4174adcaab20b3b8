"""Eigenvector placement: the liars are heard by agents who are much heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx
import numpy as np

from byzbench.contracts import Placement
from byzbench.placements._ranked import agents_of, highest, small_enough


@dataclass(frozen=True)
class Eigenvector(Placement):
    """The f agents of the highest eigenvector centrality: x with lambda x_j = the sum of x_i over those i that hear j.

    lambda is the largest eigenvalue of the adjacency matrix. It finds one dense region, and seats all liars there.

    Source: Bonacich 1972, Factoring and weighting approaches to status scores and clique identification.
    """

    source: ClassVar[str] = "Bonacich 1972"

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        small_enough("eigenvector", graph)
        links = nx.to_numpy_array(graph, weight=None)
        values, vectors = np.linalg.eig(links) if graph.is_directed() else np.linalg.eigh(links)
        leading = np.abs(vectors[:, np.argmax(values.real)])
        return highest(leading[: agents_of(graph)], f, rng)
