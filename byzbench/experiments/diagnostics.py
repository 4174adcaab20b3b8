"""What a rule did to the liars' vectors, seen by one who knows who lies. No rule and no agent ever learns any of it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.federation.ledger import Aggregation, Agreed

Array: TypeAlias = npt.NDArray[Any]

_DENSE = 1 << 16
"""Entries of a matrix of shares beyond which its zeros are left out."""


def diagnose(seen: Aggregation, byzantine: Tensor) -> dict[str, float | None]:
    """What an aggregation made of the liars' vectors, over all honest receivers for whom the rule was defined.

    With m the mean of the honest vectors in a receiver's inbox and b of the liars':

    - error: ||value - m||, the mean over receivers;
    - spread: the root of the mean of ||x_i - m||^2 over honest vectors, the mean over receivers;
    - constant: error^2 / (a r^2), a the share of liars in the inbox, r^2 the mean of ||x_i - x_j||^2 over honest pairs;
      the largest over receivers. It is the c of a (delta, c)-robust aggregator (Karimireddy et al. 2022);
    - pull: <value - m, b - m> / ||b - m||^2, the way that the value went towards the liars: 0 at m, 1 at b, and f / n
      for the mean; the mean over receivers;
    - byzantine_weight: the liars' share of a linear rule's weights, the mean over receivers;
    - precision, recall: of the rejected, how many lie, and of the liars, how many are rejected, all receivers together.
      Rejected is who has less than half the weight of an equal share, by a linear rule.

    None where there is nothing to divide by. What was screened out is not in the inbox, and counts for nothing here.

    Args:
        seen: what the rule heard and returned.
        byzantine: bool [K].
    """
    inbox, liars = seen.inbox, byzantine.numpy()
    # NumPy, as these arrays are small and a call of torch takes longer than their sums.
    counted = seen.usable.numpy()
    if inbox.receivers is not None:
        counted = counted & ~liars[inbox.receivers.numpy()]
    rows = counted.nonzero()[0]
    if not len(rows):
        return {}
    senders, mask = inbox.senders.numpy()[rows], inbox.mask.numpy()[rows]
    base, value = inbox.base.cpu().numpy(), seen.value.cpu().numpy()[rows].astype(np.float64)
    lies = np.append(liars, np.ones(len(base) - len(liars), dtype=bool))[senders] & mask
    honest = mask & ~lies
    h, n, faced = honest.sum(1), mask.sum(1), lies.any(1)
    # Differences of equal vectors are zero, which differences from their rounded mean are not.
    origin = base[senders[honest][0]] if honest.any() else base[0]
    x = base.astype(np.float64) - origin
    seats: dict[bytes, int] = {}
    kind = [seats.setdefault(row.tobytes(), len(seats)) for row in np.where(mask, senders, -1)]
    first = np.unique(kind, return_index=True)[1]
    m, square = (_means(part, senders[first], honest[first])[kind] for part in (x, np.square(x).sum(1)))
    b = _means(x, senders[first], lies[first])[kind]
    spread2 = np.maximum(square - np.square(m).sum(1), 0)
    way, towards = value - origin - m, b - m
    error2, gap2 = np.square(way).sum(1), np.square(towards).sum(1)
    pairs = 2 * spread2 * h / np.maximum(h - 1, 1)
    harmed = faced & (h > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: dict[str, float | None] = {
            "error": _mean(np.sqrt(error2)[h > 0]),
            "spread": _mean(np.sqrt(spread2)[h > 0]),
            "constant": _most((error2 * n / (pairs * lies.sum(1)))[harmed & (pairs > 0)]),
            "pull": _mean(((way * towards).sum(1) / gap2)[harmed & (gap2 > 0)]),
        }
        if seen.weights is not None:
            weights = seen.weights.numpy()[rows]
            total = weights.sum(1)
            rejected = mask & (2 * weights * n[:, None] < total[:, None])
            caught = int((rejected & lies).sum())
            found["byzantine_weight"] = _mean(((weights * lies).sum(1) / total)[total > 0])
            found["precision"] = caught / int(rejected.sum()) if rejected.any() else None
            found["recall"] = caught / int(lies.sum()) if faced.any() else None
    return found


def _means(of: Array, senders: Array, which: Array) -> Array:
    """For Q receivers the mean of those rows of [M, ...] that they hear [Q, n] and `which` [Q, n] marks; 0 of none."""
    rows, columns = which.nonzero()
    heard, parts, shape = senders[rows, columns], 1 / which.sum(1)[rows], (len(senders), len(of))
    if shape[0] * shape[1] > _DENSE:
        from scipy.sparse import csr_array

        return np.asarray(csr_array((parts, (rows, heard)), shape=shape) @ of)
    shares = np.zeros(shape)
    shares[rows, heard] = parts
    return np.asarray(shares @ of)


def contraction(done: Agreed, byzantine: Tensor, measure: str) -> float | None:
    """To what share of itself an exchange brought the honest agents' spread: the geometric mean over the exchanges.

    Args:
        done: what the agreement did.
        byzantine: bool [K].
        measure: what the agreement's bound is about: `diameter` or `box`, see `Agreement`.
    """
    honest = ~byzantine
    exchanges = int(done.report.exchanges[honest].max())
    before, after = (_width(theta[honest.to(theta.device)], measure) for theta in (done.before, done.after))
    return (after / before) ** (1 / exchanges) if exchanges and before > 0 else None


def _width(theta: Tensor, measure: str) -> float:
    if measure == "box":
        return float((theta.amax(0) - theta.amin(0)).max())
    return diameter(theta)


def diameter(x: Tensor) -> float:
    """The largest Euclidean distance between rows of x [n, d], exactly zero where they are equal; NaN if not finite."""
    if not x.isfinite().all():
        return torch.nan
    shifted = x.double() - x[:1].double()
    squares = shifted.square().sum(1)
    if not squares.any():
        return 0.0
    between = squares.unsqueeze(0) + squares.unsqueeze(1) - 2 * shifted @ shifted.T
    return float(between.clamp(min=0).max().sqrt())


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _most(values: Array) -> float | None:
    return float(values.max()) if len(values) else None
