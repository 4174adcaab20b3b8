"""Read entries, submissions in their folders, without trust and without running anything."""

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

from byzbench.canonical import modern
from byzbench.errors import CorruptRecord
from byzbench.experiments.files import read_bytes
from byzbench.leaderboard.documents import Finding, Refused, text_offence
from byzbench.leaderboard.exchangeability import area
from byzbench.leaderboard.schema import FILES, LIMITS, Cell, Division, Submission, digest, read_cells, read_submission
from byzbench.leaderboard.suites import Stratum, Suite


@dataclass(frozen=True)
class Entry:
    """A submission and its cells.

    Attributes:
        digest: of `submission.json` and `cells.jsonl`; what `supersedes` names.
        notes: the text of NOTES.md; shown as text, never as markup.
    """

    submission: Submission
    cells: tuple[Cell, ...]
    digest: str
    notes: str = ""

    @property
    def slug(self) -> str:
        """The name of its folder."""
        return self.submission.entry.slug

    @cached_property
    def algorithm(self) -> str:
        """The name that its algorithm has today; empty where nothing says what the method came to."""
        return next((str(described["name"]) for described in self.algorithms), "")

    @cached_property
    def algorithms(self) -> tuple[Mapping[str, Any], ...]:
        """Its algorithm in every stratum that it resolves, described as it would be written today."""
        about = self.submission
        axes = [modern(described, about.version, whole=False) for described in about.resolved.values()]
        return tuple(own["algorithm"] for own in axes if isinstance(own.get("algorithm"), dict))

    @cached_property
    def at(self) -> Mapping[tuple[str, str, str | None, int], Cell]:
        """Cells by their place; of two at one place, the first."""
        return {cell.place: cell for cell in reversed(self.cells)}

    def strata(self, suite: Suite) -> tuple[Stratum, ...]:
        """Return the strata that it has cells of, in the suite's order."""
        names = {cell.stratum for cell in self.cells}
        return tuple(stratum for stratum in suite.strata if stratum.name in names)

    def division(self, suite: Suite) -> Division | None:
        """Return the division of its strata; None if they are of several."""
        found = {stratum.division for stratum in self.strata(suite)}
        return found.pop() if len(found) == 1 else None

    def cell(self, stratum: Stratum, attack: str, algo: str | None, seed: int) -> Cell:
        """Return a cell.

        Raises:
            Refused: it is missing. A score needs every cell.
        """
        if (found := self.at.get((stratum.name, attack, algo, seed))) is None:
            named = " · ".join(filter(None, (stratum.name, algo, attack, f"seed {seed}")))
            raise Refused([Finding("completeness", f"{self.slug}/cells.jsonl", f"{named} is missing")])
        return found

    def whole(self, suite: Suite, stratum: Stratum, attack: str) -> bool:
        """Return whether there is a cell of every seed; in the track reported some may be missing."""
        return all((stratum.name, attack, None, seed) in self.at for seed in range(suite.seeds))

    def areas(self, suite: Suite, stratum: Stratum, attack: str, algo: str | None = None) -> np.ndarray:
        """Return areas under evaluation curves divided by the budget, by seed index, float64 [n].

        A cell that is not `ok` is at the return of a random policy. Areas outside the returns that the stratum can
        give, which checks refuse, are put at their ends.

        Raises:
            Refused: a cell is missing.
        """
        cells = [self.cell(stratum, attack, algo, seed) for seed in range(suite.seeds)]
        return np.array([area(cell, stratum) for cell in cells]).clip(stratum.low, stratum.high)


def read(folder: Path) -> Entry:
    """Return the submission of a folder.

    Raises:
        Refused: with everything that is wrong with its files, their texts or their schema.
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
        what = f"is {submission.entry.slug!r}, and the folder is {folder.resolve().name!r}"
        raise Refused([Finding("files", "submission.json $.entry.slug", what)])
    if hashlib.sha256(contents["cells.jsonl"]).hexdigest() != submission.cells_sha256:
        raise Refused([Finding("files", "submission.json $.cells_sha256", "is not the digest of cells.jsonl")])
    return Entry(submission, cells, digest(contents["submission.json"], contents["cells.jsonl"]), notes)


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, which are those of a submission, regular, and not too large."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise Refused([Finding("files", ascii(folder.name), "is not a folder")])
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise Refused([Finding("files", ascii(folder.name), f"cannot be read: {error.strerror}")]) from None
    if strange := [name for name in names if name not in FILES]:
        what = f"a submission holds {', '.join(FILES)} and nothing else"
        raise Refused([Finding("files", ascii(name)[:80], what) for name in strange[:10]])
    if missing := [name for name in FILES[:2] if name not in names]:
        raise Refused([Finding("files", name, "is missing") for name in missing])
    found, findings = {}, []
    for name in names:
        try:
            found[name] = read_bytes(folder / name, LIMITS[name])
        except (CorruptRecord, FileNotFoundError) as error:
            findings.append(Finding("files", name, str(error).removeprefix(f"{folder / name} ")))
    if findings:
        raise Refused(findings)
    return found


def _notes(content: bytes, findings: list[Finding]) -> str:
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


def scan(submissions: Path) -> tuple[list[Entry], list[Finding]]:
    """Return all entries below a folder of submissions, and the findings about the others.

    They lie at `SUITE/TRACK/SLUG`, and are sorted by these.
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
            entry = read(folder)
            expected = f"{entry.submission.suite}/{entry.submission.track}/{entry.slug}"
            if where != expected:
                raise Refused([Finding("files", "submission.json", f"belongs into {expected}")])
            entries.append(entry)
        except Refused as error:
            findings += [Finding(f.check, f"{ascii(where)[1:-1]}/{f.where}", f.what) for f in error.findings]
    return entries, findings
