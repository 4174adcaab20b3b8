"""Running one cell of a sweep: from the description of an experiment to an outcome, without exceptions.

An outcome has one of three statuses:

finished   result.json exists
failed     failure.json holds the error; the cell runs again only with --on-existing retry-failed or rerun
busy       another process is writing the run folder
"""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from byzbench.canonical import hash_of
from byzbench.errors import (
    ArchivedRun,
    Busy,
    ByzbenchError,
    CorruptRecord,
    ExhaustedResources,
    OtherLibraries,
    StorageError,
    UnfinishedRun,
    UserError,
    error_text,
    exhaustion,
)
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.plugin_errors import recorded_interrupts
from byzbench.experiments.provenance import code_origin, recorded_differences
from byzbench.experiments.runner import run_experiment
from byzbench.records.files import FILES, REMEDY, parse_object
from byzbench.records.migrations import is_described, migrate
from byzbench.records.run_folder import RunFolder
from byzbench.records.store import OnExisting, OnExistingRun

CellStatus: TypeAlias = Literal["finished", "failed", "busy"]
FailureCause: TypeAlias = Literal["experiment", "process", "damage", "storage"]
"""The cause of a failure: the experiment itself, its process (killed after a time limit, died, or had no memory or file
descriptors left), damaged records, or records that could not be written. Only the first says something about the
experiment: no score may use the others."""

_ERRORS: Mapping[FailureCause, type[ByzbenchError]] = {
    "experiment": UserError,
    "process": UnfinishedRun,
    "damage": CorruptRecord,
    "storage": StorageError,
}


@dataclass(frozen=True)
class CellOutcome:
    """The outcome of a cell.

    Attributes:
        status: The status, see the module.
        result: The content of `result.json` of a finished cell, else empty.
        error: The error of any other cell in one line, else empty.
        reused: Whether the outcome was in the store before.
        retries: The number of times that the cell was started again after its worker was lost.
        cause: The cause of a failure.
        archived: The folder of a damaged run of the cell that was archived, and the damage; empty without one.
    """

    status: CellStatus
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    reused: bool = False
    retries: int = 0
    cause: FailureCause = "experiment"
    archived: str = ""

    def exception(self, label: str) -> ByzbenchError:
        """Return the error of a failed cell, whose exit code is that of its cause.

        Args:
            label: The name of the cell, with which the line starts.

        Example:
            >>> CellOutcome("failed", error="it ran longer than 5 s", cause="process").exception("seed 0")
            UnfinishedRun('seed 0: it ran longer than 5 s')
        """
        return _ERRORS[self.cause](f"{label}: {self.error}")


def stored_outcome(experiment: Experiment, out: Path, on_existing: OnExisting) -> CellOutcome | None:
    """Return the outcome that the store has of the same numerical behaviour, or None if the cell has to run.

    Args:
        experiment: The experiment of the cell.
        out: The store.
        on_existing: `reuse` returns finished and failed cells, except those that a time limit ended; `retry-failed`
            finished ones, `rerun` none.

    Raises:
        CorruptRecord: The folder's records are invalid.
    """
    folder = RunFolder(out / experiment.hash)
    if on_existing == "rerun" or stored_differences(folder, experiment) != []:
        return None
    if (result := folder.result()) is not None:
        folder.check_logs()
        return CellOutcome("finished", result, reused=True)
    if on_existing == "reuse" and (failure := folder.read("failure.json")) is not None and "timeout" not in failure:
        return CellOutcome("failed", error=str(failure.get("error")), reused=True)
    return None


def stored_differences(folder: RunFolder, experiment: Experiment) -> list[str] | None:
    """Compare the run in a folder with an experiment and the code of this process.

    Args:
        folder: The run folder.
        experiment: The experiment.

    Returns:
        The differences in behaviour, one line each; None if the folder holds no run.

    Raises:
        CorruptRecord: The folder's records are invalid.
    """
    record, path = folder.record(), folder.path / "experiment.json"
    if record is None:
        return None
    if hash_of(record["experiment"]) != experiment.hash:
        raise CorruptRecord(f"{path} describes another experiment than its folder")
    return recorded_differences(record, experiment, path)


def run_cell(description: Mapping[str, Any], out: str, on_existing: OnExisting, wait: bool) -> CellOutcome:
    """Run the experiment of a description into a store. A damaged run of it is archived, and the experiment run again.

    Args:
        description: The experiment, as `Experiment.describe` returns it.
        out: The store, a folder.
        on_existing: What to do with finished and failed cells.
        wait: Whether to wait for another process that writes the folder.

    Returns:
        The outcome, which holds the error if there is one.
    """
    experiment: Experiment | None = None
    archived = ""
    with recorded_interrupts() as interrupted:
        try:
            experiment = Experiment.from_description(description)
            try:
                outcome = _stored_or_new(experiment, Path(out), on_existing, wait)
            except CorruptRecord as error:
                archived = _archive_damaged(experiment, Path(out), error, wait)
                outcome = _stored_or_new(experiment, Path(out), on_existing, wait)
        except Busy as error:
            outcome = CellOutcome("busy", error=str(error))
        except (StorageError, CorruptRecord, ExhaustedResources) as error:
            outcome = _without_record(error)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and interrupted():
                raise
            if line := exhaustion(error):
                return replace(_without_record(ExhaustedResources(line)), archived=archived)
            line = " ".join(str(error).split()) if isinstance(error, ByzbenchError) else error_text(error)
            outcome = _failed(line, traceback.format_exc(), experiment, Path(out))
    return replace(outcome, archived=archived)


