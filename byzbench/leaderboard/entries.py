"""Entries: submissions read from their folders. The files are untrusted, and nothing in them is run."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from byzbench.canonical import to_current
from byzbench.errors import CorruptRecord, UnknownName, UserError, suggest
from byzbench.leaderboard.documents import Finding, Refused, text_offence
from byzbench.leaderboard.exchangeability import area
from byzbench.leaderboard.schema import (
    FILES,
    LIMITS,
    Cell,
    Division,
    Submission,
    read_cells,
    read_submission,
    sha256_of,
)
from byzbench.leaderboard.suites import Stratum, Suite
from byzbench.records.files import read_bytes


@dataclass(frozen=True)
class Entry:
    """A submission and its cells.

    Attributes:
        submission: The content of `submission.json`.
        cells: The lines of `cells.jsonl`.
        digest: The digest of both files, by which `supersedes` names the entry.
        notes: The text of NOTES.md; it is shown as text and never as markup.
    """

    submission: Submission
    cells: tuple[Cell, ...]
    digest: str
    notes: str = ""

    @property
    def slug(self) -> str:
        """The name of the entry's folder."""
        return self.submission.entry.slug

    @cached_property
    def algorithm(self) -> str:
        """The name that the entry's algorithm has today; empty if the submission has no resolved algorithm."""
        return next((str(described["name"]) for described in self.algorithms), "")

    @cached_property
    def algorithms(self) -> tuple[Mapping[str, Any], ...]:
        """The resolved algorithm of every stratum, described as it would be written today."""
        submission = self.submission
        resolved = [
            to_current(described, submission.version, whole=False) for described in submission.resolved.values()
        ]
        return tuple(axes["algorithm"] for axes in resolved if isinstance(axes.get("algorithm"), dict))

    @cached_property
    def cells_by_key(self) -> Mapping[tuple[str, str, str | None, int], Cell]:
        """Cells by place; the first one where two have the same place."""
        return {cell.place: cell for cell in reversed(self.cells)}

    def strata(self, suite: Suite) -> tuple[Stratum, ...]:
        """Return the strata that the entry has cells of, in the suite's order."""
        names = {cell.stratum for cell in self.cells}
        return tuple(stratum for stratum in suite.strata if stratum.name in names)

    def division(self, suite: Suite) -> Division | None:
        """Return the division of the entry's strata; None if there is no division or more than one."""
        divisions = {stratum.division for stratum in self.strata(suite)}
        return divisions.pop() if len(divisions) == 1 else None

    def cell(self, stratum: Stratum, attack: str, algo: str | None, seed: int) -> Cell:
        """Return a cell.

        Args:
            stratum: The stratum.
            attack: The attack.
            algo: The algorithm of the suite, in the track attack; None in the other tracks.
            seed: The index of the seed.

        Raises:
            Refused: The cell is missing.
        """
        if (cell := self.cells_by_key.get((stratum.name, attack, algo, seed))) is None:
            label = " · ".join(filter(None, (stratum.name, algo, attack, f"seed {seed}")))
            raise Refused([Finding("completeness", f"{self.slug}/cells.jsonl", f"{label} is missing")])
        return cell

    def has_all_seeds(self, suite: Suite, stratum: Stratum, attack: str) -> bool:
        """Return whether there is a cell for every seed; entries of the track reported may lack some."""
        return all((stratum.name, attack, None, seed) in self.cells_by_key for seed in range(suite.seeds))

    def areas(self, suite: Suite, stratum: Stratum, attack: str, algo: str | None = None) -> np.ndarray:
        """Return the areas under the evaluation curves, divided by the budget.

        A cell that is not `ok` has the return of a random policy. Areas are clipped to the returns that are possible in
        the stratum; the checks refuse an entry with others.

        Args:
            suite: The suite.
            stratum: The stratum.
            attack: The attack.
            algo: The algorithm of the suite, in the track attack; None in the other tracks.

        Returns:
            The areas by seed index, float64 [n].

        Raises:
            Refused: A cell is missing.
        """
        cells = [self.cell(stratum, attack, algo, seed) for seed in range(suite.seeds)]
        return np.array([area(cell, stratum) for cell in cells]).clip(stratum.low, stratum.high)


