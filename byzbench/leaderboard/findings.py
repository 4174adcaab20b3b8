"""What the ranked rows of a suite show, by division: spans, separation, joining, and what tuning changed.

Every number comes from the cells of submissions. Where a comparison is chosen after the scores are seen, or is one of
many, its interval or its test allows for that: Bonferroni for the span, Holm for the verdicts on joining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from byzbench.canonical import modern
from byzbench.leaderboard.boards import Board
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.frozen import METHOD
from byzbench.leaderboard.rows import Row
from byzbench.reports.ordering import Difference, pair_test, paired_difference, separated
from byzbench.reports.paired_tests import CONFIDENCE, holm
from byzbench.reports.scoring import EntryRuns


@dataclass(frozen=True)
class Joining:
    """Rows by what joining a federation under its worst attack does, beside the same method alone.

    Attributes:
        better: Names of rows whose worst case is certainly above the clean score of the method alone (Holm).
        worse: Those whose worst case is certainly below.
        undecided: The others that can be compared.
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
        changed: By searched `kind.parameter`, the value as written and the tuned one.
        fresh: The objective of the search on fresh seeds, as written and tuned.
    """

    method: str
    worst: Difference
    clean: Difference
    changed: Mapping[str, tuple[object, object]]
    fresh: tuple[float, float]


@dataclass(frozen=True)
class Findings:
    """What the ranked rows of a board show.

    Attributes:
        board: The board.
        rows: Its ranked rows.
        span: Score of the first row minus that of the last, Bonferroni over all pairs of rows; None below two rows.
        better: Pairs of names, the first certainly better than the second.
        correlation: Pearson correlation over rows of the worst case and the clean score; None where not defined.
        joining: What joining does.
        tuning: One for each tuned row whose method stands there as written, too.
    """

    board: Board
    rows: tuple[Row, ...]
    span: Difference | None
    better: tuple[tuple[str, str], ...]
    correlation: float | None
    joining: Joining
    tuning: tuple[TuningEffect, ...]


def findings(board: Board) -> Findings:
    """Return what the ranked rows of a board show.

    Args:
        board: Of the track defence.
    """
    rows = tuple(row for row in board.rows if row.runs and row.score and not row.unranked)
    names, runs = [_name(row) for row in rows], [row.runs for row in rows if row.runs]
    scores = np.array([[row.score.worst.value, row.score.clean.value] for row in rows if row.score])
    varied = len(rows) > 2 and bool((np.ptp(scores, axis=0) > 0).all())
    return Findings(
        board=board,
        rows=rows,
        span=_span(runs) if len(rows) > 1 else None,
        better=tuple((names[i], names[j]) for i, j in sorted(separated(runs))),
        correlation=float(np.corrcoef(scores.T)[0, 1]) if varied else None,
        joining=_joining(rows),
        tuning=tuple(_tuning(rows)),
    )


def _name(row: Row) -> str:
    return row.entry.submission.entry.name


def _span(runs: Sequence[EntryRuns]) -> Difference:
    """Compare the first and the last of rows that are sorted by score."""
    pairs = len(runs) * (len(runs) - 1) / 2
    return paired_difference(runs[0].seed_scores - runs[-1].seed_scores, 1 - (1 - CONFIDENCE) / pairs)


def _joining(rows: Sequence[Row]) -> Joining:
    compared = [(_name(row), row.joining.overall) for row in rows if row.joining]
    tested = [(name, found) for name, found in compared if found.p is not None]
    certain = dict(zip([name for name, _ in tested], holm([found.p for _, found in tested]), strict=True))
    better = [name for name, found in tested if certain[name] and found.low is not None and found.low > 0]
    worse = [name for name, found in tested if certain[name] and found.high is not None and found.high < 0]
    rest = [name for name, _ in compared if name not in (*better, *worse)]
    return Joining(tuple(better), tuple(worse), tuple(rest))


def _tuning(rows: Sequence[Row]) -> list[TuningEffect]:
    written = {row.entry.submission.method: row for row in rows if row.entry.submission.tuning is None}
    found = []
    for row in rows:
        tuning = row.entry.submission.tuning
        if tuning is None or tuning.search is None or (before := written.get(tuning.search.method)) is None:
            continue
        assert row.runs is not None
        assert before.runs is not None
        search = tuning.search
        found.append(
            TuningEffect(
                method=_name(before),
                worst=pair_test(row.runs, before.runs),
                clean=paired_difference(_clean(row.runs) - _clean(before.runs)),
                changed=_changed(before.entry, row.entry),
                fresh=(float(search.default), float(search.again)),
            )
        )
    return found


def _clean(runs: EntryRuns) -> np.ndarray:
    """Return the mean over strata of the scores without an attack, [n]."""
    return np.mean([stratum.clean_scores for stratum in runs.strata], axis=0)


def _changed(written: Entry, tuned: Entry) -> dict[str, tuple[object, object]]:
    """Return the parameters of the method that differ in the first stratum."""
    before, after = (_parameters(entry) for entry in (written, tuned))
    return {key: (before[key], value) for key, value in after.items() if key in before and before[key] != value}


def _parameters(entry: Entry) -> dict[str, object]:
    about = entry.submission
    own = modern(next(iter(about.resolved.values())), about.version, whole=False)
    return {
        f"{kind}.{name}": value
        for kind in METHOD
        for name, value in own.get(kind, {"parameters": {}})["parameters"].items()
    }
