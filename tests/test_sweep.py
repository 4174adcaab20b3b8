"""Sweeps: what is planned, what runs, and what is left of either when anything fails or is killed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from byzbench import registry
from byzbench.errors import InvalidParameter, UnknownName
from byzbench.experiments.experiment import Experiment
from byzbench.identity import ENGINE
from byzbench.records.remote import RemoteStore
from byzbench.records.run_folder import RunFolder
from byzbench.sweeps import cells as cells_module
from byzbench.sweeps import executors
from byzbench.sweeps.cells import CellOutcome, deliver, run_cell, run_elsewhere
from byzbench.sweeps.executors import Executor, make_executor
from byzbench.sweeps.grid import SweepGrid, SweepPlan, plan_sweep, split
from byzbench.sweeps.sweep import SweepSummary, run_sweep, sweep_state

ROOT = Path(__file__).resolve().parent.parent
QUICK: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 12}
SMALL = {"algo": {"N": 4}}
GRID: dict[str, Any] = {
    **QUICK,
    "algo": ["decbyzpg", "dec_page_pg"],
    "attack": ["alie(z=1.5)", "sign_flip"],
    "topology": ["complete", "ring"],
    "parameters": SMALL,
    "seeds": 2,
}


def planned(**changes: Any) -> SweepPlan:
    return plan_sweep(SweepGrid.of({**GRID, **changes}))


def run(todo: SweepPlan, out: Path, name: str = "serial", **options: Any) -> SweepSummary:
    with make_executor(name, out, options.get("on_existing", "reuse"), jobs=2) as workers:
        return run_sweep(todo, out, workers, **options)


def records(out: Path) -> Mapping[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob("*/metrics.jsonl"))}


class TestSuite:
    @pytest.mark.parametrize(
        "text, items",
        [
            ("alie,ipm", ["alie", "ipm"]),
            (" alie , ipm ,", ["alie", "ipm"]),
            ("alie(z=1.5, sign=plus),ipm", ["alie(z=1.5, sign=plus)", "ipm"]),
            ("alie:z=1.5,sign=plus,ipm", ["alie:z=1.5,sign=plus", "ipm"]),
            ("sleeper(alie(z=1.5), start=200), f(a, g(b))", ["sleeper(alie(z=1.5), start=200)", "f(a, g(b))"]),
            ("nnm+trimmed_mean,bucketing(s=2)+rfa", ["nnm+trimmed_mean", "bucketing(s=2)+rfa"]),
        ],
    )
    def test_comma_lists_respect_parameters(self, text: str, items: list[str]) -> None:
        assert split(text) == items

    def test_a_file_and_flags_mean_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "suite.toml"
        path.write_text(
            'algo = ["decbyzpg", "dec_page_pg"]\nattack = ["alie(z=1.5)", "sign_flip"]\n'
            'topology = ["complete", "ring"]\nagents = 5\nbyzantine = 1\ntrajectories = 12\nseeds = 2\n'
            "[parameters.algo]\nN = 4\n"
        )
        assert plan_sweep(SweepGrid.read(path)).hash == planned().hash

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"sedes": 3}, "sedes: is not a key. Did you mean 'seeds', 'schedule'? Keys: agents, "),
            ({"seeds": 0}, "sweep: seeds: must be a number of seeds, at least 1, or a list of seeds; got 0"),
            ({"seeds": [0, -1]}, "seeds.1: must be greater than or equal to 0"),
            ({"algo": []}, "algo: must have at least 1 item"),
            ({"agents": ["five"]}, "agents.0: must be a valid integer"),
            ({"exclude": [{"algorithm": "decbyzpg"}]}, "exclude: 'algorithm' is not an axis"),
            (
                {"exclude": [{"algo": "byzpg"}]},
                "sweep: exclude: algo has no value 'byzpg' in this suite; its values: decbyzpg, dec_page_pg",
            ),
            (
                {"seeds": "many", "agents": "few"},
                "sweep: agents.0: must be a valid integer; seeds: must be a number of seeds, at least 1, or a list of "
                "seeds; got 'many'",
            ),
        ],
    )
    def test_mistakes_are_named(self, changes: Mapping[str, Any], message: str) -> None:
        with pytest.raises(InvalidParameter, match=re.escape(message)):
            plan_sweep(SweepGrid.of({**GRID, **changes}))

    @pytest.mark.parametrize("content", ["seeds = ", "\0", "[" * 5000, "a" * 70_000_0])
    def test_a_file_that_is_no_suite(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "bad.toml"
        path.write_text(content)
        with pytest.raises(InvalidParameter, match=r"bad\.toml"):
            SweepGrid.read(path)

    def test_every_axis_is_checked_before_anything_is_printed(self) -> None:
        with pytest.raises(InvalidParameter) as error:
            planned(algo=["decbizpg"], attack=["alei", "sign_flip"])
        assert "unknown algorithm 'decbizpg'" in str(error.value)
        assert "unknown attack 'alei'" in str(error.value)

    def test_cells_that_make_no_sense_are_set_apart_with_the_reason(self) -> None:
        todo = planned(algo=["decbyzpg", "byzpg"])
        assert len(todo.cells) == 8
        assert all(label.startswith("byzpg") for label in todo.undefined)
        assert "use --topology star" in todo.undefined["byzpg · sign_flip · ring"]

    def test_excluded_cells_are_left_out_and_repeated_ones_counted_once(self) -> None:
        todo = planned(exclude=[{"algo": "decbyzpg", "topology": "ring"}], attack=["sign_flip", "sign_flip()"])
        assert len(todo.cells) == 6
        assert not [label for label in todo.cells if "decbyzpg" in label and "ring" in label]


FIELDS: dict[str, Any] = {
    "algorithm": registry.make("algorithm", "decbyzpg(lr=0.001)"),
    "attack": registry.make("attack", "sign_flip(scale=2)"),
    "topology": registry.make("topology", "ring"),
    "task": registry.make("task", "lunarlander"),
    "policy": registry.make("policy", "linear"),
    "scenario": registry.make("scenario", "reward_noise"),
    "aggregator": registry.make("aggregator", "rfa(nu=0.2)"),
    "agreement": registry.make("agreement", "rb_tm"),
    "placement": registry.make("placement", "first"),
    "channel": registry.make("channel", "loss"),
    "coin": None,
    "schedule": registry.make("schedule", "synchronous(speed=equal)"),
    "agents": 6,
    "byzantine": 0,
    "assumed_byzantine": 0,
    "relay": True,
    "mixing": "uniform",
    "trajectories": 13,
    "evaluations": 7,
    "evaluation_episodes": 3,
    "seed": 1,
    "device": None,
}


def test_any_change_of_a_field_changes_the_hash() -> None:
    """Every field there is; a coin and a device have only one value here, so those are changed in the description."""
    from dataclasses import fields, replace

    from byzbench.canonical import hash_of

    base = Experiment.create("decbyzpg", "sign_flip", "complete", **QUICK)
    assert set(FIELDS) == {f.name for f in fields(base)}
    hashes = {base.hash}
    for name, value in FIELDS.items():
        if value is None:
            changed = hash_of({**base.describe(), name: "another"})
        else:
            changed = replace(base, **{name: value}).hash
        assert changed not in hashes, name
        hashes.add(changed)
    assert hash_of(base.describe()) == base.hash


def test_every_field_of_every_component_of_a_cell_is_in_its_hash() -> None:
    base = Experiment.create("decbyzpg", "sign_flip", "complete", **QUICK)
    hashes = {base.hash}
    for kind, changes in {
        "algorithm": {"lr": 1e-3, "N": 7, "B": 3, "p": 0.3, "optimizer": "sgd", "reference": "local", "logits": "tanh"},
        "attack": {"scale": 2.0, "on": "both"},
        "aggregator": {"nu": 0.2, "relative": False, "steps": 3, "start": "mean"},
        "agreement": {"tolerance": 1e-3, "cap": 3, "stop": "observer"},
    }.items():
        for key, value in changes.items():
            options: dict[str, Any] = {**QUICK, "parameters": {kind: {key: value}}}
            changed = Experiment.create("decbyzpg", "sign_flip", "complete", **options).hash
            assert changed not in hashes, (kind, key)
            hashes.add(changed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid, run here, one cell after the other."""
    out = tmp_path_factory.mktemp("whole")
    summary = run(planned(), out)
    assert len(summary.outcomes) == 16
    assert not summary.failed
    return out


