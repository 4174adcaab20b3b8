"""CAF, the covariance-bound-agnostic filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.linalg.lapack import dsyevr
from torch import Tensor

from byzbench.aggregators._ordered import Array
from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array, to_tensor

# Weights below this are rounding errors of zero and are set to zero: an input at distance 1e30 would still dominate.
ROUNDING = 1e-12

# Up to this size LAPACK starts no threads, and computing one eigenpair takes half the time of computing all of them.
UNTHREADED = 64


@dataclass(frozen=True)
class Caf(LinearRule):
    """The weighted mean of least variance in its worst direction, among the means of an iterative filter.

    The filter takes weight from the inputs that deviate most in the direction of largest variance.

    Formula: c_i = 1 at first. While sum c > n - 2f, with mu = sum c_i x_i / sum c and lambda, v the largest eigenvalue
    and its eigenvector of sum c_i (x_i - mu) (x_i - mu)' / sum c, d x d:

        tau_i = ((x_i - mu)' v)^2,    c_i <- c_i (1 - tau_i / max tau)

    over the c_i > 0; value = the mu of least lambda, of ties the first.

    Source: Allouah, Guerraoui, Stephan 2025, "Towards trustworthy federated learning with untrusted participants", ICML
    (arXiv 2505.01874), algorithm CAF. No bound on its kappa is given here, as we have none at first hand.

    Differs from the source in: eigenpairs are exact, from the n x n Gram matrix, not by power steps from a random
    start. Vectors of weight zero do not count in max tau. If f = 0 nothing is filtered and the value is the mean. Where
    the largest eigenvalue is a multiple one, v is the vector that the decomposition returns.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [100.0]])
        >>> Caf()(x, 1)[0]
        tensor([2.5085])
    """

    source: ClassVar[str] = "Allouah, Guerraoui, Stephan 2025, arXiv 2505.01874"
    cost: ClassVar[str] = "n^2 d, and n^3 up to n times"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the weights c of the mean of least lambda, divided by their sum."""
        n = pairs.mask.shape[-1]
        gram, c = to_array(pairs.gram).reshape(-1, n, n), to_array(pairs.mask).reshape(-1, n).astype(np.float64)
        total = np.add.reduce(c, -1)
        target = total - 2 * to_array(f).reshape(-1)
        best_weights, least_variance = c / total[:, None], np.full(len(c), np.inf)
        active = np.flatnonzero(total > target)
        c, total = c[active], total[active]
        # Each step sets the weight of at least one vector of each unfinished set to zero, so the loop ends.
        while len(active):
            weights = c / total[:, None]
            variance, tau = _worst_direction(gram[active], weights)
            improves = variance < least_variance[active]
            best_weights[active[improves]], least_variance[active[improves]] = weights[improves], variance[improves]
            top = np.maximum.reduce(tau, -1)
            factor = 1 - tau / np.where(top > 0, top, 1)[:, None]
            factor[factor <= ROUNDING] = 0
            c = c * factor
            total = np.add.reduce(c, -1)
            continues = (top > 0) & (total > target[active])
            active, c, total = active[continues], c[continues], total[continues]
        return to_tensor(best_weights.reshape(pairs.mask.shape), f), {}


def _worst_direction(gram: Array, weights: Array) -> tuple[Array, Array]:
    """Return the largest eigenvalue of the weighted covariance, and tau up to a factor.

    With Y the n x d matrix of the x_i - mu and W that of the weights, v = Y' W^(1/2) u / sqrt(lambda) for the unit
    eigenvector u of W^(1/2) Y Y' W^(1/2), so that Y v is proportional to Y Y' W^(1/2) u.

    Args:
        gram: [R, n, n], inner products of the inputs.
        weights: [R, n], of sum one.

    Returns:
        The eigenvalues [R], and tau [R, n], zero at inputs of weight zero.
    """
    mean_products = np.vecdot(gram, weights[:, None])
    centred = (
        gram - mean_products[:, :, None] - mean_products[:, None] + np.vecdot(mean_products, weights)[:, None, None]
    )
    roots = np.sqrt(weights)
    value, vector = _largest(roots[:, :, None] * centred * roots[:, None])
    projections = np.vecdot(centred, (roots * vector)[:, None])
    return np.maximum(value, 0), np.square(projections) * (weights > 0)


def _largest(matrices: Array) -> tuple[Array, Array]:
    """Return the largest eigenvalue [R] of symmetric matrices [R, n, n], and its eigenvector of unit length [R, n]."""
    n = matrices.shape[-1]
    if n > UNTHREADED:
        values, vectors = torch.linalg.eigh(torch.from_numpy(matrices))
        return to_array(values)[:, -1], to_array(vectors)[:, :, -1]
    values, vectors = zip(*(dsyevr(matrix, range="I", il=n, iu=n)[:2] for matrix in matrices), strict=True)
    return np.array(values)[:, 0], np.array(vectors)[:, :, 0]
