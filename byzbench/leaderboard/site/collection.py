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
from byzbench.leaderboard.entries import Entry, scan
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
    """Entries by suite, track and slug, their boards in the order in which they are listed, and the last audit.

    Attributes:
        suites: those that are open. closed: the names of the others, whose rows are not shown.
        entries: those of open suites, without missing cells.
        boards: of all suites.
        audit: see there.
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
        """Entries that stand on no board: attacks aimed at others, and reported ones with missing cells."""
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
        found: dict[str, list[tuple[Suite, Stratum]]] = {}
        for one in self.suites:
            for stratum in one.strata:
                found.setdefault(head(stratum.topology), []).append((one, stratum))
        return dict(sorted(found.items()))


def head(spec: str) -> str:
    """Return the name of a component without its parameters: letters, digits and underscores."""
    return re.split(r"\W", spec, maxsplit=1, flags=re.ASCII)[0].lower()


def collect(submissions: Path) -> tuple[Collection, list[Finding]]:
    """Return the content of a site, and the findings about submissions that are left out.

    Submissions of closed suites are left out without a finding.

    Args:
        submissions: the folder of submissions; `audit.json` lies beside it.
    """
    found, findings = scan(submissions)
    entries = []
    for entry in (entry for entry in found if entry.submission.suite not in CLOSED):
        if why := _unfit(entry):
            findings.append(why)
        else:
            entries.append(entry)
    opened = tuple(suite(name) for name in suites() if name not in CLOSED)
    made = tuple(board for one in opened for board in boards(one, entries))
    closed = tuple(name for name in suites() if name in CLOSED)
    return Collection(opened, tuple(entries), made, Audit.read(submissions.parent / "audit.json"), closed), findings


def _unfit(entry: Entry) -> Finding | None:
    """Return why an entry can stand on no board of its suite; None if it can."""
    about = entry.submission
    where = f"{about.suite}/{about.track}/{entry.slug}"
    try:
        its = suite(about.suite)
        if its.sha256 != about.suite_sha256:
            return Finding("suite", f"{where}/submission.json $.suite_sha256", f"is of another {its.name}")
    except UserError as error:
        return Finding("suite", f"{where}/submission.json $.suite", str(error))
    given = {name for name in ("algo", "attack", "against") if getattr(about.method, name)}
    if given != NAMED[about.track]:
        wanted = " and ".join(sorted(NAMED[about.track]))
        return Finding("method", f"{where}/submission.json $.method", f"must name {wanted}")
    division = None if about.track == "attack" else entry.division(its)
    if about.track != "attack" and division is None:
        return Finding("completeness", f"{where}/cells.jsonl", "has cells of no division, or of several")
    wanted_cells = {place.key for place in its.places(about.track, about.method, division)}
    if len(entry.at) < len(entry.cells) or set(entry.at) - wanted_cells:
        return Finding("completeness", f"{where}/cells.jsonl", "has cells that are not the suite's, or a cell twice")
    missing = len(wanted_cells) - len(entry.at) if about.track != "reported" else 0
    return Finding("completeness", f"{where}/cells.jsonl", f"{missing} cells are missing") if missing else None


def board_path(board: Board) -> str:
    """Return the path of the page of a board. No word in it has a dot."""
    words = [board.suite.name, board.track, *([board.division] if board.division else [])]
    return f"boards/{'.'.join(map(str, words))}.html"


def entry_path(entry: Entry) -> str:
    """Return the path of the page of an entry."""
    return f"entries/{entry.submission.suite}.{entry.submission.track}.{entry.slug}.html"


def attack_path(spec: str) -> str:
    """Return the path of the page of an attack."""
    return f"attacks/{head(spec)}.html"


def topology_path(spec: str) -> str:
    """Return the path of the page of a graph."""
    return f"topologies/{head(spec)}.html"
