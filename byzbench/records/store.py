"""Stores: folders of run folders, which any process may write at any time.

An invalid run folder is reported in one line, and does not affect the others. This module imports no heavy library.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from byzbench.axes import Axis, recorded_axes
from byzbench.canonical import SCHEMA, digest_of, hash_of
from byzbench.errors import CorruptRecord, InvalidParameter, StorageError
from byzbench.records.files import parse_object, read_bytes, read_named_file
from byzbench.records.migrations import migrate
from byzbench.records.seals import check_result, run_names

RunStatus: TypeAlias = Literal["finished", "failed", "unfinished"]
"""The status of a stored run; an `unfinished` run is running or interrupted."""
OnExistingRun: TypeAlias = Literal["reuse", "rerun"]
"""What to do with a finished run in the store."""
OnExisting: TypeAlias = Literal["reuse", "retry-failed", "rerun"]
"""What to do with cells that are in the store: `reuse` finished and failed ones, `retry-failed` reuses finished ones,
`rerun` none."""
ExecutorName: TypeAlias = Literal["serial", "process", "ray"]
"""Where cells run: in this process, one process per core, or a Ray cluster."""

LIMIT = 2**24
"""The largest size of a JSON file of a store in bytes."""

AXES = {axis.name: axis.key for axis in recorded_axes()}
"""The keys of an experiment's description, by the names of the axes."""

_RESULT: Mapping[str, type | tuple[type, ...]] = {
    "run": str,
    "verdict": dict,
    "return": dict,
    "trajectories": int,
    "steps": int,
    "steps_per_second": (int, float),
    "evaluation": dict,
    "diagnostics": dict,
}


@dataclass(frozen=True)
class StoredRun:
    """A run of a store.

    Attributes:
        path: The run folder.
        experiment: The description of the experiment, with the keys of `AXES`.
        recorded: The hash of the description as it was recorded, which names the folder of a run that is older than an
            axis.
        code: The source digest of the code that ran.
        status: The status.
        result: The result of a finished run, else empty.
        error: The error of a failed run, else empty.
    """

    path: Path
    experiment: Mapping[str, Any]
    recorded: str
    code: str
    status: RunStatus
    result: Mapping[str, Any]
    error: str

    @property
    def hash(self) -> str:
        """Return the hash of the experiment."""
        return hash_of(self.experiment)

    @property
    def value(self) -> float | None:
        """Return the final training return; None if it is not finite or the run is not finished."""
        return self.result["return"].get("mean") if self.result else None

    def name(self, axis: str) -> Any:
        """Return the value of an axis; for a component, its name."""
        value = self.experiment[AXES[axis]]
        return value["name"] if isinstance(value, Mapping) else value

    def matches(self, point: Mapping[str, Any]) -> bool:
        """Return whether the run has given values of some axes.

        Args:
            point: By axis, a value; of a component a name such as `alie` or `gymnasium:Acrobot-v1`, or several,
                separated by commas.
        """
        return all(self._has(axis, value) for axis, value in point.items())

    def _has(self, axis: str, value: Any) -> bool:
        own = self.experiment[AXES[axis]]
        if not isinstance(own, Mapping):
            return bool(own == value)
        words = {word.strip() for word in value.split(",")}
        return own["name"] in words or f"{own['name']}:{own['parameters'].get('id')}" in words


def read_run(folder: Path) -> StoredRun:
    """Read the run in a folder.

    Raises:
        CorruptRecord: The folder or a file of it is invalid; the message is one line with the path.
    """
    if folder.is_symlink():
        raise CorruptRecord(f"{folder} is a symbolic link")
    path = folder / "experiment.json"
    try:
        content = read_bytes(path, LIMIT)
    except FileNotFoundError:
        raise CorruptRecord(f"{folder} is not the folder of a run: it has no experiment.json") from None
    raw = parse_object(content, path)
    record = migrate("run", raw, path)
    description, code = record.get("experiment"), record.get("code")
    if not isinstance(description, dict) or not _is_experiment(description) or not isinstance(code, dict):
        raise CorruptRecord(f"{path} does not describe an experiment")
    result = _result(folder, content)
    failure = _optional(folder / "failure.json") if result is None else None
    if failure is not None and not isinstance(failure.get("error"), str):
        raise CorruptRecord(f"{folder / 'failure.json'} is not the record of a failure")
    status: RunStatus = "finished" if result is not None else "failed" if failure is not None else "unfinished"
    error = failure["error"][:1000] if failure is not None else ""
    recorded = digest_of(raw["experiment"])
    return StoredRun(
        folder, description, recorded, str(code.get("digest")), status, result or {}, " ".join(error.split())
    )


def _result(folder: Path, experiment: bytes) -> dict[str, Any] | None:
    """Read and check the `result.json` beside an `experiment.json`; None if the file does not exist."""
    path = folder / "result.json"
    try:
        content = read_bytes(path, LIMIT)
    except FileNotFoundError:
        return None
    raw = parse_object(content, path)
    result = migrate("result", raw, path)
    if not _is_result(result):
        raise CorruptRecord(f"{path} is not a result")
    check_result(folder, content, raw, experiment, run_names(folder, experiment))
    return result


