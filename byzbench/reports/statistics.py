"""Statistics of few seeds: a headline number with an honest interval, and comparisons that admit ties.

A return is the final return of one run; n counts seeds. Nothing here changes its input. Input that is not finite, or
of a shape that does not fit, is a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

CONFIDENCE = 0.95
"""What every interval is made for; an estimate of six seeds or fewer says what it has instead."""

LEAST, ENOUGH, FEW = 3, 7, 10
"""Seeds below which there is no interval, below which it is the range, and below which a row is flagged."""

_Z = float(special.ndtri((1 + CONFIDENCE) / 2))
_HALVINGS = 1000


@dataclass(frozen=True)
class Estimate:
    """A statistic and its interval, both ends None if there is none; `level` is the interval's confidence."""

    value: float
    low: float | None
    high: float | None
    n: int
    level: float | None = CONFIDENCE

    @property
    def flag(self) -> str:
        """What a reader must know about n."""
        return "few seeds" if self.n < FEW else ""


@dataclass(frozen=True)
class Worst:
    """The worst attack, and a bracket of the score under it: a pessimistic and an optimistic end."""

    name: str
    naive: Estimate
    crossfit: float | None  # None if an attack has fewer than three seeds


def iqm(values: ArrayLike) -> np.ndarray:
    """The interquartile mean of values [..., n]: 2 ∫ Q(p) dp from 1/4 to 3/4, Q the empirical quantile function; [...].

    A value across the edge of the middle half counts by the part of it that lies inside: five values have the weights
    (0, 0.3, 0.4, 0.3, 0). rliable uses scipy's `trim_mean`, which drops floor(n / 4) values at each end and weighs the
    rest equally: the mean of all of three values, of the middle three of five. Where 4 divides n they agree.
    """
    x = np.sort(_numbers(values))
    inner = _middle(np.arange(x.shape[-1] + 1) / x.shape[-1])
    return x[..., 0] + (x - x[..., :1]) @ np.diff(inner)  # from the first value on, so that equal ones have it for mean


