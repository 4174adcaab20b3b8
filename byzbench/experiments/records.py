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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import Tensor

from byzbench.canonical import SCHEMA
from byzbench.errors import Busy, CorruptRecord, StorageError
from byzbench.experiments.files import FILES, parse_json, parse_object, read_bytes
from byzbench.experiments.metrics import SEVERITY, Verdict, mean_of
from byzbench.experiments.migrations import is_described, migrate

LOGS = {
    "trace.jsonl": ("index", "time", "trajectories", "steps", "return"),
    "metrics.jsonl": ("round", "trajectories", "steps", "return", "return_worst", "disagreement", "messages", "bytes"),
    "timing.jsonl": ("round", "seconds"),
}
"""The logs and their required keys. Values are numbers, or null if not finite; the first key is the line's number."""


@dataclass(frozen=True)
class Result:
    """The result of a finished run, or of several that differ in their seeds.

    Attributes:
        run: The run folder, or the folders of several runs.
        verdict: The verdict; of several runs, the worst.
        final: The final training return as {mean, low, high, n}, with a 95 % interval over n >= 3 seeds.
        trajectories: The number of trajectories per agent.
        steps: The number of environment steps of all agents.
        steps_per_second: The speed of the training loop.
        disagreement: The diameter of the honest agents' parameters at the end.
        messages: The number of messages sent.
        bytes: The number of bytes sent.
        screened: The number of malformed messages.
        evaluation: The last evaluation of the honest agents' policies: see `byzbench.experiments.evaluation`.
        versions: The versions of the code that ran.
        trace: The sha256 of `trace.jsonl`; empty for runs that are older than traces.
        diagnostics: The graph diagnostics.
        notes: Remarks for the reader.
        aggregation: The diagnostics of the aggregation, the mean over rounds: see
            `byzbench.experiments.diagnostics`; `error` is in units of the honest spread.
        assumptions: The measured assumption constants: see `byzbench.experiments.assumptions`.
        traffic: The messages and bytes by topic, and the `most` bytes that one agent sent.
    """

    run: str | list[str]
    verdict: Verdict
    final: dict[str, float | int | None]
    trajectories: int
    steps: int
    steps_per_second: float
    disagreement: float | None
    messages: int
    bytes: int
    screened: int
    evaluation: dict[str, float | None]
    versions: dict[str, str]
    trace: str = ""
    diagnostics: dict[str, float | int | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    aggregation: dict[str, float | None] = field(default_factory=dict)
    assumptions: dict[str, float | None] = field(default_factory=dict)
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints, in which `final` is named `return`."""
        data = {"schema": SCHEMA, **asdict(self)}
        data["return"] = data.pop("final")
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Create a result from an object of `to_json`.

        Raises:
            ValueError: The object is invalid.
        """
        values = {key: value for key, value in data.items() if key != "schema"}
        values["final"] = values.pop("return", None)
        return TypeAdapter(cls).validate_python(values)


def pool(results: Sequence[Result]) -> Result:
    """Combine the results of runs that differ in their seeds.

    Returns:
        Their means and sums, the worst verdict, and a 95 % interval of Student's t for three or more seeds.
    """
    if len(results) == 1:
        return results[0]
    finals = [r.final["mean"] for r in results if r.final["mean"] is not None]
    mean, low, high = _interval(finals)
    if len(finals) < len(results):
        mean = low = high = None
    worst = max(results, key=lambda r: SEVERITY.index(r.verdict.name))
    disagreements = [r.disagreement for r in results]
    return replace(
        worst,
        run=[str(r.run) for r in results],
        final={"mean": mean, "low": low, "high": high, "n": len(results)},
        trajectories=sum(r.trajectories for r in results) // len(results),
        steps=sum(r.steps for r in results),
        steps_per_second=sum(r.steps for r in results) / sum(r.steps / r.steps_per_second for r in results),
        disagreement=None if None in disagreements else max(d for d in disagreements if d is not None),
        messages=sum(r.messages for r in results),
        bytes=sum(r.bytes for r in results),
        screened=sum(r.screened for r in results),
        diagnostics={k: max((r.diagnostics[k] or 0) for r in results) for k in worst.diagnostics},
        notes=_pool_notes(results),
        aggregation={k: mean_of(r.aggregation.get(k) for r in results) for k in worst.aggregation},
        assumptions={k: mean_of(r.assumptions.get(k) for r in results) for k in worst.assumptions},
        traffic={
            topic: {k: sum(r.traffic.get(topic, {}).get(k, 0) for r in results) for k in sent}
            for topic, sent in worst.traffic.items()
        },
    )


def _pool_notes(results: Sequence[Result]) -> list[str]:
    """Return the distinct notes; of notes that agree up to a colon, and differ by seed after it, the longest one."""
    longest: dict[str, str] = {}
    for note in (note for result in results for note in result.notes):
        subject = note.partition(": ")[0]
        longest[subject] = max(longest.get(subject, ""), note, key=len)
    return list(longest.values())


def _interval(values: Sequence[float | int]) -> tuple[float | None, float | None, float | None]:
    """Return the mean and Student's 95 % interval, without an interval for fewer than three values."""
    if not values:
        return None, None, None
    mean = sum(values) / len(values)
    if len(values) < 3:
        return mean, None, None
    from scipy import stats

    half_width = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return mean, mean - half_width, mean + half_width


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
        """Read and check the lines of a log, without an incomplete last line.

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
        return lines

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
