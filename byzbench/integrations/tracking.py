"""Uploads of run folders to Weights & Biases; no run depends on it.

`tracking.json` in a run folder holds the ids of all upload attempts, and the digest of the records that were completely
uploaded, by destination.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from os import environ
from pathlib import Path
from typing import Any

from byzbench.axes import Axis, recorded_axes
from byzbench.canonical import hash_of
from byzbench.errors import Busy, CorruptRecord, UserError
from byzbench.integrations.modes import WandbMode
from byzbench.records.files import LIMIT, parse_object, read_bytes
from byzbench.records.run_folder import LOGS, RunFolder
from byzbench.records.store import read_run

LOOK_EVERY = 2.0
"""The seconds between uploads from a running run; the runner flushes its logs about as often."""

PATIENCE = 2.0
"""The seconds to wait for a folder that another process has locked, for example to check whether it is finished."""


_NAMED_BY = ("algo", "attack", "topology", "env", "seed")
"""The axes in the name of a run."""

_ARTIFACT_FILES = (
    "experiment.json",
    "trace.jsonl",
    "metrics.jsonl",
    "timing.jsonl",
    "result.json",
    "checkpoint.safetensors",
)
_LOGGED = ("metrics.jsonl", "timing.jsonl")
_DIGESTED = ("experiment.json", "metrics.jsonl", "result.json")
_PICTURES = {".png": "Image", ".gif": "Video"}


class Tracker:
    """An uploader of runs to W&B. Its first error is reported as a warning and stops tracking, but not the runs.

        tracker = Tracker("offline")
        with tracker.follow(Path("runs") / experiment.hash) as callback:
            byzbench.run(experiment, callback=callback)

    Attributes:
        places: The URLs of all completely uploaded runs, or the commands that upload offline runs.
    """

    def __init__(self, mode: WandbMode, group: str | None = None) -> None:
        """Import W&B, unless `mode` is off; then all methods have no effect.

        Args:
            mode: `online` uploads runs, `offline` writes files for `wandb sync`, `off` does nothing.
            group: The group of the runs at W&B; None: the hash of the experiment without its seed.

        Raises:
            UserError: W&B is not installed.
        """
        self.places: list[str] = []
        self._mode, self._group = mode, group
        self._wandb = None if mode == "off" else _library()

    @contextmanager
    def follow(self, folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Upload the run in `folder`: its metrics when the yielded callback is called, and its result after the block.

        Nothing is read before the first call, as the folder may hold files of an earlier run until then.
        """
        upload = _RunUpload(self._wandb, self._mode, self._group, RunFolder(folder))
        due = 0.0

        def callback(_: Mapping[str, Any]) -> None:
            nonlocal due
            if time.monotonic() >= due:
                self._try(upload.update)
                due = time.monotonic() + LOOK_EVERY

        try:
            yield callback
        except BaseException:
            if upload.run is not None:
                self._try(upload.stop)
            raise
        self._try(lambda: self._end(upload))

    def show(self, folder: Path) -> None:
        """Upload a finished run, unless it is recorded as uploaded; errors are warnings."""
        self._try(lambda: self.upload(folder, patience=PATIENCE))

    def upload(self, folder: Path, *, force: bool = False, patience: float = 0.0) -> str | None:
        """Upload a finished run.

        Args:
            folder: The run folder.
            force: Whether to upload a run that is recorded as uploaded.
            patience: The seconds to wait for another process that has locked the folder.

        Returns:
            The URL of the run, or the command that uploads an offline run; None if it is recorded as uploaded.

        Raises:
            Busy: Another process has locked the folder.
            CorruptRecord: The folder is invalid, or its run is not finished.
            Exception: Any error of W&B.
        """
        if self._wandb is None:
            return None
        upload = _RunUpload(self._wandb, self._mode, self._group, RunFolder(folder))
        with _lock(upload.folder, patience):
            _check(folder)
            if not force and upload.is_uploaded():
                return None
            try:
                return self._finish(upload)
            except BaseException:
                if upload.run is not None:
                    with suppress(Exception, SystemExit):
                        upload.run.finish(exit_code=1)
                raise

    def _end(self, upload: _RunUpload) -> None:
        with _lock(upload.folder, PATIENCE):
            self._finish(upload)

    def _finish(self, upload: _RunUpload) -> str:
        place = upload.finish()
        upload.record_upload()
        self.places.append(place)
        return place

    def _try(self, step: Callable[[], object]) -> None:
        if self._wandb is None:
            return
        try:
            step()
        except Busy as error:  # no error of W&B, so the next runs can be uploaded
            warnings.warn(f"not uploaded to W&B: {error}; `byzbench sync` uploads it later", stacklevel=2)
        except (Exception, SystemExit) as error:
            self._wandb = None
            warnings.warn(
                f"W&B tracking stopped ({type(error).__name__}: {error}); "
                "runs continue without it, and `byzbench sync` uploads finished runs from their records",
                stacklevel=2,
            )


