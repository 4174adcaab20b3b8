"""Records of a run: the files of its folder, and how they are written and read.

    experiment.json         the resolved experiment, its identity and the code that ran it
    trace.jsonl             one line a round in a fixed format (see `byzbench.experiments.trace`), which is hashed
    metrics.jsonl           one line a round; equal experiments give equal bytes; later versions may add columns
    timing.jsonl            one line a round with the measured time
    checkpoint.safetensors  everything that the next round needs, and the sizes of the logs
    result.json             the result, written last; a run without it is unfinished
    failure.json            the error that ended a cell of a sweep, if any

The checkpoint defines the state of a run: lines of logs after it are removed when the run is resumed. What is read is
checked against the digests of `byzbench.records.seals`.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from byzbench.canonical import SCHEMA, schema_of
from byzbench.errors import CorruptRecord, StorageError
from byzbench.records.files import FILES, REMEDY, parse_json, parse_object, read_bytes
from byzbench.records.locks import lock_folder
from byzbench.records.migrations import is_described, migrate
from byzbench.records.seals import (
    BLANK,
    check_file,
    check_result,
    file_digest,
    is_intact,
    log_digests,
    run_names,
    stamp,
)

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
        self._hashers: dict[str, hashlib._Hash] = {}

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Lock the folder for this process; the lock ends with the process.

        A folder that this process cannot write is locked for reading, as its finished run can be read.

        Args:
            wait: Whether to wait for another process that holds the lock.

        Raises:
            Busy: Another process holds the lock, and `wait` is False.
            StorageError: The folder cannot be made or locked.
        """
        with ExitStack() as held:
            with _storage(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock_folder(self.path, wait))
            try:
                yield
            finally:
                for log in self._logs.values():
                    with _storage(self.path):
                        log.close()

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a JSON object of the folder; None if the file does not exist."""
        content = self._content(name)
        return None if content is None else parse_object(content, self.path / name, REMEDY)

    def _content(self, name: str) -> bytes | None:
        try:
            return read_bytes(self.path / name)
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
            CorruptRecord: The file is invalid, damaged, of another run or of a newer byzbench, or `experiment.json` is
                not the one of the run.
        """
        content, path = self._content("result.json"), self.path / "result.json"
        if content is None:
            return None
        data, experiment = parse_object(content, path, REMEDY), self._content("experiment.json")
        check_result(self.path, content, data, experiment, run_names(self.path, experiment))
        return migrate("result", data, path)

    def check_logs(self) -> None:
        """Check the logs of a finished run against the digests in its result.

        Raises:
            CorruptRecord: A log is missing or damaged; the message names it.
        """
        for name, digest in log_digests(self.read("result.json") or {}).items():
            check_file(self.path / name, self._content(name), digest)

    def digests(self) -> dict[str, str]:
        """Return the sha256 of `experiment.json` and of the logs as they were written."""
        digests = {name: hasher.hexdigest() for name, hasher in self._hashers.items()}
        return digests | {"experiment.json": file_digest(self._content("experiment.json") or b"")}

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON object atomically."""
        self.put(name, _encoded(data))

    def write_sealed(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON object atomically, with the seal of the file in the place of the first placeholder."""
        self.put(name, stamp(_encoded(data)))

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
        """Open a log for appending, truncated to its first `size` bytes; one of no bytes is made anew."""
        with _storage(self.path):
            if not size:
                (self.path / name).unlink(missing_ok=True)  # it could be a link, whose target is of somebody else
            handle = open(self.path / name, "ab")  # noqa: SIM115
            self._logs[name] = handle
            handle.truncate(size)
        self._hashers[name] = hashlib.sha256(read_bytes(self.path / name))

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Append one line to a log."""
        content = json.dumps(line, allow_nan=False).encode() + b"\n"
        with _storage(self.path):
            self._logs[name].write(content)
        self._hashers[name].update(content)

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Write a checkpoint, after the logs have been flushed to disk.

        Args:
            tensors: The tensors by name.
            progress: The numbers to restore, as JSON values; the sizes and the digests of the logs are added.
        """
        with _storage(self.path):
            for log in self._logs.values():
                log.flush()
                os.fsync(log.fileno())
            sizes = {name: log.tell() for name, log in self._logs.items()}
        meta = {"progress": json.dumps({**progress, "sizes": sizes, "digests": self.digests()}), "seal": BLANK}
        # Copies, as safetensors rejects tensors that share memory.
        flat = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        self.put("checkpoint.safetensors", stamp(safetensors.torch.save(flat, meta)))

    def restore(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read the last checkpoint: its tensors and its progress; None if there is none.

        Raises:
            CorruptRecord: The file is not a checkpoint, is damaged, or is of another `experiment.json`.
        """
        path = self.path / "checkpoint.safetensors"
        if not os.path.lexists(path):
            return None
        try:
            if not path.is_file():  # opening a pipe would wait for ever
                raise ValueError("file")
            with safetensors.safe_open(path, framework="pt") as handle:
                metadata = handle.metadata() or {}
                progress = json.loads(metadata["progress"])
                digests = progress.setdefault("digests", {})
                tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
            # The names are used as paths and the sizes to truncate files, so only the known logs are allowed.
            if set(progress["sizes"]) != set(LOGS) or not all(_count(n) for n in progress["sizes"].values()):
                raise ValueError("sizes")
            if not isinstance(digests, dict):
                raise ValueError("digests")
        except (
            safetensors.SafetensorError,
            OSError,
            LookupError,
            AttributeError,
            TypeError,
            ValueError,
            RecursionError,
        ):
            raise CorruptRecord(f"{path} is not a checkpoint of byzbench; {REMEDY}") from None
        if digests or "seal" in metadata:
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if not is_intact(content, metadata.get("seal")):
                    raise CorruptRecord(
                        f"{path} has changed since it was written: its sha256 is not the recorded one; {REMEDY}"
                    )
            check_file(self.path / "experiment.json", self._content("experiment.json"), digests.get("experiment.json"))
        return tensors, progress

    def metrics(
        self, name: str = "metrics.jsonl", size: int | None = None, digest: str | None = None
    ) -> list[dict[str, Any]]:
        """Read and check the lines of a log, without an incomplete last line. Metrics have the names of today.

        The log of a finished run is checked against its result.

        Args:
            name: The log.
            size: The number of bytes to read; None: all.
            digest: The sha256 of these bytes, if it is known.

        Raises:
            CorruptRecord: The log is missing, too short, invalid or damaged.
        """
        for log in self._logs.values():
            with _storage(self.path):
                log.flush()
        content = self._content(name)
        if content is None:
            raise CorruptRecord(f"{self.path / name} is missing; {REMEDY}")
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
        result = {} if self._logs or size is not None else self.read("result.json") or {}
        if digest := digest or log_digests(result).get(name):
            check_file(self.path / name, content[:size], digest)
        elif name == "metrics.jsonl" and "trajectories" in result:
            ends = [line["trajectories"] for line in lines[-1:]]
            if result["trajectories"] not in ends:
                raise CorruptRecord(f"{self.path / name} does not end where the run did; {REMEDY}")
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


def _encoded(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=2, allow_nan=False).encode() + b"\n"


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
