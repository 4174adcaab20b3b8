"""Weights & Biases as a reader of run folders: it is shown what the records say, and no run depends on it.

`tracking.json` in a run folder is the ledger: under which ids the run was shown, and what of it arrived where.
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
from typing import Any, Literal

from byzbench.canonical import hash_of
from byzbench.errors import Busy, CorruptRecord, UserError
from byzbench.experiments.files import LIMIT, parse_object, read_bytes
from byzbench.experiments.records import LOGS, RunFolder
from byzbench.experiments.store import read

LOOK_EVERY = 2.0
"""Seconds between looks at the records of a run that is going on; the runner flushes them about as often."""

PATIENCE = 2.0
"""Seconds to wait for a folder that somebody else holds: another sweep may just be looking whether it is finished."""

Mode = Literal["online", "offline", "off"]

_COMPONENTS = ("algo", "attack", "topology", "env", "aggregator", "agreement", "placement", "coin")
_NUMBERS = {"agents": "K", "byzantine": "f", "seed": "seed"}
_KEPT = ("experiment.json", "trace.jsonl", "metrics.jsonl", "timing.jsonl", "result.json", "checkpoint.safetensors")
_LOGGED = ("metrics.jsonl", "timing.jsonl")
_DIGESTED = ("experiment.json", "metrics.jsonl", "result.json")
_PICTURES = {".png": "Image", ".gif": "Video"}


class Tracker:
    """Shows runs at W&B, one after the other. Its first failure is one warning and its end, and never a run's.

        tracker = Tracker("offline")
        with tracker.follow(Path("runs") / experiment.hash) as watch:
            byzbench.run(experiment, watch=watch)

    Attributes:
        places: where each run that was tracked to its end can be seen.
    """

    def __init__(self, mode: Mode, group: str | None = None) -> None:
        """Import W&B, unless `mode` is off: then nothing here does anything.

        Args:
            mode: send runs, or write files that `wandb sync` sends, or neither.
            group: what runs are grouped by at W&B; by default the experiment without its seed.

        Raises:
            UserError: it is not installed.
        """
        self.places: list[str] = []
        self._mode, self._group = mode, group
        self._wandb = None if mode == "off" else _library()

    @contextmanager
    def follow(self, folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Show the run in `folder`: while it calls the watcher, and at the end what came of it.

        Nothing is read before the first call or the end: until then the folder may hold what is not of this run.
        """
        shown = _Shown(self._wandb, self._mode, self._group, RunFolder(folder))
        due = 0.0

        def watch(_: Mapping[str, Any]) -> None:
            nonlocal due
            if time.monotonic() >= due:
                self._try(shown.update)
                due = time.monotonic() + LOOK_EVERY

        try:
            yield watch
        except BaseException:
            if shown.run is not None:
                self._try(shown.stop)
            raise
        self._try(lambda: self._end(shown))

    def show(self, folder: Path) -> None:
        """Show a finished run, unless its ledger says that it is there."""
        self._try(lambda: self.upload(folder, patience=PATIENCE))

    def upload(self, folder: Path, *, force: bool = False, patience: float = 0.0) -> str | None:
        """Show a finished run, and say where it can be seen; None where its ledger says that it is there.

        Args:
            folder: of the run.
            force: whatever the ledger says.
            patience: seconds to wait for another process that is at the folder.

        Raises:
            Busy: another process is at the folder.
            CorruptRecord: the folder cannot be trusted, or is not of a finished run.
            Exception: of any kind, from W&B.
        """
        if self._wandb is None:
            return None
        shown = _Shown(self._wandb, self._mode, self._group, RunFolder(folder))
        with _held(shown.folder, patience):
            _check(folder)
            if not force and shown.is_there():
                return None
            try:
                return self._finish(shown)
            except BaseException:
                if shown.run is not None:
                    with suppress(Exception, SystemExit):
                        shown.run.finish(exit_code=1)
                raise

    def _end(self, shown: _Shown) -> None:
        with _held(shown.folder, PATIENCE):
            self._finish(shown)

    def _finish(self, shown: _Shown) -> str:
        place = shown.finish()
        shown.note()
        self.places.append(place)
        return place

    def _try(self, step: Callable[[], object]) -> None:
        if self._wandb is None:
            return
        try:
            step()
        except Busy as error:  # says nothing about W&B, or about the next run
            warnings.warn(f"not shown at W&B: {error}; `byzbench sync` shows it later", stacklevel=2)
        except (Exception, SystemExit) as error:
            self._wandb = None
            warnings.warn(
                f"W&B tracking stopped ({type(error).__name__}: {error}); "
                "what runs goes on without it, and `byzbench sync` shows finished runs from their records",
                stacklevel=2,
            )


