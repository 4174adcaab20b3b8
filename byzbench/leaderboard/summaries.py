"""Texts that the commands print: a row as markdown for a pull request, and the result of a verification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from byzbench.leaderboard.boards import AttackRow, boards
from byzbench.leaderboard.documents import Finding
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.replay import Replay
from byzbench.leaderboard.rows import Row, Settings
from byzbench.leaderboard.suites import Suite
from byzbench.reports.estimators import Interval

_COLUMNS = ("score", "cross-fitted", "CVaR", "clean", "retention", "worst attack")


def markdown(entry: Entry, suite: Suite, folder: Path) -> str:
    """Return a submission in a few lines: its row, its flags, and the command that verifies it.

    Args:
        entry: the submission.
        suite: its suite.
        folder: where it lies.
    """
    submission = entry.submission
    method = ", ".join(f"{k} `{v}`" for k, v in submission.method.model_dump(exclude_none=True).items())
    failed = sum(cell.status != "ok" for cell in entry.cells)
    lines = [
        f"## {_plain(submission.entry.name)} on {suite.name}",
        "",
        f"{method}; {Settings.of(entry).origin}; {len(entry.cells)} cells, {failed} of them not ok",
        "",
    ]
    for board in boards(suite, [entry]):
        for row in board.rows:
            lines += _row_lines(row)
        lines += map(_damage, board.attacks)
    command = f"byzbench leaderboard verify {folder}"
    return "\n".join([*lines, "", f"Verify: `{command}` (submission {entry.digest[:16]})"])


def _row_lines(row: Row) -> Iterator[str]:
    s = row.score
    if s is None:
        yield f"Not ranked: {', '.join(row.unranked)}"
    else:
        retention, defined, total = s.mean_retention()
        share = "" if retention is None else f"{retention:.3f} "
        crossfit = "" if s.crossfit is None else f"{s.crossfit:.3f}"
        attacks = ", ".join(f"`{attack}`" for attack in row.named_attacks) or "none did harm"
        cells = [_interval(s.worst), crossfit, f"{s.cvar:.3f}", _interval(s.clean), f"{share}({defined} of {total})"]
        yield f"| {' | '.join(_COLUMNS)} |"
        yield "|---" * len(_COLUMNS) + "|"
        yield f"| {' | '.join([*cells, attacks])} |"
        yield ""
    yield from sorted({f"- {flag.name}: {flag.why}" for flag in row.flags})


def _interval(found: Interval) -> str:
    ends = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{found.value:.3f}{ends}"


def _damage(row: AttackRow) -> str:
    if row.damage is None:
        return f"Not ranked: {', '.join(row.unranked)}"
    by = "; ".join(f"{s} {a} {x:.3f}" for s, algorithms in row.by.items() for a, x in algorithms.items())
    return f"damage {_interval(row.damage)}: {by}"


def _plain(text: str) -> str:
    """Return a text with the characters escaped that markdown would interpret."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-.!|@:" else c for c in text)


def verdict_lines(folder: Path, findings: Sequence[Finding], refused: bool, replay: Replay | None) -> Iterator[str]:
    """Yield the lines of a verification; the last one is the verdict."""
    yield from map(str, findings)
    if replay is not None:
        yield from replay_lines(replay)
        yield f"drawn with --salt {replay.salt}"
        yield f"{folder.name}: {replay}"
    else:
        yield f"{folder.name}: {'refused' if refused else 'the checks find nothing wrong; nothing was replayed'}"


def replay_lines(replay: Replay) -> Iterator[str]:
    """Yield a line for each cell that was replayed and each test."""
    width = max(len(cell.verdict) for cell in replay.cells)
    for cell in replay.cells:
        yield f"{cell.verdict:<{width}}  {cell.cell}  {cell.place}: {cell.evidence}"
    yield from map(str, replay.comparisons)
