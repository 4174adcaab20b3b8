"""Stores on file systems as they are: without locks, read-only, and at URLs that cannot be reached."""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

import byzbench
from byzbench import cli
from byzbench.errors import Busy, StorageError
from byzbench.records import locks
from byzbench.records.locks import lock_folder
from byzbench.records.remote import RemoteStore
from byzbench.records.run_folder import RunFolder
from byzbench.records.store import save_sweep, scan_runs

WORDS = "--agents 5 --byzantine 1 --trajectories 12 -p algo.N=4 --attack sign_flip".split()  # noqa: SIM905
OPTIONS: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 12, "attack": "sign_flip"}
OPTIONS |= {"parameters": {"algo": {"N": 4}}}
SWEEP = ["sweep", "--algo", "decbyzpg", *WORDS, "--seeds", "2", "--executor", "serial", "--out"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the runs of two seeds."""
    store = tmp_path_factory.mktemp("whole") / "runs"
    for seed in range(2):
        byzbench.run(**OPTIONS, seed=seed, out=store)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "runs")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, str, str]]:
    def called(*words: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return called


@pytest.fixture
def without_flock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_error(number: int) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)

    return set_error


def make_read_only(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store be on a file system that is mounted read-only."""

    def refuse(path: Any, writes: bool) -> None:
        if writes and isinstance(path, str | Path) and str(path).startswith(str(store)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def open_handle(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        refuse(path, bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
        return handle(path, flags, *rest, **options)

    def open_file(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        refuse(path, not set(mode).isdisjoint("wax+"))
        return file(path, mode, *rest, **options)

    handle, file = os.open, open
    monkeypatch.setattr(os, "open", open_handle)
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", open_file)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_a_run_where_the_file_system_has_no_locks(
    number: int, store: Path, without_flock: Callable[[int], None], tmp_path: Path
) -> None:
    without_flock(number)
    result = byzbench.run(**OPTIONS, out=tmp_path / "new", wait=True)
    assert result.trace == byzbench.run(**OPTIONS, out=store).trace
    folder = RunFolder(Path(str(result.run)))
    assert not (folder.path / ".owner").exists()
    message = f"is being written by process {os.getpid()} of {socket.gethostname()}; if that has ended, delete"
    with folder.locked(), pytest.raises(Busy, match=message), folder.locked():
        pass
    with folder.locked():
        pass


def test_an_owner_that_has_ended_does_not_count(
    tmp_path: Path, without_flock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_flock(errno.ENOSYS)
    link, host = tmp_path / ".owner", socket.gethostname()
    ended = subprocess.Popen(["true"])
    ended.wait()
    for owner in (f"{host}:{ended.pid}:x", f"{host}:{os.getpid()}:x"):  # the second number is this process's by chance
        link.symlink_to(owner)
        with lock_folder(tmp_path):
            assert os.readlink(link).endswith(locks._PROCESS)
        assert os.listdir(tmp_path) == [".lock"]
    for owner in (f"{host}:{os.getppid()}:x", f"elsewhere:{ended.pid}:x"):
        link.symlink_to(owner)
        with pytest.raises(Busy, match=f"delete {link}"), lock_folder(tmp_path):
            pass
        assert os.readlink(link) == owner
        link.unlink()
    link.symlink_to(f"elsewhere:{ended.pid}:x")
    monkeypatch.setattr(locks, "_POLL", 0.01)
    threading.Timer(0.1, link.unlink).start()
    with lock_folder(tmp_path, wait=True):
        assert os.readlink(link).startswith(host)


def test_the_link_of_a_process_that_was_faster_is_left(tmp_path: Path) -> None:
    link = tmp_path / ".owner"
    link.symlink_to("here:1:faster")
    locks._remove(link, "here:1:ended")
    assert os.readlink(link) == "here:1:faster"
    locks._remove(link, "here:1:faster")
    locks._remove(link, "here:1:faster")
    assert not os.listdir(tmp_path)


def test_an_error_of_the_disk_is_not_contention(tmp_path: Path, without_flock: Callable[[int], None]) -> None:
    without_flock(errno.EIO)
    with pytest.raises(StorageError, match=f"cannot write .*: {os.strerror(errno.EIO)}"):
        byzbench.run(**OPTIONS, out=tmp_path)
    without_flock(errno.EWOULDBLOCK)
    with pytest.raises(Busy, match="is being written by another process"):
        byzbench.run(**OPTIONS, out=tmp_path)


@pytest.mark.parametrize("has_lock", [True, False], ids=["whole", "without hidden files"])
def test_a_store_that_is_read_only_gives_its_finished_runs(
    has_lock: bool, store: Path, whole: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store / byzbench.Experiment.create(**OPTIONS).hash
    if not has_lock:
        (folder / ".lock").unlink()
    make_read_only(store, monkeypatch)
    assert byzbench.run(**OPTIONS, out=store).trace == byzbench.run(**OPTIONS, out=whole).trace
    code, out, err = call("run", *WORDS, "--out", store)
    assert (code, f"saved: {folder}" in out) == (0, True)
    assert f"{folder}: no learning curve: " in err
    assert "learning curve:" not in out
    with pytest.raises(StorageError, match="Read-only file system"), RunFolder(folder).locked():
        RunFolder(folder).write("experiment.json", {})
    code, _, err = call("run", *WORDS, "--seed", 2, "--out", store)
    assert (code, err.count("\n"), "Read-only file system" in err) == (1, 1, True)


def test_the_file_of_a_sweep_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_sweep(tmp_path, "sweep", "0" * 16, ["f" * 16])
    make_read_only(tmp_path, monkeypatch)
    assert save_sweep(tmp_path, "sweep", "0" * 16, ["f" * 16]) == path
    with pytest.raises(StorageError, match="Read-only file system"):
        save_sweep(tmp_path, "sweep", "0" * 16, ["e" * 16])


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"file://{tmp_path}/remote"


def outage(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let a connection break after a number of files have been uploaded."""
    upload, left = LocalFileSystem.pipe_file, [after]

    def pipe_file(self: Any, *arguments: Any, **options: Any) -> None:
        if not left[0]:
            raise ConnectionError("the network is gone")
        left[0] -= 1
        upload(self, *arguments, **options)

    monkeypatch.setattr(LocalFileSystem, "pipe_file", pipe_file)


@pytest.mark.parametrize("after", [0, 3, 8])
def test_an_outage_ends_nothing_and_the_same_command_uploads_the_rest(
    after: int, remote: str, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        outage(patch, after)
        code, out, err = call(*SWEEP, remote)
    assert code == 1
    assert out.startswith("2 finished (0 reused), 0 failed")
    (line,) = [line for line in err.replace("\n  ", " ").splitlines() if "not uploaded" in line]
    waiting = "1 run" if after == 8 else "2 runs"
    assert line.startswith(f"{waiting} not uploaded: the store {remote} cannot be reached: ConnectionError: ")
    code, out, _ = call(*SWEEP, remote)
    assert (code, out.startswith("2 finished (2 reused), 0 failed")) == (0, True)
    entries, problems = scan_runs(tmp_path / "remote")
    assert ([entry.status for entry in entries], problems) == (["finished"] * 2, [])
    assert len(list((tmp_path / "remote").glob("sweep-*.json"))) == 1


def test_a_name_that_is_taken_keeps_only_its_own_run_out(store: Path, remote: str, tmp_path: Path) -> None:
    first, second = sorted(store.iterdir())
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / first.name).touch()
    there = RemoteStore(remote)
    there.push(first)
    there.push(second)
    with pytest.raises(StorageError, match="1 run not uploaded"):
        there.flush()
    assert (tmp_path / "remote" / second.name / "result.json").exists()
    (tmp_path / "remote" / first.name).unlink()
    there.flush()
    assert (tmp_path / "remote" / first.name / "result.json").exists()


def test_a_run_that_a_store_has_is_not_replaced(store: Path, remote: str, tmp_path: Path) -> None:
    folder = sorted(store.iterdir())[0]
    there, copy = RemoteStore(remote), tmp_path / "remote" / folder.name
    there.push(folder)
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    there.push(folder)
    (folder / "result.json").unlink()
    (folder / "failure.json").write_text('{"error": "it failed here"}')
    there.push(folder)
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before


def test_a_run_that_replaces_another_is_never_half_of_each(
    store: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store / byzbench.Experiment.create(**OPTIONS).hash
    there, copy = RemoteStore(remote), tmp_path / "remote" / folder.name
    there.push(folder)
    byzbench.run(**OPTIONS, out=store, on_existing="rerun")  # with other times
    with monkeypatch.context() as patch:
        outage(patch, 2)
        there.push(folder)
    assert not (copy / "result.json").exists()
    there.flush()
    assert (copy / "result.json").read_bytes() == (folder / "result.json").read_bytes()
    assert not scan_runs(tmp_path / "remote")[1]