def read_entry(folder: Path) -> Entry:
    """Read the submission of a folder.

    Raises:
        Refused: The files, their texts or their schema are invalid; there is a finding for every error.
    """
    contents = _contents(folder)
    findings: list[Finding] = []
    submission: Submission | None = None
    cells: tuple[Cell, ...] = ()
    try:
        submission = read_submission(contents["submission.json"])
    except Refused as error:
        findings += error.findings
    try:
        cells = read_cells(contents["cells.jsonl"])
    except Refused as error:
        findings += error.findings
    notes = _notes(contents.get("NOTES.md", b""), findings)
    if submission is None or findings:
        raise Refused(findings)
    if submission.entry.slug != folder.resolve().name:
        what = f"is {submission.entry.slug!r}, and must be the name of the folder, {folder.resolve().name!r}"
        raise Refused([Finding("files", "submission.json $.entry.slug", what)])
    if hashlib.sha256(contents["cells.jsonl"]).hexdigest() != submission.cells_sha256:
        raise Refused([Finding("files", "submission.json $.cells_sha256", "is not the digest of cells.jsonl")])
    return Entry(submission, cells, sha256_of(contents["submission.json"], contents["cells.jsonl"]), notes)


def _contents(folder: Path) -> dict[str, bytes]:
    """Read the files of a submission, by name; other files, links and files above their limit are refused."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise Refused([Finding("files", ascii(folder.name), "is not a folder")])
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise Refused([Finding("files", ascii(folder.name), f"cannot be read: {error.strerror}")]) from None
    if unexpected := [name for name in names if name not in FILES]:
        what = f"is not a file of a submission; allowed are {', '.join(FILES)}"
        raise Refused([Finding("files", ascii(name)[:80], what) for name in unexpected[:10]])
    if missing := [name for name in FILES[:2] if name not in names]:
        raise Refused([Finding("files", name, "is missing") for name in missing])
    contents, findings = {}, []
    for name in names:
        try:
            contents[name] = read_bytes(folder / name, LIMITS[name])
        except (CorruptRecord, FileNotFoundError) as error:
            findings.append(Finding("files", name, str(error).removeprefix(f"{folder / name} ")))
    if findings:
        raise Refused(findings)
    return contents


def _notes(content: bytes, findings: list[Finding]) -> str:
    """Decode NOTES.md, and append a finding where a line is not plain text."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        findings.append(Finding("files", "NOTES.md", f"is not UTF-8: byte {error.start}"))
        return ""
    for number, line in enumerate(text.split("\n"), 1):
        if why := text_offence(line.replace("\t", " ")):
            findings.append(Finding("files", f"NOTES.md:{number}", why))
            break
    return text


def scan_entries(submissions: Path) -> tuple[list[Entry], list[Finding]]:
    """Read all submissions below a folder.

    Args:
        submissions: The folder; a submission is in the subfolder `SUITE/TRACK/SLUG`.

    Returns:
        The entries, sorted by suite, track and slug; and the findings about folders that are refused.
    """
    entries: list[Entry] = []
    findings: list[Finding] = []
    for folder in sorted(submissions.glob("*/*/*")):
        where = folder.relative_to(submissions).as_posix()
        if folder.name.startswith("."):
            continue
        try:
            if folder.resolve() != submissions.resolve() / where:
                raise Refused([Finding("files", "", "is reached through a symbolic link")])
            entry = read_entry(folder)
            expected = f"{entry.submission.suite}/{entry.submission.track}/{entry.slug}"
            if where != expected:
                raise Refused([Finding("files", "submission.json", f"must be in the folder {expected}")])
            entries.append(entry)
        except Refused as error:
            findings += [Finding(f.check, f"{ascii(where)[1:-1]}/{f.where}", f.what) for f in error.findings]
    return entries, findings


def find_entry(row: str, submissions: Path) -> Path:
    """Return the folder of a row that may be attacked.

    Args:
        row: The folder of a submission, or the slug of one of the track defence.
        submissions: The folder in which a slug is looked up.

    Raises:
        UserError: There is no such row, or rows of several suites have the slug.
    """
    if Path(row).is_dir():
        return Path(row)
    folders = sorted(submissions.glob("*/defence/*"))
    named = [folder for folder in folders if folder.name == row]
    if not named:
        slugs = [folder.name for folder in folders]
        raise UnknownName(f"there is no row {row!r} in {submissions}. {suggest(row, slugs)}".strip())
    if len(named) > 1:
        raise UserError(f"several suites have a row {row!r}; give one of {', '.join(map(str, named))}")
    return named[0]
