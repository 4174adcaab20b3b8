"""The panel of a pilot: scores of its methods, which are separated, the power of a paired test, seconds of runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from byzbench.leaderboard.pilot import Pilot, StageRuns
from byzbench.leaderboard.schema import Division
from byzbench.leaderboard.suites import Stratum
from byzbench.reports.estimators import Interval, bounded_interval
from byzbench.reports.ordering import describe_separation, pair_test, rank_ranges, separated
from byzbench.reports.paired_tests import CONFIDENCE, SD_FLOOR
from byzbench.reports.scoring import EntryRuns, Retention, StratumRuns, score_entry
from byzbench.reports.statistics import correlation

POWER = 0.8
"""Power that the recommended number of seeds has."""

POWER_SEEDS = range(6, 21)
"""Numbers of seeds at which power is stated."""

_MAX_SEEDS = 200

Entries = Mapping[str, Mapping[str, StratumRuns]]
"""By stratum and by method of the panel: raw AUC, and the constants that score it."""


@dataclass(frozen=True)
class MethodScore:
    """Scores of a method of the panel in one stratum.

    Attributes:
        stratum, method: Names.
        clean: Mean score without an attack.
        worst: Lowest mean score over attacks of the worst case; None of a method that is not attacked.
        worst_attack: The attack with that mean.
        retention: By attack, those with the role `sanity` included.
    """

    stratum: str
    method: str
    clean: Interval
    worst: Interval | None
    worst_attack: str | None
    retention: Mapping[str, Retention]


@dataclass(frozen=True)
class Separation:
    """The order of the attacked methods of a division over one or more strata.

    Attributes:
        strata: Names of the strata.
        methods, worst, clean: Names and mean scores, by position.
        ranks: Range of ranks that the data allow, by position.
        better: Pairs of methods, the first certainly better than the second.
        sentence: How many pairs are separated.
        correlation: Pearson correlation of `worst` and `clean` over methods; None where it is not defined.
    """

    strata: tuple[str, ...]
    methods: tuple[str, ...]
    worst: tuple[float, ...]
    clean: tuple[float, ...]
    ranks: tuple[tuple[int, int], ...]
    better: tuple[tuple[str, str], ...]
    sentence: str
    correlation: float | None


@dataclass(frozen=True)
class PairPower:
    """Power of the paired test of the preregistered pair over one or more strata of a division.

    Attributes:
        strata: Names of the strata.
        value: Mean difference of scores in the pilot, the first minus the second.
        p: Two-sided p-value of no difference in the pilot.
        spread: Standard deviation over seeds of the difference, at least the one that the test assumes.
        power: Probability of finding the difference of the design, by number of seeds.
        num_seeds: Smallest number of seeds with a power of `POWER` or more; None if more than 200 are needed.
    """

    strata: tuple[str, ...]
    value: float
    p: float | None
    spread: float
    power: Mapping[int, float]
    num_seeds: int | None


@dataclass(frozen=True)
class Cost:
    """Seconds of the training loops of all methods and seeds under an attack in a stratum."""

    stratum: str
    attack: str
    mean: float
    largest: float


def scored_runs(pilot: Pilot, strata: Sequence[Stratum], runs: StageRuns, references: Mapping[str, float]) -> Entries:
    """Return the runs of a stage with the constants that score them.

    Args:
        pilot: The pilot.
        strata: Strata that were run.
        runs: The runs.
        references: By stratum the AUC that has score 1; strata where it is not above random are left out.
    """

    def entry(stratum: Stratum, method: str) -> StratumRuns:
        areas = {a: cell.areas for (s, m, a), cell in runs.items() if (s, m) == (stratum.name, method)}
        return StratumRuns(stratum.name, stratum.random, references[stratum.name], areas.pop("none"), areas)

    return {
        stratum.name: {method.name: entry(stratum, method.name) for method in pilot.methods(stratum.division)}
        for stratum in strata
        if references[stratum.name] > stratum.random
    }


def method_score(name: str, runs: StratumRuns, worst_case: StratumRuns) -> MethodScore:
    """Return the scores of a method in one stratum.

    Args:
        name: The name of the method.
        runs: Its runs under all attacks.
        worst_case: Its runs under attacks of the worst case.
    """
    if not worst_case.attacked:
        return MethodScore(runs.name, name, bounded_interval([runs.clean_scores[None]]), None, None, {})
    all_attacks, worst = (score_entry(EntryRuns((stratum,))).strata[0] for stratum in (runs, worst_case))
    return MethodScore(runs.name, name, all_attacks.clean, worst.worst, worst.worst_attack, all_attacks.retention)


def compare_methods(pilot: Pilot, worst_case: Entries) -> tuple[Separation, ...]:
    """Compare the attacked methods of each division over all its strata, and in each stratum.

    Args:
        pilot: The pilot.
        worst_case: Runs under attacks of the worst case.
    """
    separations = []
    for division, strata in _by_division(pilot, worst_case).items():
        methods = [method.name for method in pilot.methods(division) if method.attacked]
        separations += [_separation(s, {m: _entry(worst_case, s, m) for m in methods}) for s in _scopes(strata)]
    return tuple(separations)


def pair_power(pilot: Pilot, worst_case: Entries) -> tuple[PairPower, ...]:
    """Return the power of the paired test of the preregistered pair, over all strata of a division and in each.

    Args:
        pilot: The pilot.
        worst_case: Runs under attacks of the worst case.

    Returns:
        The power in divisions that have both methods of the pair.
    """
    return tuple(
        _power(pilot, worst_case, scope)
        for division, strata in _by_division(pilot, worst_case).items()
        if division in pilot.pair_divisions
        for scope in _scopes(strata)
    )


def paired_power(difference: float, spread: float, num_seeds: int) -> float:
    """Return the power of Student's paired two-sided test: the probability that it finds a difference, by its sign.

    Args:
        difference: Mean of the paired differences, positive.
        spread: Their standard deviation.
        num_seeds: Number of pairs, at least 2.

    Returns:
        The probability, by the noncentral t distribution.

    Example:
        >>> print(f"{paired_power(0.2, 0.2, 12):.2f} {paired_power(0.2, 0.01, 12):.2f}")
        0.88 1.00
    """
    critical = special.stdtrit(num_seeds - 1, (1 + CONFIDENCE) / 2)
    below = special.nctdtr(num_seeds - 1, difference * np.sqrt(num_seeds) / spread, critical)
    return 1.0 - float(np.nan_to_num(below))  # scipy has NaN where the probability is too small for it


def costs(runs: StageRuns) -> tuple[Cost, ...]:
    """Return the seconds of the training loops by stratum and attack.

    Args:
        runs: The runs of a stage.

    Example:
        >>> from byzbench.leaderboard.pilot import CellRuns
        >>> costs({("s", "rfa", "none"): CellRuns(np.ones(2), (None,) * 2, (2.0, 4.0), (3.0, 5.0))})
        (Cost(stratum='s', attack='none', mean=3.0, largest=4.0),)
    """
    seconds: dict[tuple[str, str], list[float]] = {}
    for (stratum, _, attack), cell in runs.items():
        seconds.setdefault((stratum, attack), []).extend(cell.seconds)
    return tuple(Cost(*key, statistics.fmean(values), max(values)) for key, values in seconds.items())


def overhead(runs: StageRuns) -> float:
    """Return the median over runs of the seconds between first and last record over those of the training loop.

    Args:
        runs: The runs of a stage.

    Returns:
        A factor of at least 1; evaluations are most of it. Runs that were interrupted do not move a median.

    Example:
        >>> from byzbench.leaderboard.pilot import CellRuns
        >>> overhead({("s", "rfa", "none"): CellRuns(np.ones(1), (None,), (2.0,), (3.0,))})
        1.5
    """
    pairs = [pair for cell in runs.values() for pair in zip(cell.spans, cell.seconds, strict=True)]
    return statistics.median([span / seconds for span, seconds in pairs if seconds > 0] or [1.0])


def _by_division(pilot: Pilot, entries: Entries) -> dict[Division, list[str]]:
    """Return the strata that have scores, by division."""
    by_division: dict[Division, list[str]] = {}
    for stratum in pilot.strata:
        if stratum.name in entries:
            by_division.setdefault(stratum.division, []).append(stratum.name)
    return by_division


def _scopes(strata: Sequence[str]) -> list[Sequence[str]]:
    """Return all strata together, and each alone."""
    return [strata, *([name] for name in strata)] if len(strata) > 1 else [strata]


def _power(pilot: Pilot, worst_case: Entries, strata: Sequence[str]) -> PairPower:
    first, second = (_entry(worst_case, strata, name) for name in pilot.pilot.pair)
    observed = pair_test(first, second)
    spread = max(float((first.seed_scores - second.seed_scores).std(ddof=1)), SD_FLOOR)
    power = {n: paired_power(pilot.pilot.difference, spread, n) for n in range(3, _MAX_SEEDS + 1)}
    num_seeds = next((n for n, value in power.items() if value >= POWER), None)
    return PairPower(tuple(strata), observed.value, observed.p, spread, {n: power[n] for n in POWER_SEEDS}, num_seeds)


def _entry(entries: Entries, strata: Sequence[str], method: str) -> EntryRuns:
    return EntryRuns(tuple(entries[stratum][method] for stratum in strata))


def _separation(strata: Sequence[str], entries: Mapping[str, EntryRuns]) -> Separation:
    names, rows = list(entries), list(entries.values())
    scores = [score_entry(row) for row in rows]
    worst, clean = ([getattr(score, name).value for score in scores] for name in ("worst", "clean"))
    pairs = sorted(separated(rows))
    return Separation(
        strata=tuple(strata),
        methods=tuple(names),
        worst=tuple(worst),
        clean=tuple(clean),
        ranks=tuple(rank_ranges(rows)),
        better=tuple((names[i], names[j]) for i, j in pairs),
        sentence=describe_separation(names, pairs),
        correlation=correlation(worst, clean),
    )
