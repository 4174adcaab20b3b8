"""What an entry is worth: the worst case over attacks, with what is and is not known about it.

    s    = clip((R - random) / (reference - random), 0, 1)          of a cell, by constants of the suite
    W    = min over attacks of IQM over seeds of s                  of a stratum
    score = mean over strata of W

Nothing here depends on who else is on the board: adding a row moves no other row's score, only ranks.

The minimum is pessimistic. It picks the unlucky attack along with the strong one: with eight equal attacks on ten seeds
it lies half a standard deviation low. Choosing the attack on one half of the seeds and scoring it on the other is
unbiased then, and optimistic where one attack leads and a half misses it. So entries are ranked by the minimum, which
is the same statistic for all, and both are printed, as the ends of a bracket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from byzbench.reports.statistics import CONFIDENCE, LEAST, interval, iqm, rejected

DRAWS = 2000
"""Resamples of seeds, the same for all entries of as many seeds."""

_HALVINGS = 200


@dataclass(frozen=True)
class Bracket:
    """A number between 0 and 1, and the interval that it is known to lie in.

    Attributes:
        value: as the sample has it.
        low, high: its 95 % interval; None below three seeds.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Score:
    """What an entry is worth at a level of knowledge.

    Attributes:
        worst: the mean over strata of the worst case over attacks; what entries are ranked by.
        crossfit: the same with the attack chosen on one half of the seeds and scored on the other; None below four.
        bracket: from the low end of `worst` to its high end, or that of `crossfit` if it is higher.
        clean: without an attack. mean: over attacks. gap: clean - worst.
        attack: by stratum, the attack that was worst.
        draws: `worst` on `DRAWS` resamples of the seeds, the mean of which is `worst`; for comparisons.
        seeds: n.
    """

    worst: Bracket
    crossfit: float | None
    bracket: tuple[float, float] | None
    clean: Bracket
    mean: float
    gap: float
    attack: Mapping[str, str]
    draws: np.ndarray
    seeds: int


Table = Mapping[str, Mapping[str, np.ndarray]]
"""By stratum, by attack: normalised scores [n] by seed index; the same n everywhere."""


def score(clean: Mapping[str, np.ndarray], attacked: Table) -> Score:
    """The score of an entry.

    Seeds are resampled together: a seed is the same run to run for all attacks and strata, so that a lucky one is lucky
    everywhere. The statistic is computed anew on every resample, the minimum with it.

    Args:
        clean: by stratum, the scores without an attack, [n].
        attacked: see `Table`; the same strata.
    """
    names = list(attacked)
    worst, crossed, at, errors = 0.0, [], {}, []
    drawn = np.zeros(DRAWS)
    for name in names:
        attacks, rows = list(attacked[name]), np.stack([*attacked[name].values()])
        values = iqm(rows)
        at[name] = attacks[int(values.argmin())]
        errors.append(_errors(rows[values.argmin()]))
        worst += float(values.min()) / len(names)
        drawn += _resampled(rows).min(0) / len(names)
        crossed.append(_crossfit(rows))
    calm = np.stack([clean[name] for name in names])
    seeds = calm.shape[-1]
    found = _wider(_bracket(worst, drawn, seeds), np.sqrt(np.square(errors).sum(0)) / len(names))
    crossfit = float(np.mean(crossed)) if seeds >= 4 else None
    bracket = None
    if crossfit is not None and found.low is not None and found.high is not None:
        bracket = found.low, min(max(found.high, crossfit + (found.high - found.value)), 1.0)
    return Score(
        worst=found,
        crossfit=crossfit,
        bracket=bracket,
        clean=_bracket(float(iqm(calm).mean()), _resampled(calm).mean(0), seeds),
        mean=float(np.mean([iqm(np.stack([*attacked[name].values()])).mean() for name in names])),
        gap=float(iqm(calm).mean()) - worst,
        attack=at,
        draws=drawn - drawn.mean() + worst,
        seeds=seeds,
    )


def damage(clean: Table, attacked: Table) -> Bracket:
    """What an attack is worth: the mean, over strata and the algorithms it was tried on, of clean - attacked.

    Args:
        clean: by stratum, by algorithm, scores [n] without the attack.
        attacked: the same under it.
    """
    pairs = [(clean[s][a], attacked[s][a]) for s in clean for a in clean[s]]
    before, after = np.stack([one for one, _ in pairs]), np.stack([other for _, other in pairs])
    drawn = (_resampled(before) - _resampled(after)).mean(0)
    return _bracket(float((iqm(before) - iqm(after)).mean()), drawn, before.shape[-1], least=-1.0)


