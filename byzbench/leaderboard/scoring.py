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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

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
        bracket: what the truth lies in, both estimates taken in, and failures that no seed has shown; None below four.
        clean: without an attack. mean: over attacks. gap: clean - worst.
        attack: by stratum, the attack that was worst.
        least: by stratum, its interquartile mean, [S]. left: the scores under it, [S, n].
        draws: `worst` on `DRAWS` resamples of the seeds. spread: its standard deviations below and above, [2]; both
            are for comparisons.
        seeds: n.
    """

    worst: Bracket
    crossfit: float | None
    bracket: tuple[float, float] | None
    clean: Bracket
    mean: float
    gap: float
    attack: Mapping[str, str]
    least: np.ndarray
    left: np.ndarray
    draws: np.ndarray
    spread: np.ndarray
    seeds: int


Table = Mapping[str, Mapping[str, np.ndarray]]
"""By stratum, by attack: normalised scores [n] by seed index; the same attacks and the same n everywhere."""


@dataclass(frozen=True)
class Runs:
    """What the runs of an entry scored, and what of it serves every level of knowledge, computed once.

    Seeds are resampled together: a seed is the same run to run for all attacks and strata, so that a lucky one is lucky
    everywhere.

    Attributes:
        strata, attacks: their names, S and A of them.
        clean: scores without an attack, [S, n]. attacked: under each, [S, A, n].
    """

    strata: tuple[str, ...]
    attacks: tuple[str, ...]
    clean: np.ndarray
    attacked: np.ndarray

    @classmethod
    def of(cls, clean: Mapping[str, np.ndarray], attacked: Table) -> Runs:
        """From scores by stratum and by attack."""
        rows = np.stack([np.stack([*by.values()]) for by in attacked.values()])
        return cls(tuple(attacked), tuple(next(iter(attacked.values()))), np.stack([clean[s] for s in attacked]), rows)

    @property
    def seeds(self) -> int:
        """How many there are, n."""
        return self.clean.shape[-1]

    @cached_property
    def values(self) -> np.ndarray:
        """Interquartile means, [S, A]."""
        return iqm(self.attacked)

    @cached_property
    def drawn(self) -> np.ndarray:
        """The same on every resample of the seeds, [S, A, draws]."""
        return _resampled(self.attacked)

    @cached_property
    def errors(self) -> np.ndarray:
        """How far they may be off, below and above, as `statistics.interval` has it; [2, S, A]."""
        return self._errors(None)

    @cached_property
    def unseen(self) -> np.ndarray:
        """The same where seeds may score anything from 0 to 1 that none has shown, [2, S, A]."""
        return self._errors((0.0, 1.0))

    def _errors(self, bounds: tuple[float, float] | None) -> np.ndarray:
        if self.seeds < LEAST:
            return np.zeros((2, *self.values.shape))
        low, high = interval(self.attacked, bounds=bounds)
        return np.stack([self.values - low, high - self.values])

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Interquartile means on either half of the seeds, by halving, each [S, A, halvings]."""
        one, other = _halves(self.seeds)
        return _of_multisets(self.attacked, one), _of_multisets(self.attacked, other)

    @cached_property
    def unattacked(self) -> Bracket:
        """The score without an attack."""
        return _bracket(float(iqm(self.clean).mean()), _resampled(self.clean).mean(0), self.seeds)


def score(runs: Runs, among: Collection[str] | None = None) -> Score:
    """The score of an entry against some of the attacks that it was run under; against all, if they are not named.

    The statistic is computed anew on every resample of the seeds, the minimum with it.
    """
    names = runs.attacks if among is None else tuple(among)
    at, strata, seeds = [runs.attacks.index(name) for name in names], np.arange(len(runs.strata)), runs.seeds
    values = runs.values[:, at]
    chosen = values.argmin(-1)
    rows = strata, np.array(at)[chosen]
    worst, drawn = float(values.min(-1).mean()), runs.drawn[:, at].min(1).mean(0)
    exact, unseen = (np.sqrt(np.square(e[:, *rows]).sum(-1)) / len(strata) for e in (runs.errors, runs.unseen))
    found = _wider(_bracket(worst, drawn, seeds), exact)
    crossfit = bracket = None
    if seeds >= 4 and found.low is not None and found.high is not None:
        crossfit = _crossfit(*(half[:, at] for half in runs.halves))
        low, high = min(found.low, worst - unseen[0]), max(found.high, worst + unseen[1]) + max(crossfit - worst, 0.0)
        bracket = float(max(low, 0.0)), float(min(high, 1.0))
    return Score(
        worst=found,
        crossfit=crossfit,
        bracket=bracket,
        clean=runs.unattacked,
        mean=float(values.mean()),
        gap=runs.unattacked.value - worst,
        attack={stratum: names[k] for stratum, k in zip(runs.strata, chosen, strict=True)},
        least=values.min(-1),
        left=runs.attacked[rows],
        draws=drawn,
        spread=_spread(drawn, runs.drawn[rows].mean(0), exact, seeds),
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


def chance(one: Score, other: Score) -> float:
    """The probability of improvement: that a run of one scores more than one of the other.

    Each is under the attack that is worst for it. The mean over strata of U / (m n), ties counted half.
    """
    a, b = one.left[:, :, None], other.left[:, None]
    return float(((a > b) + 0.5 * (a == b)).mean())


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


def _wider(found: Bracket, errors: np.ndarray) -> Bracket:
    """The interval, or that of exact limits if it reaches further.

    Where runs either solve a task or fail, resamples of few seeds see too little of what can happen.
    """
    if found.low is None or found.high is None:
        return found
    low, high = min(found.low, found.value - errors[0]), max(found.high, found.value + errors[1])
    return Bracket(found.value, max(float(low), 0.0), min(float(high), 1.0))


def _spread(drawn: np.ndarray, alone: np.ndarray, errors: np.ndarray, seeds: int) -> np.ndarray:
    """The standard deviations of a score below and above, [2].

    That of its resamples, times what resamples of the attacks that were worst, `alone`, lack of the exact limits of
    these: nothing where returns are normal, much where runs either solve a task or fail. The exact limits themselves
    are too wide for a minimum, which spreads less than one attack does.
    """
    if seeds < LEAST or not alone.std():
        return np.full(2, drawn.std())
    tail = special.stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)
    resampled, lacks = (np.sqrt(seeds / (seeds - 1)) * x.std(ddof=1) for x in (drawn, alone))
    return resampled * np.maximum(errors / tail / lacks, 1.0)


