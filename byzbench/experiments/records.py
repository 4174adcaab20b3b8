"""The folder of a run: what is written, when, and how it is read back.

    experiment.json         the resolved experiment, its identity and the code that ran it
    trace.jsonl             a line a round, of a frozen form (see `byzbench.experiments.trace`): what is hashed
    metrics.jsonl           a line a round; the same experiment gives the same bytes, and may gain columns
    timing.jsonl            a line a round; clocks, so never the same
    checkpoint.safetensors  everything that the next round needs, and how long the other files were
    result.json             written whole, last; a folder without it is unfinished
    failure.json            what ended a cell of a sweep, if something did

Only the checkpoint says how far a run has come: what the other files hold beyond it is cut off at resume.
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
from byzbench.experiments.files import FILES, parse, parse_object, read_bytes
from byzbench.experiments.metrics import SEVERITY, Verdict, mean_of
from byzbench.experiments.migrations import is_described, migrate

LOGS = {
    "trace.jsonl": ("index", "time", "trajectories", "steps", "return"),
    "metrics.jsonl": ("round", "trajectories", "steps", "return", "return_worst", "disagreement", "messages", "bytes"),
    "timing.jsonl": ("round", "seconds"),
}
"""The logs, and what every line of them holds: a number, or null for one that is not finite. The first one counts."""


@dataclass(frozen=True)
class Result:
    """A finished run, or several that differ in their seeds.

    Attributes:
        run: the folder, or the folders.
        verdict: of the run; of several, the worst.
        final: final training return: {mean, low, high, n}; a 95 % interval over n >= 3 seeds, else no interval.
        trajectories: per agent. steps: of all agents. steps_per_second: of the training loop.
        disagreement: diameter of the honest agents' parameters at the end.
        messages, bytes: sent. screened: messages found malformed.
        evaluation: the last evaluation of the honest agents' policies: see `byzbench.experiments.evaluation`.
        versions: of the code that ran.
        trace: sha256 of `trace.jsonl`; empty for runs that are older than it.
        diagnostics: what the seats leave of the guarantees.
        notes: what a reader should know.
        aggregation: what the rule did to the liars' vectors, the mean over rounds: see
            `byzbench.experiments.diagnostics`; `error` is in units of the honest spread.
        traffic: messages and bytes by topic, and the `most` bytes that one agent sent.
        assumptions: what theorems bound, as measured: see `byzbench.experiments.assumptions`.
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
        """The object that `--json` prints; `final` is called `return` there."""
        data = {"schema": SCHEMA, **asdict(self)}
        data["return"] = data.pop("final")
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """The inverse of `to_json`.

        Raises:
            ValueError: it is no such object.
        """
        values = {key: value for key, value in data.items() if key != "schema"}
        values["final"] = values.pop("return", None)
        return TypeAdapter(cls).validate_python(values)


def pool(results: Sequence[Result]) -> Result:
    """Runs that differ in their seeds as one result: means and sums over them, and a t interval from three on."""
    if len(results) == 1:
        return results[0]
    finals = [r.final["mean"] for r in results if r.final["mean"] is not None]
    mean, low, high = _interval(finals)
    if len(finals) < len(results):
        mean = low = high = None
    worst = max(results, key=lambda r: SEVERITY.index(r.verdict.name))
    apart = [r.disagreement for r in results]
    return replace(
        worst,
        run=[str(r.run) for r in results],
        final={"mean": mean, "low": low, "high": high, "n": len(results)},
        trajectories=sum(r.trajectories for r in results) // len(results),
        steps=sum(r.steps for r in results),
        steps_per_second=sum(r.steps for r in results) / sum(r.steps / r.steps_per_second for r in results),
        disagreement=None if None in apart else max(a for a in apart if a is not None),
        messages=sum(r.messages for r in results),
        bytes=sum(r.bytes for r in results),
        screened=sum(r.screened for r in results),
        diagnostics={k: max((r.diagnostics[k] or 0) for r in results) for k in worst.diagnostics},
        notes=list(dict.fromkeys(note for r in results for note in r.notes)),
        aggregation={k: mean_of(r.aggregation.get(k) for r in results) for k in worst.aggregation},
        assumptions={k: mean_of(r.assumptions.get(k) for r in results) for k in worst.assumptions},
        traffic={
            topic: {k: sum(r.traffic.get(topic, {}).get(k, 0) for r in results) for k in sent}
            for topic, sent in worst.traffic.items()
        },
    )