def _library() -> Any:
    try:
        wandb = importlib.import_module("wandb")
        wandb.init  # noqa: B018  (any folder of that name can be imported)
    except Exception as error:
        raise UserError(f"--wandb needs Weights & Biases: pip install wandb ({error})") from None
    return wandb


class _Shown:
    """A run folder as a run of W&B: a new one each time it is shown, and each from round 0 on.

    W&B cannot resume a run offline, and to send a round twice would double it. So every attempt has its own id.
    """

    def __init__(self, wandb: Any, mode: Mode, group: str | None, folder: RunFolder) -> None:
        self.run: Any = None
        self.folder = folder
        self._wandb, self._mode, self._group = wandb, mode, group
        self._read = dict.fromkeys(_LOGGED, 0)
        self._attempt = ""

    def update(self) -> None:
        """Show what is new: all rounds that every log has complete lines of."""
        if self.run is None:
            self.run = self._start()
        for lines in zip(*(_lines(self.folder.path / name, at) for name, at in self._read.items()), strict=False):
            values = {k: v for line in lines for k, v in json.loads(line).items()}
            self.run.log(values, step=values["round"])
            for name, line in zip(self._read, lines, strict=True):
                self._read[name] += len(line)

    def stop(self) -> None:
        """Show the rest of a run that was broken off."""
        self.update()
        self.run.finish(exit_code=1)

    def finish(self) -> str:
        """Show the rest, the result, the pictures and the files, and say where all of it is."""
        self.update()
        result = dict(_flat({"result": self.folder.read("result.json") or {}}))
        self.run.summary.update(result)
        rows = [[what.removeprefix("result/"), _cell(value)] for what, value in result.items()]
        table = self._wandb.Table(columns=["what", "value"], data=rows, allow_mixed_types=True)
        self.run.log({"result_table": table, **self._pictures()})
        artifact = self.run.log_artifact(self._artifact())
        if self._mode == "online":
            artifact.wait()  # it raises where the files did not arrive; `finish` would not say
        place = f"wandb sync {Path(self.run.dir).parent}" if self._mode == "offline" else str(self.run.url)
        self.run.finish(exit_code=0)
        return place

    def is_there(self) -> bool:
        """Whether the ledger says so of the records as they are now."""
        entry = _ledger(self.folder)["uploaded"].get(self._destination(), {})
        return entry.get("digest") == _digest(self.folder.path)

    def note(self) -> None:
        """Enter into the ledger that the run is there."""
        ledger = _ledger(self.folder)
        entry = {"id": self._attempt, "digest": _digest(self.folder.path)}
        uploaded = {**ledger["uploaded"], self._destination(): entry}
        self.folder.write("tracking.json", {**ledger, "uploaded": uploaded})

    def _destination(self) -> str:
        """Where runs go, as far as it can be known without asking the network."""
        settings = self._settings()
        base = "offline" if self._mode == "offline" else settings.base_url
        return "/".join(part for part in (base, settings.entity, _project()) if part)

    def _settings(self) -> Any:
        return self._wandb.setup(settings=self._wandb.Settings(silent=True, console="off")).settings

    def _start(self) -> Any:
        record: Any = self.folder.read("experiment.json")
        entry = read(self.folder.path.resolve())
        names = [entry.name(axis) for axis in _COMPONENTS]
        tags = [*names, *(f"{letter}={entry.name(axis)}" for axis, letter in _NUMBERS.items())]

        ledger = _ledger(self.folder)
        code = re.sub("[^0-9a-f]", "", entry.code)[:8]
        self._attempt = f"{entry.hash}-{code}-{len(ledger['attempts']) + 1}"
        self.folder.write("tracking.json", {**ledger, "attempts": [*ledger["attempts"], self._attempt]})

        self._settings()
        run = self._wandb.init(
            mode=self._mode,
            project=_project(),
            id=self._attempt,
            name=f"{'-'.join(names[:4])}-{entry.name('seed')}",
            group=self._group or hash_of({**entry.experiment, "seed": 0}),
            tags=list(dict.fromkeys(tag[:64] for tag in tags if tag)),  # W&B takes no longer ones, and none twice
            config=dict(_flat({**entry.experiment, "hash": entry.hash, "code": record["code"]})),
            dir=self.folder.path.resolve(),  # W&B's own process does not follow when the folder is changed
        )
        run.define_metric("*", step_metric="trajectories")  # rounds of different algorithms are of different sizes
        return run

    def _pictures(self) -> dict[str, Any]:
        found = {}
        for path in _pictures(self.folder.path):
            kind = getattr(self._wandb, _PICTURES[path.suffix.lower()])
            found[f"pictures/{re.sub(r'[^0-9A-Za-z-]+', '_', path.name)}"] = kind(str(path))
        return found

    def _artifact(self) -> Any:
        """The files of the run. They stay where they are: copies of all runs would fill the user's home."""
        artifact = self._wandb.Artifact(f"run-{read(self.folder.path.resolve()).hash}", type="run")
        kept = [path for name in _KEPT if _is_file(path := self.folder.path / name)]
        for path in (*kept, *_pictures(self.folder.path)):
            artifact.add_file(str(path.resolve()), name=path.name, policy="immutable", skip_cache=True)
        return artifact


