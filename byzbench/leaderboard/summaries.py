"""Texts for commands: a row as Markdown for a pull request, and the lines of a verification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from byzbench.leaderboard.boards import AttackRow, boards
from byzbench.leaderboard.documents import Finding
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.replay import ReplayResult
from byzbench.leaderboard.rows import Row, Settings
from byzbench.leaderboard.suites import Suite
from byzbench.reports.estimators import Interval

_COLUMNS = ("score", "cross-fitted", "CVaR", "clean", "retention", "worst attack")


def markdown(entry: Entry, suite: Suite, folder: Path) -> str:
    """Return a submission as Markdown: its row, its flags, and the command that verifies it.

    Args:
        entry: The submission.
        suite: Its suite.
        folder: The path of its folder.
    """
    submission = entry.submission
    written = submission.method.as_written.model_dump(exclude_none=True)
    method = "; ".join(
        f"{task}{', '.join(f'{key} `{value}`' for key, value in options.items())}"
        for task, options in (
            ("", written),
            *((f"`{part.task}`: ", part.options) for part in submission.method.tasks or ()),
        )
    )
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
    """Yield the scores of a row as a table, or why it is not ranked; and its flags."""
    score = row.score
    if score is None:
        yield f"Not ranked: {', '.join(row.unranked)}"
    else:
        retention, defined, total = score.mean_retention()
        share = f"({defined} of {total})" if retention is None else f"{retention:.3f} ({defined} of {total})"
        crossfit = "" if score.crossfit is None else f"{score.crossfit:.3f}"
        attacks = ", ".join(f"`{attack}`" for attack in row.named_attacks) or "none did harm"
        cells = [_interval(score.worst), crossfit, f"{score.cvar:.3f}", _interval(score.clean), share]
        yield f"| {' | '.join(_COLUMNS)} |"
        yield "|---" * len(_COLUMNS) + "|"
        yield f"| {' | '.join([*cells, attacks])} |"
        yield ""
    yield from sorted({f"- {flag.name}: {flag.why}" for flag in row.flags})


def _interval(estimate: Interval) -> str:
    ends = "" if estimate.low is None else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.value:.3f}{ends}"


def _damage(row: AttackRow) -> str:
    if row.damage is None:
        return f"Not ranked: {', '.join(row.unranked)}"
    by = "; ".join(f"{s} {a} {x:.3f}" for s, algorithms in row.by.items() for a, x in algorithms.items())
    return f"damage {_interval(row.damage)}: {by}"


def _plain(text: str) -> str:
    """Return a text with the special characters of Markdown escaped."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-.!|@:" else c for c in text)


def verdict_lines(
    folder: Path, findings: Sequence[Finding], refused: bool, replay: ReplayResult | None
) -> Iterator[str]:
    """Yield the lines of a verification; the first one is the verdict.

    Args:
        folder: The folder of the submission.
        findings: The findings of the checks.
        refused: Whether one of the findings is fatal.
        replay: The result of the replay; None if nothing was replayed.
    """
    if replay is None:
        yield f"{folder.name}: {'refused' if refused else 'passed the checks; nothing was replayed'}"
    else:
        yield f"{folder.name}: {replay}"
    yield from map(str, findings)
    if replay is not None:
        yield from replay_lines(replay)
        yield f"drawn with --salt {replay.salt}"


def replay_lines(replay: ReplayResult) -> Iterator[str]:
    """Yield a line for each replayed cell and each test."""
    width = max(len(cell.verdict) for cell in replay.cells)
    for cell in replay.cells:
        yield f"{cell.verdict:<{width}}  {cell.cell}  {cell.place}: {cell.evidence}"
    yield from map(str, replay.comparisons)
