"""Audits: cells of every row replayed with the code that is here, and what came of it by engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from byzbench.canonical import SCHEMA
from byzbench.errors import StorageError
from byzbench.experiments.executors import Executor
from byzbench.experiments.files import parse_object, read_bytes
from byzbench.experiments.migrations import migrate
from byzbench.identity import ENGINE
from byzbench.leaderboard.checks import check
from byzbench.leaderboard.entries import Entry, scan
from byzbench.leaderboard.replay import replay
from byzbench.leaderboard.schema import Digest, Line, Part, Positive, validate, write
from byzbench.leaderboard.summaries import replay_lines

LIMIT = 16 * 2**20


class AuditedRow(Part):
    """What an audit by one engine saw of a row.

    Attributes:
        engine: of the code that replayed it.
        verdict: of the cells that were drawn.
        cells: how many they were. salt: what the draw followed from.
    """

    engine: Positive
    verdict: Literal["exact", "consistent", "mismatch"]
    cells: Positive
    salt: Line

    def __str__(self) -> str:
        return f"{'contradicted' if self.verdict == 'mismatch' else self.verdict} at engine {self.engine}"


class Audit(Part):
    """The document of all audits: `leaderboards/audit.json`.

    Attributes:
        version: its schema number.
        rows: by the digest of a submission, the last audit of each engine, by engine.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)] = SCHEMA
    rows: dict[Digest, tuple[AuditedRow, ...]] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Audit:
        """Read it from its file; there are no rows in one that does not exist.

        Raises:
            CorruptRecord: it is none, or was made by a newer byzbench.
            Refused: it holds something else.
        """
        try:
            content = read_bytes(path, LIMIT)
        except FileNotFoundError:
            return cls()
        return validate(cls, migrate("audit", parse_object(content, path), path), path.name)

    def write(self, path: Path) -> None:
        """Write it, rows in order.

        Raises:
            StorageError: it cannot be written.
        """
        ordered = self.model_copy(update={"version": SCHEMA, "rows": dict(sorted(self.rows.items()))})
        try:
            path.write_bytes(write(ordered))
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None

    def with_row(self, digest: str, outcome: AuditResult) -> Audit:
        """Return it with what came of a row, in the place of the same engine's earlier audit."""
        if (row := outcome.row) is None:
            return self
        others = (one for one in self.rows.get(digest, ()) if one.engine != row.engine)
        ordered = tuple(sorted((*others, row), key=lambda one: one.engine))
        return self.model_copy(update={"rows": {**self.rows, digest: ordered}})

    def __getitem__(self, digest: str) -> str:
        """Return what was seen of a row, in words; empty if nothing was."""
        return ", ".join(map(str, self.rows.get(digest, ())))


@dataclass(frozen=True)
class AuditResult:
    """What came of a row.

    Attributes:
        words: in a few words.
        evidence: a line for each thing that speaks against it, or kept it from being replayed.
        exit_code: see `byzbench.leaderboard.replay.Replay.exit_code`.
        row: what is written down, if it was replayed.
    """

    words: str
    evidence: tuple[str, ...] = ()
    exit_code: int = 0
    row: AuditedRow | None = None

    def __str__(self) -> str:
        return self.words


def audited_entries(submissions: Path, suite: str | None = None) -> Iterator[tuple[Entry, Path]]:
    """Yield every entry that can be read, with its folder.

    Args:
        submissions: the folder of all.
        suite: a name, to take the entries of one suite alone.
    """
    for entry in scan(submissions)[0]:
        about = entry.submission
        if suite in (None, about.suite):
            yield entry, submissions / about.suite / about.track / entry.slug


def audit_row(folder: Path, entry: Entry, cells: int, salt: str, store: Path, executor: Executor) -> AuditResult:
    """Replay cells of an entry, on its own seeds alone.

    Args:
        folder: of the submission.
        entry: the submission.
        cells: how many are drawn.
        salt: what the draw follows from.
        store: an empty folder that is the executor's.
        executor: who runs them.
    """
    if not entry.submission.replayable:
        return AuditResult("cannot be replayed")
    report = check(folder, folder.parents[2])
    if report.refused or report.lot is None:
        return AuditResult("refused", tuple(str(finding) for finding in report.findings if finding.fatal), 1)
    result = replay(entry, report.lot, cells, salt, store, executor, own_seeds_only=True)
    if result.verdict == "infrastructure":
        return AuditResult("could not be replayed", tuple(replay_lines(result)), result.exit_code)
    row = AuditedRow(engine=ENGINE, verdict=result.verdict, cells=len(result.cells), salt=salt)
    evidence = tuple(replay_lines(result)) if result.verdict == "mismatch" else ()
    return AuditResult(f"{row}, {row.cells} cell{'s' * (row.cells > 1)}", evidence, result.exit_code, row)