def interval(values: ArrayLike, *, bounds: tuple[float, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the interquartile mean of values [..., n], n >= 3: low [...], high [...].

    From seven seeds on: the interquartile mean is x_n - Σ_i (x_{i+1} - x_i) g(F_i), where F_i is the share of all runs
    below the gap between two neighbours, i/n in the sample, and g rises from 0 at 1/4 to 1 at 3/4. F_i has exact limits
    (Clopper and Pearson 1934), hence each term an error e_i to either side. They are put together as the square root
    of Σ_ij ρ_ij e_i e_j (Zou and Donner 2008), with ρ_ij the correlation of the empirical distribution function at both
    gaps. If one gap holds all the spread, as between runs that solve the task and runs that fail, this is the exact
    interval of a share; if there are many small ones, it is that of the normal limit. Nothing is drawn.

    With 3 to 6 seeds: the smallest and the largest return. The median of all possible runs lies between them with
    probability 1 - 2^(1-n), from 75 % by 87.5 and 93.75 to 96.9 %, and so, nearly, does their interquartile mean.

    What holds, as measured in docs/coverage.md: 92 to 98 % at 5, 10 and 20 seeds on returns that are normal, skewed,
    or bimodal with even chances; in the limit 95 %. **What cannot hold**: runs that fail with a probability q somewhat
    above 1/4. Failures move the interquartile mean, yet n seeds show none with probability (1 - q)^n, 17 % at n=5 and
    q=0.3; the interval then lies among solved runs and misses. No short interval from the returns alone mends this.

    `bounds`, the least and the largest possible return, let failures count that no seed has shown: each end then has
    one gap more, and the first rule serves from three seeds on. Wide with few seeds.
    """
    x = np.sort(_numbers(values, LEAST))
    if bounds is None and x.shape[-1] < ENOUGH:
        return x[..., 0], x[..., -1]
    padded = np.concatenate([x[..., :1], x, x[..., -1:]], -1)
    if bounds is not None:
        padded[..., 0], padded[..., -1] = bounds
        if not np.isfinite(padded).all() or (np.diff(padded) < 0).any():
            raise ValueError(f"values must lie within the bounds, and these be finite; got {bounds}")
    value, gaps, errors = iqm(x), np.diff(padded), _errors(x.shape[-1])
    return value - _together(gaps * errors), value + _together(gaps * errors[::-1])


def estimate(values: ArrayLike, *, bounds: tuple[float, float] | None = None) -> Estimate:
    """The interquartile mean of returns [n], one per seed, and its `interval`; below three seeds there is none."""
    return estimates(_row(values)[None], bounds=bounds)[0]


def estimates(values: ArrayLike, *, bounds: tuple[float, float] | None = None) -> list[Estimate]:
    """The same of every row of returns [m, n]."""
    x = _numbers(values)
    n, middle = x.shape[-1], iqm(x).tolist()
    if n < LEAST:
        return [Estimate(value, None, None, n, None) for value in middle]
    level = CONFIDENCE if bounds is not None or n >= ENOUGH else 1 - 2.0 ** (1 - n)
    ends = zip(middle, *(side.tolist() for side in interval(x, bounds=bounds)), strict=True)
    return [Estimate(value, min(low, value), max(high, value), n, level) for value, low, high in ends]


def worst_case(cells: Mapping[str, ArrayLike]) -> Worst:
    """The attack that leaves least of its returns [n], of equal ones the first, and a bracket of what it leaves.

    `naive` is the smallest interquartile mean, with that attack's interval as if there had been no choice. It is
    pessimistic: a minimum picks unlucky seeds along with strong attacks, and more so among many. `crossfit` chooses the
    attack on half of the seeds and scores it on the rest, both ways, averaged over 1000 halvings from a fixed seed;
    attacks with the same n are paired, their seeds halved alike. Equally strong attacks leave it unbiased; where one is
    stronger and a half misses it, it is optimistic. In one sample the bracket can be the wrong way round.
    """
    rows = {name: _row(returns) for name, returns in cells.items()}
    if not rows:
        raise ValueError("there must be at least one attack")
    worst = min(rows, key=lambda name: float(iqm(rows[name])))
    fewest = min(map(len, rows.values()))
    return Worst(worst, estimate(rows[worst]), _crossfit(list(rows.values())) if fewest >= LEAST else None)


def improvement(x: ArrayLike, y: ArrayLike) -> Estimate:
    """The probability that a run of x [m] returns more than one of y [n], ties counted half: U / (m n), Mann-Whitney.

    The interval is Newcombe's (Statistics in Medicine 25, 2006, method 5): every t with (value - t)² <= z² V(t), where
    V(t) is the variance of Hanley and McNeil at t, averaged over both directions. It lies within [0, 1], has a width
    even if x and y do not overlap, and ignores pairs of seeds. It covers 94 to 98 % from four runs each on, near 90 %
    with three or if spreads differ much. n of the estimate is the smaller count; below three there is no interval.
    """
    a, b = _row(x), _row(y)
    fewest = min(len(a), len(b))
    value = float(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean())
    if fewest < LEAST:
        return Estimate(value, None, None, fewest, None)
    return Estimate(value, _newcombe(value, len(a), len(b)), 1 - _newcombe(1 - value, len(a), len(b)), fewest)


def ties(groups: Mapping[str, Mapping[Hashable, float] | ArrayLike]) -> dict[str, int]:
    """Ranks of rows, best first; rows that cannot be told apart share one.

    Rows are sorted by interquartile mean, equal ones by name. The first leads rank 1. Each next one is held against
    the leader of the rank above and joins it, unless the leader's mean is larger and the interval of the difference of
    means excludes 0; then it leads a rank whose number is its place: 1, 1, 3. A row of fewer than three seeds is told
    apart from nothing. A row is given as a mapping seed -> return, or as returns [n] without seeds.

    The interval is Student's, of differences by seed if both rows are mappings seed -> return with the same seeds, else
    Welch's. Its level is Holm's over all k (k - 1) / 2 pairs, so that equal rows split one time in twenty or less.
    Over k - 1 neighbours alone it would be too generous, because sorting has picked who meets whom.
    """
    rows = {name: _seeds(returns) for name, returns in groups.items()}
    order = sorted(rows, key=lambda name: (-float(iqm(list(rows[name].values()))), name))
    pairs = list(combinations(range(len(order)), 2))
    p = np.array([_p_value(rows[order[one]], rows[order[other]]) for one, other in pairs])
    apart = {pairs[i] for i in rejected(p)}
    return dict(zip(order, shared_ranks(len(order), apart), strict=True))


def rejected(p: ArrayLike) -> np.ndarray:
    """Which of some hypotheses fall, by their p-values [m] and Holm's rule: indices; any true one falls once in 20."""
    values = np.asarray(p, float)
    rising = np.argsort(values, kind="stable")
    kept = np.append(values[rising] * np.arange(len(values), 0, -1) >= 1 - CONFIDENCE, True)
    return rising[: kept.argmax()]


def shared_ranks(rows: int, apart: Collection[tuple[int, int]]) -> list[int]:
    """Ranks of rows that stand best first, where only some pairs (better, worse) can be told `apart`.

    The first leads rank 1. Each next one joins the rank above, unless it can be told apart from that one's leader; then
    it leads a rank whose number is its place: 1, 1, 3.
    """
    ranks, leader = [], 0
    for place in range(rows):
        leader = place if (leader, place) in apart else leader
        ranks.append(leader + 1)
    return ranks


def profile(scores: ArrayLike, taus: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of scores [runs] above each of taus [t], and Wilson's 95 % interval there: share, low, high, each [t].

    Source: the performance profile of Agarwal et al. (2021), whose band is a bootstrap.
    """
    x, at = _row(scores), _row(taus)
    share, spread = (x > at[:, None]).mean(-1), _Z**2 / len(x)
    middle, half = share + spread / 2, np.sqrt(spread * share * (1 - share) + spread**2 / 4)
    # Clipped to the share, which rounding could leave outside where all runs are on one side.
    return share, ((middle - half) / (1 + spread)).clip(0, share), ((middle + half) / (1 + spread)).clip(share, 1)


def _numbers(values: ArrayLike, least: int = 1) -> np.ndarray:
    x = np.asarray(values, float)
    if x.ndim == 0 or x.shape[-1] < least or not np.isfinite(x).all():
        raise ValueError(f"there must be {least} values or more, all finite; got shape {list(x.shape)}")
    return x


def _row(values: ArrayLike) -> np.ndarray:
    if (x := _numbers(values)).ndim != 1:
        raise ValueError(f"values must be one row, got shape {list(x.shape)}")
    return x


def _seeds(returns: Mapping[Hashable, float] | ArrayLike) -> dict[Hashable, float]:
    if isinstance(returns, Mapping):
        return dict(zip(returns, _row(list(returns.values())).tolist(), strict=True))
    return {object(): value for value in _row(returns).tolist()}  # seeds that no other row has: never paired


def _middle(share: np.ndarray) -> np.ndarray:
    """How much of the middle half of a distribution lies below this share of it, from 0 at 1/4 to 1 at 3/4."""
    return 2 * np.clip(share, 0.25, 0.75) - 0.5


@lru_cache(maxsize=64)
def _errors(n: int) -> np.ndarray:
    """By how much `_middle` of a share may exceed that of i/n, where i of n returns lie below: [n+1] for i from 0."""
    i = np.arange(n)
    upper = special.betaincinv(i + 1, n - i, (1 + CONFIDENCE) / 2)
    return np.append(_middle(upper) - _middle(i / n), 0.0)


def _together(errors: np.ndarray) -> np.ndarray:
    """The root of Σ_ij ρ_ij e_i e_j of e [..., n+1], where ρ_ij = odds_i / odds_j for i < j."""
    i, tiny = np.arange(errors.shape[-1]), 1e-18  # keeps the odds of 0 and n positive; there errors are uncorrelated
    odds = np.sqrt((i + tiny) / (i[::-1] + tiny))
    return np.sqrt((errors * (2 * np.cumsum(errors * odds, -1) / odds - errors)).sum(-1))


def _crossfit(rows: Sequence[np.ndarray]) -> float:
    rng, lengths = np.random.default_rng(_HALVINGS), sorted({len(x) for x in rows})
    orders = {n: rng.permuted(np.tile(np.arange(n), (_HALVINGS, 1)), axis=1) for n in lengths}
    split = [np.split(x[orders[len(x)]], [len(x) // 2], axis=1) for x in rows]
    one, other = (np.stack([iqm(halves[side]) for halves in split]) for side in (0, 1))
    scored = [np.take_along_axis(b, a.argmin(0)[None], 0) for a, b in ((one, other), (other, one))]
    return float(np.mean(scored))


def _newcombe(value: float, m: int, n: int) -> float:
    """The lower end, by bisection between 0, where the variance vanishes, and the value."""
    low, high = 0.0, value
    for _ in range(60):
        t = (low + high) / 2
        more = ((m + n) / 2 - 1) * ((1 - t) / (2 - t) + t / (1 + t))
        outside = (value - t) ** 2 * m * n > _Z**2 * t * (1 - t) * (1 + more)
        low, high = (t, high) if outside else (low, t)
    return low


def _p_value(leader: Mapping[Hashable, float], row: Mapping[Hashable, float]) -> float:
    """Of Student's test of equal means, two-sided; 1 if the leader's mean is not the larger, or seeds are too few."""
    a, b = np.array([*leader.values()]), np.array([*row.values()])
    if min(len(a), len(b)) < LEAST or (ahead := a.mean() - b.mean()) <= 0:
        return 1.0
    samples = [np.array([leader[s] - row[s] for s in leader])] if leader.keys() == row.keys() else [a, b]
    parts = [x.var(ddof=1) / len(x) for x in samples]
    if sum(parts) == 0:
        return 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, samples, strict=True))
    return float(2 * special.stdtr(freedom, -ahead / math.sqrt(sum(parts))))
