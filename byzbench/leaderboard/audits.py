"""Audits: replays of a few cells of every row with the installed code, and their results by engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from byzbench.canonical import SCHEMA
from byzbench.errors import StorageError
from byzbench.identity import ENGINE
from byzbench.leaderboard.checks import check_submission
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.entries import Entry, scan_entries
from byzbench.leaderboard.replay import replay_entry
from byzbench.leaderboard.runners import LocalRunner
from byzbench.leaderboard.schema import Digest, Document, Line, Positive, encode_document, validate
from byzbench.leaderboard.stand_ins import plugins_stood_in
from byzbench.leaderboard.summaries import replay_lines
from byzbench.leaderboard.verification import sandbox_runner
from byzbench.records.files import parse_object, read_bytes
from byzbench.records.migrations import migrate
from byzbench.sweeps.executors import Executor

LIMIT = 16 * 2**20
"""Largest size of an audit file, in bytes."""


class AuditedRow(Document):
    """The result of an audit of a row by one engine.

    Attributes:
        engine: The engine of the code that replayed the row.
        verdict: The verdict on the drawn cells.
        cells: Number of drawn cells.
        salt: The salt of the draw.

    Example:
        >>> str(AuditedRow(engine=2, verdict="mismatch", cells=3, salt="0f"))
        'contradicted at engine 2'
    """

    engine: Positive
    verdict: Literal["exact", "consistent", "mismatch"]
    cells: Positive
    salt: Line

    def __str__(self) -> str:
        return f"{'contradicted' if self.verdict == 'mismatch' else self.verdict} at engine {self.engine}"


class Audit(Document):
    """The document of all audits, `leaderboards/audit.json`.

    Attributes:
        version: The schema number of the document.
        rows: By the digest of a submission, the last audit of each engine, in the order of engines.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)] = SCHEMA
    rows: dict[Digest, tuple[AuditedRow, ...]] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Audit:
        """Read the document from a file; a file that does not exist has no rows.

        Raises:
            CorruptRecord: The file is not a JSON object, or was written by a newer byzbench.
            Refused: The object is not an audit.
        """
        try:
            content = read_bytes(path, LIMIT)
        except FileNotFoundError:
            return cls()
        return validate(cls, migrate("audit", parse_object(content, path), path), path.name)

    def write(self, path: Path) -> None:
        """Write the document, with its rows in the order of digests.

        Raises:
            StorageError: The file cannot be written.
        """
        ordered = self.model_copy(update={"version": SCHEMA, "rows": dict(sorted(self.rows.items()))})
        try:
            path.write_bytes(encode_document(ordered))
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None

    def with_row(self, digest: str, outcome: AuditResult) -> Audit:
        """Return the document with the result of a row; it replaces an earlier result of the same engine.

        Args:
            digest: The digest of the submission.
            outcome: The result; one without a row changes nothing.
        """
        if (row := outcome.row) is None:
            return self
        other_engines = (audited for audited in self.rows.get(digest, ()) if audited.engine != row.engine)
        ordered = tuple(sorted((*other_engines, row), key=lambda audited: audited.engine))
        return self.model_copy(update={"rows": {**self.rows, digest: ordered}})

    def __getitem__(self, digest: str) -> str:
        """Return the results of a row as a text, empty for a row that was not audited."""
        return ", ".join(map(str, self.rows.get(digest, ())))


@dataclass(frozen=True)
class AuditResult:
    """The result of the audit of a row.

    Attributes:
        words: The result in a few words.
        evidence: A line for each contradiction, or for each reason why the row was not replayed.
        exit_code: The exit code, as in `byzbench.leaderboard.replay.Replay.exit_code`.
        row: The result that is recorded; None of a row that was not replayed.
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
        submissions: The folder of all submissions.
        suite: The name of the suite whose entries are taken; None for all suites.
    """
    for entry in scan_entries(submissions)[0]:
        submission = entry.submission
        if suite in (None, submission.suite):
            yield entry, submissions / submission.suite / submission.track / entry.slug


def audit_row(folder: Path, entry: Entry, cells: int, salt: str, store: Path, executor: Executor) -> AuditResult:
    """Replay cells of an entry on the seeds of the suite, and return the result.

    Args:
        folder: The folder of the submission.
        entry: The submission.
        cells: Number of cells to draw.
        salt: The salt of the draw.
        store: An empty folder that the executor writes to.
        executor: The executor that runs the cells.

    Returns:
        The result; it has no row where the entry cannot be replayed or is refused by the checks.
    """
    if not entry.submission.replayable:
        return AuditResult("cannot be replayed")
    try:
        with plugins_stood_in(entry):
            report = check_submission(folder, folder.parents[2])
            if report.refused or report.submission_plan is None:
                raise Refused([finding for finding in report.findings if finding.fatal])
            runner = sandbox_runner() if entry.submission.code.plugins else LocalRunner(store, executor)
            result = replay_entry(entry, report.submission_plan, cells, salt, runner, own_seeds_only=True)
    except Refused as error:
        return AuditResult("refused", tuple(map(str, error.findings)), 1)
    if result.verdict == "refused":
        return AuditResult("refused", tuple(replay_lines(result)), result.exit_code)
    if result.verdict == "infrastructure" or result.verdict == "undecided":
        words = "undecided" if result.verdict == "undecided" else "could not be replayed"
        return AuditResult(words, tuple(replay_lines(result)), result.exit_code)
    row = AuditedRow(engine=ENGINE, verdict=result.verdict, cells=len(result.cells), salt=salt)
    evidence = tuple(replay_lines(result)) if result.verdict == "mismatch" else ()
    return AuditResult(f"{row}, {row.cells} cell{'s' * (row.cells > 1)}", evidence, result.exit_code, row)
