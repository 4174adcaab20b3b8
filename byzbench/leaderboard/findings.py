"""Findings from the ranked rows of a board: span, separation, gain of joining, and effect of tuning.

Every number comes from the cells of submissions. Where a comparison is chosen after the scores are seen, or is one of
many, its interval or its test allows for that: Bonferroni for the span, Holm for the verdicts on joining.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from byzbench.canonical import to_current
from byzbench.leaderboard.boards import Board
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.frozen import METHOD
from byzbench.leaderboard.rows import Row, best_known
from byzbench.leaderboard.suites import Suite
from byzbench.reports.ordering import Difference, pair_test, paired_difference, separated
from byzbench.reports.paired_tests import CONFIDENCE, holm
from byzbench.reports.scoring import EntryRuns, EntryScore
from byzbench.reports.statistics import correlation


@dataclass(frozen=True)
class ScoredRow:
    """A ranked row with its name on the page.

    Attributes:
        name: The name of the entry; with its slug where two rows of the board have one name.
        row: The row.
        runs, score: Those of the row, which are there.
    """

    name: str
    row: Row
    runs: EntryRuns
    score: EntryScore


@dataclass(frozen=True)
class Joining:
    """Names of rows by the effect of joining a federation under its worst attack, beside the same method alone.

    Attributes:
        better: Rows whose worst case is certainly above the clean score of the method alone (Holm).
        worse: Rows whose worst case is certainly below.
        undecided: The other rows that can be compared.
    """

    better: tuple[str, ...]
    worse: tuple[str, ...]
    undecided: tuple[str, ...]


@dataclass(frozen=True)
class TuningEffect:
    """A tuned row beside the row of the same method as written.

    Attributes:
        method: The name of the row as written.
        worst, clean: Paired differences, tuned minus as written: of the score and of the clean score.
        changed: By `kind.parameter`, with the task before it if there are several, the value as written and the tuned
            one.
        fresh: By task, the objective of the search on fresh seeds, as written and tuned; under an empty name where one
            search was for all strata.
    """

    method: str
    worst: Difference
    clean: Difference
    changed: Mapping[str, tuple[object, object]]
    fresh: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Reordering:
    """Two methods whose certain order is not the same as written and tuned.

    Attributes:
        methods: The names of both, as written.
        written, tuned: The score of the first minus that of the second; each a paired test of its own.
        certain: Whether the order is certain as written, and tuned (Holm over the pairs of rows of each).
    """

    methods: tuple[str, str]
    written: Difference
    tuned: Difference
    certain: tuple[bool, bool]

    @property
    def reversed(self) -> bool:
        """True if both orders are certain, and one is the other's reverse."""
        return all(self.certain)


@dataclass(frozen=True)
class AdaptiveEffect:
    """An attack that was tuned against a row.

    Attributes:
        method: The name of the row.
        attack: The attack.
        clean, fixed: The score under the attack minus the clean score, and minus that under the worst attacks of the
            suite, which differ by stratum.
        best_known: The score of the row under the worse of both in each stratum.
    """

    method: str
    attack: str
    clean: Difference
    fixed: Difference
    best_known: float


@dataclass(frozen=True)
class Findings:
    """The findings from the ranked rows of a board.

    Attributes:
        board: The board.
        rows: Its ranked rows, by score.
        span: Score of the first row minus that of the last, Bonferroni over all pairs of rows; None below two rows.
        better: Pairs of positions in `rows`, the first certainly better than the second.
        correlation: Pearson correlation over rows of the worst case and the clean score; None where not defined.
        joining: The rows by the effect of joining.
        tuning: One for each tuned row whose method stands there as written, too.
        num_compared, reorderings: The number of pairs of such methods, and those whose certain order changes.
        adaptive: One for each attack that was tuned against a row.
    """

    board: Board
    rows: tuple[ScoredRow, ...]
    span: Difference | None
    better: tuple[tuple[int, int], ...]
    correlation: float | None
    joining: Joining
    tuning: tuple[TuningEffect, ...]
    num_compared: int
    reorderings: tuple[Reordering, ...]
    adaptive: tuple[AdaptiveEffect, ...]


def examine_board(board: Board) -> Findings:
    """Return the findings from the ranked rows of a board.

    Args:
        board: A board of the track defence.
    """
    rows = tuple(_scored_rows(board))
    runs = [row.runs for row in rows]
    tuned = [*_written_and_tuned(rows)]
    return Findings(
        board=board,
        rows=rows,
        span=_span(runs) if len(rows) > 1 else None,
        better=tuple(sorted(separated(runs))),
        correlation=correlation([row.score.worst.value for row in rows], [row.score.clean.value for row in rows]),
        joining=_joining(rows),
        tuning=tuple(_tuning(board.suite, before, after) for before, after in tuned),
        num_compared=len(tuned) * (len(tuned) - 1) // 2,
        reorderings=tuple(_reorderings(tuned)),
        adaptive=tuple(effect for row in rows for effect in _adaptive(row)),
    )


