"""Branch and bound: find the subset of a given size of least value, if the value grows with every vector that joins.

Vectors are decided in a fixed order, so that nodes of one level share the undecided ones, and many nodes are one array.
Two values count as equal if they differ by at most EQUAL times the smaller one: of several subsets of least value, the
lexicographically first is returned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import numpy as np

EQUAL = 1e-9
# Default maximum count of numbers that a search computes: about a second of computation.
EFFORT = 200_000_000
# Maximum count of numbers in one array of nodes: small enough for the cache, and for a stack of such arrays.
ARRAY = 1 << 15
# The overhead of handling an array, in numbers computed: it is most of the time where few nodes are left.
HANDLING = 10_000

State: TypeAlias = tuple[np.ndarray, ...]
"""The state that a measure keeps of B nodes: arrays [B, ...]."""

Nodes: TypeAlias = tuple[int, np.ndarray, State]
"""Nodes of one level: the number of decided vectors, which of those are in the subset [B, n], and their state."""


class Measure(ABC):
    """A value of subsets that grows with every vector that joins.

    Attributes:
        squares: squared distances, [n, n].
        size: the number of vectors of a complete subset.
    """

    def __init__(self, squares: np.ndarray, size: int) -> None:
        self.squares = squares
        self.size = size

    @abstractmethod
    def numbers(self, undecided: int) -> int:
        """Return the cost of a node, as a count of computed numbers; each number of a matrix counts as one."""

    @abstractmethod
    def value(self, chosen: np.ndarray) -> np.ndarray:
        """Return the values [B] of complete subsets [B, n]."""

    @abstractmethod
    def seed(self) -> np.ndarray:
        """Return a good subset [n] to start from."""

    @abstractmethod
    def improve(self, chosen: np.ndarray) -> np.ndarray:
        """Return a subset [n] that is no worse, by swaps of one vector for another."""

    @abstractmethod
    def possible(self, limit: float) -> np.ndarray:
        """Return which vectors may be in a subset within the limit, [n]: a superset of those that are."""

    @abstractmethod
    def start(self, order: np.ndarray, limit: float) -> list[Nodes]:
        """Return the first nodes of a search over the vectors in `order`."""

    @abstractmethod
    def joins(self, state: State, sizes: np.ndarray) -> np.ndarray:
        """Return which of the nodes, of sizes [B], may include their next vector."""

    @abstractmethod
    def keep(self, level: int, state: State, sizes: np.ndarray) -> State:
        """Return the state of the nodes with their next vector included.

        Args:
            level: the index of the next vector.
            state: the nodes' state.
            sizes: [B], how many vectors each node includes.
        """

    @abstractmethod
    def drop(self, level: int, state: State) -> State:
        """Return the state of the nodes with their next vector, of index `level`, excluded."""

    @abstractmethod
    def hopeful(self, level: int, state: State, sizes: np.ndarray) -> np.ndarray:
        """Return which of the nodes may have a complete subset within the limit below them.

        Args:
            level: the number of decided vectors.
            state: the nodes' state.
            sizes: [B], how many vectors each node includes.
        """


def centred(squares: np.ndarray) -> np.ndarray:
    """Return inner products about the mean, from squared distances [..., n, n].

    Example:
        >>> centred(np.array([[0.0, 4.0], [4.0, 0.0]]))
        array([[ 1., -1.],
               [-1.,  1.]])
    """
    means = squares.mean(-1)
    return (means[..., None] + means[..., None, :] - squares - means.mean(-1)[..., None, None]) / 2


def minimize_measure(measure: Measure, effort: int) -> tuple[tuple[int, ...], float, bool]:
    """Return the sorted indices of the best subset, its value, and whether the search was complete.

    Args:
        measure: the value of subsets, which is minimised.
        effort: the maximum count of numbers that the search computes.
    """
    best = measure.seed()
    value = float(measure.value(best[None])[0])
    search = _Search(measure, effort)
    tied = False
    while value > 0 or not tied:
        # Once a tie is known, subsets of equal value are excluded from the search, as there may be very many.
        candidate = search.find(value * (1 - EQUAL if tied else 1 + EQUAL), None if tied else best)
        if candidate is None:
            break
        tied = search.value >= value * (1 - EQUAL)
        if not tied:
            best = measure.improve(candidate)
            value = float(measure.value(best[None])[0])
    if tied:
        first = search.find(value * (1 + EQUAL), None, lexicographic=True)
        best = best if first is None else first
    return tuple(np.flatnonzero(best).tolist()), value, search.exact


class _Search:
    """A depth-first search for subsets within a limit, with a maximum effort.

    Attributes:
        value: the value of the last subset that was found.
        exact: whether every search so far was complete.
    """

    def __init__(self, measure: Measure, effort: int) -> None:
        self.measure = measure
        self.remaining_effort = effort
        self.value = np.inf
        self.exact = True

    def find(self, limit: float, known: np.ndarray | None, lexicographic: bool = False) -> np.ndarray | None:
        """Return a subset [n] within the limit, or None.

        Args:
            limit: the largest value of a subset.
            known: a subset that is not returned, or None.
            lexicographic: whether to return the lexicographically first subset.
        """
        measure, size = self.measure, self.measure.size
        order = np.flatnonzero(measure.possible(limit))
        if len(order) < size:
            return None
        if not lexicographic:
            # Vectors that are far out and close to others come first: so groups of equal Byzantine vectors are decided
            # before the honest vectors.
            gram_squares = np.square(centred(measure.squares[np.ix_(order, order)])).sum(1)
            order = order[np.argsort(-gram_squares, kind="stable")]
        stack = measure.start(order, limit)
        if not lexicographic:
            stack.reverse()
        while stack:
            level, included, state = stack.pop()
            undecided = len(order) - level
            self.remaining_effort -= HANDLING + len(included) * measure.numbers(undecided or size)
            if self.remaining_effort < 0:
                self.exact = False
                return None
            if undecided == 0:
                subset = self._best_complete(order, included, limit, known, lexicographic)
                if subset is not None:
                    return subset
                continue
            stack += reversed(self._children(level, included, state, len(order), lexicographic))
        return None

    def _children(self, level: int, included: np.ndarray, state: State, n: int, lexicographic: bool) -> list[Nodes]:
        """Return the nodes with and without their next vector, in the order of the search.

        Nodes that cannot have a subset within the limit are left out.

        Args:
            level: the number of decided vectors.
            included: [B, n], which vectors each of the B nodes includes.
            state: the nodes' state.
            n: the number of vectors of the search.
            lexicographic: whether the search is in lexicographic order.
        """
        measure, size = self.measure, self.measure.size
        sizes = included.sum(1)
        including = np.flatnonzero((sizes < size) & measure.joins(state, sizes))
        excluding = np.flatnonzero(level - sizes < n - size)
        with_next = measure.keep(level, _rows(state, including), sizes[including])
        without_next = measure.drop(level, _rows(state, excluding))
        state = tuple(np.concatenate(pair) for pair in zip(with_next, without_next, strict=True))
        parents = np.concatenate([including, excluding])
        includes_next = np.repeat([True, False], [len(including), len(excluding)])
        hopeful = np.flatnonzero(measure.hopeful(level + 1, state, sizes[parents] + includes_next))
        hopeful = hopeful[np.lexsort((includes_next[hopeful] ^ lexicographic, parents[hopeful]))]
        included = included[parents[hopeful]]
        included[:, level] = includes_next[hopeful]
        nodes_per_array = max(1, ARRAY // measure.numbers(n - level - 1 or size))
        parts = [slice(start, start + nodes_per_array) for start in range(0, len(hopeful), nodes_per_array)]
        return [(level + 1, included[part], _rows(state, hopeful[part])) for part in parts]

    def _best_complete(
        self, order: np.ndarray, included: np.ndarray, limit: float, known: np.ndarray | None, lexicographic: bool
    ) -> np.ndarray | None:
        """Return the first or the best subset within the limit, of nodes whose vectors are all decided, or None.

        Args:
            order: the vectors of the search, in the order in which they are decided.
            included: [B, n], which of them each of the B nodes includes.
            limit: the largest value of a subset.
            known: a subset that is not returned, or None.
            lexicographic: whether to return the first subset; otherwise, the one of least value.
        """
        chosen = np.zeros((len(included), len(self.measure.squares)), bool)
        chosen[:, order] = included
        if known is not None:
            chosen = chosen[(chosen != known).any(1)]
        values = self.measure.value(chosen)
        within = np.flatnonzero(values <= limit)
        if len(within) == 0:
            return None
        best = within[0] if lexicographic else within[values[within].argmin()]
        self.value = values[best]
        return chosen[best]


def _rows(state: State, index: np.ndarray) -> State:
    """Return the state of some of the nodes."""
    return tuple(part[index] for part in state)
