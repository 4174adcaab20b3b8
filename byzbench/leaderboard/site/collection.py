"""The content of a site: the entries of open suites, the boards made of them, and the rows of each entry."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from byzbench.errors import UserError
from byzbench.leaderboard.audits import Audit
from byzbench.leaderboard.boards import AttackRow, Board, boards
from byzbench.leaderboard.documents import Finding
from byzbench.leaderboard.entries import Entry, scan_entries
from byzbench.leaderboard.rows import Row
from byzbench.leaderboard.suites import CLEAN, CLOSED, Stratum, Suite, suite, suites

NAMED = {
    "defence": {"algo"},
    "reported": {"algo"},
    "attack": {"attack"},
    "adaptive": {"algo", "attack", "against"},
}
"""The fields of `method` that an entry must fill, by track."""


@dataclass(frozen=True)
class Collection:
    """The content of a site.

    Attributes:
        suites: The open suites.
        entries: The entries of open suites, by suite, track and slug.
        boards: The boards of all open suites, in the order in which they are listed.
        audit: The results of audits.
        closed: Names of closed suites, whose rows are not shown.
    """

    suites: tuple[Suite, ...]
    entries: tuple[Entry, ...]
    boards: tuple[Board, ...]
    audit: Audit = field(default_factory=Audit)
    closed: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> Mapping[str, tuple[Board, Row]]:
        """Rows of the tracks defence and reported with their boards, by the digest of the entry."""
        return {row.entry.digest: (board, row) for board in self.boards for row in board.rows}

    @cached_property
    def harm(self) -> Mapping[str, AttackRow]:
        """Rows of the track attack, by the digest of the entry."""
        return {row.entry.digest: row for board in self.boards for row in board.attacks}

    @cached_property
    def unlisted(self) -> Sequence[Entry]:
        """Entries on no board: adaptive attacks, and reported entries with missing cells."""
        return [e for e in self.entries if e.digest not in self.rows and e.digest not in self.harm]

    def suite(self, entry: Entry) -> Suite:
        """Return the suite of an entry."""
        return next(s for s in self.suites if s.name == entry.submission.suite)

    def of(self, one: Suite) -> Sequence[Board]:
        """Return the boards of a suite."""
        return [board for board in self.boards if board.suite.name == one.name]

    @cached_property
    def attacks(self) -> Mapping[str, Sequence[str]]:
        """Attacks of suites and of entries, as they are written, by the name of the component."""
        written = {a.spec for s in self.suites for a in s.attacks if a.spec != CLEAN}
        written |= {a for e in self.entries if (a := e.submission.method.attack)}
        return {name: sorted(s for s in written if head(s) == name) for name in sorted(set(map(head, written)))}

    @cached_property
    def topologies(self) -> Mapping[str, Sequence[tuple[Suite, Stratum]]]:
        """Strata of all suites, by the name of the graph."""
        by_name: dict[str, list[tuple[Suite, Stratum]]] = {}
        for opened in self.suites:
            for stratum in opened.strata:
                by_name.setdefault(head(stratum.topology), []).append((opened, stratum))
        return dict(sorted(by_name.items()))


def head(spec: str) -> str:
    """Return the name of a component without its parameters, in lower case.

    Example:
        >>> head("split_brain(alie(z=1.5))")
        'split_brain'
    """
    return re.split(r"\W", spec, maxsplit=1, flags=re.ASCII)[0].lower()


def collect_entries(submissions: Path) -> tuple[Collection, list[Finding]]:
    """Read the content of a site.

    Args:
        submissions: The folder of submissions; the file `audit.json` is beside it.

    Returns:
        The content, and the findings about submissions that are left out. Those of closed suites are left out without
        a finding.
    """
    readable, findings = scan_entries(submissions)
    entries = []
    for entry in (entry for entry in readable if entry.submission.suite not in CLOSED):
        if finding := _problem(entry):
            findings.append(finding)
        else:
            entries.append(entry)
    opened = tuple(suite(name) for name in suites() if name not in CLOSED)
    all_boards = tuple(board for each in opened for board in boards(each, entries))
    closed = tuple(name for name in suites() if name in CLOSED)
    audit = Audit.read(submissions.parent / "audit.json")
    return Collection(opened, tuple(entries), all_boards, audit, closed), findings


def _problem(entry: Entry) -> Finding | None:
    """Return why an entry cannot be on a board of its suite; None if it can."""
    submission = entry.submission
    where = f"{submission.suite}/{submission.track}/{entry.slug}"
    try:
        board = suite(submission.suite)
        if board.sha256 != submission.suite_sha256:
            what = f"is not the sha256 of {board.name}"
            return Finding("suite", f"{where}/submission.json $.suite_sha256", what)
    except UserError as error:
        return Finding("suite", f"{where}/submission.json $.suite", str(error))
    present = {name for name in ("algo", "attack", "against") if getattr(submission.method, name)}
    if present != NAMED[submission.track]:
        required = " and ".join(sorted(NAMED[submission.track]))
        return Finding("method", f"{where}/submission.json $.method", f"must name {required}")
    division = None if submission.track == "attack" else entry.division(board)
    if submission.track != "attack" and division is None:
        return Finding("completeness", f"{where}/cells.jsonl", "must have cells of one division")
    expected = {place.key for place in board.places(submission.track, submission.method, division)}
    if len(entry.cells_by_key) < len(entry.cells) or set(entry.cells_by_key) - expected:
        return Finding("completeness", f"{where}/cells.jsonl", "has cells that are not of the suite, or a cell twice")
    missing = len(expected) - len(entry.cells_by_key) if submission.track != "reported" else 0
    return Finding("completeness", f"{where}/cells.jsonl", f"{missing} cells are missing") if missing else None


def board_path(board: Board) -> str:
    """Return the path of the page of a board. Its parts are separated by dots, and have none."""
    parts = [board.suite.name, board.track, *([board.division] if board.division else [])]
    return f"boards/{'.'.join(map(str, parts))}.html"


def entry_path(entry: Entry) -> str:
    """Return the path of the page of an entry."""
    return f"entries/{entry.submission.suite}.{entry.submission.track}.{entry.slug}.html"


def attack_path(spec: str) -> str:
    """Return the path of the page of an attack."""
    return f"attacks/{head(spec)}.html"


def topology_path(spec: str) -> str:
    """Return the path of the page of a graph."""
    return f"topologies/{head(spec)}.html"
