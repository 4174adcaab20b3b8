"""Records of a run: the files of its folder, and how they are written and read.

    experiment.json         the resolved experiment, its identity and the code that ran it
    trace.jsonl             one line a round in a fixed format (see `byzbench.experiments.trace`), which is hashed
    metrics.jsonl           one line a round; equal experiments give equal bytes; later versions may add columns
    timing.jsonl            one line a round with the measured time
    checkpoint.safetensors  everything that the next round needs, and the sizes of the logs
    result.json             the result, written last; a run without it is unfinished
    failure.json            the error that ended a cell of a sweep, if any

The checkpoint defines the state of a run: lines of logs after it are removed when the run is resumed.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from byzbench.canonical import SCHEMA, schema_of
from byzbench.errors import Busy, CorruptRecord, StorageError
from byzbench.records.files import FILES, parse_json, parse_object, read_bytes
from byzbench.records.migrations import is_described, migrate

LOGS = {
    "trace.jsonl": ("index", "time", "trajectories", "steps", "return"),
    "metrics.jsonl": ("round", "trajectories", "steps", "return", "return_worst", "disagreement", "messages", "bytes"),
    "timing.jsonl": ("round", "seconds"),
}
"""The logs and their required keys. Values are numbers, or null if not finite; the first key is the line's number."""