def test_processes_give_the_bytes_of_one(whole: Path, tmp_path: Path) -> None:
    assert not run(planned(), tmp_path, "process").failed
    assert records(tmp_path) == records(whole)
    assert len(records(whole)) == 16


def test_order_parts_and_company_change_no_byte(whole: Path, tmp_path: Path) -> None:
    turned = {name: list(reversed(v)) if isinstance(v, list) else v for name, v in GRID.items()}
    run(plan_sweep(SweepGrid.of({**turned, "seeds": [1, 0]})), tmp_path / "turned")
    assert records(tmp_path / "turned") == records(whole)
    for topology in ("complete", "ring"):
        run(planned(topology=[topology]), tmp_path / "split")
    assert records(tmp_path / "split") == records(whole)
    alone = next(iter(planned().cells.values()))
    run_cell(alone.describe(), str(tmp_path / "alone"), "reuse", wait=False)
    assert records(tmp_path / "alone")[alone.hash] == records(whole)[alone.hash]


def test_what_is_there_is_not_run_again(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"}
    summary = run(planned(), whole)
    assert all(outcome.reused for outcome in summary.outcomes.values())
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert set(sweep_state(planned(), whole, "reuse").values()) == {"finished"}
    assert set(sweep_state(planned(), whole, "rerun").values()) == {"new"}


BROKEN = """
from dataclasses import dataclass
import os
from byzbench.core import MessageAttack, ThreatModel

@dataclass(frozen=True)
class Broken(MessageAttack):
    '''Fails, or kills its process, unless a file is there.'''
    kill: bool = False
    unless: str = ""

    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(self, context, memory, rng):
        if self.unless and os.path.exists(self.unless):
            from byzbench.core import ByzantineMessages
            return ByzantineMessages(context.own), memory
        if self.kill:
            os.kill(os.getpid(), 9)
        raise RuntimeError("it\\nbroke")
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plug-in that breaks."""
    home = tmp_path / "plugin"
    info = home / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (home / "broken_attack.py").write_text(BROKEN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[byzbench.attacks]\nbroken = broken_attack:Broken\n")
    monkeypatch.syspath_prepend(home)
    registry.origins.cache_clear()
    yield
    registry.origins.cache_clear()


@pytest.mark.parametrize("name", ["serial", "process"])
def test_a_failed_cell_is_recorded_and_the_rest_goes_on(broken: None, name: str, tmp_path: Path) -> None:
    flag = tmp_path / "mended"
    todo = planned(attack=["sign_flip", f"broken(unless={str(flag)!r})"], topology=["complete"], algo=["decbyzpg"])
    summary = run(todo, tmp_path / "runs", name)
    assert len(summary.outcomes) == 4
    assert len(summary.failed) == 2
    for label, outcome in summary.failed.items():
        assert "broken" in label
        place = r"\(.*broken_attack\.py, line \d+, in craft_messages\)"
        assert re.fullmatch(f"attack broken: RuntimeError: it broke {place}", outcome.error)
        left = json.loads((tmp_path / "runs" / todo.cells[label].hash / "failure.json").read_text())
        assert left["error"] == outcome.error
        assert any("in craft_messages" in line for line in left["traceback"])
    again = run(todo, tmp_path / "runs", name)
    assert len(again.failed) == 2
    assert all(outcome.reused for outcome in again.outcomes.values())
    flag.touch()
    assert len(run(todo, tmp_path / "runs", name).failed) == 2
    assert not run(todo, tmp_path / "runs", name, on_existing="retry-failed").failed
    assert not list(tmp_path.glob("runs/*/failure.json"))


def test_the_death_of_a_process_costs_one_cell(broken: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "RETRIES", 1)
    todo = planned(attack=["sign_flip", "broken(kill=True)"], algo=["decbyzpg"], topology=["complete"], seeds=1)
    summary = run(todo, tmp_path, "process")
    (label,) = summary.failed
    assert "broken" in label
    assert summary.failed[label].error.endswith("its process was lost 2 times")
    assert summary.failed[label].retries == 1
    assert len(summary.worker_failures) == 1
    assert "started again" in summary.worker_failures[0]
    assert sum(o.status == "finished" for o in summary.outcomes.values()) == 1


@pytest.mark.slow
def test_a_cell_that_another_process_is_at_is_waited_for(tmp_path: Path) -> None:
    todo = planned(algo=["decbyzpg"], topology=["complete"], attack=["sign_flip"])
    first = next(iter(todo.cells.values()))
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom byzbench.records.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n    print('held', flush=True)\n    time.sleep(1.0)\n"
    )
    held = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / first.hash)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert held.stdout is not None
    held.stdout.readline()
    order: list[str] = []
    with make_executor("serial", tmp_path) as workers:
        summary = run_sweep(
            todo, tmp_path, workers, callback=lambda label, outcome: order.append(todo.cells[label].hash)
        )
    assert held.wait() == 0
    held.stdout.close()
    assert not summary.failed
    assert order[-1] == first.hash


