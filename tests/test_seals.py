"""Seals of run folders: whatever file is damaged or exchanged, every command that reads it names it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
from optuna.trial import TrialState

import byzbench
from byzbench import cli
from byzbench.errors import ArchivedRun, CorruptRecord
from byzbench.experiments import runner
from byzbench.integrations import tracking
from byzbench.leaderboard.submitting import cell_of
from byzbench.records.remote import RemoteStore
from byzbench.records.run_folder import RunFolder
from byzbench.records.store import scan_runs
from byzbench.reports.plots import trace
from byzbench.sweeps.cells import CellOutcome, run_cell, stored_outcome
from byzbench.sweeps.executors import SerialExecutor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep, sweep_state
from byzbench.tuning.problem import tuning_problem
from byzbench.tuning.search import open_study, run_study

WORDS = "--agents 5 --byzantine 1 --trajectories 12 -p algo.N=4 --attack sign_flip".split()  # noqa: SIM905
OPTIONS: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 12, "attack": "sign_flip"}
OPTIONS |= {"parameters": {"algo": {"N": 4}}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the runs of three seeds."""
    store = tmp_path_factory.mktemp("whole")
    for seed in range(3):
        byzbench.run(**OPTIONS, seed=seed, out=store)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(whole, tmp_path / "runs")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, str, str]]:
    def called(*words: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return called


def run_of(store: Path, seed: int) -> Path:
    return store / byzbench.Experiment.create(**OPTIONS, seed=seed).hash


def edited(name: str, old: bytes, new: bytes) -> Callable[[Path, Path], None]:
    def edit(folder: Path, other: Path) -> None:
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new, 1))

    return edit


