"""What a site shows: all entries that are whole, the boards made of them, and where each entry stands on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from byzbench.errors import UserError
from byzbench.leaderboard.audits import Audit
from byzbench.leaderboard.boards import AttackRow, Board, Row, boards
from byzbench.leaderboard.documents import Finding
from byzbench.leaderboard.entries import Entry, scan
from byzbench.leaderboard.suites import CLEAN, Stratum, Suite, suite, suites

NAMED = {
    "defence": {"algo"},
    "reported": {"algo"},
    "attack": {"attack"},
    "adaptive": {"algo", "attack", "against"},
}
"""What the method of an entry names, by track."""


@dataclass(frozen=True)
class Collection:
    """Entries by suite, track and slug, their boards in the order in which they are listed, and the last audit."""

    suites: tuple[Suite, ...]
    entries: tuple[Entry, ...]
    boards: tuple[Board, ...]
    audit: Audit = field(default_factory=Audit)

    @cached_property
    def rows(self) -> Mapping[str, Sequence[tuple[Board, Row]]]:
        """By the digest of an entry: every row it has in the tracks defence and reported, the last board's last."""
        return _by_entry((row.entry, (board, row)) for board in self.boards for row in board.rows)

    @cached_property
    def harm(self) -> Mapping[str, Sequence[AttackRow]]:
        """By the digest of an entry of the track attack: its row."""
        return _by_entry((row.entry, row) for board in self.boards for row in board.attacks)

    @cached_property
    def unlisted(self) -> Sequence[Entry]:
        """Entries that stand on no board: attacks aimed at others, and what was reported with gaps."""
        return [e for e in self.entries if e.digest not in self.rows and e.digest not in self.harm]

    def suite(self, entry: Entry) -> Suite:
        """The suite of an entry."""
        return next(s for s in self.suites if s.name == entry.submission.suite)

    def of(self, one: Suite) -> Sequence[Board]:
        """The boards of a suite."""
        return [board for board in self.boards if board.suite.name == one.name]

    def last(self, one: Suite) -> Sequence[Board]:
        """The boards of a suite on which every one of its attacks counts: one for each division."""
        return [*{board.division: board for board in self.of(one) if board.division}.values()]

    @cached_property
    def attacks(self) -> Mapping[str, Sequence[str]]:
        """Every attack of a suite or of an entry, as it is written, by the name of its component."""
        written = {a.spec for s in self.suites for a in s.attacks if a.spec != CLEAN}
        written |= {a for e in self.entries if (a := e.submission.method.attack)}
        return {name: sorted(s for s in written if head(s) == name) for name in sorted(set(map(head, written)))}

    @cached_property
    def topologies(self) -> Mapping[str, Sequence[tuple[Suite, Stratum]]]:
        """Every stratum, by the name of its graph."""
        found: dict[str, list[tuple[Suite, Stratum]]] = {}
        for one in self.suites:
            for stratum in one.strata:
                found.setdefault(head(stratum.topology), []).append((one, stratum))
        return dict(sorted(found.items()))


def _by_entry(pairs: Iterator[tuple[Entry, object]]) -> Mapping[str, list]:
    found: dict[str, list] = {}
    for entry, row in pairs:
        found.setdefault(entry.digest, []).append(row)
    return found


def head(spec: str) -> str:
    """The name of a component, without what stands inside it; letters, digits and low lines."""
    return re.split(r"\W", spec, maxsplit=1, flags=re.ASCII)[0].lower()


def collect(submissions: Path) -> tuple[Collection, list[Finding]]:
    """Return all that lies below a folder of submissions, with the audit beside it, and what is wrong with the rest."""
    found, findings = scan(submissions)
    entries = []
    for entry in found:
        if why := _unfit(entry):
            findings.append(why)
        else:
            entries.append(entry)
    known = tuple(suite(name) for name in suites())
    found_boards = tuple(b for s in known for b in boards(s, entries))
    return Collection(known, tuple(entries), found_boards, Audit.read(submissions.parent / "audit.json")), findings


def _unfit(entry: Entry) -> Finding | None:
    """Why an entry has no place on a board of its suite."""
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
    """Where the page of a board lies. No word in it has a dot."""
    words = [board.suite.name, board.track, *([board.division, board.knowledge] if board.division else [])]
    return f"boards/{'.'.join(map(str, words))}.html"


def entry_path(entry: Entry) -> str:
    """Where the page of an entry lies."""
    return f"entries/{entry.submission.suite}.{entry.submission.track}.{entry.slug}.html"


def attack_path(spec: str) -> str:
    """Where the page of an attack lies."""
    return f"attacks/{head(spec)}.html"


def topology_path(spec: str) -> str:
    """Where the page of a graph lies."""
    return f"topologies/{head(spec)}.html"
