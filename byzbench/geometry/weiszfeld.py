"""Compiled Weiszfeld steps for the geometric median, on weights and inner products alone."""

from __future__ import annotations

from math import sqrt

import numpy as np

from byzbench.compilation import compiled


@compiled
def _quadratic_form(gram: np.ndarray, weights: np.ndarray, products: np.ndarray) -> float:
    """Return weights' gram weights, and write gram weights to `products`."""
    n, total = len(weights), 0.0
    products[:] = 0.0
    for i in range(n):
        if weights[i] != 0:
            for j in range(n):
                products[j] += weights[i] * gram[i, j]
    for j in range(n):
        total += weights[j] * products[j]
    return total


@compiled
def iterate(
    gram: np.ndarray, mask: np.ndarray, weights: np.ndarray, steps: int, tolerance: float, rounding: float, tiny: float
) -> None:
    """Make the steps of `GeometricMedian` for each of R sets, in place.

    Args:
        gram: float64 [R, n, n], the inner products.
        mask: bool [R, n], the valid vectors; each set has one.
        weights: float64 [R, n], the points before and after the steps, as weights of the vectors.
        steps: the maximum number of steps.
        tolerance: the steps of a set end when no weight changes by more than this.
        rounding: the squared distance, relative to the squared lengths, at which a vector is at a point.
        tiny: the smallest denominator.
    """
    sets, n = weights.shape
    products, step = np.empty(n), np.empty(n)
    for r in range(sets):
        products_of, point = gram[r], weights[r]
        for _ in range(steps):
            length = _quadratic_form(products_of, point, products)
            total, count = 0.0, 0
            for j in range(n):
                step[j] = 0.0
                if mask[r, j]:
                    square = products_of[j, j]
                    distance = max(square - 2 * products[j] + length, 0.0)
                    if distance <= rounding * (square + length):
                        count += 1
                    else:
                        step[j] = 1 / sqrt(distance)
                        total += step[j]
            for j in range(n):
                step[j] = step[j] / max(total, tiny) - point[j]
            radius = total * sqrt(max(_quadratic_form(products_of, step, products), 0.0))
            share = 1 - min(count / max(radius, tiny), 1.0)
            change = 0.0
            for j in range(n):
                before = point[j]
                point[j] = before + share * step[j]
                change = max(change, abs(point[j] - before))
            if change <= tolerance:
                break
