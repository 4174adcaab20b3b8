"""Stores: read fast, filtered, and never brought down by what somebody left in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sealing import seal

from byzbench import Experiment, cli
from byzbench import run as train
from byzbench.canonical import hash_of
from byzbench.errors import CorruptRecord, InvalidParameter
from byzbench.records import files
from byzbench.records.run_folder import RunFolder
from byzbench.records.store import gather, read_run, save_sweep, scan_runs

ROOT = Path(__file__).resolve().parent.parent
SMALL: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 12, "parameters": {"algo": {"N": 4}}}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run."""
    out = tmp_path_factory.mktemp("store")
    return Path(str(train(attack="sign_flip", topology="complete", out=out, **SMALL).run))


@pytest.fixture
def store(real: Path, tmp_path: Path) -> Path:
    """A store with that run."""
    shutil.copytree(real, tmp_path / "runs" / real.name)
    return tmp_path / "runs"


def copies(store: Path, real: Path, count: int) -> None:
    """Copies of a run that differ in their seeds, each under its own name."""
    record = json.loads((real / "experiment.json").read_text())
    for seed in range(1, count + 1):
        record["experiment"]["seed"] = seed
        folder = store / hash_of(record["experiment"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "experiment.json").write_text(json.dumps(record))
        shutil.copy(real / "result.json", folder)
        seal(folder)


def test_a_run_is_read_as_it_is(real: Path, store: Path) -> None:
    (entry,), problems = scan_runs(store)
    assert not problems
    assert entry.status == "finished"
    assert entry.hash == real.name == Experiment.create(attack="sign_flip", topology="complete", **SMALL).hash
    assert entry.value == json.loads((real / "result.json").read_text())["return"]["mean"]
    assert [entry.name(axis) for axis in ("algo", "attack", "env", "agents", "seed")] == [
        "decbyzpg", "sign_flip", "cartpole", 5, 0,
    ]  # fmt: skip


def breaks(name: str, content: str | bytes) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def outside(run: Path) -> None:
    """A file that leads out of the store."""
    secret = run.parent.parent / "secret.json"
    shutil.copy(run / "result.json", secret)
    (run / "result.json").unlink()
    (run / "result.json").symlink_to(secret)


def pipe(run: Path) -> None:
    (run / "result.json").unlink()
    os.mkfifo(run / "result.json")


def replaced(**values: Any) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        data = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps({**data, **values}))

    return spoil


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a truncated result": (breaks("result.json", '{"run": "x", "ret'), "result.json is not a JSON object"),
    "5,000 digits": (breaks("result.json", '{"steps": ' + "9" * 5000 + "}"), "result.json is not a JSON object"),
    "NaN": (breaks("result.json", '{"return": {"mean": NaN}}'), "result.json is not a JSON object"),
    "infinity": (breaks("result.json", '{"return": {"mean": 1e999}}'), "result.json is not a JSON object"),
    "depth": (breaks("result.json", "[" * 200_000), "result.json is not a JSON object"),
    "a list": (breaks("result.json", "[]"), "result.json is not a JSON object"),
    "no return": (breaks("result.json", "{}"), "result.json is not a result"),
    "a return of text": (replaced(**{"return": {"mean": "high"}}), "result.json is not a result"),
    "a speed of nothing": (replaced(steps_per_second=0), "result.json is not a result"),
    "not text at all": (breaks("result.json", b"\xff\xfe\0"), "result.json is not a JSON object"),
    "a link out of the store": (outside, "result.json is a symbolic link"),
    "a pipe": (pipe, "result.json is not a regular file"),
    "a folder for a file": (
        lambda run: [(run / "result.json").unlink(), (run / "result.json").mkdir()],
        "result.json is not a regular file",
    ),
    "no experiment": (lambda run: (run / "experiment.json").unlink(), "it has no experiment.json"),
    "another experiment": (breaks("experiment.json", '{"experiment": {}, "code": {}}'), "does not describe"),
    "a bad failure": (
        lambda run: [(run / "result.json").unlink(), breaks("failure.json", "{")(run)],
        "failure.json is not a JSON object",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_folders_are_named_and_the_rest_is_read(kind: str, store: Path, real: Path) -> None:
    copies(store, real, 3)
    spoil, message = HOSTILE[kind]
    spoil(store / real.name)
    entries, problems = scan_runs(store)
    assert len(entries) == 3
    assert len(problems) == 1
    assert real.name in problems[0]
    assert message in problems[0]


def test_copies_links_and_tampered_folders_do_not_count(store: Path, real: Path, tmp_path: Path) -> None:
    shutil.copytree(store / real.name, store / "0123456789abcdef")
    (store / "fedcba9876543210").symlink_to(tmp_path)
    shutil.copytree(store / real.name, store / f"{real.name}-archived")
    (store / "notes").mkdir()
    entries, problems = scan_runs(store)
    assert [entry.path.name for entry in entries] == [real.name]
    assert len(problems) == 2
    assert "which is not its name" in problems[0]
    assert "symbolic link" in problems[1]


def test_repeated_and_truncated_lines_of_a_log_are_refused(store: Path, real: Path) -> None:
    path = store / real.name / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for content in (lines + lines[-1:], lines[1:], [*lines[:1], lines[1][:20] + "\n", *lines[2:]]):
        path.write_text("".join(content))
        with pytest.raises(CorruptRecord, match=r"metrics\.jsonl:\d+: not a line of this log"):
            RunFolder(path.parent).metrics()


def test_what_is_gathered_counts_once(store: Path, real: Path, tmp_path: Path) -> None:
    copies(store, real, 4)
    other = tmp_path / "copy"
    shutil.copytree(store, other)
    entries, problems = gather([store, other, store / real.name])
    assert len(entries) == 5
    assert len(problems) == 5
    assert all("repeats the experiment" in problem for problem in problems)
    sweep = save_sweep(store, "tiny", "0" * 16, [real.name, "f" * 16])
    entries, problems = gather([sweep])
    assert [entry.hash for entry in entries] == [real.name]
    assert "has 2 cells, of which 1 have not been started" in problems[0]
    (store / real.name / "result.json").write_text("{")
    entries, problems = gather([store / real.name])
    assert not entries
    assert "result.json is not a JSON object" in problems[0]
    with pytest.raises(InvalidParameter, match="neither a run folder"):
        gather([tmp_path / "nowhere"])


def test_a_file_that_is_no_sweep(store: Path) -> None:
    (store / "sweep-x.json").write_text('{"cells": ["../../etc/passwd"]}')
    with pytest.raises(InvalidParameter, match="is not the file of a sweep"):
        gather([store / "sweep-x.json"])


def test_a_large_file_is_not_read(store: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorruptRecord, match="larger than 10 bytes"):
        files.read_bytes(store / real.name / "result.json", 10)
    assert read_run(store / real.name).status == "finished"


def test_a_thousand_runs_are_listed_without_torch(store: Path, real: Path) -> None:
    """The time itself is measured in benchmarks/harness.py; here, what it depends on: nothing heavy is imported."""
    copies(store, real, 1000)
    code = (
        "import sys\nfrom byzbench import cli\nsys.argv = ['byzbench', 'runs', '--seed', '7', '--out', sys.argv[1]]\n"
        "try: cli.main()\nfinally: print(sorted({'torch', 'scipy', 'pandas', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.count("seed 7") == 1
    assert "1 of 1001 runs" in done.stdout


def test_runs_are_filtered(
    store: Path, real: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copies(store, real, 2)
    broken = store / hash_of(json.loads((real / "experiment.json").read_text())["experiment"] | {"seed": 2})
    (broken / "result.json").unlink()
    (broken / "failure.json").write_text('{"error": "it\\nbroke"}')

    def listed(*words: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["byzbench", "runs", "--out", str(store), "--json", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return json.loads(capsys.readouterr().out)

    assert len(listed()) == 3
    assert [r["seed"] for r in listed("--status", "failed")] == [2]
    assert listed("--status", "failed")[0]["error"] == "it broke"
    assert len(listed("--algo", "decbyzpg", "--attack", "sign_flip", "--status", "finished")) == 2
    assert listed("--algo", "solo") == []
    assert len(listed("--verdict", "not_learning")) == 2
    assert [r["seed"] for r in listed("--seed", "1")] == [1]


@pytest.mark.slow
def test_many_writers_leave_whole_files(tmp_path: Path) -> None:
    """Four processes run the same four cells into one store."""
    code = (
        "import sys\nfrom byzbench import Experiment\nfrom byzbench.sweeps.cells import run_cell\n"
        f"options = {SMALL!r}\n"
        "for seed in range(4):\n"
        "    cell = Experiment.create(attack='sign_flip', topology='complete', seed=seed, **options)\n"
        "    assert run_cell(cell.describe(), 'runs', 'reuse', True).status == 'finished'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    crowd = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) for _ in range(4)]
    assert [process.wait(timeout=120) for process in crowd] == [0] * 4
    entries, problems = scan_runs(tmp_path / "runs")
    assert len(entries) == 4
    assert not problems
    for entry in entries:
        assert len(RunFolder(entry.path).metrics()) == len(RunFolder(entry.path).metrics("timing.jsonl"))