def _interval(values: Sequence[float | int]) -> tuple[float | None, float | None, float | None]:
    """Mean and Student's 95 % interval; no interval from fewer than three values."""
    if not values:
        return None, None, None
    mean = sum(values) / len(values)
    if len(values) < 3:
        return mean, None, None
    from scipy import stats

    spread = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return mean, mean - spread, mean + spread


class RunFolder:
    """One run on disk. All writing goes through here, and a failing disk is a `StorageError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._logs: dict[str, BinaryIO] = {}

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Hold the folder for this process; the lock dies with it. Held elsewhere: `Busy`, unless told to wait."""
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
        """A JSON object of the folder, or None where there is no such file."""
        try:
            return parse_object(read_bytes(self.path / name), self.path / name, REMEDY)
        except FileNotFoundError:
            return None

    def record(self) -> dict[str, Any] | None:
        """Return `experiment.json` as it would be written today, or None where there is no such file.

        Raises:
            CorruptRecord: it is none, or of a newer byzbench.
        """
        found, where = self.read("experiment.json"), self.path / "experiment.json"
        if found is None:
            return None
        record = migrate("run", found, where)
        if not is_described(record.get("experiment")):
            raise CorruptRecord(f"{where} does not describe an experiment; {REMEDY}")
        return record

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON object whole or not at all."""
        text = json.dumps(data, indent=2, allow_nan=False) + "\n"
        self.put(name, text.encode())

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
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
        """Open a log for appending after its first `size` bytes; the rest is cut off."""
        with _storage(self.path):
            handle = open(self.path / name, "ab")  # noqa: SIM115
            self._logs[name] = handle
            handle.truncate(size)

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Append one line to a log."""
        with _storage(self.path):
            self._logs[name].write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Write a checkpoint, after making sure that the logs hold what it says they hold."""
        with _storage(self.path):
            for log in self._logs.values():
                log.flush()
                os.fsync(log.fileno())
            sizes = {name: log.tell() for name, log in self._logs.items()}
        meta = {"progress": json.dumps({**progress, "sizes": sizes})}
        # Copies, since safetensors refuses tensors that share their memory.
        flat = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
        self.put("checkpoint.safetensors", safetensors.torch.save(flat, meta))

    def restore(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last checkpoint: its tensors and its progress; None where there is none."""
        path = self.path / "checkpoint.safetensors"
        if not path.exists():
            return None
        try:
            with safetensors.safe_open(path, framework="pt") as handle:
                progress = json.loads((handle.metadata() or {})["progress"])
                tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
            # The names become paths, and the sizes cut files off: nothing but our own logs, at sizes that exist.
            if set(progress["sizes"]) != set(LOGS) or not all(_count(n) for n in progress["sizes"].values()):
                raise ValueError("sizes")
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
            raise CorruptRecord(f"{path} is not a checkpoint of byzbench; {REMEDY}") from None
        return tensors, progress

    def metrics(self, name: str = "metrics.jsonl", size: int | None = None) -> list[dict[str, Any]]:
        """All lines of a log, checked, or those of its first `size` bytes.

        A last line that was cut off in the middle is left out.
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
                line = parse(text)
            except ValueError:
                line = None
            good = isinstance(line, dict) and line.get(LOGS[name][0]) == number - 1
            if not good or not all(_number(line.get(key, "")) for key in LOGS[name]):
                raise CorruptRecord(f"{self.path / name}:{number}: not a line of this log; {REMEDY}")
            lines.append(line)
        return lines

    def clear(self) -> None:
        """Forget the run."""
        with _storage(self.path):
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Remove one file."""
        with _storage(self.path):
            (self.path / name).unlink(missing_ok=True)

    def archive(self, reasons: Sequence[str]) -> Path:
        """Move the whole folder to a name beside it that is not taken, with the reasons in `archived.json`."""
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
    """The number, or None where JSON has no word for it."""
    return number if math.isfinite(number) else None
