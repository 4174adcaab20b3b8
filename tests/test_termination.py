"""SIGTERM and SIGKILL: whatever command is ended, the same command resumes it to the same traces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

import byzbench
from byzbench.experiments import termination
from byzbench.experiments.termination import Terminated, deferred_termination, interrupting_sigterm, keeping_sigterm
from byzbench.records.run_folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
LAST_LINE = "byzbench: error: stopped; the same command resumes"
OPTIONS: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 60, "attack": "sign_flip"}
OPTIONS |= {"parameters": {"algo": {"N": 4}}}
WORDS = "run --agents 5 --byzantine 1 --trajectories 60 --attack sign_flip -p algo.N=4 --out runs".split()  # noqa: SIM905

TERMINATED_AFTER_ROUND_2 = """
import os, signal
from byzbench import cli
from byzbench.reports.progress import Progress
show = Progress.__call__
def terminate(self, line):
    show(self, line)
    if line["round"] == 2:
        os.kill(os.getpid(), signal.SIGTERM)
Progress.__call__ = terminate
cli.main()
"""


def test_a_run_that_is_terminated_saves_its_round_and_exits_143(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TERMINATED_AFTER_ROUND_2, *WORDS]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 143
    assert [line for line in done.stderr.splitlines() if "trajectories" not in line][-1] == LAST_LINE
    assert done.stderr.count("byzbench: ") == 1
    assert "Traceback" not in done.stderr
    (folder,) = tmp_path.glob("runs/*/")
    checkpoint = RunFolder(folder).restore()
    assert checkpoint is not None
    assert checkpoint[1]["round"] == 3
    assert not (folder / "result.json").exists()
    rounds: list[int] = []
    resumed = byzbench.run(**OPTIONS, out=tmp_path / "runs", callback=lambda line: rounds.append(line["round"]))
    assert rounds[0] == 3
    assert resumed.trace == byzbench.run(**OPTIONS, out=tmp_path / "whole").trace


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def rounds_until_terminated(deferred: bool, signals: int) -> list[str]:
    """Return what is reached of a round in which the process gets signals, and after it."""
    reached = []
    with suppress(Terminated), interrupting_sigterm():
        with deferred_termination() if deferred else nullcontext():
            for _ in range(signals):
                terminate()
            reached.append("end of the round")
        reached.append("next round")
    return reached


def test_the_signal_waits_for_the_round_and_a_second_one_does_not() -> None:
    assert rounds_until_terminated(deferred=False, signals=1) == []
    assert rounds_until_terminated(deferred=True, signals=1) == ["end of the round"]
    assert rounds_until_terminated(deferred=True, signals=2) == []
    assert rounds_until_terminated(deferred=True, signals=0) == ["end of the round", "next round"]


def test_a_worker_waits_for_the_round_however_often_the_signal_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = termination._Termination(termination._interrupt, is_deferred=True, ends_on_repeat=False)
    monkeypatch.setattr(termination, "_termination", handler)
    for _ in range(3):
        handler(signal.SIGTERM, None)
    assert handler.is_requested
    with pytest.raises(Terminated), deferred_termination():
        pass


def test_what_replaces_the_handler_is_undone_for_a_command_only() -> None:
    def replace() -> None:
        with keeping_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    before = signal.getsignal(signal.SIGTERM)
    with interrupting_sigterm():
        replace()
        assert signal.getsignal(signal.SIGTERM) is termination._termination
    replace()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)


def test_a_program_that_imports_byzbench_keeps_its_handler(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    byzbench.run(**{**OPTIONS, "trajectories": 8}, out=tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


SMALL = "--agents 5 --byzantine 1 -p algo.N=4 --out runs"
COMMANDS = {
    "run": f"run --trajectories 1500 --attack sign_flip {SMALL}",
    "sweep": f"sweep --algo decbyzpg --attack none,sign_flip --seeds 2 --trajectories 400 --jobs 2 {SMALL}",
    "tune": f"tune --algo decbyzpg --attacks ipm,sign_flip --trials 3 --trajectories 150 --jobs 2 {SMALL}",
    "sweep by Ray": f"sweep --algo decbyzpg --attack none,ipm --seeds 4 --trajectories 40 --executor ray {SMALL}",
    "worst": f"worst --algo decbyzpg --selection 1 --reporting 1 --trajectories 150 --jobs 2 {SMALL}",
    "leaderboard run": "leaderboard run --suite tiny-v1 --algo decbyzpg(N=4,B=2) --jobs 2 --out runs",
}
COMMAND = """
from pathlib import Path
from tiny_suite import TINY, forget_suites, freeze_suite, suite, suites
from byzbench import cli
from byzbench.sweeps import executors
if __name__ == "__main__":
    executors.PATIENCE = 60.0  # on a busy machine a round may take seconds
    home = Path("home")
    suites.files = lambda package: home
    if not home.exists():
        (home / "suites").mkdir(parents=True)
        (home / "suites" / "tiny-v1.toml").write_text(TINY.replace("trajectories = 8", "trajectories = 400"))
        freeze_suite(suite("tiny-v1"))
    cli.main()
"""


def started(name: str, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "command.py").write_text(COMMAND)
    return subprocess.Popen(
        [sys.executable, "command.py", *COMMANDS[name].split()],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(name: str, folder: Path) -> dict[str, bytes]:
    """The traces of all runs of a command that goes to its end, by folder."""
    process = started(name, folder)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/trace.jsonl")}


def log_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("runs/*/trace.jsonl"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """The traces of a command that nothing ends, which is run once."""
    known: dict[str, dict[str, bytes]] = {}

    def traces(name: str) -> dict[str, bytes]:
        if name not in known:
            known[name] = finished(name, tmp_path_factory.mktemp("whole"))
        return known[name]

    return traces


def to_process(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)


def to_group(process: subprocess.Popen[str], number: int) -> None:
    os.killpg(process.pid, number)


def to_group_last(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to the children of a process, and to its whole group a moment later."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    for child in map(int, children.split()):
        os.kill(child, number)
    time.sleep(0.3)
    to_group(process, number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "send"), [(signal.SIGKILL, to_process), (signal.SIGTERM, to_group), (signal.SIGTERM, to_group_last)]
)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_is_resumed_to_the_same_traces(
    name: str, number: int, send: Callable[[Any, int], None], tmp_path: Path, uninterrupted: Any
) -> None:
    for _ in range(2):
        before, process = log_size(tmp_path), started(name, tmp_path)
        while process.poll() is None and log_size(tmp_path) <= before:
            time.sleep(0.02)
        send(process, number)
        _, err = process.communicate(timeout=120)
        assert process.returncode == (143 if number == signal.SIGTERM else -number), err
        if number == signal.SIGTERM:
            assert LAST_LINE in err.splitlines()
            assert "Traceback" not in err
            # The files of runs on other machines arrive one after the other, and what has arrived in part begins again.
            for folder in (path.parent for path in tmp_path.glob("runs/*/trace.jsonl") if "Ray" not in name):
                checkpoint = RunFolder(folder).restore()
                assert checkpoint is not None, "a run ended without a checkpoint"
                assert checkpoint[1]["sizes"]["trace.jsonl"] == (folder / "trace.jsonl").stat().st_size
    traces, whole = finished(name, tmp_path), uninterrupted(name)
    if name == "tune":  # a trial that was ended begins again under another number, which seeds those after it
        assert len(traces.keys() & whole.keys()) >= 6
        whole, traces = ({key: store[key] for key in traces.keys() & whole.keys()} for store in (whole, traces))
    assert traces == whole
