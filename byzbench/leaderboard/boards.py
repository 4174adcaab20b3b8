"""Boards: entries of one suite, track and division, judged at one level of knowledge, with ranks that admit ties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.flags import Cells, Flag, flags
from byzbench.leaderboard.schema import Division, Knowledge, Track
from byzbench.leaderboard.scoring import Bracket, Runs, Score, chance, damage, pairs_apart, score
from byzbench.leaderboard.suites import CLEAN, LEVELS, Stratum, Suite
from byzbench.reports.statistics import estimates, iqm, shared_ranks


@dataclass(frozen=True)
class Row:
    """An entry of the tracks defence and reported, on a board.

    Attributes:
        score: at the board's level of knowledge.
        rank: shared with all that cannot be told from the leader of the rank; None where nothing is ranked.
        ranks: the best and the worst rank that the others leave it.
        beats_next: the probability that a run of it returns more than one of the row below.
        best_known: the lowest worst case that any entry of the track adaptive has found; at most the score.
        cells: by stratum, by attack, `none` first: the interquartile mean of normalised returns.
        failed: cells that are not `ok`.
        flags: what a reader must know.
        resubmissions: how many earlier submissions it supersedes, one after the other.
        superseded: whether another submission takes its place; it is shown, and not ranked.
    """

    entry: Entry
    score: Score
    cells: Cells
    failed: int
    flags: tuple[Flag, ...]
    best_known: float
    rank: int | None = None
    ranks: tuple[int, int] | None = None
    beats_next: float | None = None
    resubmissions: int = 0
    superseded: bool = False


@dataclass(frozen=True)
class AttackRow:
    """An entry of the track attack.

    Attributes:
        damage: the mean over strata and algorithms of clean - attacked.
        by: the same at each: by stratum, by algorithm.
    """

    entry: Entry
    damage: Bracket
    by: Mapping[str, Mapping[str, float]]
    failed: int


@dataclass(frozen=True)
class Board:
    """Rows that may be compared, best first; what is not ranked stands last."""

    suite: Suite
    track: Track
    division: Division | None
    knowledge: Knowledge
    rows: tuple[Row, ...] = ()
    attacks: tuple[AttackRow, ...] = field(default=())


def boards(suite: Suite, entries: Sequence[Entry]) -> Iterator[Board]:
    """Yield all boards of a suite that have a row.

    Entries of the track reported, and those that are too old to be replayed, are listed and not ranked.

    Raises:
        Refused: an entry misses cells. Only those of the track reported may, and then they are left out.
    """
    mine = [entry for entry in entries if entry.submission.suite_sha256 == suite.sha256]
    tracks: dict[str, list[Entry]] = {track: [] for track in ("defence", "adaptive", "attack", "reported")}
    for entry in mine:
        replayed = entry.submission.replayable or entry.submission.track != "defence"
        tracks[entry.submission.track if replayed else "reported"].append(entry)
    tracks["reported"] = [entry for entry in tracks["reported"] if _complete(entry, suite)]
    levels = [level for level in LEVELS if set(suite.attacks_at(level)) - set(_below(suite, level))]
    replaced = {e.digest: e.submission.supersedes for e in mine}
    for division in ("decentralised", "server"):
        ranked, listed = (
            [
                _rows(e, suite, levels, tracks["adaptive"], replaced)
                for e in tracks[track]
                if e.division(suite) == division
            ]
            for track in ("defence", "reported")
        )
        for i, level in enumerate(levels if ranked or listed else ()):
            grey = sorted((rows[i] for rows in listed), key=_order)
            yield Board(suite, "defence", division, level, (*_ranked([rows[i] for rows in ranked]), *grey))
    if tracks["attack"]:
        harm = sorted((_attack_row(e, suite) for e in tracks["attack"]), key=lambda r: (-r.damage.value, r.entry.slug))
        yield Board(suite, "attack", None, LEVELS[-1], attacks=tuple(harm))


def _below(suite: Suite, level: Knowledge) -> tuple[str, ...]:
    return suite.attacks_at(LEVELS[LEVELS.index(level) - 1]) if level != LEVELS[0] else ()


def _complete(entry: Entry, suite: Suite) -> bool:
    try:
        for stratum in entry.strata(suite):
            for attack in suite.attacks:
                entry.scores(suite, stratum, attack.spec)
    except Refused:
        return False
    return entry.division(suite) is not None


def _rows(
    entry: Entry,
    suite: Suite,
    levels: Sequence[Knowledge],
    adaptive: Sequence[Entry],
    replaced: Mapping[str, str | None],
) -> list[Row]:
    """The rows of an entry, one for each level of knowledge.

    Args:
        entry: of the track defence or reported.
        suite: its suite.
        levels: those that have a board.
        adaptive: the entries of that track.
        replaced: by the digest of each entry, which one it supersedes.
    """
    strata, every = entry.strata(suite), suite.attacks_at(LEVELS[-1])
    clean = {s.name: entry.scores(suite, s, CLEAN) for s in strata}
    attacked = {s.name: {a: entry.scores(suite, s, a) for a in every} for s in strata}
    runs = Runs.of(clean, attacked)
    scores = [score(runs, suite.attacks_at(level)) for level in levels]
    found = [estimates(np.stack([clean[s], *by.values()])) for s, by in attacked.items()]
    cells = {s: dict(zip((CLEAN, *every), row, strict=True)) for s, row in zip(attacked, found, strict=True)}
    ranked = entry.submission.replayable
    aimed = [a for a in adaptive if ranked and _aims(a, entry)]
    row = Row(
        entry=entry,
        score=scores[-1],
        cells=cells,
        failed=sum(cell.status != "ok" for cell in entry.cells),
        flags=tuple(flags(entry, suite, scores[-1], cells, aimed)),
        best_known=scores[-1].worst.value,
        resubmissions=_earlier(entry, replaced) if ranked else 0,
        superseded=entry.digest in replaced.values(),
    )
    means = [_means(a, suite, strata) for a in aimed]
    return [
        replace(
            row,
            score=worth,
            cells={s: {a: by[a] for a in (CLEAN, *suite.attacks_at(level))} for s, by in cells.items()},
            best_known=min([worth.worst.value, *(float(np.minimum(worth.least, m).mean()) for m in means)]),
        )
        for level, worth in zip(levels, scores, strict=True)
    ]


def _aims(adaptive: Entry, entry: Entry) -> bool:
    return adaptive.submission.method.against == entry.slug


def _means(adaptive: Entry, suite: Suite, strata: Sequence[Stratum]) -> np.ndarray:
    """What an adaptive submission leaves of the entry it is aimed at, by stratum: [S]."""
    attack = adaptive.submission.method.attack
    assert attack is not None
    return np.array([iqm(adaptive.scores(suite, stratum, attack)) for stratum in strata])


def _earlier(entry: Entry, replaced: Mapping[str, str | None]) -> int:
    """How many submissions it supersedes, directly or not."""
    count, at, seen = 0, entry.submission.supersedes, {entry.digest}
    while at is not None and at not in seen:
        seen.add(at)
        count, at = count + 1, replaced.get(at)
    return count


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows best first, with ranks; then those that are superseded, without."""
    standing = sorted((row for row in rows if not row.superseded), key=_order)
    apart = pairs_apart([row.score for row in standing])
    ranks = shared_ranks(len(standing), apart)
    better = [0] * len(standing)
    worse = [0] * len(standing)
    for high, low in apart:
        worse[high] += 1
        better[low] += 1
    ranked = [
        replace(
            row,
            rank=ranks[i],
            ranks=(better[i] + 1, len(standing) - worse[i]),
            beats_next=chance(row.score, standing[i + 1].score) if i + 1 < len(standing) else None,
        )
        for i, row in enumerate(standing)
    ]
    return [*ranked, *sorted((row for row in rows if row.superseded), key=_order)]


def _order(row: Row) -> tuple[float, str]:
    return -row.score.worst.value, row.entry.slug


def _attack_row(entry: Entry, suite: Suite) -> AttackRow:
    attack = entry.submission.method.attack
    assert attack is not None
    clean: dict[str, dict[str, np.ndarray]] = {}
    attacked: dict[str, dict[str, np.ndarray]] = {}
    for stratum in suite.strata:
        algorithms = [a.spec for a in suite.algorithms if a.division == stratum.division]
        clean[stratum.name] = {a: entry.scores(suite, stratum, CLEAN, a) for a in algorithms}
        attacked[stratum.name] = {a: entry.scores(suite, stratum, attack, a) for a in algorithms}
    by = {s: {a: float(iqm(x) - iqm(attacked[s][a])) for a, x in rows.items()} for s, rows in clean.items()}
    return AttackRow(entry, damage(clean, attacked), by, sum(cell.status != "ok" for cell in entry.cells))


def strata_of(board: Board) -> tuple[Stratum, ...]:
    """The strata of a board."""
    return board.suite.strata if board.division is None else board.suite.division(board.division)
