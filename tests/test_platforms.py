"""Operating systems, limits of processes, terminals and files as users have them."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import byzbench
from byzbench import cli
from byzbench.core.environment_spec import EnvironmentSpec
from byzbench.errors import ExhaustedResources, Undefined, UserError, exhaustion
from byzbench.experiments.episodes import render_episode
from byzbench.platforms import check_platform, num_cores
from byzbench.records.store import gather
from byzbench.records.tuned import TunedParameters
from byzbench.sweeps import cells
from byzbench.sweeps.grid import SweepGrid
from byzbench.topologies.from_file import FromFile

WORDS = "--agents 3 --byzantine 0 --trajectories 4 -p algo.N=2 -p algo.B=1".split()  # noqa: SIM905
OPTIONS: dict[str, Any] = {"agents": 3, "byzantine": 0, "trajectories": 4, "parameters": {"algo": {"N": 2, "B": 1}}}
CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(str(byzbench.run(**OPTIONS, out=tmp_path_factory.mktemp("store")).run))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, str, str]]:
    def called(*words: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return called


def test_windows_is_refused_by_name(call: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    line = "byzbench runs on Linux and macOS; on Windows, use the Windows Subsystem for Linux (WSL)"
    assert call("list") == (2, "", f"byzbench: error: {line}\n")
    with pytest.raises(UserError, match="Windows Subsystem"):
        _ = byzbench.run


def test_macos_has_no_limit_on_cores(monkeypatch: Any) -> None:
    assert num_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert num_cores() == os.cpu_count()


def test_too_small_an_address_space_is_named(monkeypatch: Any) -> None:
    limits = {"is": (7 * 10**8, -1)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits["is"])
    with pytest.raises(UserError, match=r"needs an address space of 1.1 GB, .* may use 0.7 \(ulimit -v\)"):
        check_platform()
    limits["is"] = (resource.RLIM_INFINITY, -1)
    check_platform()


EXHAUSTED = {
    "out of memory: Unable": MemoryError("Unable to allocate 29.8 GiB"),
    "out of memory: [enforce": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    "out of memory: libtorch": ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    "out of file descriptors, see ulimit -n": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    "out of processes and threads": RuntimeError("can't start new thread"),
}


@pytest.mark.parametrize("line", EXHAUSTED)
def test_exhausted_resources_are_one_line(line: str, call: Any, monkeypatch: Any, tmp_path: Path) -> None:
    error = EXHAUSTED[line]
    assert exhaustion(error).startswith(line)

    def fail(*_: Any, **options: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(cells, "run_experiment", fail)
        outcome = cells.run_cell(byzbench.Experiment.create(**OPTIONS).describe(), str(tmp_path), "reuse", wait=False)
    assert (outcome.status, outcome.cause, outcome.error[: len(line)]) == ("failed", "process", line)
    assert not list(tmp_path.glob("*/failure.json"))  # it says nothing about the experiment

    monkeypatch.setattr("byzbench.experiments.runner.Training.evaluate", fail)
    code, out, err = call("run", *WORDS, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert f"byzbench: error: {line}" in err
    assert "Traceback" not in err
    with pytest.raises(ExhaustedResources):
        byzbench.run(**OPTIONS, out=tmp_path)


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_not_damaged(run: Path, monkeypatch: Any) -> None:
    opened = os.open

    def refuse(path: Any, *rest: Any, **options: Any) -> int:
        if str(path).endswith("result.json"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return opened(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    describe = byzbench.Experiment.create(**OPTIONS).describe()
    outcome = cells.run_cell(describe, str(run.parent), "reuse", wait=False)
    assert outcome.error.startswith("out of file descriptors")
    assert [path.name for path in run.parent.iterdir()] == [run.name]  # nothing was archived


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_takes_any_text(encoding: str, run: Path, monkeypatch: Any) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(sys, "argv", ["byzbench", "run", *WORDS, "--out", str(run.parent)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    print("Erdős–Rényi · a│b \udcff")
    streams[0].flush()
    text = streams[0].buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert f"saved: {run}" in text
    assert (
        text.splitlines()[-1]
        == {
            "ascii": "Erdos-Renyi - a|b ?",
            "latin-1": "Erdos-Rényi · a|b ?",
            "utf-8": "Erdős–Rényi · a│b ?",
        }[encoding]
    )


def test_closed_streams_take_any_text(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "argv", ["byzbench", "list", "coins"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    for stream in (sys.stdout, sys.stderr):
        stream.close()


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    command = [sys.executable, "-m", "byzbench", "list", "coins"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment, cwd=CHECKOUT
        )
    message = "byzbench: error: cannot write standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)


class Printing(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        print("reset")
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        print("step")
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0, False, False, {}


@pytest.mark.parametrize("verb", ["run", "sweep --algo decbyzpg --executor serial"])
def test_json_is_alone_on_standard_output(verb: str, call: Any, tmp_path: Path) -> None:
    gymnasium.register("Printing-v0", entry_point=Printing, max_episode_steps=3)
    try:
        words = [*verb.split(), *WORDS, "--env", "gymnasium:Printing-v0", "--out", tmp_path]
        code, out, err = call(*words, "--json")
    finally:
        del gymnasium.registry["Printing-v0"]
    assert code == 0
    assert json.loads(out)
    assert "step" in err.splitlines()


def test_what_cannot_be_rendered_is_one_line(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")  # what the user sets stays

    def fail(*_: Any, **options: Any) -> Any:
        raise RuntimeError("an OpenGL platform library\nhas not been loaded")

    with monkeypatch.context() as patch:
        patch.setattr(EnvironmentSpec, "make", fail)
        with pytest.raises(Undefined, match=r"^cartpole cannot be rendered here: RuntimeError: an OpenGL platform"):
            render_episode(run, tmp_path / "episode.gif")
    assert os.environ["MUJOCO_GL"] == "osmesa"


def marked(path: Path, content: bytes) -> Path:
    path.write_bytes(codecs.BOM_UTF8 + content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + b"0 3\n3 1\n1 2\n2 4\n",
        b"0.000000000000000000e+00 3.000000000000000000e+00\n3.0 1.0\n1. 2.0\n2.0 4.000e+00\n",
    ],
    ids=["byte-order mark", "numpy.savetxt"],
)
def test_numbers_in_a_list_of_links_are_the_numbers_of_agents(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_bytes(content)
    graph = FromFile(str(tmp_path / "graph.txt"))(5, 0, np.random.default_rng(0))
    assert sorted(map(sorted, graph.edges)) == [[0, 3], [1, 2], [1, 3], [2, 4]]


def test_numbers_that_are_not_whole_are_names(tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_text("1.5 12e10\n12e10 0.5\n")
    graph = FromFile(str(tmp_path / "graph.txt"))(3, 0, np.random.default_rng(0))
    assert sorted(map(sorted, graph.edges)) == [[0, 1], [1, 2]]  # in the order of the file


def test_named_files_may_be_links_and_begin_with_a_byte_order_mark(run: Path, tmp_path: Path) -> None:
    suite = SweepGrid.of({"attack": ["ipm"], "seeds": 2}, "suite")
    plain = tmp_path / "plain.toml"
    plain.write_text('attack = ["ipm"]\nseeds = 2\n')
    (tmp_path / "link.toml").symlink_to(plain)
    for path in (plain, tmp_path / "link.toml", marked(tmp_path / "marked.toml", plain.read_bytes())):
        assert SweepGrid.read(path) == suite
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    with pytest.raises(UserError, match="symbolic link"):
        SweepGrid.read(tmp_path / "loop.toml")
    with pytest.raises(UserError, match="tuned parameters: kind"):  # it is JSON
        TunedParameters.read(marked(tmp_path / "tuned.json", b"{}"))
    (tmp_path / "run").symlink_to(run)
    entries, problems = gather([tmp_path / "run"])
    assert ([entry.path for entry in entries], problems) == ([run], [])
