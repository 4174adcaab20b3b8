"""The covariance-bound-agnostic filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.linalg.lapack import dsyevr
from torch import Tensor

from byzbench.aggregators._ordered import Array
from byzbench.contracts import LinearRule, State
from byzbench.geometry.cloud import Cloud, array, tensor

# What rounding leaves of a weight that should be gone. At a distance of 1e30 that would still be the loudest.
ROUNDING = 1e-12

# Matrices up to this size start no threads in LAPACK, which finds one eigenpair in half the time of all of them.
UNTHREADED = 64


@dataclass(frozen=True)
class Caf(LinearRule):
    """Takes weight from what stands out in the worst direction, and keeps the mean that had the least of it.

    Formula: c_i = 1 at first. While sum c > n - 2f, with mu = sum c_i x_i / sum c and lambda, v the largest eigenvalue
    and its eigenvector of sum c_i (x_i - mu) (x_i - mu)' / sum c, d x d:

        tau_i = ((x_i - mu)' v)^2,    c_i <- c_i (1 - tau_i / max tau)

    over the c_i > 0; value = the mu of least lambda, of equals the first.

    Source: Allouah, Guerraoui, Stephan 2025, "Towards trustworthy federated learning with untrusted participants",
    ICML (arXiv 2505.01874), algorithm CAF. No bound on its kappa is given here, as we have none at first hand.

    Differs from the source in: eigenpairs are exact, from the n x n Gram matrix, not by power steps from a random
    start. Vectors that have lost all their weight do not count in max tau. If f = 0 nothing is filtered and the value
    is the mean. Where the largest eigenvalue is a multiple one, v is whichever the decomposition returns.
    """

    source: ClassVar[str] = "Allouah, Guerraoui, Stephan 2025, arXiv 2505.01874"
    cost: ClassVar[str] = "n^2 d, and n^3 up to n times"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """An honest majority."""
        return n >= 2 * f + 1

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """The weights c of the mean that is returned, divided by their sum."""
        n = cloud.mask.shape[-1]
        gram, c = array(cloud.gram).reshape(-1, n, n), array(cloud.mask).reshape(-1, n).astype(np.float64)
        left = np.add.reduce(c, -1)
        target = left - 2 * array(f).reshape(-1)
        best, least = c / left[:, None], np.full(len(c), np.inf)
        sets = np.flatnonzero(left > target)
        c, left = c[sets], left[sets]
        # Every step takes all its weight from some vector of each set that is not done.
        while len(sets):
            weights = c / left[:, None]
            spread, tau = _worst_direction(gram[sets], weights)
            better = spread < least[sets]
            best[sets[better]], least[sets[better]] = weights[better], spread[better]
            top = np.maximum.reduce(tau, -1)
            kept = 1 - tau / np.where(top > 0, top, 1)[:, None]
            kept[kept <= ROUNDING] = 0
            c = c * kept
            left = np.add.reduce(c, -1)
            more = (top > 0) & (left > target[sets])
            sets, c, left = sets[more], c[more], left[more]
        return tensor(best.reshape(cloud.mask.shape), f), {}


def _worst_direction(gram: Array, weights: Array) -> tuple[Array, Array]:
    """The largest eigenvalue [R] of the weighted covariance, and tau [R, n] but for a factor; 0 where no weight.

    With Y the n x d matrix of the x_i - mu and W that of the weights, v = Y' W^(1/2) u / sqrt(lambda) for the unit
    eigenvector u of W^(1/2) Y Y' W^(1/2), so that Y v is proportional to Y Y' W^(1/2) u.
    """
    towards = np.vecdot(gram, weights[:, None])
    centred = gram - towards[:, :, None] - towards[:, None] + np.vecdot(towards, weights)[:, None, None]
    roots = np.sqrt(weights)
    value, vector = _largest(roots[:, :, None] * centred * roots[:, None])
    reach = np.vecdot(centred, (roots * vector)[:, None])
    return np.maximum(value, 0), np.square(reach) * (weights > 0)


def _largest(matrices: Array) -> tuple[Array, Array]:
    """The largest eigenvalue [R] of symmetric matrices [R, n, n], and its eigenvector of unit length [R, n]."""
    n = matrices.shape[-1]
    if n > UNTHREADED:
        values, vectors = torch.linalg.eigh(torch.from_numpy(matrices))
        return array(values)[:, -1], array(vectors)[:, :, -1]
    values, vectors = zip(*(dsyevr(matrix, range="I", il=n, iu=n)[:2] for matrix in matrices), strict=True)
    return np.array(values)[:, 0], np.array(vectors)[:, :, 0]