def exchanged(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, other: (folder / name).write_bytes((other / name).read_bytes())


def nul_filled(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, other: (folder / name).write_bytes(bytes((folder / name).stat().st_size))


def truncated(name: str) -> Callable[[Path, Path], None]:
    def cut(folder: Path, other: Path) -> None:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(lines[:-1]))

    return cut


def removed(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, other: (folder / name).unlink()


RECORDS = {
    "result of another run": (exchanged("result.json"), "result.json is the result of another run"),
    "number of a result": (edited("result.json", b'"messages": ', b'"messages": 1'), "result.json has changed"),
    "run and number of a result": (edited("result.json", b'"mean": ', b'"mean": 9'), "result.json has changed"),
    "seal of a result": (edited("result.json", b'"seal": "', b'"seal": "x'), "result.json has changed"),
    "threads": (
        edited("experiment.json", b'"threads": ', b'"threads":  '),
        "experiment.json has",
    ),
    "engine": (
        edited("experiment.json", b'"engine": ', b'"engine":  '),
        "experiment.json has",
    ),
}
LOGS = {
    "number of metrics": (edited("metrics.jsonl", b'"return": ', b'"return": 4'), "metrics.jsonl has changed"),
    "metrics of another run": (exchanged("metrics.jsonl"), "metrics.jsonl has changed"),
    "metrics of NUL": (nul_filled("metrics.jsonl"), "metrics.jsonl has changed"),
    "truncated metrics": (truncated("metrics.jsonl"), "metrics.jsonl has changed"),
    "missing metrics": (removed("metrics.jsonl"), "metrics.jsonl is missing"),
    "number of a trace": (edited("trace.jsonl", b'"steps": ', b'"steps": 4'), "trace.jsonl has changed"),
    "trace of NUL": (nul_filled("trace.jsonl"), "trace.jsonl has changed"),
    "time": (edited("timing.jsonl", b'"seconds": ', b'"seconds": 4'), "timing.jsonl has changed"),
}


FOLDERS = {
    "empty experiment": (lambda folder, other: (folder / "experiment.json").write_bytes(b""), "is not a JSON object"),
    "folder for an experiment": (
        lambda folder, other: [(folder / "experiment.json").unlink(), (folder / "experiment.json").mkdir()],
        "is not a regular file",
    ),
    "linked experiment": (
        lambda folder, other: [
            (folder / "experiment.json").unlink(),
            (folder / "experiment.json").symlink_to(other / "experiment.json"),
        ],
        "is a symbolic link",
    ),
    "experiment of another run": (exchanged("experiment.json"), "experiment.json"),
}


def test_results_hold_the_digests_of_their_folder(store: Path) -> None:
    folder = run_of(store, 0)
    result = json.loads((folder / "result.json").read_text())
    assert sorted(result["digests"]) == ["experiment.json", "metrics.jsonl", "timing.jsonl"]
    entries, problems = scan_runs(store)
    assert (len(entries), problems) == (3, [])
    moved = shutil.move(folder, folder.parent.parent / folder.name)
    assert byzbench.run(**OPTIONS, out=Path(moved).parent).trace == result["trace"]


@pytest.mark.parametrize("kind", [*RECORDS, *LOGS])
def test_a_damaged_run_is_not_reused_and_is_named(kind: str, store: Path, call: Any) -> None:
    damage, message = {**RECORDS, **LOGS}[kind]
    folder = run_of(store, 0)
    damage(folder, run_of(store, 1))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, _, err = call("run", *WORDS, "--json")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{folder.name}/{message}" in err
    assert "--on-existing rerun" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(CorruptRecord, match=message):
        stored_outcome(byzbench.Experiment.create(**OPTIONS), store, "reuse")


@pytest.mark.parametrize("kind", RECORDS)
def test_a_damaged_record_is_listed_as_a_problem_and_the_rest_is_read(kind: str, store: Path, call: Any) -> None:
    damage, message = RECORDS[kind]
    folder = run_of(store, 0)
    damage(folder, run_of(store, 1))
    for words in (["runs", "--out", store], ["report", store, "-f", "json"], ["plot", store, "--out", "curve.svg"]):
        code, _, err = call(*words)
        assert code == 0, err
        (line,) = [line for line in err.splitlines() if line.startswith("not trusted: ")]
        assert f"{folder.name}/{message}" in line
    assert len(scan_runs(store)[0]) == 2
    for words in (["report", folder], ["replay", folder]):
        code, _, err = call(*words)
        assert code == 2
        assert f"{folder.name}/{message}" in err


@pytest.mark.parametrize("kind", [kind for kind in LOGS if "metrics" in kind])
def test_damaged_metrics_are_named_where_they_are_read(kind: str, store: Path, call: Any) -> None:
    folder = run_of(store, 0)
    LOGS[kind][0](folder, run_of(store, 1))
    code, out, err = call("report", store, "-f", "json", "--metric", "auc")
    assert code == 0
    assert f"{folder.name}/metrics.jsonl" in err
    assert [row["seeds"] for row in json.loads(out)["results"]] == [2]
    with pytest.raises(CorruptRecord, match=r"metrics\.jsonl"):
        trace(folder, "return")
    outcome = CellOutcome("finished", json.loads((folder / "result.json").read_text()))
    with pytest.raises(CorruptRecord, match=r"metrics\.jsonl"):
        cell_of(("ring", "sign_flip", None, 0), byzbench.Experiment.create(**OPTIONS).hash, outcome, folder)
    code, _, err = call("replay", folder)
    assert code == 2
    assert f"{folder.name}/metrics.jsonl" in err


@pytest.mark.parametrize("kind", [*RECORDS, *LOGS])
def test_a_damaged_run_is_not_tracked(kind: str, store: Path) -> None:
    damage, message = {**RECORDS, **LOGS}[kind]
    damage(run_of(store, 0), run_of(store, 1))
    with pytest.raises(CorruptRecord, match=message.split()[0]):
        tracking._check(run_of(store, 0))
    tracking._check(run_of(store, 2))


@pytest.mark.parametrize("kind", ["number of a result", "truncated metrics", "trace of NUL", *FOLDERS])
def test_a_sweep_archives_a_damaged_cell_and_runs_it_and_the_others(kind: str, store: Path, whole: Path) -> None:
    damage, message = {**RECORDS, **LOGS, **FOLDERS}[kind]
    damage(run_of(store, 0), run_of(store, 1))
    shutil.rmtree(run_of(store, 2))
    cells = {str(seed): byzbench.Experiment.create(**OPTIONS, seed=seed) for seed in range(3)}
    plan = SweepPlan("three", cells, {})
    assert sweep_state(plan, store, "reuse") == {"0": "damaged", "1": "finished", "2": "new"}
    with pytest.warns(ArchivedRun, match=message) as warnings:
        summary = run_sweep(plan, store, SerialExecutor(store))
    assert len(warnings) == 1
    assert {label: outcome.status for label, outcome in summary.outcomes.items()} == dict.fromkeys("012", "finished")
    assert [label for label, outcome in sorted(summary.outcomes.items()) if outcome.reused] == ["1"]
    for name in ("metrics.jsonl", "trace.jsonl"):
        assert (run_of(store, 0) / name).read_bytes() == (run_of(whole, 0) / name).read_bytes()
    (reason,) = json.loads((store / f"{run_of(store, 0).name}-archived" / "archived.json").read_text())["reasons"]
    assert message in reason
    assert "rerun" not in reason
    assert sweep_state(plan, store, "reuse") == dict.fromkeys("012", "finished")


@pytest.mark.parametrize(
    "kind", ["number of a result", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("threads", "time"))]
)
def test_a_study_archives_a_damaged_run_and_runs_it_again(kind: str, tmp_path: Path) -> None:
    """It counted as the random policy."""
    damage, message = {**RECORDS, **LOGS}[kind]
    point = {name: value for name, value in OPTIONS.items() if name not in ("attack", "parameters")}
    problem = tuning_problem("algorithm", {"algo": "decbyzpg(N=4)", **point}, ["sign_flip"])
    executor = SerialExecutor(tmp_path / "runs")
    whole = open_study(problem, tmp_path / "whole.journal")
    run_study(problem, whole, executor, 1)
    first, second = (
        tmp_path / "runs" / problem.experiment(whole.trials[0].params, *pair).hash for pair in problem.pairs[:2]
    )
    damage(second, first)
    resumed = open_study(problem, tmp_path / "resumed.journal")
    with pytest.warns(ArchivedRun, match=message):
        run_study(problem, resumed, executor, 1)
    assert [t.value for t in resumed.trials if t.state == TrialState.COMPLETE] == [whole.trials[0].value]


@pytest.mark.parametrize("kind", ["result of another run", "number of metrics", "trace of NUL", "threads"])
def test_a_store_at_a_url_gives_only_whole_runs(
    kind: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, message = {**RECORDS, **LOGS}[kind]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = RemoteStore(f"file://{store}")
    damage(run_of(store, 0), run_of(store, 1))
    (problem,) = remote.pull()
    assert f"file://{store}/{run_of(store, 0).name}/{message}" in problem
    assert sorted(path.name for path in remote.path.iterdir()) == sorted(run_of(store, seed).name for seed in (1, 2))
    with pytest.raises(CorruptRecord, match=message):
        remote.push(run_of(store, 0))


class Cut(Exception):
    """The end of a process between two rounds."""


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was cut off after a checkpoint."""
    monkeypatch.setattr(runner, "SAVE_EVERY", -1.0)

    def cut(line: Any) -> None:
        if line["round"] == 3:
            raise Cut

    with pytest.raises(Cut):
        byzbench.run(**{**OPTIONS, "trajectories": 40}, out=tmp_path, callback=cut)
    (folder,) = tmp_path.iterdir()
    return folder


def test_a_checkpoint_with_any_flipped_bit_is_not_resumed(unfinished: Path) -> None:
    path = unfinished / "checkpoint.safetensors"
    content = path.read_bytes()
    keys = [content.index(key) + 2 for key in (b'"seal"', b'digests\\"', b"metrics.jsonl")]
    for position in (*keys, *range(0, len(content), max(1, len(content) // 60))):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(CorruptRecord, match=r"checkpoint\.safetensors"):
            RunFolder(unfinished).restore()
    path.write_bytes(flipped)
    with pytest.raises(CorruptRecord, match=r"checkpoint\.safetensors .*--on-existing rerun"):
        byzbench.run(**{**OPTIONS, "trajectories": 40}, out=unfinished.parent)
    copy = shutil.copytree(unfinished, unfinished.parent / "copy" / unfinished.name)
    experiment = byzbench.Experiment.create(**{**OPTIONS, "trajectories": 40})
    outcome = run_cell(experiment.describe(), str(copy.parent), "reuse", wait=False)
    assert (outcome.status, outcome.reused) == ("finished", False)
    assert re.fullmatch(rf"{copy} is now {copy}-archived: {copy}/checkpoint\.safetensors .*", outcome.archived)
    path.write_bytes(content)
    resumed = byzbench.run(**{**OPTIONS, "trajectories": 40}, out=unfinished.parent)
    assert resumed.trace == byzbench.run(**{**OPTIONS, "trajectories": 40}, out=unfinished.parent / "whole").trace


@pytest.mark.parametrize(
    "kind", ["number of metrics", "metrics of NUL", "number of a trace", "time", *list(RECORDS)[-2:]]
)
def test_logs_that_a_checkpoint_does_not_belong_to_are_not_resumed(kind: str, unfinished: Path) -> None:
    damage, message = {**RECORDS, **LOGS}[kind]
    damage(unfinished, unfinished)
    with pytest.raises(CorruptRecord, match=message.split()[0]):
        byzbench.run(**{**OPTIONS, "trajectories": 40}, out=unfinished.parent)


def test_lines_after_the_checkpoint_do_not_matter(unfinished: Path) -> None:
    for name in ("metrics.jsonl", "trace.jsonl", "timing.jsonl"):
        with open(unfinished / name, "ab") as log:
            log.write(bytes(1000))
    resumed = byzbench.run(**{**OPTIONS, "trajectories": 40}, out=unfinished.parent)
    assert resumed.trace == byzbench.run(**{**OPTIONS, "trajectories": 40}, out=unfinished.parent / "whole").trace


def test_runs_of_earlier_versions_are_read_unsealed(store: Path) -> None:
    folder = run_of(store, 0)
    result = json.loads((folder / "result.json").read_text())
    earlier = {name: value for name, value in result.items() if name not in ("digests", "seal")}
    (folder / "result.json").write_text(json.dumps(earlier))
    assert byzbench.run(**OPTIONS, out=store).trace == result["trace"]
    assert len(scan_runs(store)[0]) == 3
    for damage in (nul_filled, truncated):
        shutil.copy(folder / "metrics.jsonl", folder / "kept")
        damage("metrics.jsonl")(folder, folder)
        with pytest.raises(CorruptRecord, match=r"metrics\.jsonl does not end where the run did"):
            trace(folder, "return")
        shutil.move(folder / "kept", folder / "metrics.jsonl")
    (run_of(store, 1) / "result.json").write_text(json.dumps(earlier))
    assert "is the result of another run" in scan_runs(store)[1][0]


def test_checkpoints_of_earlier_versions_are_resumed_unsealed(unfinished: Path) -> None:
    path = unfinished / "checkpoint.safetensors"
    with safetensors.safe_open(path, framework="pt") as handle:
        progress = json.loads(handle.metadata()["progress"])
    tensors = safetensors.torch.load(path.read_bytes())
    safetensors.torch.save_file(tensors, path, {"progress": json.dumps(progress | {"digests": 3})})
    with pytest.raises(CorruptRecord, match="is not a checkpoint of byzbench"):
        RunFolder(unfinished).restore()
    del progress["digests"]
    safetensors.torch.save_file(tensors, path, {"progress": json.dumps(progress)})
    assert byzbench.run(**{**OPTIONS, "trajectories": 40}, out=unfinished.parent).trace
