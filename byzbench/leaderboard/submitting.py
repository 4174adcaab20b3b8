"""From run folders to a submission."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.errors import InvalidParameter, StorageError, UserError
from byzbench.experiments.cells import Outcome, known
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.files import read_bytes
from byzbench.experiments.migrations import migrate
from byzbench.experiments.records import RunFolder
from byzbench.experiments.tuned import Tuned
from byzbench.leaderboard.documents import parse, text_offence
from byzbench.leaderboard.plan import Lot, canonical, environment_of, lot
from byzbench.leaderboard.schema import (
    LIMITS,
    About,
    Axis,
    Cell,
    Described,
    Digest,
    Environment,
    Method,
    Part,
    Search,
    Slug,
    Submission,
    Track,
    Tuning,
    validate,
    write,
)
from byzbench.leaderboard.suites import Place, suite

OPENING = ("return", "return_worst", "gradient_norm", "gradient_variance", "aggregate_error", "disagreement")
"""Numbers of the first round, as far as a method has them: what its messages were made of, before rounding can tell."""


class Ticket(Part):
    """The file that `byzbench leaderboard run` leaves in the store: which entry the runs are of.

    Attributes:
        version: its schema number.
        resolved: what the method came to when it was run; nothing in files that are older than that.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)]
    suite: Slug
    suite_sha256: Digest
    track: Track
    method: Method
    resolved: dict[Slug, dict[Axis, Described]] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its file."""
        about = "\n".join((self.suite_sha256, self.track, self.method.model_dump_json(exclude_none=True)))
        return f"leaderboard-{self.suite}-{hashlib.sha256(about.encode()).hexdigest()[:8]}.json"

    @classmethod
    def of(cls, entered: Lot) -> Ticket:
        """Return that of an entry."""
        suite = entered.suite
        return cls(
            version=SCHEMA,
            suite=suite.name,
            suite_sha256=suite.sha256,
            track=entered.track,
            method=entered.method,
            resolved=entered.resolved,
        )

    def write(self, store: Path) -> Path:
        """Write it into a store, and return its path.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            store.mkdir(parents=True, exist_ok=True)
            (store / self.name).write_bytes(write(self))
        except OSError as error:
            raise StorageError(f"cannot write {store}: {error.strerror}") from None
        return store / self.name

    @classmethod
    def read(cls, path: Path) -> Ticket:
        """Read it from its file, or from the store in which it is the only one.

        Raises:
            UserError: it is neither, or was made by a newer byzbench.
        """
        if path.is_dir():
            found = sorted(path.glob("leaderboard-*.json"))
            if len(found) != 1:
                listed = f"; name one of {', '.join(map(str, found))}" if found else ""
                raise UserError(f"{path} has {len(found) or 'no'} entries run by `byzbench leaderboard run`{listed}")
            path = found[0]
        try:
            data = parse(read_bytes(path, LIMITS["submission.json"]), path.name)
        except FileNotFoundError:
            raise UserError(f"there is no {path}") from None
        if isinstance(data, dict):
            data = migrate("ticket", data, path.name) | {"schema": data.get("schema", 1)}
        return validate(cls, data, path.name)

    def lot(self) -> Lot:
        """Return its cells.

        Raises:
            InvalidParameter: the suite is another than it was.
        """
        board = suite(self.suite)
        if board.sha256 != self.suite_sha256:
            raise InvalidParameter(
                f"suite {self.suite} here is {board.sha256[:12]}…, and not {self.suite_sha256[:12]}…"
            )
        return lot(board, self.track, self.method, self.resolved or None, self.version)


def cell_of(place: Place, experiment: Experiment, outcome: Outcome, folder: Path) -> Cell:
    """Return what a submission says of a run."""
    common: dict[str, Any] = {
        "cell": experiment.hash,
        "stratum": place.stratum.name,
        "attack": place.attack,
        "algo": place.algo,
        "seed": place.seed,
    }
    if outcome.status != "finished":
        return Cell(**common, status="failed", reason=_line(outcome.error or "failed"))
    lines, result = RunFolder(folder).metrics(), outcome.result
    curve = [line for line in lines if "evaluation" in line]
    value, verdict = result["evaluation"].get("evaluation"), result["verdict"]["name"]
    diverged = verdict == "diverged" or value is None
    return Cell(
        **common,
        status="diverged" if diverged else "ok",
        verdict=verdict,
        value=None if diverged else number(value),
        curve=tuple(number(line["evaluation"]) for line in curve),
        dates=tuple(line["trajectories"] for line in curve),
        opening={name: repr(float(lines[0][name])) for name in OPENING if lines[0].get(name) is not None},
        disagreement=number(result["disagreement"]),
        trajectories=result["trajectories"],
        steps=result["steps"],
        screened=result["screened"],
        messages=result["messages"],
        bytes=result["bytes"],
        trace=result["trace"],
        seconds=number(round(result["steps"] / result["steps_per_second"], 1)),
        reason=_line(result["verdict"]["meaning"]) if diverged else None,
    )


def number(value: float | None) -> str | None:
    """A number as a submission has it."""
    return None if value is None or not math.isfinite(value) else repr(float(value))