def test_once_asked_to_stop_it_finishes_what_runs(tmp_path: Path) -> None:
    done: list[str] = []
    with make_executor("serial", tmp_path) as workers:
        summary = run_sweep(
            planned(), tmp_path, workers, callback=lambda label, _: done.append(label), stopped=lambda: len(done) >= 3
        )
    assert len(summary.outcomes) == 3
    assert len(summary.remaining) == 13
    assert len(list(tmp_path.glob("*/result.json"))) == 3


class Lossy(Executor):
    """Loses every cell a few times."""

    def __init__(self, out: Path, times: int) -> None:
        super().__init__(out)
        self.times = times
        self._seen: dict[str, int] = {}

    def _start(self, experiment: Experiment, wait: bool) -> Any:
        from concurrent.futures import Future

        future: Any = Future()
        if self._seen.get(experiment.hash, 0) < self.times:
            self._seen[experiment.hash] = self._seen.get(experiment.hash, 0) + 1
            future.set_exception(ConnectionResetError())
        else:
            future.set_result(CellOutcome("finished", {"return": {"mean": 1.0}}))
        return future

    def _was_lost(self, error: BaseException) -> bool:
        return isinstance(error, ConnectionResetError)


def test_lost_cells_are_retried_and_then_given_up(tmp_path: Path) -> None:
    todo = planned(algo=["decbyzpg"], topology=["complete"], attack=["sign_flip"])
    for times, failed in ((executors.RETRIES, 0), (executors.RETRIES + 1, 2)):
        summary = run_sweep(todo, tmp_path, Lossy(tmp_path, times))
        assert len(summary.failed) == failed
        assert len(summary.worker_failures) == 2 * executors.RETRIES


