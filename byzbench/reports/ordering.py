"""Order of entries: which are certainly better, the range of ranks that the data allow, and single comparisons.

Every comparison is a paired t-test of `EntryRuns.seed_scores` with a variance floor. Where most runs succeed and no
seed shows a failure, the test does not see failures that could come: it compares observed runs only (docs/scoring.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from byzbench.reports.estimators import mean_with_unseen, selection_bias
from byzbench.reports.paired_tests import CONFIDENCE, MIN_SEEDS, certainly_better, paired_t
from byzbench.reports.scoring import EntryRuns, StratumRuns


@dataclass(frozen=True)
class Difference:
    """Paired difference of scores.

    Attributes:
        value: The difference.
        low, high: Its two-sided 95 % interval; None below three seeds.
        p: Two-sided p-value of no difference; None below three seeds.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" ({self.low:+.2f} to {self.high:+.2f})"
        return f"{self.value:+.2f}{ends}"


@dataclass(frozen=True)
class JoiningBenefit:
    """Worst-case scores of a federation minus clean scores of the same method alone: over strata, and in each."""

    overall: Difference
    strata: Mapping[str, Difference]


def pair_test(one: EntryRuns, other: EntryRuns) -> Difference:
    """Compare the scores of two entries that were named before the runs, by a paired t-test over seeds.

    Args:
        one: Runs of the first entry.
        other: Runs of the second, of the same strata, attacks and seeds.

    Returns:
        The score of the first minus that of the second.

    Raises:
        ValueError: Strata, attacks or numbers of seeds differ.

    Example:
        >>> def entry(level):
        ...     return EntryRuns((StratumRuns("s", 0.0, 1.0, np.ones(8), {"ipm": np.full(8, level)}),))
        >>> difference = pair_test(entry(0.7), entry(0.5))
        >>> print(f"{difference.value:.2f} ({difference.low:.2f} to {difference.high:.2f})")
        0.20 (0.16 to 0.24)
    """
    _require_same_cells([one, other])
    return paired_difference(one.seed_scores - other.seed_scores)


def paired_difference(by_seed: ArrayLike, confidence: float = CONFIDENCE) -> Difference:
    """Return a mean of paired differences with Student's interval and p-value.

    Args:
        by_seed: One difference for each seed, [n].
        confidence: Level of the interval, two-sided.

    Returns:
        The difference; without interval and p-value below `MIN_SEEDS` seeds.

    Example:
        >>> difference = paired_difference([0.1, 0.2, 0.3])
        >>> print(f"{difference.value:.2f} ({difference.low:.2f} to {difference.high:.2f})")
        0.20 (-0.05 to 0.45)
    """
    values = np.asarray(by_seed, float)
    num_seeds = len(values)
    if num_seeds < MIN_SEEDS:
        return Difference(float(values.mean()))
    mean, error = (float(x) for x in paired_t(values))
    half = float(special.stdtrit(num_seeds - 1, (1 + confidence) / 2)) * error
    return Difference(mean, mean - half, mean + half, float(2 * special.stdtr(num_seeds - 1, -abs(mean) / error)))


def joining(entry: EntryRuns, alone: EntryRuns) -> JoiningBenefit:
    """Compare the worst case of a federation with the clean runs of the same method alone, by seed.

    Both ends of an interval allow for one further seed in which the method alone scores its mean, and the federation 0
    or 1 (or its largest score). The upper end is raised by the selection bias of the worst case, since a minimum over
    attacks is biased low. A failure of the method alone that no seed has shown is not allowed for.

    Args:
        entry: Runs of the federation.
        alone: Runs of the method alone, of strata of the same names and of the same seeds; attacks are not needed.

    Returns:
        The difference over all strata and in each; positive where joining pays.

    Raises:
        ValueError: Strata or numbers of seeds differ.

    Example:
        >>> federation = StratumRuns("s", 0.0, 1.0, np.ones(8), {"ipm": np.full(8, 0.2)})
        >>> solo = StratumRuns("s", 0.0, 1.0, np.full(8, 0.6), {})
        >>> difference = joining(EntryRuns((federation,)), EntryRuns((solo,))).overall
        >>> print(f"{difference.value:.2f}, {difference.high < 0}")
        -0.40, True
    """
    solo = {stratum.name: stratum.clean_scores for stratum in alone.strata}
    if solo.keys() != {stratum.name for stratum in entry.strata} or entry.num_seeds != alone.num_seeds:
        raise ValueError("the federation and the method alone need the same strata and the same seeds")

    def compare(strata: Sequence[StratumRuns]) -> Difference:
        worst = np.mean([s.attacked_scores[s.worst_index] for s in strata], axis=0)
        clean = np.mean([solo[s.name] for s in strata], axis=0)
        difference = paired_difference(worst - clean)
        if difference.low is None or difference.high is None:
            return difference
        alone_mean = float(clean.mean())
        low, high = mean_with_unseen(worst - clean, -alone_mean, max(1.0, float(worst.max())) - alone_mean)
        high = max(difference.high, high) + selection_bias([s.attacked_scores for s in strata])
        return Difference(difference.value, min(difference.low, low), high, difference.p)

    return JoiningBenefit(compare(entry.strata), {s.name: compare([s]) for s in entry.strata})


