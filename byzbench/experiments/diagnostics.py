"""Diagnostics of rules from the true set of Byzantine agents, which no rule and no agent has access to."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.core import Measure
from byzbench.federation.statistics import AggregationResult, AgreementResult
from byzbench.geometry.pairwise_distances import to_array

Array: TypeAlias = npt.NDArray[Any]

_DENSE = 1 << 16
"""The largest number of entries of a dense weight matrix; larger ones are sparse."""

_ROWS = 1000
"""The number of vectors of one part of a distance matrix."""


def diagnose(result: AggregationResult, byzantine: Tensor) -> dict[str, float | None]:
    """Measure the influence of Byzantine vectors on an aggregation.

    Only honest receivers count for whom the rule was defined. Let m be the mean of the honest vectors in a receiver's
    inbox, and b the mean of the Byzantine ones:

    - error: ||value - m||, the mean over receivers.
    - spread: the root of the mean of ||x_i - m||^2 over honest vectors, the mean over receivers.
    - robustness_constant: error^2 / (a r^2), the largest over receivers, with a the share of Byzantine vectors in the
      inbox and r^2 the mean of ||x_i - x_j||^2 over honest pairs. It is the c of a (delta, c)-robust aggregator
      (Karimireddy et al. 2022).
    - byzantine_pull: <value - m, b - m> / ||b - m||^2, the displacement of the value towards the Byzantine mean: 0
      at m, 1 at b, and f / n for the mean; the mean over receivers.
    - byzantine_weight: the share of Byzantine vectors in the weights of a linear rule, the mean over receivers.
    - precision, recall: the share of Byzantine vectors among the rejected, and the share of rejected among the
      Byzantine vectors, over all receivers together. A linear rule rejects a vector if its weight is less than half an
      equal share.

    Malformed messages are not in the inbox and do not count.

    Args:
        result: The inputs and outputs of the rule.
        byzantine: The Byzantine agents, bool [K].

    Returns:
        The diagnostics by name; None where a denominator is zero.
    """
    inbox, is_byzantine, counted = result.inbox, byzantine.numpy(), result.usable.numpy()
    # NumPy is faster than torch on arrays as small as these.
    base, value, senders, mask = to_array(inbox.base), to_array(result.value), inbox.senders.numpy(), inbox.mask.numpy()
    crafted = is_byzantine[inbox.authors.numpy()] & mask
    weights = None if result.weights is None else result.weights.numpy()
    if inbox.receivers is not None:
        counted = counted & ~is_byzantine[inbox.receivers.numpy()]
    if np.count_nonzero(counted) < len(counted):
        if not counted.any():
            return {}
        value, senders, mask, crafted = value[counted], senders[counted], mask[counted], crafted[counted]
        weights = None if weights is None else weights[counted]
    honest = mask > crafted
    n, h = np.add.reduce(mask, 1), np.add.reduce(honest, 1)
    squares = _squares(base, senders, honest, crafted, value)
    errors, spreads, constants, pulls = [], [], [], []
    for num_vectors, num_honest, square, error2, gap2, product in zip(n.tolist(), h.tolist(), *squares, strict=True):
        spread2, num_byzantine = max(square, 0.0), num_vectors - num_honest
        if num_honest:
            errors.append(sqrt(error2))
            spreads.append(sqrt(spread2))
        if num_honest > 1 and num_byzantine and spread2:
            pairs = 2 * spread2 * num_honest / (num_honest - 1)
            constants.append(error2 * num_vectors / (pairs * num_byzantine))
        if num_honest and num_byzantine and gap2:
            pulls.append(product / gap2)
    diagnostics = {
        "error": _mean(errors),
        "spread": _mean(spreads),
        "robustness_constant": max(constants, default=None),
        "byzantine_pull": _mean(pulls),
    }
    if weights is not None:
        total = np.add.reduce(weights, 1)
        weight_pairs = zip(np.vecdot(weights, crafted).tolist(), total.tolist(), strict=True)
        rejected = mask & (2 * weights * n[:, None] < total[:, None])
        true_positives, num_rejected, num_crafted = (
            int(np.count_nonzero(which)) for which in (rejected & crafted, rejected, crafted)
        )
        diagnostics["byzantine_weight"] = _mean(
            [crafted_weight / all_weight for crafted_weight, all_weight in weight_pairs if all_weight > 0]
        )
        diagnostics["precision"] = _ratio(true_positives, num_rejected)
        diagnostics["recall"] = _ratio(true_positives, num_crafted)
    return diagnostics


def _squares(base: Array, senders: Array, honest: Array, crafted: Array, value: Array) -> list[list[float]]:
    """Compute spread^2, ||value - m||^2, ||b - m||^2 and <value - m, b - m> of `diagnose` for each of R receivers.

    Rounding may make spread^2 slightly negative.

    Args:
        base: All messages, [M, d].
        senders: The rows of `base` in each inbox, [R, n].
        honest: The honest messages, bool [R, n].
        crafted: The Byzantine messages, bool [R, n].
        value: The outputs of the rule, [R, d].
    """
    # Vectors are shifted by one of them: if all are equal, their differences are exactly zero, which differences from
    # a rounded mean are not.
    origin = base[senders.flat[honest.argmax()]].astype(np.float64)
    # In most rounds all inboxes are equal, and one computation is enough.
    equal = len(senders) == 1 or all((array == array[0]).all() for array in (senders, honest, crafted))
    if equal:
        x = base.take(senders[0], 0).astype(np.float64)
        mean_weights = [which[0] / (np.count_nonzero(which[0]) or 1) for which in (honest, crafted)]
    else:
        x, numbers = base.astype(np.float64), dict[bytes, int]()
        inbox = [numbers.setdefault(row.tobytes(), len(numbers)) for row in np.where(honest | crafted, senders, -1)]
        first = np.unique(inbox, return_index=True)[1]
        mean_weights = [_mean_weights(senders[first], which[first], len(base)) for which in (honest, crafted)]
    x -= origin
    m, b, square = mean_weights[0] @ x, mean_weights[1] @ x, mean_weights[0] @ np.vecdot(x, x)
    spread2 = square - np.vecdot(m, m)
    if not equal:
        m, b, spread2 = m[inbox], b[inbox], spread2[inbox]
    error, gap = value - origin, b - m
    error -= m
    results = (spread2, np.vecdot(error, error), np.vecdot(gap, gap), np.vecdot(error, gap))
    return [array.tolist() if array.ndim else [array.item()] * len(senders) for array in results]


def _mean_weights(senders: Array, which: Array, size: int) -> Any:
    """Return the matrix [Q, size] of Q means, each over the rows in senders [Q, n] that `which` [Q, n] selects."""
    rows, columns = which.nonzero()
    selected, weights, shape = senders[rows, columns], 1 / which.sum(1)[rows], (len(senders), size)
    if shape[0] * shape[1] > _DENSE:
        from scipy.sparse import csr_array

        return csr_array((weights, (rows, selected)), shape=shape)
    matrix = np.zeros(shape)
    matrix[rows, selected] = weights
    return matrix


def contraction(done: AgreementResult, byzantine: Tensor, measure: Measure) -> float | None:
    """Return the factor by which an exchange changed the honest agents' spread, the geometric mean over exchanges.

    Args:
        done: The parameters before and after the agreement, with its report.
        byzantine: The Byzantine agents, bool [K].
        measure: The measure of the spread in the agreement's bound: `diameter` or `box`, see `Agreement`.

    Returns:
        The factor; None without an exchange, or where the spread was zero before.
    """
    honest = ~byzantine
    exchanges = int(done.report.exchanges[honest].max())
    before, after = (_width(theta[honest.to(theta.device)], measure) for theta in (done.before, done.after))
    return (after / before) ** (1 / exchanges) if exchanges and before > 0 else None


def _width(theta: Tensor, measure: Measure) -> float:
    if measure == "box":
        return float((theta.amax(0) - theta.amin(0)).max())
    return diameter(theta)


def diameter(x: Tensor) -> float:
    """Return the largest Euclidean distance between rows of x [n, d].

    It is exactly zero for equal rows, and NaN if a number is not finite.

    Example:
        >>> diameter(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
        5.0
    """
    if not x.isfinite().all():
        return torch.nan
    shifted = x.double() - x[:1].double()
    shifted -= shifted.mean(0)
    # The longest first, as a distance is at most the sum of the two lengths.
    lengths, order = torch.linalg.vector_norm(shifted, dim=1).sort(descending=True)
    scale = float(lengths[0])
    if scale == 0:
        return 0.0
    lengths, parts = (lengths / scale).split(_ROWS), shifted[order].div_(scale).split(_ROWS)
    largest, rounding = 0.0, (2 * x.shape[1] + 32) * 2.0**-24
    for i, rows in enumerate(parts):
        for j in range(i, len(parts)):
            if float(lengths[i][0] + lengths[j][0]) ** 2 <= largest:
                break
            # In float32 products take half the time. They decide which few parts are computed in float64.
            if len(parts) > 1 and _largest_square(rows.float(), parts[j].float()) + rounding < largest:
                continue
            largest = max(largest, _largest_square(rows, parts[j]))
    return sqrt(largest) * scale


def _largest_square(a: Tensor, b: Tensor) -> float:
    """Return the largest squared distance between a row of a [n, d] and a row of b [m, d]."""
    squares = (a @ b.T).mul_(-2)
    squares += a.square().sum(1, keepdim=True)
    squares += b.square().sum(1)
    return float(squares.max())


def _mean(values: list[float]) -> float | None:
    return _ratio(sum(values), len(values))


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