class TestElsewhere:
    cell = Experiment.create("decbyzpg", "sign_flip", "complete", **QUICK, parameters=SMALL)

    def test_what_ran_elsewhere_arrives_whole(self, tmp_path: Path) -> None:
        outcome, files = run_elsewhere(self.cell.describe())
        arrived = deliver(self.cell, tmp_path, outcome, files)
        assert arrived.status == "finished"
        assert arrived.result["run"] == str(tmp_path / self.cell.hash)
        run_cell(self.cell.describe(), str(tmp_path / "here"), "reuse", wait=False)
        assert records(tmp_path)[self.cell.hash] == records(tmp_path / "here")[self.cell.hash]
        assert run_cell(self.cell.describe(), str(tmp_path), "reuse", wait=False).reused

    def test_it_never_counts_twice(self, tmp_path: Path) -> None:
        outcome, files = run_elsewhere(self.cell.describe())
        deliver(self.cell, tmp_path, outcome, files)
        before = (tmp_path / self.cell.hash / "result.json").stat().st_mtime_ns
        assert deliver(self.cell, tmp_path, outcome, files).reused
        assert (tmp_path / self.cell.hash / "result.json").stat().st_mtime_ns == before
        assert not deliver(self.cell, tmp_path, outcome, files, rerun=True).reused
        assert (tmp_path / self.cell.hash / "result.json").stat().st_mtime_ns > before

    def test_another_behaviour_is_not_taken(self, tmp_path: Path) -> None:
        outcome, files = run_elsewhere(self.cell.describe())
        record = json.loads(files["experiment.json"])
        record["identity"]["engine"] = 7
        refused = deliver(self.cell, tmp_path, outcome, {**files, "experiment.json": json.dumps(record).encode()})
        assert refused.status == "failed"
        assert f"engine: 7 then, {ENGINE} now" in refused.error
        assert not (tmp_path / self.cell.hash / "result.json").exists()

    def test_a_stored_run_of_another_behaviour_is_archived(self, tmp_path: Path) -> None:
        outcome, files = run_elsewhere(self.cell.describe())
        old = RunFolder(tmp_path / self.cell.hash)
        with old.locked():
            record = json.loads(files["experiment.json"])
            record["identity"]["engine"] = 7
            old.write("experiment.json", record)
        assert deliver(self.cell, tmp_path, outcome, files).status == "finished"
        assert (tmp_path / f"{self.cell.hash}-archived" / "experiment.json").exists()

    def test_a_failure_travels_too(self, broken: None, tmp_path: Path) -> None:
        cell = Experiment.create("decbyzpg", "broken", "complete", **QUICK, parameters=SMALL)
        outcome, files = run_elsewhere(cell.describe())
        assert deliver(cell, tmp_path, outcome, files).status == "failed"
        assert cells_module.stored_outcome(cell, tmp_path, "reuse") is not None
        assert cells_module.stored_outcome(cell, tmp_path, "retry-failed") is None


