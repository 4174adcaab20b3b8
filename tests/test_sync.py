"""`byzbench sync`: what is finished is uploaded once, and what goes wrong with one run concerns no other.

W&B's network is a stub here: `wandb.init` gives runs that only remember.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from sealing import seal

import byzbench
from byzbench import cli
from byzbench.integrations.tracking import Tracker
from byzbench.records.run_folder import RunFolder
from byzbench.records.store import save_sweep
from byzbench.reports.plots import learning_curve

SMALL: dict[str, Any] = {"agents": 3, "byzantine": 0, "trajectories": 20, "topology": "complete"}
SMALL |= {"preset": "paper", "parameters": {"algorithm": {"N": 10, "B": 2}}}
SEEDS = 3
GONE = RuntimeError("the network\nis gone")


@dataclass
class Run:
    """A run at W&B, with what the tracker uses of its surface."""

    options: dict[str, Any]
    fails: str = ""
    logged: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    exit_code: int | None = None

    @property
    def url(self) -> str:
        return f"somewhere/{self.options['id']}"

    @property
    def dir(self) -> str:
        return str(Path(self.options["dir"]) / "wandb" / self.options["id"] / "files")

    def define_metric(self, name: str, step_metric: str) -> None:
        pass

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self._do("log")
        self.logged.append(values)

    def log_artifact(self, artifact: wandb.Artifact) -> SimpleNamespace:
        self.files = set(artifact.manifest.entries)
        return SimpleNamespace(wait=lambda: self._do("wait"))

    def finish(self, exit_code: int) -> None:
        self._do("finish")
        self.exit_code = exit_code

    def _do(self, step: str) -> None:
        if self.fails == step:
            self.fails = ""
            raise GONE


@dataclass
class There:
    """The uploaded runs; `fails[n]` is the step at which the n-th run fails."""

    runs: list[Run] = field(default_factory=list)
    fails: dict[int, str | BaseException] = field(default_factory=dict)

    def init(self, **options: Any) -> Run:
        number = len(self.runs)
        fails = self.fails.get(number, "")
        self.runs.append(Run(options, fails if isinstance(fails, str) else ""))
        if isinstance(fails, BaseException):
            raise fails
        return self.runs[-1]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> There:
    fake = There()
    settings = SimpleNamespace(base_url="somewhere", entity=None)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setattr(wandb, "init", fake.init)
    monkeypatch.setattr(wandb, "setup", lambda settings_=None, **_: SimpleNamespace(settings=settings))
    return fake


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("finished")
    for seed in range(SEEDS):
        folder = Path(str(byzbench.run(out=store, seed=seed, **SMALL).run))
        learning_curve([folder], folder / "curve.png")
    return store


@pytest.fixture
def store(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "runs")
    return Path("runs")


Command = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`byzbench sync` within this process: exit code, lines of output, errors."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*words: str | Path) -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", "sync", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out.splitlines(), err

    return call


def folders(store: Path) -> list[Path]:
    return sorted(path for path in store.iterdir() if path.is_dir())


def edit(path: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def uploads(folder: Path) -> dict[str, dict[str, str]]:
    uploaded: dict[str, dict[str, str]] = json.loads((folder / "tracking.json").read_text())["uploaded"]
    return uploaded


def test_twice_is_once(store: Path, there: There, command: Command) -> None:
    (folders(store)[0] / "result.json").unlink()
    code, out, err = command(store)
    done = folders(store)[1:]
    ids = [run.options["id"] for run in there.runs]
    assert (code, err) == (0, f"{folders(store)[0]}: unfinished, not uploaded\n")
    lines = [f"{folder}: somewhere/{i}" for folder, i in zip(done, ids, strict=True)]
    assert out == [*lines, "uploaded 2, already there 0, not finished 1"]
    assert [run.exit_code for run in there.runs] == [0, 0]
    for folder, run in zip(done, there.runs, strict=True):
        assert uploads(folder)["somewhere/byzbench"]["id"] == run.options["id"]
        assert run.options["mode"] == "online"
        assert [row["round"] for row in run.logged[:-1]] == list(range(len(run.logged) - 1))
        assert run.logged[-1].keys() == {"result_table", "pictures/curve_png"}
        assert {"metrics.jsonl", "checkpoint.safetensors", "curve.png"} < run.files

    before = [(folder / "tracking.json").read_bytes() for folder in done]
    assert command(store, *done)[:2] == (0, ["uploaded 0, already there 2, not finished 1"])
    assert len(there.runs) == 2
    assert [(folder / "tracking.json").read_bytes() for folder in done] == before


def test_again_is_asked_for_or_has_a_reason(
    store: Path, there: There, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = folders(store)
    one = "uploaded 1, already there 0, not finished 0"
    assert command(first)[1][-1] == one
    assert command(first, "--force")[1][-1] == one
    edit(first / "result.json", lambda data: data.update(steps_per_second=1.5))  # done again
    seal(first)
    assert command(first)[1][-1] == one
    assert command(first, "--wandb", "offline")[1][-1] == one
    monkeypatch.setenv("WANDB_PROJECT", "other")
    assert command(first)[1][-1] == one
    ids = [run.options["id"] for run in there.runs]
    assert [i.rpartition("-")[2] for i in ids] == ["1", "2", "3", "4", "5"]
    assert {to: entry["id"] for to, entry in uploads(first).items()} == {
        "somewhere/byzbench": ids[2],
        "offline/byzbench": ids[3],
        "somewhere/other": ids[4],
    }
    assert command(first)[1][-1] == "uploaded 0, already there 1, not finished 0"


@pytest.mark.parametrize("fails", [GONE, SystemExit(3), "log", "wait", "finish"], ids=str)
def test_an_upload_that_fails_is_a_line_and_is_tried_again(
    fails: Any, store: Path, there: There, command: Command
) -> None:
    there.fails = {1: fails}
    code, out, err = command(store)
    name = "SystemExit: 3" if isinstance(fails, SystemExit) else "RuntimeError: the network is gone"
    bad = folders(store)[1]
    assert (code, err) == (1, f"{bad}: failed: {name}\n")
    assert out[-1] == "uploaded 2, already there 0, not finished 0, failed 1"
    assert uploads(bad) == {}
    assert there.runs[1].exit_code == (1 if isinstance(fails, str) else None)
    code, out, err = command(store)
    assert (code, out[-1], err) == (0, "uploaded 1, already there 2, not finished 0", "")
    assert there.runs[-1].options["id"] != there.runs[1].options["id"]


def test_a_folder_that_somebody_holds_is_left_out(store: Path, there: There, command: Command) -> None:
    held = folders(store)[2]
    with RunFolder(held).locked():
        code, out, err = command(store)
    assert (code, out[-1]) == (0, "uploaded 2, already there 0, not finished 0, busy 1")
    assert err == f"{held}: not uploaded: {held} is being written by another process\n"


LEDGERS = ["[]", "{", '{"attempts": 3}', '{"attempts": [3]}', '{"uploaded": []}', '{"uploaded": {"x": 1}}']


@pytest.mark.parametrize("text", LEDGERS)
def test_a_ledger_of_another_shape_is_a_line(text: str, store: Path, there: There, command: Command) -> None:
    first, *others = folders(store)
    (first / "tracking.json").write_text(text)
    code, _, err = command(store)
    assert (code, err.count("\n"), len(there.runs)) == (1, 1, len(others))
    assert err.startswith(f"{first}: failed: CorruptRecord: {first}/tracking.json ")
    assert "remove it to upload the run again" in err
    assert (first / "tracking.json").read_text() == text


def test_a_folder_that_cannot_be_trusted_is_a_line(store: Path, there: There, command: Command) -> None:
    short, broken, linked = folders(store)
    timing = short / "timing.jsonl"
    timing.write_text("".join(timing.read_text().splitlines(keepends=True)[:-1]))
    (broken / "result.json").write_text("[]")
    (store / "secret").write_bytes((linked / "metrics.jsonl").read_bytes())
    (linked / "metrics.jsonl").unlink()
    (linked / "metrics.jsonl").symlink_to(store.resolve() / "secret")
    code, out, err = command(store)
    messages = sorted(err.splitlines())
    assert (code, out, len(messages)) == (1, ["uploaded 0, already there 0, not finished 0, failed 2"], 3)
    assert f"{short}: failed: CorruptRecord: {timing} has changed since it was written" in err
    assert f"not trusted: {broken}/result.json is not a JSON object\n" in err
    assert f"{linked}: failed: CorruptRecord: {linked}/metrics.jsonl is a symbolic link\n" in err
    assert there.runs == []


def test_what_is_behind_a_link_is_not_uploaded(store: Path, there: There, command: Command) -> None:
    first, *_ = folders(store)
    for name in ("checkpoint.safetensors", "curve.png"):
        (first / name).rename(store / name)
        (first / name).symlink_to(store.resolve() / name)
    assert command(first)[0] == 0
    assert there.runs[0].files == {"experiment.json", "trace.jsonl", "metrics.jsonl", "timing.jsonl", "result.json"}
    assert there.runs[0].logged[-1].keys() == {"result_table"}


def test_the_file_of_a_sweep_groups_its_cells(store: Path, there: There, command: Command) -> None:
    cells = folders(store)[:2]
    file = save_sweep(store, "a study", "0123456789abcdef", [path.name for path in cells])
    assert command(file, store)[1][-1] == f"uploaded {SEEDS}, already there 0, not finished 0"
    groups = [run.options["group"] for run in there.runs]
    assert [group == "sweep-0123456789abcdef" for group in groups] == [True, True, False]
    assert command(store, "--force")[0] == 0
    assert len({run.options["group"] for run in there.runs[SEEDS:]}) == 1, "seeds of an experiment are a group"


def test_a_run_that_was_tracked_is_there(store: Path, there: There, command: Command) -> None:
    tracker = Tracker("online")
    with tracker.follow(Path("runs") / folders(store)[0].name) as callback:
        byzbench.run(out=store, seed=0, callback=callback, **SMALL)
    assert tracker.places == [there.runs[0].url]
    assert command(store)[1][-1] == f"uploaded {SEEDS - 1}, already there 1, not finished 0"


def test_a_learning_curve_is_drawn_where_there_is_none(store: Path, there: There, command: Command) -> None:
    first, *_ = folders(store)
    picture = (first / "curve.png").read_bytes()
    (first / "curve.png").unlink()
    assert command(first)[0] == 0
    assert (first / "curve.png").read_bytes() == picture
    assert not list(first.glob(".curve*"))
    assert "pictures/curve_png" in there.runs[0].logged[-1]


def test_a_plug_in_need_not_be_here_and_may_be_called_anything(store: Path, there: There, command: Command) -> None:
    first, *_ = folders(store)
    (first / "curve.png").unlink()

    def rename(data: Any) -> None:
        for kind in ("attack", "placement"):
            data["experiment"][kind]["name"] = "x" * 100
        data["code"]["digest"] = "../../.."

    edit(first / "experiment.json", rename)
    seal(first)
    code, out, err = command(first)
    assert (code, out[-1], err.count("\n")) == (0, "uploaded 1, already there 0, not finished 0", 1)
    assert err.startswith(f"{first}: no learning curve: unknown ")
    options = there.runs[0].options
    assert re.fullmatch("[0-9a-f]{16}--1", options["id"])
    assert sorted(tag for tag in options["tags"] if len(tag) > 30) == ["x" * 64], "one tag of the length that W&B takes"
    assert options["config"]["attack"] == "x" * 100


def test_without_the_library_nothing_is_read(store: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, out, err = command(store / "nowhere")
    assert (code, out) == (2, [])
    assert err.startswith("byzbench: error: --wandb needs Weights & Biases: pip install wandb (")


def test_what_is_no_run_is_an_error(store: Path, there: There, command: Command) -> None:
    code, out, err = command(store / "nowhere")
    assert (code, out, err.count("\n")) == (2, [], 1)
    assert "is neither a run folder" in err
