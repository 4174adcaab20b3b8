"""One cell of a sweep, wherever it runs: from a description to an outcome, and never an exception.

finished   result.json is there
failed     failure.json says what ended it; it is left alone until it is asked to be tried again
busy       another process is at it
"""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from byzbench.canonical import hash_of
from byzbench.errors import ArchivedRun, Busy, ByzbenchError, CorruptRecord, OtherLibraries, StorageError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.files import FILES, parse_object
from byzbench.experiments.migrations import is_described, migrate
from byzbench.experiments.provenance import differences, origin
from byzbench.experiments.records import RunFolder
from byzbench.experiments.runner import run

OnExisting = Literal["reuse", "retry-failed", "rerun"]


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        status: see above.
        result: what `result.json` holds, where it is finished.
        error: one line, where it is not.
        reused: it was there before.
        retries: how often it was started again because whatever ran it was lost.
    """

    status: Literal["finished", "failed", "busy"]
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    reused: bool = False
    retries: int = 0


def known(experiment: Experiment, out: Path, on_existing: OnExisting) -> Outcome | None:
    """The outcome that the store already has, of the same behaviour, and that counts; else None.

    Raises:
        CorruptRecord: the folder cannot be trusted.
    """
    folder = RunFolder(out / experiment.hash)
    if on_existing == "rerun" or stored(folder, experiment) != []:
        return None
    if (result := folder.read("result.json")) is not None:
        return Outcome("finished", result, reused=True)
    if on_existing == "reuse" and (failure := folder.read("failure.json")) is not None:
        return Outcome("failed", error=str(failure.get("error")), reused=True)
    return None


def stored(folder: RunFolder, experiment: Experiment) -> list[str] | None:
    """Return what keeps a folder from being the run of an experiment by the code here; None if it holds no run.

    Raises:
        CorruptRecord: the folder cannot be trusted.
    """
    record, where = folder.record(), folder.path / "experiment.json"
    if record is None:
        return None
    if hash_of(record["experiment"]) != experiment.hash:
        raise CorruptRecord(f"{where} describes another experiment than its folder")
    return differences(record, experiment, where)


def run_cell(description: Mapping[str, Any], out: str, on_existing: OnExisting, wait: bool) -> Outcome:
    """Train the experiment of a description into the store `out`."""
    try:
        experiment = Experiment.from_description(description)
        if (found := known(experiment, Path(out), on_existing)) is not None:
            return found
        again: Literal["reuse", "rerun"] = "rerun" if on_existing == "rerun" else "reuse"
        with warnings.catch_warnings():
            for category in (ArchivedRun, OtherLibraries):  # a sweep says so once, before it begins
                warnings.simplefilter("ignore", category)
            return Outcome("finished", run(experiment, out=out, on_existing=again, wait=wait).to_json())
    except Busy as error:
        return Outcome("busy", error=str(error))
    except StorageError as error:
        return Outcome("failed", error=str(error))  # nothing can be written, and nothing need be: it can be resumed
    except Exception as error:
        said = error if isinstance(error, ByzbenchError) else f"{type(error).__name__}: {error}"
        return _failed(" ".join(str(said).split()), traceback.format_exc(), description, Path(out))


def _failed(line: str, trace: str, description: Mapping[str, Any], out: Path) -> Outcome:
    """Leave word of a failure in the cell's folder, if there can be one."""
    try:
        experiment = Experiment.from_description(description)
        folder = RunFolder(out / experiment.hash)
        with folder.locked():
            if folder.read("experiment.json") is None:
                folder.write("experiment.json", origin(experiment))
            folder.write("failure.json", {"error": line, "traceback": trace.splitlines()})
    except ByzbenchError:
        pass  # the outcome still says it
    return Outcome("failed", error=line)


def run_elsewhere(description: Mapping[str, Any]) -> tuple[Outcome, dict[str, bytes]]:
    """Train a cell where the store cannot be reached: its outcome, and the files of its run folder by name."""
    with tempfile.TemporaryDirectory(prefix="byzbench-") as scratch:
        outcome = run_cell(description, scratch, "reuse", wait=True)
        folders = [path for path in Path(scratch).iterdir() if path.is_dir()]
        files = {name: (folder / name) for folder in folders for name in FILES}
        return outcome, {name: path.read_bytes() for name, path in files.items() if path.is_file()}


def deliver(
    experiment: Experiment, out: Path, outcome: Outcome, files: Mapping[str, bytes], rerun: bool = False
) -> Outcome:
    """Put the files of a cell that ran elsewhere into the store, whole or not at all: `result.json` comes last.

    A cell that another process has finished in the meantime stays as it is, but for a `rerun`.
    """
    folder = RunFolder(out / experiment.hash)
    try:
        with folder.locked(wait=True):
            if not rerun and (found := known(experiment, out, "retry-failed")) is not None:
                return found
            if why := stored(folder, experiment):
                folder.archive(why)
                return deliver(experiment, out, outcome, files, rerun)
            if "experiment.json" in files and (foreign := _foreign(files["experiment.json"], experiment)):
                return Outcome("failed", error=f"another behaviour than is here ran it, nothing was kept: {foreign}")
            folder.clear()
            for name in reversed(FILES):
                if name in files:
                    folder.put(name, files[name])
    except ByzbenchError as error:
        return Outcome("failed", error=str(error))
    if outcome.status == "finished":
        return Outcome("finished", {**outcome.result, "run": str(folder.path)}, retries=outcome.retries)
    return outcome


def _foreign(content: bytes, experiment: Experiment) -> str:
    """Return what keeps the record of a cell that ran elsewhere from being of the behaviour here, in one line."""
    record = migrate("run", parse_object(content, Path("experiment.json")), "experiment.json")
    if not is_described(record.get("experiment")) or hash_of(record["experiment"]) != experiment.hash:
        return "it describes another experiment"
    return "; ".join(differences(record, experiment, "experiment.json"))
