"""Stores in which a file of a run is damaged: every command runs or says a line; no number is wrong in silence."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from test_seals import Cut
from test_sync import Run

import byzbench
from byzbench import cli
from byzbench.experiments import runner
from byzbench.records.remote import RemoteStore
from byzbench.records.store import read_run
from byzbench.reports.summary import measured

WORDS = "--algo decbyzpg --agents 5 --byzantine 1 --trajectories 24 -p algo.N=4 --attack sign_flip".split()  # noqa: SIM905
OPTIONS: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 24, "attack": "sign_flip"}
OPTIONS |= {"parameters": {"algo": {"N": 4}}}
LOGS = ("metrics.jsonl", "trace.jsonl")
SEEDS = range(3)


def run_of(store: Path, seed: int) -> Path:
    return store / byzbench.Experiment.create(**OPTIONS, seed=seed).hash


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the finished runs of all seeds."""
    store = tmp_path_factory.mktemp("whole") / "runs"
    for seed in SEEDS:
        byzbench.run(**OPTIONS, seed=seed, out=store)
    return store


@pytest.fixture(scope="module")
def mixed(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same store, in which the run of the last seed is unfinished."""
    store = shutil.copytree(whole, tmp_path_factory.mktemp("mixed") / "runs")
    shutil.rmtree(run_of(store, 2))

    def cut(line: Any) -> None:
        if line["round"] == 2:
            raise Cut

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):  # noqa: PT012
        patch.setattr(runner, "SAVE_EVERY", -1.0)
        byzbench.run(**OPTIONS, seed=2, out=store, callback=cut)
    return store


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, str, str]]:
    """A function that runs a command; an exception that is no end of the command fails the test."""

    def called(*words: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        code, (out, err) = end.value.code or 0, capsys.readouterr()
        assert code in (0, 1, 2)
        assert code == 0 or err
        return code, out, err

    return called


def cut(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"")


def swap(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(other.read_bytes())


def link(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.symlink_to(other)


def remove(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()


def replace_by_folder(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.mkdir()


def make_unreadable(path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to open the file, also if this user may open any."""
    opened, number = os.open, path.stat().st_ino

    def refuse(name: Any, *arguments: Any, **options: Any) -> int:
        if os.path.exists(name) and os.stat(name).st_ino == number:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)


DAMAGES = (cut, empty, swap, link, remove, replace_by_folder, make_unreadable)
FILES = [
    *((0, name) for name in ("experiment.json", *LOGS, "timing.jsonl", "checkpoint.safetensors", "result.json")),
    *((2, name) for name in ("experiment.json", *LOGS, "timing.jsonl", "checkpoint.safetensors", "failure.json")),
]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def last_returns(store: Path) -> list[float]:
    """The returns of the last rounds of all runs."""
    return [json.loads((run_of(store, s) / LOGS[0]).read_text().splitlines()[-1])["return"] for s in SEEDS]


def logs(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in LOGS]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(("seed", "name"), FILES, ids=lambda value: str(value))
def test_a_damaged_file_is_named_or_does_not_matter(
    damage: Any, seed: int, name: str, whole: Path, mixed: Path, tmp_path: Path, call: Any, monkeypatch: Any
) -> None:
    store = shutil.copytree(mixed, tmp_path / "runs")
    damaged, other = run_of(store, seed), run_of(store, 1)
    if name == "failure.json":  # the unfinished run has failed
        (damaged / name).write_text(json.dumps({"error": "ValueError: a mistake", "traceback": []}))
    damage(damaged / name, other / (name if (other / name).exists() else "result.json"), monkeypatch)
    monkeypatch.chdir(tmp_path)
    untouched = contents(other)

    returns = {run_of(whole, s).name: json.loads((run_of(whole, s) / "result.json").read_text()) for s in SEEDS}
    code, out, _ = call("runs", "--out", store, "--json")
    assert code == 0
    for row in json.loads(out):
        assert row["return"] in (None, returns[row["hash"]]["return"]["mean"])
    assert other.name in {row["hash"] for row in json.loads(out)}

    for metric in ("return", "auc", "evaluation_auc"):
        code, out, _ = call("report", store, "-f", "json", "--metric", metric)
        assert code == 0
        (row,) = json.loads(out)["results"]
        first, second = (measured(read_run(run_of(whole, s)), metric) or math.nan for s in SEEDS[:2])
        assert row["value"] == pytest.approx({1: second, 2: (first + second) / 2}[row["seeds"]])
    assert call("plot", store, "--out", "curves.svg")[0] == 0
    code, out, _ = call("replay", damaged)
    assert code == 2 or out.startswith("identical")
    call("render", damaged, "--out", "episode.gif")
    assert contents(other) == untouched

    copy = shutil.copytree(store, tmp_path / "synced", symlinks=True)
    uploads: list[Run] = []
    monkeypatch.setattr(wandb, "init", lambda **options: uploads.append(Run(options)) or uploads[-1])
    code, out, err = call("sync", copy, "--wandb", "offline")
    assert re.search("^uploaded [12], ", out, re.MULTILINE), err
    for upload in uploads:
        assert [line["return"] for line in upload.logged if "return" in line][-1] in last_returns(whole)

    single = shutil.copytree(store, tmp_path / "single", symlinks=True)
    if damage is not make_unreadable:  # the copy is readable
        code, _, err = call("run", *WORDS, "--seed", seed, "--out", single, "--json")
        if code:
            assert err.startswith("byzbench: error: ")
        else:
            assert logs(run_of(single, seed)) == logs(run_of(whole, seed))

    options = ["--seeds", "3", "--executor", "serial", "--on-existing", "retry-failed"]
    code, out, err = call("sweep", *WORDS, *options, "--out", store)
    assert (code, out.startswith("3 finished")) == (0, True), err
    for number in SEEDS:
        assert logs(run_of(store, number)) == logs(run_of(whole, number))
    if (store / f"{damaged.name}-archived").exists():
        assert f"warning: {damaged} is now" in err.replace("\n  ", " ")
    assert {file: content for file, content in contents(other).items() if file != "curve.png"} == untouched


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", [name for seed, name in FILES if seed == 0])
@pytest.mark.parametrize("side", ["store", "mirror"])
def test_a_damaged_file_of_a_store_at_a_url_is_named_or_does_not_matter(
    side: str, name: str, damage: Any, whole: Path, tmp_path: Path, call: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    remote = shutil.copytree(whole, tmp_path / "remote")
    store = RemoteStore(f"file://{remote}")
    if side == "mirror":
        assert store.pull() == []
    folder = store.path if side == "mirror" else remote
    damage(run_of(folder, 0) / name, run_of(folder, 1) / name, monkeypatch)

    returns = {run_of(whole, s).name: json.loads((run_of(whole, s) / "result.json").read_text()) for s in SEEDS}
    code, out, err = call("runs", "--out", f"file://{remote}", "--json")
    if code == 0:
        rows = {row["hash"]: row["return"] for row in json.loads(out)}
        assert {
            hash: returns[hash]["return"]["mean"] for hash in rows if rows[hash] is not None
        }.items() <= rows.items()
        assert run_of(whole, 1).name in rows
    options = ["--seeds", "3", "--executor", "serial", "--out", f"file://{remote}"]
    code, out, err = call("sweep", *WORDS, *options)
    assert code == 0 or "not uploaded" in err or "cannot be reached" in err
    if code == 0:
        assert out.startswith("3 finished"), err
        for number in SEEDS:
            assert logs(run_of(store.path, number)) == logs(run_of(whole, number))
            assert logs(run_of(remote, number)) == logs(run_of(whole, number))