def _scored_rows(board: Board) -> Iterator[ScoredRow]:
    ranked = [row for row in board.rows if row.ranks is not None]
    entries = Counter(row.entry.submission.entry.name for row in ranked)
    for row in ranked:
        if row.runs is not None and row.score is not None:
            name = row.entry.submission.entry.name
            yield ScoredRow(f"{name} ({row.entry.slug})" if entries[name] > 1 else name, row, row.runs, row.score)


def _span(runs: Sequence[EntryRuns]) -> Difference:
    """Compare the first and the last of rows that are sorted by score."""
    num_pairs = len(runs) * (len(runs) - 1) / 2
    return paired_difference(runs[0].seed_scores - runs[-1].seed_scores, 1 - (1 - CONFIDENCE) / num_pairs)


def _joining(rows: Sequence[ScoredRow]) -> Joining:
    compared = [(row.name, row.row.joining.overall) for row in rows if row.row.joining]
    p_values = [1.0 if gain.p is None else gain.p for _, gain in compared]
    tests = [(name, gain) for (name, gain), rejected in zip(compared, holm(p_values), strict=True) if rejected]
    better = tuple(name for name, gain in tests if gain.low is not None and gain.low > 0)
    worse = tuple(name for name, gain in tests if gain.high is not None and gain.high < 0)
    return Joining(better, worse, tuple(name for name, _ in compared if name not in {*better, *worse}))


def _written_and_tuned(rows: Sequence[ScoredRow]) -> Iterator[tuple[ScoredRow, ScoredRow]]:
    """Yield each tuned row after the row of its method as written; of several at one engine, the best one."""
    written = {
        (entry.submission.method, entry.submission.code.engine): row
        for row in reversed(rows)
        if not (entry := row.row.entry).submission.studies
    }
    for row in rows:
        submission = row.row.entry.submission
        method = next((search.method for search in submission.searches), None)
        before = method and written.get((method, submission.code.engine))
        if before:
            yield before, row


def _tuning(suite: Suite, before: ScoredRow, after: ScoredRow) -> TuningEffect:
    searches = {study.task or "": study.search for study in after.row.entry.submission.studies if study.search}
    return TuningEffect(
        method=before.name,
        worst=pair_test(after.runs, before.runs),
        clean=paired_difference(_clean(after.runs) - _clean(before.runs)),
        changed=_changed(suite, before.row.entry, after.row.entry),
        fresh={task: (float(search.default), float(search.again)) for task, search in searches.items()},
    )


def _reorderings(tuned: Sequence[tuple[ScoredRow, ScoredRow]]) -> Iterator[Reordering]:
    """Yield the pairs of methods whose certain order is not the same as written and tuned."""
    orders = [separated([pair[side].runs for pair in tuned]) for side in (0, 1)]
    for i, j in combinations(range(len(tuned)), 2):
        signs = [((i, j) in order) - ((j, i) in order) for order in orders]
        if signs[0] != signs[1]:
            written, after = (pair_test(tuned[i][side].runs, tuned[j][side].runs) for side in (0, 1))
            certain = bool(signs[0]), bool(signs[1])
            yield Reordering((tuned[i][0].name, tuned[j][0].name), written, after, certain)


def _adaptive(row: ScoredRow) -> Iterator[AdaptiveEffect]:
    for aimed in row.row.aimed:
        scores = np.mean([*aimed.scores.values()], axis=0)
        yield AdaptiveEffect(
            method=row.name,
            attack=aimed.attack,
            clean=paired_difference(scores - _clean(row.runs)),
            fixed=paired_difference(scores - row.runs.seed_scores),
            best_known=best_known(row.score, [aimed]),
        )


def _clean(runs: EntryRuns) -> np.ndarray:
    """Return the mean over strata of the scores without an attack, [n]."""
    return np.mean([stratum.clean_scores for stratum in runs.strata], axis=0)


def _changed(suite: Suite, written: Entry, tuned: Entry) -> dict[str, tuple[object, object]]:
    """Return the parameters of the method that differ, in the first stratum of each task."""
    first = {stratum.learner: stratum.name for stratum in reversed(tuned.strata(suite))}
    changed: dict[str, tuple[object, object]] = {}
    for task, stratum in sorted(first.items()):
        before, after = (_parameters(entry, stratum) for entry in (written, tuned))
        label = f"{task}: " if len(first) > 1 else ""
        changed |= {label + key: (before[key], v) for key, v in after.items() if key in before and before[key] != v}
    return changed


def _parameters(entry: Entry, stratum: str) -> dict[str, object]:
    """Return the parameters of the method in a stratum, by `kind.parameter`."""
    submission = entry.submission
    axes = to_current(submission.resolved.get(stratum, {}), submission.version, whole=False)
    return {
        f"{kind}.{name}": value
        for kind in METHOD
        for name, value in axes.get(kind, {"parameters": {}})["parameters"].items()
    }
