"""What a run leaves on disk: the same bytes however it came about, and never half a file."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import byzbench
from byzbench import Experiment, identity
from byzbench.aggregators.krum import Krum
from byzbench.errors import ArchivedRun, CorruptRecord, StorageError, UserError
from byzbench.experiments import runner
from byzbench.experiments.diagnostics import diameter
from byzbench.experiments.metrics import classify_run, final_return
from byzbench.federation.federation import SimulatedFederation
from byzbench.records.run_folder import RunFolder
from byzbench.tasks.cartpole import CartPole

ROOT = Path(__file__).resolve().parent.parent
SMALL: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 40, "preset": "paper"}
SMALL |= {"parameters": {"algo": {"N": 10, "B": 2}}}
RUNS = {
    "ring": dict(SMALL, attack="alie:z=1.5,whose=honest", topology="ring"),
    "equivocating": dict(SMALL, attack="large_noise", topology="complete", agreement="rb_tm"),
    "environment": dict(SMALL, attack="random_action", topology="random_regular:degree=4", aggregator="krum:power=1"),
    "server": dict(SMALL, algo="byzpg", attack="sign_flip", aggregator="bucketing(s=2)+median"),
}


def metrics(folder: Path) -> bytes:
    return (folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("name", RUNS)
def test_two_runs_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, second = (byzbench.run(**RUNS[name], out=tmp_path / n) for n in "ab")
    assert metrics(Path(str(first.run))) == metrics(Path(str(second.run)))
    assert first.verdict == second.verdict
    other = byzbench.run(**RUNS[name], seed=1, out=tmp_path)
    assert metrics(Path(str(other.run))) != metrics(Path(str(first.run)))


@pytest.mark.slow
def test_other_processes_and_orders_give_the_same_bytes(tmp_path: Path) -> None:
    for name in RUNS:
        byzbench.run(**RUNS[name], out=tmp_path / "here")
    torch.set_num_threads(2)
    code = (
        f"import byzbench\nfor options in {[RUNS[n] for n in reversed(RUNS)]!r}: byzbench.run(**options, out='there')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    for options in RUNS.values():
        name = Experiment.create(**options).hash
        assert metrics(tmp_path / "here" / name) == metrics(tmp_path / "there" / name)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, to be copied."""
    return Path(str(byzbench.run(**RUNS["ring"], out=tmp_path_factory.mktemp("ring")).run))


class Cut(Exception):
    """Stands for whatever ends a process between two instructions."""


@pytest.mark.parametrize(
    "name", ["equivocating", *(pytest.param(n, marks=pytest.mark.slow) for n in RUNS if n != "equivocating")]
)
def test_a_run_cut_off_anywhere_ends_with_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**RUNS[name], "trajectories": 200}
    whole = byzbench.run(**options, out=tmp_path / "whole")
    monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)
    places: list[tuple[Any, str]] = [
        (SimulatedFederation, "sample"),
        (SimulatedFederation, "aggregate"),
        (RunFolder, "append"),
    ]
    draw = random.Random(name)
    for _ in range(10):
        owner, method = draw.choice(places)
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, failing(getattr(owner, method), draw.randrange(1, 4)))
            with pytest.raises(Cut):
                byzbench.run(**options, out=tmp_path / "cut")
    resumed = byzbench.run(**options, out=tmp_path / "cut")
    assert metrics(Path(str(resumed.run))) == metrics(Path(str(whole.run)))
    assert resumed.final == whole.final
    assert resumed.messages == whole.messages