def _line(text: str) -> str:
    """A text as a submission may have it: what nobody could see is left out."""
    shown = "".join(letter if text_offence(letter) is None else " " for letter in text)
    return " ".join(shown.split())[:300].strip() or "no reason was given"


def collect(entered: Lot, store: Path) -> dict[Place, Cell]:
    """Return the cells of an entry from a store.

    Raises:
        UserError: some have not been run by the behaviour that is here, or before runs had traces.
    """
    found, missing = {}, []
    for place, experiment in entered.cells.items():
        outcome = known(experiment, store, "reuse")
        if outcome is None or (outcome.status == "finished" and not outcome.result.get("trace")):
            missing.append(place)
        else:
            found[place] = cell_of(place, experiment, outcome, store / experiment.hash)
    if missing:
        one = missing[0]
        raise UserError(
            f"{len(missing)} of {len(entered.cells)} cells have not been run by the behaviour that is here, or have no "
            f"trace, the first {one.stratum.name} · {one.attack} · seed {one.seed}; `byzbench leaderboard run` runs "
            "what is missing, with --on-existing rerun also what has no trace"
        )
    return found


def ran_in(entered: Lot, store: Path) -> Environment:
    """Return the libraries and the CPU that the runs of an entry recorded, `mixed` where they differ among them."""
    codes = [(RunFolder(store / cell.hash).record() or {}).get("code") for cell in entered.cells.values()]
    recorded = [environment_of(code) for code in codes if isinstance(code, Mapping)]

    def common(values: set[str | None]) -> str | None:
        return values.pop() if len(values) == 1 else "mixed"

    names = dict.fromkeys(name for one in recorded for name in one.versions)
    return Environment(
        versions={name: str(common({one.versions.get(name) for one in recorded})) for name in names},
        cpu=str(common({one.cpu for one in recorded})),
        processor=common({one.processor for one in recorded}),
        threads=1,
    )


def submit(
    entered: Lot,
    cells: Mapping[Place, Cell],
    about: About,
    out: Path,
    *,
    environment: Environment | None = None,
    tuning: Tuning | None = None,
    supersedes: str | None = None,
    notes: str = "",
) -> Path:
    """Write a submission's folder, whole or not at all: out/SUITE/TRACK/SLUG.

    Args:
        entered: what was run.
        cells: what came of it.
        about: who enters.
        out: the folder of submissions.
        environment: where it was run, if not here: see `ran_in`.
        tuning: how parameters were found.
        supersedes: the digest of the submission whose place it takes.
        notes: the text of NOTES.md.

    Raises:
        UserError: there is one of that name. Submissions are never edited.
        StorageError: the disk refused.
    """
    lines = b"".join(write(cell, lines=True) for cell in cells.values())
    submission = Submission(
        version=SCHEMA,
        track=entered.track,
        suite=entered.suite.name,
        suite_sha256=entered.suite.sha256,
        entry=about,
        method=entered.method,
        resolved=entered.resolved,
        code=entered.code,
        environment=environment or entered.environment,
        tuning=tuning,
        cells_sha256=hashlib.sha256(lines).hexdigest(),
        supersedes=supersedes,
    )
    folder = out / entered.suite.name / entered.track / about.slug
    if folder.exists():
        raise UserError(f"{folder} is there, and submissions are never edited: give another --slug, and --supersedes")
    contents = {"submission.json": write(submission), "cells.jsonl": lines}
    if notes:
        contents["NOTES.md"] = notes.encode()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
            for name, content in contents.items():
                (Path(scratch) / name).write_bytes(content)
            os.chmod(scratch, 0o755)
            os.rename(scratch, folder)
            os.mkdir(scratch)  # for the context to remove
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror}") from None
    return folder


def supersede(out: Path, suite_name: str, track: Track, slug: str) -> str:
    """The digest of the submission that another one takes the place of.

    Raises:
        UserError: there is none of that name.
    """
    from byzbench.leaderboard.entries import read

    folder = out / suite_name / track / slug
    if not folder.is_dir():
        raise UserError(f"there is no submission {folder} to supersede")
    return read(folder).digest


def fill(method: Method, file: Tuned) -> Method:
    """A method with the parameters of a file of tuned ones, where its own leave room."""
    found = method.model_dump(exclude_none=True)
    for kind, values in file.fill(method.options, {}).items():
        flag = registry.FLAGS[kind]
        found[flag] = canonical(registry.with_parameters(found.get(flag, file.components[kind]), values))
    return validate(Method, found, "method")


def tuned_by(file: Tuned, method: Method) -> Tuning:
    """What a submission says of how its parameters were found.

    Raises:
        InvalidParameter: what was run is not what was found.
    """
    for kind, values in file.parameters.items():
        written = registry.parse(method.options.get(registry.FLAGS[kind], ""))
        if written.name != file.components[kind] or not values.items() <= written.parameters.items():
            raise InvalidParameter(
                f"the tuned {kind} is {file.components[kind]} with {values}, and what was run is not"
            )
    return Tuning(
        study=file.study,
        trials_sha256=file.trials,
        trials=int(file.objective["trials"]),
        seeds=tuple(file.on.seeds),
        attacks=tuple(map(canonical, file.on.attacks)),
        search=None if file.search is None else validate(Search, file.search, "search"),
    )
