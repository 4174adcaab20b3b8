"""What the verbs print: a row as markdown for a pull request, and what came of a verification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from byzbench.leaderboard.boards import AttackRow, Row, boards
from byzbench.leaderboard.documents import Finding
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.replay import Replay
from byzbench.leaderboard.scoring import Bracket
from byzbench.leaderboard.suites import Suite


def markdown(entry: Entry, suite: Suite, folder: Path) -> str:
    """A submission in a few lines: its row at every level of knowledge, and the command that verifies it."""
    submission = entry.submission
    method = ", ".join(f"{k} `{v}`" for k, v in submission.method.model_dump(exclude_none=True).items())
    lines = [
        f"## {_plain(submission.entry.name)} on {suite.name}",
        "",
        f"{method}; {'tuned' if submission.tuning else 'untuned'}; {len(entry.cells)} cells, "
        f"{sum(cell.status != 'ok' for cell in entry.cells)} of them not ok",
        "",
        "| adversary | clean | mean | worst | bracket | gap | worst attack |",
        "|---|---|---|---|---|---|---|",
    ]
    if submission.track not in ("defence", "reported"):
        lines = lines[:-2]
    for board in boards(suite, [entry]):
        for row in board.rows:
            lines.append(_line(board.knowledge, row))
        for attack in board.attacks:
            lines.append(_damage(attack))
    for flag in _flags(suite, entry):
        lines.append(f"- {flag}")
    command = f"byzbench leaderboard verify {folder}"
    return "\n".join([*lines, "", f"Verify: `{command}` (submission {entry.digest[:16]})"])


def _line(level: str, row: Row) -> str:
    s = row.score
    bracket = f"{s.bracket[0]:.3f} to {s.bracket[1]:.3f}" if s.bracket else ""
    attacks = ", ".join(f"`{a}`" for a in dict.fromkeys(s.attack.values()))
    cells = [level, f"{s.clean.value:.3f}", f"{s.mean:.3f}", _bracketed(s.worst), bracket, f"{s.gap:.3f}", attacks]
    return f"| {' | '.join(cells)} |"


def _bracketed(b: Bracket) -> str:
    return f"{b.value:.3f}" if b.low is None else f"{b.value:.3f} ({b.low:.3f} to {b.high:.3f})"


def _damage(row: AttackRow) -> str:
    by = "; ".join(f"{s} {a} {x:.3f}" for s, algorithms in row.by.items() for a, x in algorithms.items())
    return f"damage {_bracketed(row.damage)}: {by}"


def _flags(suite: Suite, entry: Entry) -> Iterator[str]:
    found = {f"{flag.name}: {flag.why}" for board in boards(suite, [entry]) for row in board.rows for flag in row.flags}
    yield from sorted(found)


def _plain(text: str) -> str:
    """A text in which markdown sees nothing to do."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-.!|@:" else c for c in text)


def verdict_lines(folder: Path, findings: Sequence[Finding], refused: bool, replay: Replay | None) -> Iterator[str]:
    """Yield what came of a verification, a line each; the last one is the verdict."""
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
