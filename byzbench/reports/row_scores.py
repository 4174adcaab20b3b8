"""Scores of the rows of a report, by the definitions of boards: 0 is the random policy, 1 the solved task.

Rows are compared on common seeds. Imports nothing heavy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from byzbench.reports.ordering import Difference, joining
from byzbench.reports.paired_tests import MIN_SEEDS
from byzbench.reports.scoring import EntryRuns, EntryScore, Retention, StratumRuns, score_entry
from byzbench.reports.summary import ReportRow

CLEAN = "none"
"""Label of the runs without an attack."""

_LARGEST = 1e30
"""Bound to which returns are clipped, so that products of extreme ones do not overflow."""


def common_seeds(rows: Sequence[ReportRow]) -> tuple[list[int], list[int]]:
    """Return which rows can be compared, and the seeds that these share.

    All rows can if they share at least `MIN_SEEDS` seeds. Else those can that have every seed of more than half of the
    rows. Names do not matter.

    Args:
        rows: The rows.

    Returns:
        Positions of the rows that can be compared, and their common seeds, both rising; two empty lists if there is no
        common seed.

    Example:
        >>> from types import SimpleNamespace
        >>> rows = [SimpleNamespace(seeds=seeds) for seeds in ([0, 1, 2, 3], [1, 2, 3], [7, 8, 9])]
        >>> common_seeds(rows[:2])
        ([0, 1], [1, 2, 3])
        >>> common_seeds(rows)
        ([0, 1], [1, 2, 3])
    """
    sets = [set(row.seeds) for row in rows]
    shared = set.intersection(*sets) if sets else set()
    if len(shared) >= MIN_SEEDS:
        return list(range(len(rows))), sorted(shared)
    counts = Counter(seed for row_seeds in sets for seed in row_seeds)
    majority = {seed for seed, count in counts.items() if 2 * count > len(rows)}
    chosen = [i for i, row_seeds in enumerate(sets) if majority and majority <= row_seeds]
    return chosen, sorted(set.intersection(*(sets[i] for i in chosen))) if chosen else []


def row_runs(attacked: Mapping[str, ReportRow], clean: ReportRow | None, seeds: Sequence[int]) -> EntryRuns | None:
    """Return the runs of a method under some attacks as an entry of one stratum.

    Args:
        attacked: The row of each attack.
        clean: The row without an attack. Where it is None the clean values of the entry mean nothing.
        seeds: Seeds that all these rows have.

    Returns:
        The entry; None where there is no seed, or where the task's returns of a random policy and of a solved task are
        not known.

    Example:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(by_seed={0: 20.0, 1: 30.0}, bounds=(10.0, 110.0))
        >>> row_runs({"ipm": row}, None, [0, 1]).seed_scores.tolist()
        [0.1, 0.2]
    """
    first = clean or next(iter(attacked.values()))
    if not seeds or first.bounds is None:
        return None
    values = {name: _values(row, seeds) for name, row in attacked.items()}
    unattacked = _values(clean, seeds) if clean is not None else next(iter(values.values()))
    return EntryRuns((StratumRuns("", *first.bounds, unattacked, values),))


def row_retention(row: ReportRow, clean: ReportRow) -> Retention | None:
    """Return the retention of a row under an attack, on the seeds that it shares with the row without.

    Args:
        row: The row under an attack.
        clean: The row that differs from it in the attack only.

    Returns:
        The retention; None where `row_runs` is.

    Example:
        >>> from types import SimpleNamespace
        >>> clean = SimpleNamespace(seeds=[0, 1], by_seed={0: 90.0, 1: 110.0}, bounds=(0.0, 100.0))
        >>> attacked = SimpleNamespace(seeds=[1, 2], by_seed={1: 55.0, 2: 0.0}, bounds=(0.0, 100.0))
        >>> row_retention(attacked, clean).value
        0.5
    """
    entry = row_runs({"": row}, clean, sorted({*row.seeds} & {*clean.seeds}))
    return None if entry is None else score_entry(entry).strata[0].retention[""]


def attack_scores(
    rows: Sequence[ReportRow],
) -> tuple[EntryScore | None, ReportRow | None, list[ReportRow], list[ReportRow]]:
    """Score a method over its attacks.

    Args:
        rows: Rows that differ in the attack only, with or without one of no attack.

    Returns:
        The score on common seeds (None where there is none, see `row_runs`), the row without an attack if it could be
        compared, the rows under an attack that could, and the rows that could not.

    Example:
        >>> from types import SimpleNamespace
        >>> def row(attack, *values):
        ...     by_seed = dict(enumerate(values))
        ...     return SimpleNamespace(key={"attack": attack}, seeds=[*by_seed], by_seed=by_seed, bounds=(0.0, 100.0))
        >>> score, *_ = attack_scores([row("none", 90, 95, 92), row("ipm", 10, 20, 30), row("alie", 80, 85, 90)])
        >>> print(f"{score.worst.value:.2f} {score.strata[0].named_attack}")
        0.20 ipm
    """
    chosen, seeds = common_seeds(rows)
    compared = [rows[i] for i in chosen]
    clean = next((row for row in compared if row.key["attack"] == CLEAN), None)
    attacked = [row for row in compared if row is not clean]
    others = [row for i, row in enumerate(rows) if i not in chosen]
    entry = row_runs({str(row.key["attack"]): row for row in attacked}, clean, seeds) if attacked else None
    return score_entry(entry) if entry else None, clean, attacked, others


def harmful_attack(rows: Sequence[ReportRow]) -> str | None:
    """Return the attack with the lowest mean score if it did harm, else None.

    Args:
        rows: Rows that differ in the attack only.

    Returns:
        The label of the attack. None as well where there are no runs without an attack, or too few seeds.

    Example:
        >>> from types import SimpleNamespace
        >>> def row(attack, *values):
        ...     by_seed = dict(enumerate(values))
        ...     return SimpleNamespace(key={"attack": attack}, seeds=[*by_seed], by_seed=by_seed, bounds=(0.0, 100.0))
        >>> harmful_attack([row("none", 90, 95, 92), row("ipm", 10, 20, 30)])
        'ipm'
        >>> harmful_attack([row("none", 90, 95, 92), row("ipm", 91, 94, 92)]) is None
        True
    """
    score, clean, _, _ = attack_scores(rows)
    return score.strata[0].named_attack if score and clean else None


def row_benefit(row: ReportRow, alone: ReportRow) -> tuple[Difference, int] | None:
    """Return the score of a row minus that of the same agents alone, paired by seed, and the number of seeds.

    Args:
        row: The row of a federation.
        alone: The row of its agents alone.

    Returns:
        The difference of `byzbench.reports.ordering.joining`; None where `row_runs` is.

    Example:
        >>> from types import SimpleNamespace
        >>> alone = SimpleNamespace(seeds=[0, 1], by_seed={0: 50.0, 1: 70.0}, bounds=(0.0, 100.0))
        >>> together = SimpleNamespace(seeds=[0, 1], by_seed={0: 75.0, 1: 95.0}, bounds=(0.0, 100.0))
        >>> difference, num_seeds = row_benefit(together, alone)
        >>> print(f"{difference.value:.2f} {num_seeds}")
        0.25 2
    """
    seeds = sorted({*row.seeds} & {*alone.seeds})
    entry, other = row_runs({"": row}, None, seeds), row_runs({"": alone}, alone, seeds)
    return (joining(entry, other).overall, len(seeds)) if entry and other else None


def _values(row: ReportRow, seeds: Sequence[int]) -> np.ndarray:
    by_seed = row.by_seed
    return np.clip([by_seed[seed] for seed in seeds], -_LARGEST, _LARGEST)
