"""Submissions made from run folders: the file that records what a store is for, the cells, and the written folder."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.errors import InvalidParameter, StorageError, UserError
from byzbench.leaderboard.documents import parse_document, text_offence
from byzbench.leaderboard.plan import SubmissionPlan, canonical_spec, environment_of, plan_submission
from byzbench.leaderboard.resolved import explicit_parameters
from byzbench.leaderboard.schema import (
    LIMITS,
    Axis,
    Cell,
    Described,
    Digest,
    Document,
    EntryMetadata,
    Environment,
    Method,
    Search,
    Slug,
    Submission,
    Track,
    Tuning,
    encode_document,
    validate,
)
from byzbench.leaderboard.suites import CellKey, suite
from byzbench.records.files import read_bytes
from byzbench.records.migrations import migrate
from byzbench.records.run_folder import RunFolder
from byzbench.records.tuned import TunedParameters
from byzbench.sweeps.cells import CellOutcome, stored_outcome

OPENING = ("return", "return_worst", "gradient_norm", "gradient_variance", "aggregate_error", "disagreement")
"""Metrics of the first round that a cell has, where the method has them. Later rounds accumulate rounding errors."""


class RunManifest(Document):
    """The file that `byzbench leaderboard run` writes into the store: the entry that the runs belong to.

    Attributes:
        version: The schema number of the file.
        suite, suite_sha256: The name and the sha256 of the suite.
        track: The track of the entry.
        method: The method as its author wrote it.
        resolved: By stratum and axis, the method with the value of every parameter; empty in older files.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)]
    suite: Slug
    suite_sha256: Digest
    track: Track
    method: Method
    resolved: dict[Slug, dict[Axis, Described]] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the file, which has a hash of suite, track and method."""
        content = "\n".join((self.suite_sha256, self.track, self.method.model_dump_json(exclude_none=True)))
        return f"leaderboard-{self.suite}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"

    @classmethod
    def of(cls, entered: SubmissionPlan) -> RunManifest:
        """Return the file of an entry.

        Args:
            entered: The cells of the entry.
        """
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
        """Write the file into a store, and return its path.

        Raises:
            StorageError: The file cannot be written.
        """
        try:
            store.mkdir(parents=True, exist_ok=True)
            (store / self.name).write_bytes(encode_document(self))
        except OSError as error:
            raise StorageError(f"cannot write {store}: {error.strerror}") from None
        return store / self.name

    @classmethod
    def read(cls, path: Path) -> RunManifest:
        """Read the file.

        Args:
            path: The file, or a store with exactly one such file.

        Raises:
            UserError: The file does not exist, is not the only one, is invalid, or was written by a newer byzbench.
        """
        if path.is_dir():
            files = sorted(path.glob("leaderboard-*.json"))
            if len(files) != 1:
                names = f"; name one of {', '.join(map(str, files))}" if files else ""
                raise UserError(f"{path} has {len(files) or 'no'} entries run by `byzbench leaderboard run`{names}")
            path = files[0]
        try:
            data = parse_document(read_bytes(path, LIMITS["submission.json"]), path.name)
        except FileNotFoundError:
            raise UserError(f"there is no {path}") from None
        if isinstance(data, dict):
            data = migrate("ticket", data, path.name) | {"schema": data.get("schema", 1)}
        return validate(cls, data, path.name)

    def submission_plan(self) -> SubmissionPlan:
        """Return the cells of the entry.

        Raises:
            InvalidParameter: The installed suite has another sha256.
        """
        board = suite(self.suite)
        if board.sha256 != self.suite_sha256:
            raise InvalidParameter(
                f"the runs are of suite {self.suite} with sha256 {self.suite_sha256[:12]}…, and the installed one has "
                f"{board.sha256[:12]}…"
            )
        return plan_submission(board, self.track, self.method, self.resolved or None, self.version)


def cell_of(place: tuple[str, str, str | None, int], experiment: str, outcome: CellOutcome, folder: Path) -> Cell:
    """Return a run in the form of a cell of a submission.

    Args:
        place: The place of the cell in the suite, as `CellKey.key`.
        experiment: The hash of the experiment.
        outcome: The outcome of the run.
        folder: The run folder.
    """
    if outcome.status != "finished":
        return Cell(**_position(place, experiment), status="failed", reason=_line(outcome.error or "failed"))
    lines, result = RunFolder(folder).metrics(), outcome.result
    curve = [line for line in lines if "evaluation" in line]
    value, verdict = result["evaluation"].get("evaluation"), result["verdict"]["name"]
    diverged = verdict == "diverged" or value is None
    return Cell(
        **_position(place, experiment),
        status="diverged" if diverged else "ok",
        verdict=verdict,
        value=None if diverged else finite_number(value),
        curve=tuple(finite_number(line["evaluation"]) for line in curve),
        dates=tuple(line["trajectories"] for line in curve),
        opening={name: repr(float(lines[0][name])) for name in OPENING if lines[0].get(name) is not None},
        disagreement=finite_number(result["disagreement"]),
        trajectories=result["trajectories"],
        steps=result["steps"],
        num_malformed=result["num_malformed"],
        messages=result["messages"],
        bytes=result["bytes"],
        trace=result["trace"],
        seconds=finite_number(round(result["steps"] / result["steps_per_second"], 1)),
        reason=_line(result["verdict"]["meaning"]) if diverged else None,
    )


def _position(place: tuple[str, str, str | None, int], experiment: str) -> dict[str, Any]:
    stratum, attack, algo, seed = place
    return {"cell": experiment, "stratum": stratum, "attack": attack, "algo": algo, "seed": seed}


def finite_number(value: float | None) -> str | None:
    """Return a number in the form of submissions, None where it is not finite.

    Example:
        >>> finite_number(187.25), finite_number(float("nan"))
        ('187.25', None)
    """
    return None if value is None or not math.isfinite(value) else repr(float(value))


def _line(text: str) -> str:
    """Return a text as a line of a submission, with invisible characters replaced by blanks."""
    visible = "".join(character if text_offence(character) is None else " " for character in text)
    return " ".join(visible.split())[:300].strip() or "no reason was given"


def collect_cells(entered: SubmissionPlan, store: Path) -> dict[CellKey, Cell]:
    """Read the cells of an entry from a store.

    Args:
        entered: The cells of the entry.
        store: The folder of run folders.

    Raises:
        UserError: A cell has not been run by the installed code, or its run has no trace.
    """
    cells, missing = {}, []
    for place, experiment in entered.cells.items():
        outcome = stored_outcome(experiment, store, "reuse")
        if outcome is None or (outcome.status == "finished" and not outcome.result.get("trace")):
            missing.append(place)
        else:
            cells[place] = cell_of(place.key, experiment.hash, outcome, store / experiment.hash)
    if missing:
        first = missing[0]
        raise UserError(
            f"{len(missing)} of {len(entered.cells)} cells have not been run by the installed code, or have no trace, "
            f"for example {first.stratum.name} · {first.attack} · seed {first.seed}; `byzbench leaderboard run` runs "
            "missing cells, and with --on-existing rerun also those without a trace"
        )
    return cells


def ran_in(entered: SubmissionPlan, store: Path) -> Environment:
    """Return the environment that the runs of an entry recorded, `mixed` where it differs between runs.

    Args:
        entered: The cells of the entry.
        store: The folder of run folders.
    """
    codes = [(RunFolder(store / cell.hash).record() or {}).get("code") for cell in entered.cells.values()]
    recorded = [environment_of(code) for code in codes if isinstance(code, Mapping)]

    def common(values: set[str | None]) -> str | None:
        return values.pop() if len(values) == 1 else "mixed"

    names = dict.fromkeys(name for environment in recorded for name in environment.versions)
    return Environment(
        versions={name: str(common({environment.versions.get(name) for environment in recorded})) for name in names},
        cpu=str(common({environment.cpu for environment in recorded})),
        processor=common({environment.processor for environment in recorded}),
        threads=1,
    )


def write_submission(
    entered: SubmissionPlan,
    cells: Mapping[CellKey, Cell],
    about: EntryMetadata,
    out: Path,
    *,
    environment: Environment | None = None,
    tunings: Sequence[Tuning] = (),
    supersedes: str | None = None,
    notes: str = "",
) -> Path:
    """Write the folder of a submission, out/SUITE/TRACK/SLUG. An error leaves no part of it.

    Args:
        entered: The cells of the entry.
        cells: The results by place.
        about: The name and the authors of the entry.
        out: The folder of submissions.
        environment: The environment of the runs, as from `ran_in`; None: the installed one.
        tunings: The tuning of all strata, or that of each task; empty if parameters were not tuned.
        supersedes: The digest of the submission that this one replaces.
        notes: The text of NOTES.md; no file if it is empty.

    Returns:
        The path of the folder.

    Raises:
        UserError: The folder exists; submissions are never edited.
        StorageError: The folder cannot be written.
    """
    lines = b"".join(encode_document(cell, lines=True) for cell in cells.values())
    one_for_all = [tuning.task for tuning in tunings] == [None]
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
        tuning=tunings[0] if one_for_all else None,
        tunings=None if one_for_all else tuple(tunings) or None,
        cells_sha256=hashlib.sha256(lines).hexdigest(),
        supersedes=supersedes,
    )
    folder = out / entered.suite.name / entered.track / about.slug
    if folder.exists():
        raise UserError(f"{folder} exists, and submissions are never edited: give another --slug, and --supersedes")
    contents = {"submission.json": encode_document(submission), "cells.jsonl": lines}
    if notes:
        contents["NOTES.md"] = notes.encode()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
            for name, content in contents.items():
                (Path(scratch) / name).write_bytes(content)
            os.chmod(scratch, 0o755)
            os.rename(scratch, folder)
            os.mkdir(scratch)  # the context manager removes a folder of this name
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror}") from None
    return folder


def supersede(out: Path, suite_name: str, track: Track, slug: str) -> str:
    """Return the digest of a submission that another one will replace.

    Args:
        out: The folder of submissions.
        suite_name: The name of the suite.
        track: The track.
        slug: The slug of the submission.

    Raises:
        UserError: There is no such submission.
    """
    from byzbench.leaderboard.entries import read_entry

    folder = out / suite_name / track / slug
    if not folder.is_dir():
        raise UserError(f"there is no submission {folder} to supersede")
    return read_entry(folder).digest


def fill(method: Method, files: Sequence[TunedParameters]) -> Method:
    """Return a method with tuned parameters; parameters that the method sets stay.

    Args:
        method: The method as written.
        files: The tuned parameters: of all strata, or several, each of one task.

    Raises:
        InvalidParameter: The parameters are of another algorithm or attack, or one of several files is not of a task.
    """
    if len(files) > 1 and not all(file.task for file in files):
        raise InvalidParameter("several files of tuned parameters must be of studies of a suite, each of one task")
    options, tasks = method.model_dump(exclude_none=True), []
    for file in files:
        if not file.concerns(method.options):
            raise InvalidParameter(f"the tuned {file.kind} is {file.components[file.kind]}, and the method has another")
        texts = {
            registry.FLAGS[kind]: canonical_spec(
                registry.with_parameters(kind, options.get(registry.FLAGS[kind], file.components[kind]), values)
            )
            for kind, values in file.fill(method.options, {}).items()
        }
        if file.task is None:
            options |= texts
        else:
            tasks.append({"task": file.task, **texts})
    if tasks:
        options["tasks"] = sorted(tasks, key=lambda part: part["task"])
    return validate(Method, options, "method")


def tuned_by(file: TunedParameters, method: Method) -> Tuning:
    """Return the record of tuning in the form of submissions.

    Args:
        file: The tuned parameters.
        method: The method that was run, as written.

    Raises:
        InvalidParameter: The method does not have the tuned parameters.
    """
    explicit = explicit_parameters(method if file.task is None else method.in_task(file.task), SCHEMA)
    for kind, values in file.parameters.items():
        written = explicit.get(kind, {"name": "", "parameters": {}})
        if written["name"] != file.components[kind] or not values.items() <= written["parameters"].items():
            raise InvalidParameter(
                f"the tuned {kind} is {file.components[kind]} with {values}; the method that was run differs"
            )
    return Tuning(
        study=file.study,
        trials_sha256=file.trials,
        trials=int(file.objective["trials"]),
        seeds=tuple(file.on.seeds),
        attacks=tuple(map(canonical_spec, file.on.attacks)),
        search=None if file.search is None else validate(Search, file.search, "search"),
        task=file.task,
    )