class RunFolder:
    """The folder of one run. All its files are written by this class; errors of the disk are `StorageError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._logs: dict[str, BinaryIO] = {}

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Lock the folder for this process; the lock ends with the process.

        Args:
            wait: Whether to wait for another process that holds the lock.

        Raises:
            Busy: Another process holds the lock, and `wait` is False.
        """
        with _storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = open(self.path / ".lock", "wb")  # noqa: SIM115
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:
                raise Busy(f"{self.path} is being written by another process") from None
            try:
                yield
            finally:
                for log in self._logs.values():
                    with _storage(self.path):
                        log.close()

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a JSON object of the folder; None if the file does not exist."""
        try:
            return parse_object(read_bytes(self.path / name), self.path / name, REMEDY)
        except FileNotFoundError:
            return None

    def record(self) -> dict[str, Any] | None:
        """Read `experiment.json`, migrated to the present schema; None if the file does not exist.

        Raises:
            CorruptRecord: The file is invalid, or of a newer byzbench.
        """
        data, path = self.read("experiment.json"), self.path / "experiment.json"
        if data is None:
            return None
        record = migrate("run", data, path)
        if not is_described(record.get("experiment")):
            raise CorruptRecord(f"{path} does not describe an experiment; {REMEDY}")
        return record

    def result(self) -> dict[str, Any] | None:
        """Read `result.json`, migrated to the present schema; None if the file does not exist.

        Raises:
            CorruptRecord: The file is invalid, or of a newer byzbench.
        """
        data = self.read("result.json")
        return None if data is None else migrate("result", data, self.path / "result.json")

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON object atomically."""
        text = json.dumps(data, indent=2, allow_nan=False) + "\n"
        self.put(name, text.encode())

    def put(self, name: str, content: bytes) -> None:
        """Write a file atomically."""
        with _storage(self.path):
            temporary = self.path / f".{name}.tmp"
            try:
                with open(temporary, "wb") as handle:
                    handle.write(content)
                    handle.flush()
                    os.fsync(handle.fileno())
                os.replace(temporary, self.path / name)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def open_log(self, name: str, size: int) -> None:
        """Open a log for appending, truncated to its first `size` bytes."""
        with _storage(self.path):
            handle = open(self.path / name, "ab")  # noqa: SIM115
            self._logs[name] = handle
            handle.truncate(size)

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Append one line to a log."""
        with _storage(self.path):
            self._logs[name].write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Write a checkpoint, after the logs have been flushed to disk.

        Args:
            tensors: The tensors by name.
            progress: The numbers to restore, as JSON values; the sizes of the logs are added.
        """
        with _storage(self.path):
            for log in self._logs.values():
                log.flush()
                os.fsync(log.fileno())
            sizes = {name: log.tell() for name, log in self._logs.items()}
        meta = {"progress": json.dumps({**progress, "sizes": sizes})}
        # Copies, as safetensors rejects tensors that share memory.
        flat = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        self.put("checkpoint.safetensors", safetensors.torch.save(flat, meta))

    def restore(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read the last checkpoint: its tensors and its progress; None if there is none.

        Raises:
            CorruptRecord: The file is not a checkpoint.
        """
        path = self.path / "checkpoint.safetensors"
        if not path.exists():
            return None
        try:
            with safetensors.safe_open(path, framework="pt") as handle:
                progress = json.loads((handle.metadata() or {})["progress"])
                tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
            # The names are used as paths and the sizes to truncate files, so only the known logs are allowed.
            if set(progress["sizes"]) != set(LOGS) or not all(_count(n) for n in progress["sizes"].values()):
                raise ValueError("sizes")
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
            raise CorruptRecord(f"{path} is not a checkpoint of byzbench; {REMEDY}") from None
        return tensors, progress

    def metrics(self, name: str = "metrics.jsonl", size: int | None = None) -> list[dict[str, Any]]:
        """Read and check the lines of a log, without an incomplete last line. Metrics have the names of today.

        Args:
            name: The log.
            size: The number of bytes to read; None: all.

        Raises:
            CorruptRecord: The log is missing, too short or invalid.
        """
        for log in self._logs.values():
            with _storage(self.path):
                log.flush()
        try:
            content = read_bytes(self.path / name)
        except FileNotFoundError:
            raise CorruptRecord(f"{self.path / name} is missing; {REMEDY}") from None
        if len(content) < (size or 0):
            raise CorruptRecord(f"{self.path / name} is shorter than its checkpoint says; {REMEDY}")
        lines = []
        for number, text in enumerate(content[:size].split(b"\n")[:-1], 1):
            try:
                line = parse_json(text)
            except ValueError:
                line = None
            valid = isinstance(line, dict) and line.get(LOGS[name][0]) == number - 1
            if not valid or not all(_number(line.get(key, "")) for key in LOGS[name]):
                raise CorruptRecord(f"{self.path / name}:{number}: not a line of this log; {REMEDY}")
            lines.append(line)
        return self.current_metrics(lines) if name == "metrics.jsonl" else lines

    def current_metrics(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return lines of metrics as they would be written today; their schema is that of `experiment.json`."""
        path = self.path / "experiment.json"
        schema = schema_of(self.read("experiment.json") or {}, path)
        if schema == SCHEMA:
            return lines
        migrated = [migrate("metrics", {**line, "schema": schema}, path) for line in lines]
        return [{name: value for name, value in line.items() if name != "schema"} for line in migrated]

    def clear(self) -> None:
        """Remove all files of the run."""
        with _storage(self.path):
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)

    def delete_file(self, name: str) -> None:
        """Remove one file."""
        with _storage(self.path):
            (self.path / name).unlink(missing_ok=True)

    def archive(self, reasons: Sequence[str]) -> Path:
        """Rename the folder to HASH-archived, or HASH-archived-N, with the reasons in `archived.json`."""
        target = self.path.with_name(f"{self.path.name}-archived")
        number = 1
        while target.exists():
            number += 1
            target = self.path.with_name(f"{self.path.name}-archived-{number}")
        self.write("archived.json", {"schema": SCHEMA, "reasons": list(reasons)})
        with _storage(self.path):
            os.replace(self.path, target)
        return target


REMEDY = "move the folder away, or start over with --on-existing rerun"
"""The last part of messages about corrupt records."""


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _number(value: object) -> bool:
    return value is None or type(value) in (int, float)


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; what was saved is intact, and the same command resumes it"
        ) from None


def finite(number: float) -> float | None:
    """Return the number, or None if it is not finite, as JSON has no such numbers."""
    return number if math.isfinite(number) else None
