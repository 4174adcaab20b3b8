"""Compiled mean shift: the clusters of points that move to the mean of the points near them."""

from __future__ import annotations

from math import sqrt

import numpy as np

from byzbench.compilation import compiled

ROUNDING = 1e-9
"""Points closer together than this, with coordinates in [0, 1], differ by rounding only."""

STEPS = 300
"""The maximum number of moves."""


@compiled
def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Euclidean distance of two points."""
    total = 0.0
    for c in range(len(a)):
        total += (a[c] - b[c]) * (a[c] - b[c])
    return sqrt(total)


@compiled
def _bandwidth(points: np.ndarray, quantile: float) -> float:
    """Return the mean distance of the points to their floor(quantile n)-th nearest point, counting themselves."""
    n, total = len(points), 0.0
    rank, distances = max(int(quantile * n), 1) - 1, np.empty(n)
    for i in range(n):
        for j in range(n):
            distances[j] = _distance(points[i], points[j])
        distances.sort()
        total += distances[rank]
    return total / n + ROUNDING


@compiled
def _cell_centres(points: np.ndarray, h: float) -> np.ndarray:
    """Return the centres [m, k] of the cells of width h that hold points; the points if each has a cell of its own."""
    n, k = points.shape
    cells, num_cells = np.empty((n, k)), 0
    for i in range(n):
        cell = np.rint(points[i] / h)
        is_new = True
        for c in range(num_cells):
            is_new = is_new and bool(np.any(cells[c] != cell))
        if is_new:
            cells[num_cells] = cell
            num_cells += 1
    return points if num_cells == n else cells[:num_cells] * h


@compiled
def _shift(points: np.ndarray, starts: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
    """Move every start to the mean of the points within h until none moves.

    Returns:
        The end points [m, k], and the number of points within h of them before the last move [m].
    """
    (n, k), m = points.shape, len(starts)
    positions, counts, mean = starts.copy(), np.zeros(m, np.int64), np.empty(k)
    for _ in range(STEPS):
        change = 0.0
        for i in range(m):
            mean[:], counts[i] = 0.0, 0
            for j in range(n):
                if _distance(positions[i], points[j]) <= h:
                    counts[i] += 1
                    for c in range(k):
                        mean[c] += points[j, c]
            for c in range(k):
                moved = mean[c] / max(counts[i], 1)
                change = max(change, abs(moved - positions[i, c]))
                positions[i, c] = moved
        if change <= ROUNDING:
            break
    return positions, counts


@compiled
def _comes_before(positions: np.ndarray, counts: np.ndarray, a: int, b: int) -> bool:
    """Return whether end point a has more points than b, or as many and greater coordinates, up to rounding."""
    if counts[a] != counts[b]:
        return bool(counts[a] > counts[b])
    for c in range(positions.shape[1]):
        x, y = np.rint(positions[a, c] / ROUNDING), np.rint(positions[b, c] / ROUNDING)
        if x != y:
            return bool(x > y)
    return False


@compiled
def mean_shift_cluster(points: np.ndarray, quantile: float, by_cell: bool) -> np.ndarray:
    """Return which of the points belong to the largest cluster of mean shift: bool [n].

    Among end points within the bandwidth h of each other the one with the most points is the centre, of ties that with
    the greatest coordinates. A point belongs to the nearest centre, if within h.

    Args:
        points: float64 [n, k], of coordinates in [0, 1].
        quantile: the rank, as a fraction of n, of the neighbour whose distance is averaged in the bandwidth.
        by_cell: whether the centres of the cells of width h that hold points are moved, instead of the points.

    Example:
        >>> mean_shift_cluster(np.array([[0.0], [0.1], [1.0]]), 0.7, False)
        array([ True,  True, False])
    """
    n = len(points)
    h = _bandwidth(points, quantile)
    positions, counts = _shift(points, _cell_centres(points, h) if by_cell else points, h)
    m = len(positions)
    order = np.arange(m)
    for i in range(1, m):  # a stable sort by insertion
        current, at = order[i], i
        while at > 0 and _comes_before(positions, counts, current, order[at - 1]):
            order[at] = order[at - 1]
            at -= 1
        order[at] = current
    centres, num_centres = np.empty(m, np.int64), 0
    for rank in range(m):
        i, is_centre = order[rank], True
        for c in range(num_centres):
            if _distance(positions[i], positions[centres[c]]) <= h:
                is_centre = False
        if is_centre:
            centres[num_centres] = i
            num_centres += 1
    cluster, sizes = np.full(n, -1), np.zeros(num_centres, np.int64)
    for i in range(n):
        nearest = np.inf
        for c in range(num_centres):
            nearest = min(nearest, _distance(points[i], positions[centres[c]]))
        if nearest <= h:
            for c in range(num_centres - 1, -1, -1):
                if _distance(points[i], positions[centres[c]]) <= nearest + ROUNDING:
                    cluster[i] = c
            sizes[cluster[i]] += 1
    return cluster == sizes.argmax()
