"""The covariance-bound-agnostic filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.aggregators._ordered import Array
from byzbench.contracts import LinearRule, State
from byzbench.geometry.cloud import Cloud, array, tensor

# What rounding leaves of a weight that should be gone. At a distance of 1e30 that would still be the loudest.
ROUNDING = 1e-12


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
        gram, c = array(cloud.gram), array(cloud.mask).astype(np.float64)
        total = np.add.reduce(c, -1, keepdims=True)
        target = total - 2 * array(f)[..., None]
        best, least, running = c / total, np.full(target.shape, np.inf), total > target
        # Every step takes all its weight from some vector.
        for _ in range(c.shape[-1]):
            if not running.any():
                break
            weights = c / np.add.reduce(c, -1, keepdims=True)
            spread, tau = _worst_direction(gram, weights)
            better = running & (spread < least)
            best, least = np.where(better, weights, best), np.where(better, spread, least)
            top = np.maximum.reduce(tau, -1, keepdims=True)
            running = running & (top > 0)
            left = 1 - tau / np.where(running, top, 1)
            fewer = c * np.where(left > ROUNDING, left, 0)
            # Who is done keeps weights, which nobody reads: some can have lost all of them at once.
            running = running & (np.add.reduce(fewer, -1, keepdims=True) > target)
            c = np.where(running, fewer, c)
        return tensor(best, f), {}


def _worst_direction(gram: Array, weights: Array) -> tuple[Array, Array]:
    """The largest eigenvalue [..., 1] of the weighted covariance, and tau [..., n] but for a factor; 0 where no weight.

    With Y the n x d matrix of the x_i - mu and W that of the weights, v = Y' W^(1/2) u / sqrt(lambda) for the unit
    eigenvector u of W^(1/2) Y Y' W^(1/2), so that Y v is proportional to Y Y' W^(1/2) u.
    """
    towards = np.vecdot(gram, weights[..., None, :])
    length = np.vecdot(towards, weights)[..., None, None]
    centred = gram - towards[..., None] - towards[..., None, :] + length
    roots = np.sqrt(weights)
    values, vectors = torch.linalg.eigh(torch.from_numpy(roots[..., None] * centred * roots[..., None, :]))
    reach = np.vecdot(centred, (roots * array(vectors)[..., -1])[..., None, :])
    return np.maximum(array(values)[..., -1:], 0), np.square(reach) * (weights > 0)