def failing(method: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = iter(range(after))

    def cut(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise Cut
        return method(*args, **kwargs)

    return cut


KILLED = """
import byzbench
from byzbench.experiments import runner
runner.SAVE_EVERY = 0.02
byzbench.run(attack="large_noise", topology="ring", trajectories=4000, out="runs")
"""


def size(folder: Path) -> int:
    return sum(log.stat().st_size for log in folder.glob("runs/*/metrics.jsonl"))


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-c", KILLED]
    draw, kills, largest, rounds = random.Random(0), 0, 0, []
    while kills < 10:
        process = subprocess.Popen(start, cwd=tmp_path, env=environment)
        # Until it is farther than those before: how long a process takes to begin is no matter of luck.
        while process.poll() is None and size(tmp_path) <= largest:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed ten times"
        kills, largest = kills + 1, size(tmp_path)
        rounds.append(len(metrics(next(tmp_path.glob("runs/*"))).splitlines()))
    assert rounds[-1] > rounds[0], "no progress was kept"
    subprocess.run(start, cwd=tmp_path, env=environment, check=True)
    whole = byzbench.run(attack="large_noise", topology="ring", trajectories=4000, out=tmp_path / "whole")
    assert metrics(next(tmp_path.glob("runs/*"))) == metrics(Path(str(whole.run)))


def test_a_full_disk_ends_in_one_line_and_can_be_resumed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "byzbench", "run", "--agents", "5", "--trajectories", "60", "-p", "algo.N=10"]
    options: dict[str, Any] = {"agents": 5, "trajectories": 60, "parameters": {"algo": {"N": 10}}}
    whole = byzbench.run(**options, out=tmp_path / "whole")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, preexec_fn=no_room)
    assert done.returncode == 1
    error = [line for line in done.stderr.splitlines() if "trajectories, return" not in line]
    assert len(error) == 1
    assert error[0].startswith("byzbench: error: cannot write runs/")
    assert not list(tmp_path.glob("runs/*/result.json"))
    byzbench.run(**options, out=tmp_path / "runs")
    assert metrics(next(tmp_path.glob("runs/*"))) == metrics(Path(str(whole.run)))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write("result.json", {"a": 1})

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        folder.write("result.json", {"a": 2})
    assert folder.read("result.json") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_finished_runs_are_reused_only_for_the_same_behaviour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[Any] = []
    first = byzbench.run(**RUNS["ring"], out=tmp_path, callback=collected.append)
    assert collected
    collected.clear()
    assert byzbench.run(**RUNS["ring"], out=tmp_path, callback=collected.append) == first
    assert not collected
    byzbench.run(**RUNS["ring"], out=tmp_path, callback=collected.append, on_existing="rerun")
    assert collected
    now, later = identity.ENGINE, identity.ENGINE + 1
    monkeypatch.setattr(identity, "ENGINE", later)
    collected.clear()
    with pytest.warns(ArchivedRun, match=f"engine: {now} then, {later} now"):
        byzbench.run(**RUNS["ring"], out=tmp_path, callback=collected.append)
    assert collected, "a result of another behaviour was reused"
    archived = list(tmp_path.glob("*-archived"))
    assert len(archived) == 1, "the old result is gone"
    assert json.loads((archived[0] / "result.json").read_text())["return"] == first.final
    assert json.loads((archived[0] / "archived.json").read_text())["reasons"] == [f"engine: {now} then, {later} now"]