def _resampled(rows: np.ndarray) -> np.ndarray:
    """The interquartile means of rows [..., n] on every resample of the n seeds: [..., draws]."""
    return _of_multisets(rows, _picks(rows.shape[-1]))


def _of_multisets(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The interquartile means of rows [..., n] where seed i is there counts[i, r] times: [..., r].

    That is x_1 + Σ_i (x_{i+1} - x_i) (1 - g(C_i / c)), C_i the count of the i lowest of c, g as in `statistics.iqm`:
    each row is sorted once, and not again in every multiset.
    """
    order = np.argsort(rows, axis=-1)
    x, size = np.take_along_axis(rows, order, -1), int(counts[:, 0].sum())
    below = counts[order[..., :-1]]
    for i in range(1, below.shape[-2]):  # several times as fast as numpy's cumulative sum along this axis
        below[..., i, :] += below[..., i - 1, :]
    weights = 1.5 - 2 * np.clip(np.arange(size + 1) / size, 0.25, 0.75)
    return x[..., :1] + (np.diff(x)[..., None, :] @ weights[below])[..., 0, :]


@cache
def _picks(seeds: int) -> np.ndarray:
    """How often each resample takes each seed: [n, draws]."""
    rng = np.random.default_rng(seeds)
    picked = rng.integers(seeds, size=(DRAWS, seeds))
    return np.stack([(picked == seed).sum(1) for seed in range(seeds)]).astype(np.int16)


@cache
def _halves(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Which seeds the two parts of a halving have, as counts: each [n, halvings]."""
    rng = np.random.default_rng(seeds)
    places = np.argsort(rng.permuted(np.tile(np.arange(seeds), (_HALVINGS, 1)), axis=1), axis=1).T
    return (places < seeds // 2).astype(np.int16), (places >= seeds // 2).astype(np.int16)


def _crossfit(one: np.ndarray, other: np.ndarray) -> float:
    """The worst attack of means [S, A, halvings] on half of the seeds, scored on the rest, both ways; over all."""
    scored = [np.take_along_axis(b, a.argmin(1)[:, None], 1) for a, b in ((one, other), (other, one))]
    return float(np.mean(scored))


def pairs_apart(scores: Sequence[Score]) -> set[tuple[int, int]]:
    """Return which pairs (better, worse) of scores can be told apart; by Holm's rule over all pairs.

    The test is one of the paired difference: seeds are the same for all entries, so resamples of two take the same
    ones, and what seeds have in common cancels. Of the better one counts how much too high it may be, of the worse one
    how much too low.

    Args:
        scores: best first, all on as many seeds.
    """
    if len(scores) < 2 or scores[0].seeds < LEAST:
        return set()
    values, freedom = np.array([s.worst.value for s in scores]), scores[0].seeds - 1
    below, above = np.stack([s.spread for s in scores], axis=1)
    better, worse = np.triu_indices(len(scores), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        together = np.nan_to_num(np.corrcoef([s.draws for s in scores]))[better, worse]
        variance = below[better] ** 2 + above[worse] ** 2 - 2 * together * below[better] * above[worse]
        ahead = values[better] - values[worse]
        p = np.where(ahead > 0, 2 * special.stdtr(freedom, -ahead / np.sqrt(variance.clip(0))), 1.0)
    return {(int(better[i]), int(worse[i])) for i in rejected(p)}
