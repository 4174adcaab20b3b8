"""Compiled search for vertex covers of at most k vertices: a bounded search tree, exponential in k alone.

A set of vertices is a row of bits, of as many 64-bit words as needed; a graph has such a row of neighbours for each
vertex.
"""

from __future__ import annotations

import numpy as np

from byzbench.compilation import compiled

ONE = np.uint64(1)


@compiled
def _count(words: np.ndarray, among: np.ndarray) -> int:
    """Count the bits that are in both sets."""
    total = np.uint64(0)
    for w in range(len(words)):
        x = words[w] & among[w]
        x -= (x >> ONE) & np.uint64(0x5555555555555555)
        x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        total += (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return int(total)


@compiled
def _has(words: np.ndarray, v: int) -> bool:
    """Return whether vertex v is in the set."""
    return (words[v >> 6] >> np.uint64(v & 63)) & ONE != np.uint64(0)


@compiled
def _remove(graph: np.ndarray, alive: np.ndarray, taken: np.ndarray, degrees: np.ndarray, v: int) -> None:
    """Move vertex v from `alive` to `taken`, and update the degrees of its neighbours."""
    bit = ONE << np.uint64(v & 63)
    alive[v >> 6] &= ~bit
    taken[v >> 6] |= bit
    for u in range(len(graph)):
        if _has(alive, u) and _has(graph[v], u):
            degrees[u] -= 1


@compiled
def _reduce(
    graph: np.ndarray, alive: np.ndarray, taken: np.ndarray, degrees: np.ndarray, k: int, effort: np.ndarray, stop: int
) -> tuple[int, int]:
    """Take vertices that some least cover includes, until it is necessary to branch.

    Args:
        graph: uint64 [n, words].
        alive: uint64 [words], the vertices that are left; it changes in place, as do the following.
        taken: uint64 [words], the vertices of the cover so far.
        degrees: int64 [n], the number of neighbours in `alive` of each vertex.
        k: how many vertices the cover may still have.
        effort: int64 [1], how many vertices the search may still visit.
        stop: the remaining effort at which the search ends.

    Returns:
        The vertex to branch on, -1 if the cover is complete, -2 if there is none; and what is left of k.
    """
    while True:
        max_degree = total = visited = 0
        largest = single = -1
        for v in range(len(graph)):
            if not _has(alive, v):
                continue
            visited += 1
            total += degrees[v]
            if degrees[v] > max_degree:
                max_degree, largest = degrees[v], v
            if degrees[v] == 1 and single < 0:
                single = v
            if degrees[v] == 0:
                alive[v >> 6] &= ~(ONE << np.uint64(v & 63))
        effort[0] -= visited
        if max_degree == 0:
            return -1, k
        if total > 2 * k * max_degree or effort[0] <= stop:
            return -2, k
        if single >= 0:  # the other end of that edge covers at least as many edges
            picked = -1
            for u in range(len(graph)):
                if _has(alive, u) and _has(graph[single], u):
                    picked = u
        elif max_degree > k or max_degree == 2:
            # More neighbours than the cover may have; or a graph of cycles, where any vertex can be taken.
            picked = largest
        else:
            return largest, k
        _remove(graph, alive, taken, degrees, picked)
        k -= 1


@compiled
def find_cover(graph: np.ndarray, alive: np.ndarray, k: int, effort: np.ndarray) -> tuple[bool, np.ndarray, bool]:
    """Find at most k vertices that cover every edge between the vertices in `alive`.

    One call may use half of the remaining effort.

    Args:
        graph: uint64 [n, words], the neighbours of each vertex.
        alive: uint64 [words], the vertices.
        k: the maximum number of vertices of the cover.
        effort: int64 [1], how many vertices searches may still visit; it decreases.

    Returns:
        Whether a cover was found, the cover [words], and whether this is certain: the effort sufficed.
    """
    n, words = graph.shape
    stop = effort[0] // 2
    stack = np.zeros((max(k, 0) + 2, 2, words), np.uint64)
    budgets = np.zeros(len(stack), np.int64)
    degrees = np.zeros(n, np.int64)
    stack[0, 0], budgets[0], height = alive, k, 1
    while height > 0:
        height -= 1
        left, taken, budget = stack[height, 0].copy(), stack[height, 1].copy(), budgets[height]
        for v in range(n):
            degrees[v] = _count(graph[v], left) if _has(left, v) else 0
        vertex, budget = _reduce(graph, left, taken, degrees, budget, effort, stop)
        if vertex == -1:
            return True, taken, True
        if vertex == -2:
            continue
        # The cover includes the vertex, which is tried first, or all of its neighbours.
        neighbours = graph[vertex] & left
        stack[height, 0], stack[height, 1] = left & ~neighbours, taken | neighbours
        bit = ONE << np.uint64(vertex & 63)
        stack[height, 0, vertex >> 6] &= ~bit
        budgets[height] = budget - degrees[vertex]
        stack[height + 1, 0], stack[height + 1, 1] = left, taken
        stack[height + 1, 0, vertex >> 6] &= ~bit
        stack[height + 1, 1, vertex >> 6] |= bit
        budgets[height + 1] = budget - 1
        height += 2
    return False, alive, effort[0] > stop


@compiled
def first_independent_set(
    graph: np.ndarray, witness: np.ndarray, size: int, effort: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Find the lexicographically first independent set of a size.

    Args:
        graph: uint64 [n, words], the neighbours of each vertex.
        witness: uint64 [words], an independent set of this size.
        size: the number of vertices of the set.
        effort: int64 [1], as in `find_cover`.

    Returns:
        The vertices [size] in ascending order, and whether this is certain.
    """
    n, words = graph.shape
    witness, alive, dropped, exact = witness.copy(), np.zeros(words, np.uint64), n - size, True
    for v in range(n):
        alive[v >> 6] |= ONE << np.uint64(v & 63)
    chosen, count = np.empty(size, np.int64), 0
    for v in range(n):
        if count == size:
            break
        if not _has(alive, v):
            continue
        conflicting = graph[v] & alive
        num_conflicting = _count(conflicting, conflicting)
        rest = alive & ~conflicting
        if num_conflicting > 0 and not _has(witness, v):
            found = num_conflicting <= dropped
            if found:
                found, cover, certain = find_cover(graph, rest, dropped - num_conflicting, effort)
                exact = exact and (found or certain)
                witness = rest & ~cover if found else witness
            if not found:
                alive[v >> 6] &= ~(ONE << np.uint64(v & 63))
                dropped -= 1
                continue
        chosen[count] = v
        count += 1
        alive, dropped = rest, dropped - num_conflicting
    return chosen[:count], exact