def _library() -> Any:
    try:
        wandb = importlib.import_module("wandb")
        wandb.init  # noqa: B018  (any folder with the name wandb can be imported)
    except Exception as error:
        raise UserError(f"--wandb needs Weights & Biases: pip install wandb ({error})") from None
    return wandb


class _RunUpload:
    """One attempt to upload a run folder, as a new W&B run from round 0 on.

    W&B cannot resume a run offline, and would duplicate a round that is sent twice, so every attempt has its own id.
    """

    def __init__(self, wandb: Any, mode: WandbMode, group: str | None, folder: RunFolder) -> None:
        self.run: Any = None
        self.folder = folder
        self._wandb, self._mode, self._group = wandb, mode, group
        self._read = dict.fromkeys(_LOGGED, 0)
        self._attempt = ""

    def update(self) -> None:
        """Upload the new rounds, as far as all logs have complete lines."""
        if self.run is None:
            self.run = self._start()
        rounds = list(zip(*(_lines(self.folder.path / name, at) for name, at in self._read.items()), strict=False))
        metrics = [{k: v for line in lines for k, v in json.loads(line).items()} for lines in rounds]
        for lines, values in zip(rounds, self.folder.current_metrics(metrics), strict=True):
            self.run.log(values, step=values["round"])
            for name, line in zip(self._read, lines, strict=True):
                self._read[name] += len(line)

    def stop(self) -> None:
        """Upload the remaining rounds of an interrupted run, and mark it as failed."""
        self.update()
        self.run.finish(exit_code=1)

    def finish(self) -> str:
        """Upload the remaining rounds, the result, the pictures and the files.

        Returns:
            The URL of the run, or the command that uploads an offline run.
        """
        self.update()
        result = dict(_flat({"result": self.folder.result() or {}}))
        self.run.summary.update(result)
        rows = [[what.removeprefix("result/"), _cell(value)] for what, value in result.items()]
        table = self._wandb.Table(columns=["what", "value"], data=rows, allow_mixed_types=True)
        self.run.log({"result_table": table, **self._pictures()})
        artifact = self.run.log_artifact(self._artifact())
        if self._mode == "online":
            artifact.wait()  # raises an error if the upload of the files failed, which `finish` does not
        place = f"wandb sync {Path(self.run.dir).parent}" if self._mode == "offline" else str(self.run.url)
        self.run.finish(exit_code=0)
        return place

    def is_uploaded(self) -> bool:
        """Return whether the records were uploaded in their present state."""
        entry = _uploads(self.folder)["uploaded"].get(self._destination(), {})
        return entry.get("digest") == _digest(self.folder.path)

    def record_upload(self) -> None:
        """Record the upload."""
        uploads = _uploads(self.folder)
        entry = {"id": self._attempt, "digest": _digest(self.folder.path)}
        uploaded = {**uploads["uploaded"], self._destination(): entry}
        self.folder.write("tracking.json", {**uploads, "uploaded": uploaded})

    def _destination(self) -> str:
        """Return the destination of uploads, as far as it is known without network access."""
        settings = self._settings()
        base = "offline" if self._mode == "offline" else settings.base_url
        return "/".join(part for part in (base, settings.entity, _project()) if part)

    def _settings(self) -> Any:
        return self._wandb.setup(settings=self._wandb.Settings(silent=True, console="off")).settings

    def _start(self) -> Any:
        record: Any = self.folder.read("experiment.json")
        entry = read_run(self.folder.path.resolve())
        tags = [_tag(axis, entry.name(axis.name)) for axis in recorded_axes()]

        uploads = _uploads(self.folder)
        code = re.sub("[^0-9a-f]", "", entry.code)[:8]
        self._attempt = f"{entry.hash}-{code}-{len(uploads['attempts']) + 1}"
        self.folder.write("tracking.json", {**uploads, "attempts": [*uploads["attempts"], self._attempt]})

        self._settings()
        run = self._wandb.init(
            mode=self._mode,
            project=_project(),
            id=self._attempt,
            name="-".join(str(entry.name(axis)) for axis in _NAMED_BY),
            group=self._group or hash_of({**entry.experiment, "seed": 0}),
            tags=list(dict.fromkeys(tag[:64] for tag in tags if tag)),  # W&B accepts 64 characters, and no duplicates
            config=dict(_flat({**entry.experiment, "hash": entry.hash, "code": record["code"]})),
            dir=self.folder.path.resolve(),  # absolute, as W&B's own process keeps its working directory
        )
        run.define_metric("*", step_metric="trajectories")  # rounds of different algorithms differ in size
        return run

    def _pictures(self) -> dict[str, Any]:
        media = {}
        for path in _pictures(self.folder.path):
            media_type = getattr(self._wandb, _PICTURES[path.suffix.lower()])
            media[f"pictures/{re.sub(r'[^0-9A-Za-z-]+', '_', path.name)}"] = media_type(str(path))
        return media

    def _artifact(self) -> Any:
        """Return an artifact of the run's files, without copies, as those of all runs would fill the user's disk."""
        artifact = self._wandb.Artifact(f"run-{read_run(self.folder.path.resolve()).hash}", type="run")
        records = [path for name in _ARTIFACT_FILES if _is_file(path := self.folder.path / name)]
        for path in (*records, *_pictures(self.folder.path)):
            artifact.add_file(str(path.resolve()), name=path.name, policy="immutable", skip_cache=True)
        return artifact