def test_one_folder_one_writer(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").locked(), pytest.raises(UserError, match="another process"):  # noqa: SIM117
        with RunFolder(tmp_path / "run").locked():
            pass


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("experiment.json", b"{"),
        ("experiment.json", b"[]"),
        ("experiment.json", b'{"experiment": {"seed": 3}}'),
        ("result.json", b"\xff\xfe"),
        ("result.json", b"{}"),
        ("result.json", b"[" * 100_000),
        ("metrics.jsonl", b""),
        ("checkpoint.safetensors", b"garbage"),
        ("checkpoint.safetensors", b""),
        ("result.json", b'{"steps": "x", "return": 3}'),
        ("metrics.jsonl", b'{"round": 0}\n' * 1000),
    ],
)
def test_a_folder_that_cannot_be_trusted_is_refused(name: str, content: bytes, ring: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(ring, tmp_path / ring.name)
    if name != "result.json":
        (folder / "result.json").unlink()
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptRecord, match=name) as caught:
        byzbench.run(**RUNS["ring"], out=tmp_path)
    assert "\n" not in str(caught.value)
    after = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert after == {**before, name: content}, "a folder that was refused has changed"


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": {"../victim": 0}},
        {"sizes": {"metrics.jsonl": 0, "timing.jsonl": 0, "../victim": 0}},
        {"sizes": {"metrics.jsonl": -1, "timing.jsonl": 0}},
        {"sizes": {"metrics.jsonl": 0.5, "timing.jsonl": 0}},
        {"sizes": {}},
        {"sizes": 3},
        {"round": -1},
        {"round": 3},
        {"screened": "many"},
        {"traffic/gradient": torch.zeros(5, 2).long()},
        {"mail/gradient": torch.zeros(3)},
        {"mail/gradient/0/one/due": torch.zeros(3)},
        {"mail/gradient/0/1/due": torch.zeros(3)},
        {"state/theta": torch.zeros(5, 3)},
        {"state/theta": torch.zeros(5, 386, dtype=torch.float64)},
        {"ledger/steps": torch.zeros(4).long()},
    ],
    ids=str,
)
def test_a_forged_checkpoint_is_refused_and_touches_nothing(change: dict[str, Any], ring: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = RunFolder(shutil.copytree(ring, tmp_path / ring.name))
    (folder.path / "result.json").unlink()
    checkpoint = folder.restore()
    assert checkpoint is not None
    tensors, progress = checkpoint
    tensors |= {k: v for k, v in change.items() if isinstance(v, torch.Tensor)}
    progress |= {k: v for k, v in change.items() if not isinstance(v, torch.Tensor)}
    save_file(tensors, folder.path / "checkpoint.safetensors", {"progress": json.dumps(progress)})
    before = metrics(folder.path)
    with pytest.raises(CorruptRecord, match="checkpoint"):
        byzbench.run(**RUNS["ring"], out=tmp_path)
    assert victim.read_text() == "mine"
    assert metrics(folder.path) == before


@pytest.mark.parametrize(
    "options",
    [
        {"agents": 10**30},
        {"agents": True},
        {"assumed_byzantine": 1.5},
        {"assumed_byzantine": True},
        {"trajectories": 3.5},
        {"seed": -1},
        {"seed": 2**64},
        {"device": "meta"},
        {"device": "nowhere"},
        {"device": None},
        {"attack": Krum()},
        {"preset": "offical"},
        {"algo": "byzpg", "aggregator": "monna"},
        {"attack": "random_action:constant=7"},
        {"parameters": {"algo": {"N": 10**22}}},
    ],
    ids=str,
)
def test_what_cannot_run_leaves_no_trace(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        byzbench.run(**{**SMALL, **options}, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_field_is_in_the_hash() -> None:
    base: dict[str, Any] = {"agents": 9, "byzantine": 2, "trajectories": 100}
    changes: list[dict[str, Any]] = [
        {"algo": "dec_page_pg"},
        {"attack": "ipm"},
        {"attack": "ipm:scale=2"},
        {"topology": "ring"},
        {"aggregator": "median"},
        {"aggregator": "rfa:steps=9"},
        {"aggregator": "bucketing(rfa(steps=9))"},
        {"agreement": "none"},
        {"placement": "first"},
        {"agents": 10},
        {"byzantine": 1},
        {"assumed_byzantine": 1},
        {"trajectories": 101},
        {"seed": 1},
        {"algo": "decbyzpg:lr=0.001"},
        {"algo": "decbyzpg:reference=local"},
    ]
    hashes = [Experiment.create(**{**base, **change}).hash for change in [{}, *changes]]
    assert len(set(hashes)) == len(hashes)
    assert Experiment.create(**base).hash == Experiment.create(**base, seed=0, topology="complete").hash


def test_an_experiment_survives_its_description() -> None:
    for options in RUNS.values():
        experiment = Experiment.create(**options)
        assert Experiment.from_description(json.loads(json.dumps(experiment.describe()))) == experiment


def test_final_return_counts_episodes_not_rounds() -> None:
    lines = [{"trajectories": 50, "return": 10.0}, {"trajectories": 54, "return": 100.0}]
    assert final_return(lines, 54) == pytest.approx((9 * 10 + 4 * 100) / 13)
    assert final_return(lines, 4) == 100.0


@pytest.mark.parametrize(
    ("final", "spread", "name"),
    [(500.0, 0.0, "ok"), (30.0, 0.0, "not_learning"), (500.0, 1.0, "no_consensus"), (float("nan"), 0.0, "diverged")],
)
def test_verdicts(final: float, spread: float, name: str) -> None:
    theta = torch.ones(4, 9)
    theta[1] += spread
    theta[3] = torch.nan  # an attacker's parameters decide nothing
    verdict = classify_run(final, theta, torch.tensor([True, True, True, False]), CartPole())
    assert verdict.name == name
    if verdict.number is not None and verdict.threshold is not None:
        assert (verdict.number > verdict.threshold) == (name in ("ok", "no_consensus"))


def test_diameter() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])
    assert diameter(x + 1000) == pytest.approx(5.0)
    assert diameter(x[:1].expand(3, 2)) == 0.0
