"""What a rule did to the liars' vectors, seen by one who knows who lies. No rule and no agent ever learns any of it."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.federation.ledger import Aggregation, Agreed
from byzbench.geometry.cloud import array

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
    inbox, liars, counted = seen.inbox, byzantine.numpy(), seen.usable.numpy()
    # NumPy, as these arrays are small and a call of torch takes longer than their sums.
    base, value, senders, mask = array(inbox.base), array(seen.value), inbox.senders.numpy(), inbox.mask.numpy()
    lies = liars[inbox.authors.numpy()] & mask
    weights = None if seen.weights is None else seen.weights.numpy()
    if inbox.receivers is not None:
        counted = counted & ~liars[inbox.receivers.numpy()]
    if np.count_nonzero(counted) < len(counted):
        if not counted.any():
            return {}
        value, senders, mask, lies = value[counted], senders[counted], mask[counted], lies[counted]
        weights = None if weights is None else weights[counted]
    honest = mask > lies
    n, h = np.add.reduce(mask, 1), np.add.reduce(honest, 1)
    squares = _squares(base, senders, honest, lies, value)
    errors, spreads, constants, pulls = [], [], [], []
    for all_of, good, square, error2, gap2, along in zip(n.tolist(), h.tolist(), *squares, strict=True):
        spread2, bad = max(square, 0.0), all_of - good
        if good:
            errors.append(sqrt(error2))
            spreads.append(sqrt(spread2))
        if good > 1 and bad and spread2:
            pairs = 2 * spread2 * good / (good - 1)
            constants.append(error2 * all_of / (pairs * bad))
        if good and bad and gap2:
            pulls.append(along / gap2)
    found = {
        "error": _mean(errors),
        "spread": _mean(spreads),
        "constant": max(constants, default=None),
        "pull": _mean(pulls),
    }
    if weights is not None:
        total = np.add.reduce(weights, 1)
        lent = zip(np.vecdot(weights, lies).tolist(), total.tolist(), strict=True)
        rejected = mask & (2 * weights * n[:, None] < total[:, None])
        caught, thrown, lying = (int(np.count_nonzero(which)) for which in (rejected & lies, rejected, lies))
        found["byzantine_weight"] = _mean([part / whole for part, whole in lent if whole > 0])
        found["precision"] = _ratio(caught, thrown)
        found["recall"] = _ratio(caught, lying)
    return found


def _squares(base: Array, senders: Array, honest: Array, lies: Array, value: Array) -> list[list[float]]:
    """Spread^2, ||value - m||^2, ||b - m||^2 and <value - m, b - m> of R receivers, R of each: see `diagnose`.

    Rounding may leave the first just below zero.
    """
    # Differences of equal vectors are zero, which differences from their rounded mean are not.
    origin = base[senders.flat[honest.argmax()]].astype(np.float64)
    # As nearly always, all of them hear the same.
    alike = len(senders) == 1 or all((part == part[0]).all() for part in (senders, honest, lies))
    if alike:
        x = base.take(senders[0], 0).astype(np.float64)
        shares = [which[0] / (np.count_nonzero(which[0]) or 1) for which in (honest, lies)]
    else:
        x, seats = base.astype(np.float64), dict[bytes, int]()
        kind = [seats.setdefault(row.tobytes(), len(seats)) for row in np.where(honest | lies, senders, -1)]
        first = np.unique(kind, return_index=True)[1]
        shares = [_shares(senders[first], which[first], len(base)) for which in (honest, lies)]
    x -= origin
    m, b, square = shares[0] @ x, shares[1] @ x, shares[0] @ np.vecdot(x, x)
    spread2 = square - np.vecdot(m, m)
    if not alike:
        m, b, spread2 = m[kind], b[kind], spread2[kind]
    way, towards = value - origin, b - m
    way -= m
    found = (spread2, np.vecdot(way, way), np.vecdot(towards, towards), np.vecdot(way, towards))
    return [part.tolist() if part.ndim else [part.item()] * len(senders) for part in found]


def _shares(senders: Array, which: Array, size: int) -> Any:
    """[Q, size] matrix of Q means, each of the rows that are in senders [Q, n] and that which [Q, n] marks."""
    rows, columns = which.nonzero()
    heard, parts, shape = senders[rows, columns], 1 / which.sum(1)[rows], (len(senders), size)
    if shape[0] * shape[1] > _DENSE:
        from scipy.sparse import csr_array

        return csr_array((parts, (rows, heard)), shape=shape)
    shares = np.zeros(shape)
    shares[rows, heard] = parts
    return shares


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


def _mean(values: list[float]) -> float | None:
    return _ratio(sum(values), len(values))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