def chance(one: Table, other: Table) -> float:
    """The probability of improvement: that a run of one scores more than one of the other.

    Each is under the attack that is worst for it. The mean over strata of U / (m n), ties counted half.
    """
    found = []
    for name in one:
        a, b = (min(table[name].values(), key=lambda row: float(iqm(row))) for table in (one, other))
        found.append(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean())
    return float(np.mean(found))


def _bracket(value: float, drawn: np.ndarray, seeds: int, least: float = 0.0) -> Bracket:
    """The interval of a statistic, by its resamples about their median.

    A resample of n seeds spreads by sqrt(1 - 1/n) of what samples do, and its tails are a normal's, not Student's: both
    are put right.
    """
    if seeds < LEAST:
        return Bracket(value)
    tail = (1 - CONFIDENCE) / 2
    low, middle, high = np.quantile(drawn, [tail, 0.5, 1 - tail])
    wider = np.sqrt(seeds / (seeds - 1)) * special.stdtrit(seeds - 1, 1 - tail) / special.ndtri(1 - tail)
    ends = np.clip([value - wider * (middle - low), value + wider * (high - middle)], least, 1.0)
    return Bracket(value, float(min(ends[0], value)), float(max(ends[1], value)))


def _errors(row: np.ndarray) -> tuple[float, float]:
    """How far the interquartile mean of a row [n] may be off to either side, as `statistics.interval` has it."""
    if len(row) < LEAST:
        return 0.0, 0.0
    value, (low, high) = float(iqm(row)), interval(row)
    return value - float(low), float(high) - value


def _wider(found: Bracket, errors: np.ndarray) -> Bracket:
    """The interval, or that of exact limits if it reaches further.

    Where runs either solve a task or fail, resamples of few seeds see too little of what can happen.
    """
    if found.low is None or found.high is None:
        return found
    low, high = min(found.low, found.value - errors[0]), max(found.high, found.value + errors[1])
    return Bracket(found.value, max(float(low), 0.0), min(float(high), 1.0))


def _resampled(rows: np.ndarray) -> np.ndarray:
    """The interquartile means of rows [m, n] on every resample of the n seeds: [m, draws]."""
    return iqm(rows[:, _picks(rows.shape[-1])])


@cache
def _picks(seeds: int) -> np.ndarray:
    """Which seeds each resample takes: [draws, n]."""
    rng = np.random.default_rng(seeds)
    return rng.integers(seeds, size=(DRAWS, seeds))


@cache
def _halves(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Halvings of the seeds: [halvings, n/2] and [halvings, n - n/2]."""
    rng = np.random.default_rng(seeds)
    orders = rng.permuted(np.tile(np.arange(seeds), (_HALVINGS, 1)), axis=1)
    return orders[:, : seeds // 2], orders[:, seeds // 2 :]


def _crossfit(rows: np.ndarray) -> float:
    """The worst attack of rows [m, n] chosen on half of the seeds, scored on the rest, both ways; over all halvings."""
    one, other = (iqm(rows[:, half]) for half in _halves(rows.shape[-1]))
    scored = [np.take_along_axis(b, a.argmin(0)[None], 0) for a, b in ((one, other), (other, one))]
    return float(np.mean(scored))


def pairs_apart(scores: Sequence[Score]) -> set[tuple[int, int]]:
    """Which pairs (better, worse) of scores, best first, can be told apart; by Holm's rule over all pairs.

    Student's test of the difference, whose spread is that over resamples which take the same seeds of both: right for
    seeds that are shared, and without harm where they are not.
    """
    if len(scores) < 2:
        return set()
    values, n = np.array([s.worst.value for s in scores]), np.array([s.seeds for s in scores])
    one, other = np.triu_indices(len(scores), 1)
    covariance = np.cov(np.stack([s.draws for s in scores])) * np.where(n[:, None] == n, 1, np.eye(len(scores)))
    variance = covariance.diagonal()[one] + covariance.diagonal()[other] - 2 * covariance[one, other]
    freedom = np.minimum(n[one], n[other]) - 1
    ahead = values[one] - values[other]
    spread = np.sqrt(variance.clip(0) * (freedom + 1) / np.maximum(freedom, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(ahead > 0, 2 * special.stdtr(np.maximum(freedom, 1), -ahead / spread), 1.0)
    p[freedom + 1 < LEAST] = 1.0
    return {(int(one[i]), int(other[i])) for i in rejected(p)}