def separated(entries: Sequence[EntryRuns]) -> set[tuple[int, int]]:
    """Find the pairs of entries of which one is certainly better, at a joint level of 95 % (Holm over all pairs).

    The relation is closed: it is transitive, and where C is certainly better than A, so is each entry that scores at
    least as much as C in every cell, and each that scores at most as much as A is certainly worse than C.

    Args:
        entries: Runs of the entries of a board, of the same strata, attacks and seeds.

    Returns:
        Pairs of positions (better, worse).

    Raises:
        ValueError: Strata, attacks or numbers of seeds differ.

    Example:
        >>> def entry(level):
        ...     return EntryRuns((StratumRuns("s", 0.0, 1.0, np.ones(8), {"ipm": np.full(8, level)}),))
        >>> sorted(separated([entry(0.1), entry(1.0), entry(1.0)]))
        [(1, 0), (2, 0)]
    """
    if len(entries) < 2:
        return set()
    cells = _require_same_cells(entries)
    at_least = (cells[:, None] >= cells).all(-1)
    better = at_least @ certainly_better([entry.seed_scores for entry in entries]) @ at_least
    for middle in range(len(entries)):
        better |= np.outer(better[:, middle], better[middle])
    return {(int(i), int(j)) for i, j in np.argwhere(better)}


def rank_ranges(entries: Sequence[EntryRuns]) -> list[tuple[int, int]]:
    """Return for each entry the best and the worst rank that the data allow.

    The best is one plus the number of entries that are certainly better, the worst the number of entries minus that of
    those that are certainly worse (`separated`). Names and the order of the entries do not matter, and an entry that
    scores at least as much as another in every cell has no worse range.

    Args:
        entries: Runs of the entries of a board, of the same strata, attacks and seeds.

    Returns:
        A range (best, worst) for each entry, in the order given.

    Raises:
        ValueError: Strata, attacks or numbers of seeds differ.

    Example:
        >>> def entry(level):
        ...     return EntryRuns((StratumRuns("s", 0.0, 1.0, np.ones(8), {"ipm": np.full(8, level)}),))
        >>> rank_ranges([entry(0.1), entry(1.0), entry(1.0)])
        [(3, 3), (1, 2), (1, 2)]
    """
    pairs = separated(entries)
    worse, better = ([pair[side] for pair in pairs] for side in (1, 0))
    return [(1 + worse.count(i), len(entries) - better.count(i)) for i in range(len(entries))]


def tied_groups(count: int, pairs: Collection[tuple[int, int]]) -> list[range]:
    """Return the longest runs of neighbouring entries in which no pair is separated, as in a critical-difference plot.

    Args:
        count: The number of entries, which are ordered by score.
        pairs: What `separated` returned for them.

    Returns:
        Ranges of positions, of two entries or more. Groups can overlap, since being tied is not transitive.

    Example:
        >>> tied_groups(4, {(0, 2), (0, 3), (1, 3)})
        [range(0, 2), range(1, 3), range(2, 4)]
        >>> tied_groups(3, {(0, 2), (1, 2)})
        [range(0, 2)]
    """
    groups: list[range] = []
    end = 0
    for first in range(count):
        last = max(first + 1, end)
        while last < count and not any((i, last) in pairs or (last, i) in pairs for i in range(first, last)):
            last += 1
        if last > max(end, first + 1):
            groups.append(range(first, last))
        end = last
    return groups


def describe_separation(names: Sequence[str], pairs: Collection[tuple[int, int]]) -> str:
    """Return a sentence on the number of separated pairs of a board.

    Args:
        names: Names of the entries.
        pairs: What `separated` returned for them.

    Returns:
        A sentence; it names the pairs where there are at most three.

    Example:
        >>> describe_separation(["a", "b", "c"], set())
        'Nothing is separated: every order of these 3 entries agrees with the data.'
        >>> describe_separation(["a", "b", "c"], {(0, 2)})
        '1 of 3 pairs is separated: a is better than c.'
    """
    total = len(names) * (len(names) - 1) // 2
    if not pairs:
        return f"Nothing is separated: every order of these {len(names)} entries agrees with the data."
    start = f"{len(pairs)} of {total} pairs {'is' if len(pairs) == 1 else 'are'} separated"
    if len(pairs) > 3:
        return f"{start}."
    return f"{start}: {', '.join(f'{names[i]} is better than {names[j]}' for i, j in sorted(pairs))}."


def _require_same_cells(entries: Sequence[EntryRuns]) -> np.ndarray:
    """Return the attacked scores of all cells, [K, cells], by stratum, attack and seed in the order of their names.

    Raises:
        ValueError: Strata, attacks or numbers of seeds differ.
    """
    rows = [sorted(entry.strata, key=lambda stratum: stratum.name) for entry in entries]
    if (
        len({(entry.num_seeds, *((s.name, s.attacks) for s in row)) for entry, row in zip(entries, rows, strict=True)})
        > 1
    ):
        raise ValueError("entries can be compared on the same strata, attacks and seeds only")
    return np.stack([np.concatenate([s.attacked_scores.ravel() for s in row]) for row in rows])
