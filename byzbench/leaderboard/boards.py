"""Boards: the rows of one suite and division, by score, each with the range of ranks that the data allow.

Rows with a trusted server and rows without one are never ordered together. A score does not depend on other rows;
ranges of ranks do (`byzbench.reports.ordering`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.rows import Peers, Row, make_row, reference_returns, solo_row, unranked_reasons
from byzbench.leaderboard.schema import Division, Track
from byzbench.leaderboard.suites import CLEAN, Stratum, Suite
from byzbench.reports.estimators import Interval
from byzbench.reports.ordering import describe_separation, paired_difference, rank_ranges, separated, tied_groups
from byzbench.reports.scoring import cell_scores


@dataclass(frozen=True)
class AttackRow:
    """An entry of the track attack.

    Attributes:
        entry: The entry.
        damage: The mean over strata and algorithms of clean - attacked scores; None without a reference.
        by: By stratum and by algorithm, the mean of clean - attacked scores.
        failed: Number of cells that are not `ok`.
        unranked: The reasons why the entry is not ranked; empty if it is ranked.
    """

    entry: Entry
    damage: Interval | None
    by: Mapping[str, Mapping[str, float]]
    failed: int
    unranked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """Rows that may be compared, best first; rows that are not ranked come last.

    Attributes:
        suite: The suite.
        track: The track.
        division: The division; None in the track attack.
        rows: The rows of the tracks defence and reported.
        attacks: The rows of the track attack.
        separation: A sentence with the number of separated pairs of ranked rows; None below two ranked rows.
        tied: The longest runs of neighbouring ranked rows of which no pair is separated, as ranges of positions.
        common_flags: Names of the flags that every scored row has.
    """

    suite: Suite
    track: Track
    division: Division | None
    rows: tuple[Row, ...] = ()
    attacks: tuple[AttackRow, ...] = field(default=())
    separation: str | None = None
    tied: tuple[range, ...] = ()
    common_flags: tuple[str, ...] = ()


def boards(suite: Suite, entries: Sequence[Entry]) -> Iterator[Board]:
    """Yield all boards of a suite that have a row.

    Args:
        suite: The suite.
        entries: Entries of any suites and tracks; reported entries with missing cells are left out.

    Raises:
        Refused: An entry of another track than reported lacks cells.
    """
    suite_entries = [entry for entry in entries if entry.submission.suite_sha256 == suite.sha256]
    tracks: dict[str, list[Entry]] = {track: [] for track in ("defence", "adaptive", "attack", "reported")}
    for entry in suite_entries:
        tracks[entry.submission.track].append(entry)
    replaced = {entry.digest: entry.submission.supersedes for entry in suite_entries}
    comparable = [e for e in tracks["defence"] if not unranked_reasons(e, e.digest in replaced.values())]
    peers = Peers(tracks["adaptive"], solo_row(suite, comparable), replaced)
    listed = [*tracks["defence"], *(e for e in tracks["reported"] if _complete(e, suite))]
    divisions: tuple[Division, ...] = ("decentralised", "server")
    for division in divisions:
        if rows := [make_row(e, suite, peers) for e in listed if e.division(suite) == division]:
            yield _board(suite, division, rows)
    if tracks["attack"]:
        superseded = {digest for digest in replaced.values() if digest}
        attack_rows = [_attack_row(entry, suite, entry.digest in superseded) for entry in tracks["attack"]]
        yield Board(suite, "attack", None, attacks=tuple(sorted(attack_rows, key=_attack_order)))


def strata_of(board: Board) -> tuple[Stratum, ...]:
    """Return the strata of a board."""
    return board.suite.strata if board.division is None else board.suite.division(board.division)


def common_flags(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the names of the flags that every scored row has, in the order of the first one."""
    names = [dict.fromkeys(flag.name for flag in row.flags) for row in rows if row.score]
    return tuple(name for name in names[0] if all(name in row_names for row_names in names)) if names else ()


def damage(clean: Sequence[np.ndarray], attacked: Sequence[np.ndarray]) -> Interval:
    """Return the mean of clean - attacked scores over pairs of cells, with Student's interval over seeds.

    Args:
        clean: Scores without the attack, [n] for each pair of a stratum and an algorithm.
        attacked: Scores under the attack, in the same order.

    Returns:
        The mean and its 95 % interval; no interval below `MIN_SEEDS` seeds.

    Example:
        >>> loss = damage([np.full(4, 0.9)], [np.full(4, 0.4)])
        >>> print(f"{loss.value:.2f} ({loss.low:.2f} to {loss.high:.2f})")
        0.50 (0.42 to 0.58)
    """
    by_seed = np.mean([before - after for before, after in zip(clean, attacked, strict=True)], axis=0)
    difference = paired_difference(by_seed)
    return Interval(difference.value, difference.low, difference.high)


def _board(suite: Suite, division: Division, rows: Sequence[Row]) -> Board:
    ranked = sorted((row for row in rows if not row.unranked), key=_order)
    runs = [row.runs for row in ranked if row.runs]
    ranges = rank_ranges(runs)
    names = [row.entry.submission.entry.name for row in ranked]
    pairs = separated(runs)
    return Board(
        suite=suite,
        track="defence",
        division=division,
        rows=(
            *(replace(row, ranks=ranks) for row, ranks in zip(ranked, ranges, strict=True)),
            *sorted((row for row in rows if row.unranked), key=_order),
        ),
        separation=describe_separation(names, pairs) if len(ranked) > 1 else None,
        tied=tuple(tied_groups(len(ranked), pairs)),
        common_flags=common_flags(rows),
    )


def _order(row: Row) -> tuple[float, str]:
    return -row.score.worst.value if row.score else np.inf, row.entry.slug


def _attack_order(row: AttackRow) -> tuple[bool, float, str]:
    return bool(row.unranked), -row.damage.value if row.damage else np.inf, row.entry.slug


def _complete(entry: Entry, suite: Suite) -> bool:
    """Return whether an entry has every cell of one division."""
    try:
        for stratum in entry.strata(suite):
            for attack in suite.attacks_of(stratum):
                entry.areas(suite, stratum, attack)
    except Refused:
        return False
    division = entry.division(suite)
    return division is not None and entry.strata(suite) == suite.division(division)


def _attack_row(entry: Entry, suite: Suite, superseded: bool) -> AttackRow:
    attack, units = str(entry.submission.method.attack), reference_returns(entry, suite)
    pairs = {
        (stratum.name, a.spec): [
            cell_scores(entry.areas(suite, stratum, name, a.spec), stratum.random, units[stratum.name])
            for name in (CLEAN, attack)
        ]
        for stratum in (entry.strata(suite) if units else ())
        for a in suite.algorithms
        if units and a.division == stratum.division
    }
    losses: dict[str, dict[str, float]] = {}
    for (stratum_name, algorithm), (clean, attacked) in pairs.items():
        losses.setdefault(stratum_name, {})[algorithm] = float((clean - attacked).mean())
    total = damage([clean for clean, _ in pairs.values()], [after for _, after in pairs.values()]) if pairs else None
    failed = sum(cell.status != "ok" for cell in entry.cells)
    return AttackRow(entry, total, losses, failed, unranked_reasons(entry, superseded, scored=total is not None))