def _stored_or_new(experiment: Experiment, out: Path, on_existing: OnExisting, wait: bool) -> CellOutcome:
    """Return the stored outcome of an experiment, or that of running it."""
    if (outcome := stored_outcome(experiment, out, on_existing)) is not None:
        return outcome
    mode: OnExistingRun = "rerun" if on_existing == "rerun" else "reuse"
    with warnings.catch_warnings():
        for category in (ArchivedRun, OtherLibraries):  # a sweep reports both once, before it starts
            warnings.simplefilter("ignore", category)
        return CellOutcome("finished", run_experiment(experiment, out=out, on_existing=mode, wait=wait).to_json())


def _archive_damaged(experiment: Experiment, out: Path, error: CorruptRecord, wait: bool) -> str:
    """Archive the folder of a damaged run, and return a line; an empty one if another process was faster.

    Raises:
        CorruptRecord: The error is not about the folder.
        Busy: Another process writes the folder.
    """
    folder = RunFolder(out / experiment.hash)
    if not str(error).startswith(str(folder.path)):
        raise error
    with folder.locked(wait):
        with suppress(CorruptRecord):
            if stored_outcome(experiment, out, "retry-failed") is not None:
                return ""
        return _archive(folder, error)


def _archive(folder: RunFolder, error: CorruptRecord) -> str:
    reason = str(error).removesuffix(f"; {REMEDY}")
    return f"{folder.path} is now {folder.archive([reason])}: {reason}"


def _without_record(error: ByzbenchError) -> CellOutcome:
    causes: dict[type, FailureCause] = {CorruptRecord: "damage", ExhaustedResources: "process"}
    return CellOutcome("failed", error=str(error), cause=causes.get(type(error), "storage"))


def timed_out(experiment: Experiment, out: Path, seconds: float) -> CellOutcome:
    """Record that a cell was ended after a time limit; the next sweep resumes it.

    Args:
        experiment: The experiment of the cell, whose process has ended.
        out: The store.
        seconds: The limit.
    """
    outcome = _failed(f"it ran longer than {seconds:g} s", "", experiment, out, timeout=seconds)
    return replace(outcome, cause="process")


def _failed(line: str, trace: str, experiment: Experiment | None, out: Path, **further: Any) -> CellOutcome:
    """Write failure.json into the cell's folder, if possible, and return the outcome."""
    if experiment is not None:
        folder = RunFolder(out / experiment.hash)
        with suppress(ByzbenchError), folder.locked():  # the outcome holds the error in any case
            if folder.read("experiment.json") is None:
                folder.write("experiment.json", code_origin(experiment))
            folder.write("failure.json", {"error": line, "traceback": trace.splitlines(), **further})
    return CellOutcome("failed", error=line)


def run_elsewhere(description: Mapping[str, Any]) -> tuple[CellOutcome, dict[str, bytes]]:
    """Run a cell on a machine without the store.

    Args:
        description: The experiment, as `Experiment.describe` returns it.

    Returns:
        The outcome, and the contents of the files of the run folder by name.
    """
    with tempfile.TemporaryDirectory(prefix="byzbench-") as scratch:
        outcome = run_cell(description, scratch, "reuse", wait=True)
        folders = [path for path in Path(scratch).iterdir() if path.is_dir()]
        files = {name: (folder / name) for folder in folders for name in FILES}
        return outcome, {name: path.read_bytes() for name, path in files.items() if path.is_file()}


def deliver(
    experiment: Experiment, out: Path, outcome: CellOutcome, files: Mapping[str, bytes], rerun: bool = False
) -> CellOutcome:
    """Write the files of a cell that ran on another machine into the store, `result.json` last.

    A cell that another process has finished in the meantime is not overwritten, except with `rerun`.

    Args:
        experiment: The experiment of the cell.
        out: The store.
        outcome: The outcome on the other machine.
        files: The contents of the files of the run folder by name.
        rerun: Whether a finished cell in the store is overwritten.

    Returns:
        The outcome with the path in the store. It is a failure if the files cannot be written, or if the other machine
        ran code of another behaviour.
    """
    folder = RunFolder(out / experiment.hash)
    try:
        with folder.locked(wait=True):
            try:
                if not rerun and (existing := stored_outcome(experiment, out, "retry-failed")) is not None:
                    return existing
                reasons = stored_differences(folder, experiment)
            except CorruptRecord as error:
                archived = _archive(folder, error)
                return replace(deliver(experiment, out, outcome, files, rerun), archived=archived)
            if reasons:
                folder.archive(reasons)
                return deliver(experiment, out, outcome, files, rerun)
            if "experiment.json" in files and (reason := _mismatch(files["experiment.json"], experiment)):
                return _without_record(
                    StorageError(f"its worker ran code of another behaviour, nothing was stored: {reason}")
                )
            folder.clear()
            for name in reversed(FILES):
                if name in files:
                    folder.put(name, files[name])
    except ByzbenchError as error:
        return _without_record(error)
    if outcome.status == "finished":
        return CellOutcome("finished", {**outcome.result, "run": str(folder.path)}, retries=outcome.retries)
    return outcome


def _mismatch(content: bytes, experiment: Experiment) -> str:
    """Return the differences of a record from the experiment and the code of this process in one line, or ''."""
    record = migrate("run", parse_object(content, Path("experiment.json")), "experiment.json")
    if not is_described(record.get("experiment")) or hash_of(record["experiment"]) != experiment.hash:
        return "it describes another experiment"
    return "; ".join(recorded_differences(record, experiment, "experiment.json"))