def scan_runs(store: Path) -> tuple[list[StoredRun], list[str]]:
    """Read all runs of a store.

    Archived folders (`HASH-archived`) are skipped. A folder whose name is not the hash of its experiment is reported:
    it is a copy, which would count twice, or was modified.

    Returns:
        The runs by folder name, and one line for each invalid folder.

    Raises:
        StorageError: The store cannot be read.
    """
    try:
        with os.scandir(store) as items:
            names = sorted(item.name for item in items if item.is_dir(follow_symlinks=True))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise StorageError(f"cannot read {store}: {error.strerror}") from None
    entries, problems = [], []
    for name in names:
        folder = store / name
        if name.startswith(".") or re.fullmatch(r"[0-9a-f]{16}-[a-z][a-z0-9-]*", name):
            continue
        try:
            if not os.path.exists(folder / "experiment.json") and not re.fullmatch("[0-9a-f]{16}", name):
                continue  # not a run folder
            entry = read_run(folder)
        except CorruptRecord as error:
            problems.append(str(error))
            continue
        if name not in (entry.hash, entry.recorded):
            problems.append(f"{folder} holds the experiment {entry.hash}, which is not its name")
        else:
            entries.append(entry)
    return entries, problems


def gather(places: Sequence[Path]) -> tuple[list[StoredRun], list[str]]:
    """Read the runs of several places, each experiment once.

    Args:
        places: Run folders, stores, or files of sweeps.

    Returns:
        The runs, sorted by hash, and one line for each problem.

    Raises:
        InvalidParameter: A place is none of these.
    """
    entries: dict[str, StoredRun] = {}
    problems: list[str] = []
    for place in places:
        if place.is_symlink():  # those inside a store are not followed
            place = place.resolve()
        runs: Iterable[StoredRun]
        if place.is_file():
            runs, new_problems = _read_sweep(place)
        elif os.path.exists(place / "experiment.json"):
            runs, new_problems = _read_run(place)
        elif place.is_dir():
            runs, new_problems = scan_runs(place)
        else:
            raise InvalidParameter(f"{place} is neither a run folder, nor a folder of them, nor the file of a sweep")
        problems += new_problems
        for entry in runs:
            first = entries.setdefault(entry.hash, entry)
            if first.path.resolve() != entry.path.resolve():
                problems.append(f"{entry.path} repeats the experiment of {first.path}, and is left out")
    return sorted(entries.values(), key=lambda entry: entry.hash), problems


def last_sweep(store: Path) -> Path | None:
    """Return the file of the sweep that was started last in a store; None if there is none."""
    files = [
        path for path in store.glob("sweep-*.json") if re.fullmatch("sweep-[0-9a-f]{16}", path.stem) and path.is_file()
    ]
    return max(files, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def save_sweep(store: Path, name: str, digest: str, cells: Sequence[str]) -> Path:
    """Write the file of a sweep, which reports accept in place of folders.

    Args:
        store: The store.
        name: The name of the sweep.
        digest: The hash of the sweep, which is part of the file's name.
        cells: The hashes of the cells.

    Returns:
        The path of the file.
    """
    path = store / f"sweep-{digest}.json"
    text = json.dumps({"schema": SCHEMA, "name": name, "cells": sorted(cells)}, indent=1) + "\n"
    try:
        if path.is_file() and path.read_bytes() == text.encode():
            with suppress(OSError):  # a store may be read-only
                path.touch()  # this sweep is the last one now, see `last_sweep`
            return path
        store.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def _read_run(folder: Path) -> tuple[list[StoredRun], list[str]]:
    try:
        return [read_run(folder)], []
    except CorruptRecord as error:
        return [], [str(error)]


def _read_sweep(path: Path) -> tuple[list[StoredRun], list[str]]:
    cells = migrate("sweep", parse_object(read_named_file(path), path), path).get("cells")
    if not isinstance(cells, list) or not all(isinstance(c, str) and re.fullmatch("[0-9a-f]{16}", c) for c in cells):
        raise InvalidParameter(f"{path} is not the file of a sweep")
    entries, problems = [], []
    started = [cell for cell in cells if (path.parent / cell).exists()]
    if left := len(cells) - len(started):
        problems.append(f"{path} has {len(cells)} cells, of which {left} have not been started")
    for cell in started:
        try:
            entries.append(read_run(path.parent / cell))
        except CorruptRecord as error:
            problems.append(str(error))
    return entries, problems


def _object(path: Path) -> dict[str, Any]:
    return parse_object(read_bytes(path, LIMIT), path)


def _optional(path: Path) -> dict[str, Any] | None:
    try:
        return _object(path)
    except FileNotFoundError:
        return None


def _is_experiment(data: Mapping[str, Any]) -> bool:
    return set(data) == set(AXES.values()) and all(_is_value(axis, data[axis.key]) for axis in recorded_axes())


def _is_value(axis: Axis, value: Any) -> bool:
    """Return whether a value has the form that records have on an axis."""
    if axis.is_kind:
        is_component = isinstance(value, dict) and isinstance(value.get("name"), str)
        return is_component and isinstance(value.get("parameters"), dict)
    if axis.type is int:
        return type(value) is int and value >= 0
    return type(value) is axis.type


def _is_result(data: Mapping[str, Any]) -> bool:
    if not all(isinstance(data.get(key), kind) for key, kind in _RESULT.items()):
        return False
    mean, speed = data["return"].get("mean"), data["steps_per_second"]
    valid_mean = mean is None or (type(mean) in (int, float))
    return valid_mean and isinstance(data["verdict"].get("name"), str) and speed > 0 and data["trajectories"] > 0
