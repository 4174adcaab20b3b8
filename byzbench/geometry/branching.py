"""Branch and bound: of all subsets of a size the one of least value, if the value grows with every vector that joins.

Vectors are decided in a fixed order, so that nodes of one level share the undecided ones, and many nodes are one array.
Two values are equal if they differ by no more than EQUAL times the lesser: of several subsets of least value, the
lexicographically first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import numpy as np

EQUAL = 1e-9
# The numbers a search may compute if nothing else is said: about a second's worth.
EFFORT = 200_000_000
# Numbers in one array of nodes: small enough for a cache, and for a stack of them.
ARRAY = 1 << 15
# What handling an array costs besides, in numbers computed: it is most of the time where few nodes are left.
HANDLING = 10_000

State: TypeAlias = tuple[np.ndarray, ...]
"""What a measure knows of B nodes, in arrays [B, ...]."""

Nodes: TypeAlias = tuple[int, np.ndarray, State]
"""Nodes of one level: how many vectors are decided, which of those are kept [B, n], and their state."""


class Measure(ABC):
    """A value of subsets that grows with every vector that joins.

    Attributes:
        squares: squared distances, [n, n].
        size: of a whole subset.
    """

    def __init__(self, squares: np.ndarray, size: int) -> None:
        self.squares = squares
        self.size = size

    @abstractmethod
    def numbers(self, undecided: int) -> int:
        """How many numbers a node takes to compute: in time, those of a matrix being one each."""

    @abstractmethod
    def value(self, chosen: np.ndarray) -> np.ndarray:
        """The values [B] of whole subsets [B, n]."""

    @abstractmethod
    def seed(self) -> np.ndarray:
        """A good subset [n] to begin with."""

    @abstractmethod
    def improve(self, chosen: np.ndarray) -> np.ndarray:
        """A subset [n] that is no worse, by swaps of one vector for another."""

    @abstractmethod
    def possible(self, limit: float) -> np.ndarray:
        """Who can be in a subset within the limit, [n]: none that can is left out."""

    @abstractmethod
    def start(self, order: np.ndarray, limit: float) -> list[Nodes]:
        """The first nodes of a search over the vectors in `order`."""

    @abstractmethod
    def joins(self, state: State, sizes: np.ndarray) -> np.ndarray:
        """Which of the nodes, with sizes [B], can keep their next vector."""

    @abstractmethod
    def keep(self, level: int, state: State, sizes: np.ndarray) -> State:
        """The nodes with their next vector, number `level`."""

    @abstractmethod
    def drop(self, level: int, state: State) -> State:
        """The nodes without their next vector."""

    @abstractmethod
    def hopeful(self, level: int, state: State, sizes: np.ndarray) -> np.ndarray:
        """Which of the nodes may have a subset within the limit below them."""


def centred(squares: np.ndarray) -> np.ndarray:
    """Inner products about the mean, from squared distances [..., n, n]."""
    means = squares.mean(-1)
    return (means[..., None] + means[..., None, :] - squares - means.mean(-1)[..., None, None]) / 2


def least(measure: Measure, effort: int) -> tuple[tuple[int, ...], float, bool]:
    """Sorted indices of the best subset, its value, and whether the search came to its end."""
    best = measure.seed()
    value = float(measure.value(best[None])[0])
    search = _Search(measure, effort)
    tied = False
    while value > 0 or not tied:
        # Equals are left out of the search once there is known to be one: there may be very many.
        found = search.find(value * (1 - EQUAL if tied else 1 + EQUAL), None if tied else best)
        if found is None:
            break
        tied = search.value >= value * (1 - EQUAL)
        if not tied:
            best = measure.improve(found)
            value = float(measure.value(best[None])[0])
    if tied:
        first = search.find(value * (1 + EQUAL), None, lexicographic=True)
        best = best if first is None else first
    return tuple(np.flatnonzero(best).tolist()), value, search.exact


class _Search:
    """Looks for subsets within a limit, depth first, within a given effort.

    Attributes:
        value: of what was found last.
        exact: no look has ended early.
    """

    def __init__(self, measure: Measure, effort: int) -> None:
        self.measure = measure
        self.left = effort
        self.value = np.inf
        self.exact = True

    def find(self, limit: float, known: np.ndarray | None, lexicographic: bool = False) -> np.ndarray | None:
        """A subset [n] within the limit, and not the known one; the first there is, if it is to be."""
        measure, size = self.measure, self.measure.size
        order = np.flatnonzero(measure.possible(limit))
        if len(order) < size:
            return None
        if not lexicographic:
            # Far out, and in company: liars who say the same are decided before it is said who is honest.
            company = np.square(centred(measure.squares[np.ix_(order, order)])).sum(1)
            order = order[np.argsort(-company, kind="stable")]
        stack = measure.start(order, limit)
        if not lexicographic:
            stack.reverse()
        while stack:
            level, kept, state = stack.pop()
            undecided = len(order) - level
            self.left -= HANDLING + len(kept) * measure.numbers(undecided or size)
            if self.left < 0:
                self.exact = False
                return None
            if undecided == 0:
                found = self._whole(order, kept, limit, known, lexicographic)
                if found is not None:
                    return found
                continue
            stack += reversed(self._children(level, kept, state, len(order), lexicographic))
        return None

    def _children(self, level: int, kept: np.ndarray, state: State, n: int, lexicographic: bool) -> list[Nodes]:
        """The nodes with and without their next vector, without those that lead nowhere, in the order of the search."""
        measure, size = self.measure, self.measure.size
        sizes = kept.sum(1)
        keep = np.flatnonzero((sizes < size) & measure.joins(state, sizes))
        drop = np.flatnonzero(level - sizes < n - size)
        with_it = measure.keep(level, _rows(state, keep), sizes[keep])
        without = measure.drop(level, _rows(state, drop))
        state = tuple(np.concatenate(pair) for pair in zip(with_it, without, strict=True))
        parents, joined = np.concatenate([keep, drop]), np.repeat([True, False], [len(keep), len(drop)])
        hopeful = np.flatnonzero(measure.hopeful(level + 1, state, sizes[parents] + joined))
        hopeful = hopeful[np.lexsort((joined[hopeful] ^ lexicographic, parents[hopeful]))]
        kept = kept[parents[hopeful]]
        kept[:, level] = joined[hopeful]
        some = max(1, ARRAY // measure.numbers(n - level - 1 or size))
        parts = [slice(at, at + some) for at in range(0, len(hopeful), some)]
        return [(level + 1, kept[part], _rows(state, hopeful[part])) for part in parts]

    def _whole(
        self, order: np.ndarray, kept: np.ndarray, limit: float, known: np.ndarray | None, lexicographic: bool
    ) -> np.ndarray | None:
        """Of nodes whose vectors are all decided, the one to be taken."""
        chosen = np.zeros((len(kept), len(self.measure.squares)), bool)
        chosen[:, order] = kept
        if known is not None:
            chosen = chosen[(chosen != known).any(1)]
        values = self.measure.value(chosen)
        within = np.flatnonzero(values <= limit)
        if len(within) == 0:
            return None
        best = within[0] if lexicographic else within[values[within].argmin()]
        self.value = values[best]
        return chosen[best]


def _rows(state: State, which: np.ndarray) -> State:
    return tuple(part[which] for part in state)