def _tag(axis: Axis, value: Any) -> str:
    """Return the tag of an axis: the name of a component, or `axis=value`.

    Example:
        >>> from byzbench.axes import axis_named
        >>> _tag(axis_named("attack"), "alie"), _tag(axis_named("relay"), False)
        ('alie', 'relay=false')
    """
    if axis.is_kind:
        return str(value)
    return f"{axis.symbol or axis.name}={str(value).lower() if axis.type is bool else value}"


def _project() -> str:
    return environ.get("WANDB_PROJECT", "byzbench")


def _lock(folder: RunFolder, patience: float) -> ExitStack:
    """Lock a folder, with retries for `patience` seconds."""
    stack, until = ExitStack(), time.monotonic() + patience
    while True:
        try:
            stack.enter_context(folder.locked())
            return stack
        except Busy:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)


def _check(path: Path) -> None:
    """Raise CorruptRecord unless the folder holds a finished, undamaged run with all rounds in all logs."""
    if read_run(path.resolve()).status != "finished":
        raise CorruptRecord(f"{path} is not the folder of a finished run")
    RunFolder(path).check_logs()
    rounds = {name: len(RunFolder(path).metrics(name)) for name in LOGS if (path / name).exists()}
    if len(set(rounds.values())) != 1:
        counts = ", ".join(f"{name} has {count}" for name, count in rounds.items())
        raise CorruptRecord(f"the logs of {path} are not of the same rounds: {counts}")


def _uploads(folder: RunFolder) -> dict[str, Any]:
    """Read the uploads `tracking.json`; the default is empty."""
    path = folder.path / "tracking.json"
    remedy = "remove it to upload the run again"
    try:
        data = parse_object(read_bytes(path), path, remedy)
    except FileNotFoundError:
        data = {}
    attempts, uploaded = data.get("attempts", []), data.get("uploaded", {})
    valid = isinstance(attempts, list) and all(isinstance(attempt, str) for attempt in attempts)
    if not valid or not isinstance(uploaded, dict) or not all(isinstance(e, dict) for e in uploaded.values()):
        raise CorruptRecord(f"{path} is no record of uploads; {remedy}")
    return {"attempts": attempts, "uploaded": uploaded}


def _digest(folder: Path) -> str:
    """Return the sha256 of the records that change only when the run is repeated."""
    digest = hashlib.sha256()
    for name in _DIGESTED:
        content = read_bytes(folder / name)
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _PICTURES and not path.name.startswith(".") and _is_file(path)
    )


def _is_file(path: Path) -> bool:
    """Return whether a path is a regular file of at most `LIMIT` bytes, and no symbolic link."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= LIMIT


def _lines(log: Path, start: int) -> list[bytes]:
    """Read the complete lines of a log from byte `start` on."""
    with open(log, "rb") as file:
        file.seek(start)
        return [line for line in file if line.endswith(b"\n")]


def _cell(value: Any) -> Any:
    """Convert a value to a table cell; lists become JSON text."""
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested data with their paths.

    A component yields its name, and its parameters below it: `attack`, `attack/z`.
    """
    if isinstance(value, Mapping) and value.keys() == {"name", "parameters"}:
        yield key, value["name"]
        value = value["parameters"]
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}/{name}" if key else name)
    else:
        yield key, value