def _project() -> str:
    return environ.get("WANDB_PROJECT", "byzbench")


def _held(folder: RunFolder, patience: float) -> ExitStack:
    """The lock of a folder, asked for until patience is at its end."""
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
    """Raises CorruptRecord unless it is the folder of a finished run, with all its rounds."""
    if read(path.resolve()).status != "finished":
        raise CorruptRecord(f"{path} is not the folder of a finished run")
    rounds = {name: len(RunFolder(path).metrics(name)) for name in LOGS if (path / name).exists()}
    if len(set(rounds.values())) != 1:
        said = ", ".join(f"{name} has {count}" for name, count in rounds.items())
        raise CorruptRecord(f"the logs of {path} are not of the same rounds: {said}")


def _ledger(folder: RunFolder) -> dict[str, Any]:
    """What `tracking.json` says, or an empty one."""
    path = folder.path / "tracking.json"
    remedy = "remove it to have the run shown anew"
    try:
        data = parse_object(read_bytes(path), path, remedy)
    except FileNotFoundError:
        data = {}
    attempts, uploaded = data.get("attempts", []), data.get("uploaded", {})
    good = isinstance(attempts, list) and all(isinstance(attempt, str) for attempt in attempts)
    if not good or not isinstance(uploaded, dict) or not all(isinstance(e, dict) for e in uploaded.values()):
        raise CorruptRecord(f"{path} does not say what was shown where; {remedy}")
    return {"attempts": attempts, "uploaded": uploaded}


def _digest(folder: Path) -> str:
    """Of the records that do not change unless the run is done again."""
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
    """A regular file of a size that a run can have; a symbolic link is none, wherever it points."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= LIMIT


def _lines(log: Path, start: int) -> list[bytes]:
    """The complete lines of a log from byte `start` on."""
    with open(log, "rb") as file:
        file.seek(start)
        return [line for line in file if line.endswith(b"\n")]


def _cell(value: Any) -> Any:
    """A value as a cell of a table has it: a list is its text."""
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path. A component is its name, and its parameters below it: `attack`, `attack/z`."""
    if isinstance(value, Mapping) and value.keys() == {"name", "parameters"}:
        yield key, value["name"]
        value = value["parameters"]
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}/{name}" if key else name)
    else:
        yield key, value
