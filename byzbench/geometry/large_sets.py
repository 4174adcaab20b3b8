"""Compiled passes over one large set of vectors, without a copy of it: float64 sums over its float32 numbers.

The coordinates of a block are independent, so that processors compute several at once. Each sum is in the written
order, on every machine.
"""

from __future__ import annotations

import numpy as np

from byzbench.compilation import compiled

BLOCK = 2048
"""The number of coordinates that are summed together; their sums stay in the cache."""

STREAMS = 256
"""The number of partial sums of one length."""


@compiled
def _from(number: float, origin: np.ndarray | None, at: int) -> float:
    """Return the number less the coordinate `at` of the origin [1, d], which is zero if None."""
    if origin is None:
        return np.float64(number)
    return number - origin[0, at]


@compiled
def _scaled(scales: np.ndarray | None, i: int, x: np.ndarray, at: int) -> float:
    """Return the coordinate `at` of the vector x [d] times scales[i], rounded to the type of x; without one if None."""
    if scales is None:
        return np.float64(x[at])
    return np.float64(x.dtype.type(scales[i] * np.float64(x[at])))


@compiled
def add_differences(
    weights: np.ndarray,
    rows: np.ndarray,
    x: np.ndarray,
    origin: np.ndarray | None,
    scales: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """Write the sum of weights[i] (y[rows[i]] - origin) to `out`, where y is x, or what `write_scaled` writes.

    Args:
        weights: float64 [m], the weights of some vectors.
        rows: int64 [m], these vectors.
        x: [n, d], all vectors.
        origin: float64 [1, d]; zero if None.
        scales: float64 [n], the scale of each vector; one if None.
        out: [d].
    """
    d, whole = x.shape[1], len(rows) // 4 * 4
    sums = np.empty(BLOCK)
    for start in range(0, d, BLOCK):
        size = min(BLOCK, d - start)
        sums[:] = 0.0
        for i in range(0, whole, 4):
            w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
            r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
            x0, x1, x2, x3 = x[r0], x[r1], x[r2], x[r3]
            for j in range(size):
                at = start + j
                total = sums[j] + w0 * _from(_scaled(scales, r0, x0, at), origin, at)
                total = total + w1 * _from(_scaled(scales, r1, x1, at), origin, at)
                total = total + w2 * _from(_scaled(scales, r2, x2, at), origin, at)
                sums[j] = total + w3 * _from(_scaled(scales, r3, x3, at), origin, at)
        for i in range(whole, len(rows)):
            w0, r0 = weights[i], rows[i]
            x0 = x[r0]
            for j in range(size):
                sums[j] += w0 * _from(_scaled(scales, r0, x0, start + j), origin, start + j)
        for j in range(size):
            out[start + j] = sums[j]


@compiled
def add_squares(x: np.ndarray, origin: np.ndarray | None, out: np.ndarray) -> None:
    """Write ||x_i - origin||^2 to `out`.

    Args:
        x: [n, d], the vectors.
        origin: float64 [1, d]; zero if None.
        out: float64 [n].
    """
    n, d = x.shape
    whole = d // (4 * STREAMS) * (4 * STREAMS)
    sums = np.empty(STREAMS)
    for i in range(n):
        sums[:] = 0.0
        for a in range(0, whole, 4 * STREAMS):
            b, c, e = a + STREAMS, a + 2 * STREAMS, a + 3 * STREAMS
            for j in range(STREAMS):
                x0, x1 = _from(x[i, a + j], origin, a + j), _from(x[i, b + j], origin, b + j)
                x2, x3 = _from(x[i, c + j], origin, c + j), _from(x[i, e + j], origin, e + j)
                sums[j] = sums[j] + (x0 * x0 + x1 * x1) + (x2 * x2 + x3 * x3)
        for j in range(whole, d):
            x0 = _from(x[i, j], origin, j)
            sums[j % STREAMS] += x0 * x0
        total = 0.0
        for j in range(STREAMS):
            total += sums[j]
        out[i] = total


@compiled
def write_scaled(scales: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Write scales[i] x_i to `out`, with the product in float64.

    Args:
        scales: float64 [n].
        x: [n, d], the vectors.
        out: [n, d].
    """
    n, d = x.shape
    for i in range(n):
        scale = scales[i]
        for j in range(d):
            out[i, j] = scale * np.float64(x[i, j])