def test_a_store_at_a_url(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    url = f"file://{tmp_path}/remote"
    here = RemoteStore(url)
    for folder in whole.iterdir():
        here.push(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    there = RemoteStore(url)
    there.pull(cell.hash for cell in planned(seeds=1).cells.values())
    assert len(records(there.path)) == 8
    there.pull()
    assert records(there.path) == records(whole)
    summary = run(planned(), there.path)
    assert all(outcome.reused for outcome in summary.outcomes.values())


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_sweep import GRID, QUICK
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, plan_sweep
from byzbench.sweeps.sweep import run_sweep
if __name__ == "__main__":
    algorithms = ["decbyzpg", "decbyzpg(optimizer=sgd)", "dec_page_pg", "solo"]
    todo = plan_sweep(SweepGrid.of({{**GRID, "seeds": 3, "algo": algorithms,
                         "attack": ["alie(z=1.5)", "sign_flip", "large_noise", "avg_zero"], "trajectories": 40}}))
    out = Path("runs")
    with make_executor(sys.argv[1], out, jobs=2) as workers:
        print(len(todo.cells), len(run_sweep(todo, out, workers).failed))
"""


def swept(folder: Path, name: str) -> subprocess.Popen[str]:
    script = folder / "sweep.py"
    script.write_text(KILLED.format(tests=str(ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(script), name]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
def test_ninety_six_cells_by_processes_by_ray_and_killed_ten_times(tmp_path: Path) -> None:
    for name in ("process", "ray", "killed"):
        (tmp_path / name).mkdir()
    for name in ("process", "ray"):
        done = swept(tmp_path / name, name)
        assert done.communicate(timeout=900)[0].split()[-2:] == ["96", "0"]
    expected = records(tmp_path / "process" / "runs")
    assert len(expected) == 96
    assert records(tmp_path / "ray" / "runs") == expected

    home, draw, kills = tmp_path / "killed", random.Random(0), 0
    while kills < 10:
        process = swept(home, "process")
        before = len(list(home.glob("runs/*/result.json")))
        while process.poll() is None and len(list(home.glob("runs/*/result.json"))) <= before:
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 0.5))
        alone = kills % 2  # every other time the workers are left behind, and have to notice
        (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the sweep ended before it could be killed ten times"
        assert process.stdout is not None
        process.stdout.close()
        kills += 1
    done = swept(home, "process")
    assert done.communicate(timeout=900)[0].split()[-2:] == ["96", "0"]
    assert records(home / "runs") == expected
    assert len(list(home.glob("runs/*/result.json"))) == 96
    assert not list(home.glob("runs/*/.*.tmp"))


def test_names_of_executors_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="serial, process or ray"), make_executor("slurm", tmp_path):
        pass
    with pytest.raises(InvalidParameter, match="at least 1"), make_executor("process", tmp_path, jobs=0):
        pass
    with pytest.raises(UnknownName):
        registry.find("attack", "broken")


@pytest.mark.slow
def test_a_process_makes_room_for_another_after_so_many_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "FRESH_AFTER", 2)
    processes = []
    with make_executor("process", tmp_path, jobs=1) as workers:
        for seed in range(5):
            workers.submit(Experiment.create(**QUICK, parameters=SMALL, seed=seed))
            ((pool, _),) = workers._busy.values()  # type: ignore[attr-defined]
            processes += [*pool._processes]
            assert workers.next()[1].status == "finished"
    assert [processes.index(one) for one in processes] == [0, 0, 2, 2, 4]
