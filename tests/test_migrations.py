"""Documents of older schemas are read, and no change of spelling changes a hash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import byzbench
from byzbench import Experiment, canonical, cli
from byzbench.canonical import (
    AxisAdded,
    AxisRenamed,
    Change,
    ComponentRenamed,
    ParameterAdded,
    ParameterMoved,
    ParameterRenamed,
    checked,
    hash_of,
)
from byzbench.errors import CorruptRecord, InvalidParameter, OtherLibraries
from byzbench.experiments.provenance import code_difference, provenance
from byzbench.records import migrations
from byzbench.records.migrations import migrate
from byzbench.records.store import gather, scan_runs
from byzbench.records.tuned import TunedParameters
from byzbench.sweeps.grid import SweepGrid

OLD = Path(__file__).resolve().parent / "old_runs"
CALM = {"name": "calm", "parameters": {}}
CHANGES: list[Change] = [
    ParameterRenamed(2, "attack", "alie", "z", "shift"),
    ComponentRenamed(3, "attack", "alie", "little"),
    ParameterRenamed(3, "attack", "little", "shift", "deviations"),
    ParameterAdded(4, "aggregator", "krum", "ties", "index"),
    AxisRenamed(4, "declared", "assumed_byzantine"),
    AxisAdded(5, "weather", CALM),
    ParameterMoved(6, "task", "reward_scale", 1.0, "rewards", "plain", "scaled", "factor"),
]


def described(**options: Any) -> dict[str, Any]:
    return Experiment.create(agents=9, byzantine=2, **options).describe()


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Sequence[Change]:
    monkeypatch.setattr(canonical, "CHANGES", checked(CHANGES, 6))
    return CHANGES


@pytest.mark.parametrize(
    "options",
    [
        {"attack": "alie(z=1.5)"},
        {"attack": "split_brain(alie(z=1.5))", "aggregator": "nnm+krum", "agreement": "gossip+krum"},
        {"env": "cartpole(reward_scale=2.0)", "topology": "torus"},
    ],
)
def test_no_rename_and_no_new_axis_changes_a_hash(options: dict[str, Any], changed: Sequence[Change]) -> None:
    old = described(**options)
    before = canonical.digest_of(old)
    today = canonical.to_current(old, 1)
    assert today != old
    assert hash_of(today) == before
    assert canonical.canonical(today) == old
    assert hash_of({**today, "weather": {"name": "storm", "parameters": {}}}) != before


def test_renames_reach_components_inside_others(changed: Sequence[Change]) -> None:
    today = canonical.to_current(described(attack="split_brain(alie(z=1.5))", agreement="gossip+krum"), 1)
    assert today["attack"]["parameters"]["inner"] == {
        "name": "little",
        "parameters": {"deviations": 1.5, "on": "gradient", "whose": "colluders", "sign": -1}
        | {k: v for k, v in today["attack"]["parameters"]["inner"]["parameters"].items() if k != "deviations"},
    }
    assert today["agreement"]["parameters"]["rule"]["parameters"]["ties"] == "index"
    assert "declared" not in today
    assert "attack alie" in set(canonical.component_names(today))
    assert canonical.first_name("attack", "little") == "alie"
    assert canonical.first_parameter("attack", "little", "deviations") == "z"


def test_a_moved_parameter_keeps_its_place_in_the_hash(changed: Sequence[Change]) -> None:
    calm, scaled = (canonical.to_current(described(env=f"cartpole(reward_scale={s})"), 1) for s in ("1.0", "3.0"))
    assert calm["rewards"] == {"name": "plain", "parameters": {}}
    assert scaled["rewards"] == {"name": "scaled", "parameters": {"factor": 3.0}}
    assert "reward_scale" not in scaled["task"]["parameters"]
    assert hash_of(calm) != hash_of(scaled)


@pytest.mark.parametrize(
    "changes, said",
    [
        ([ComponentRenamed(2, "attack", "a", "b"), ComponentRenamed(2, "attack", "b", "a")], "circle: b -> a -> b"),
        ([AxisRenamed(2, "a", "b"), AxisRenamed(3, "b", "c"), AxisRenamed(3, "c", "a")], "in a circle"),
        ([AxisRenamed(3, "a", "b"), AxisRenamed(2, "c", "d")], "schema numbers must rise"),
        ([AxisRenamed(999, "a", "b")], "schema numbers must rise from 2 to 3"),
        ([AxisRenamed(0, "a", "b")], "schema numbers must rise"),
    ],
)
def test_a_table_that_cannot_be_applied_is_one_line(changes: list[Change], said: str) -> None:
    with pytest.raises(InvalidParameter, match=said) as error:
        checked(changes, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("document", ["run", "sweep", "suite", "tuned", "submission", "study"])
def test_newer_documents_say_so(document: Any) -> None:
    with pytest.raises(CorruptRecord, match="x was made by a newer byzbench: it has schema 999, and this one reads up"):
        migrate(document, {"schema": 999}, "x")
    for schema in (0, -1, "2", True, None, 1.5):
        with pytest.raises(CorruptRecord, match="schema must be a positive integer"):
            migrate(document, {"schema": schema}, "x")


@pytest.mark.parametrize("reached", [1, 3, None])
def test_a_step_that_does_not_lead_to_the_next_is_one_line(reached: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrations.STEPS, ("tuned", 1), lambda data: {"schema": reached})
    with pytest.raises(CorruptRecord, match=rf"migration of a tuned from schema 1 leads to {reached}, not 2"):
        migrate("tuned", {"schema": 1}, "x")


def test_old_runs_are_listed_reported_and_plotted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["byzbench", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        return capsys.readouterr().out

    entries, problems = gather([OLD / "6a6c210", OLD / "6e8340e"])
    assert not problems
    assert [entry.path.name for entry in entries if entry.path.parent.name == "6a6c210"] == [
        entry.hash for entry in entries if entry.path.parent.name == "6a6c210"
    ]
    (older,) = (entry for entry in entries if entry.path.parent.name == "6e8340e")
    assert (older.name("channel"), older.name("relay"), older.name("mixing")) == ("perfect", False, "metropolis")
    assert older.path.name == older.recorded != older.hash
    for store in ("6a6c210", "6e8340e"):
        assert "decbyzpg · alie" in command("runs", "--out", str(OLD / store))
        assert "decbyzpg" in command("report", str(OLD / store))
        picture = tmp_path / f"{store}.png"
        command("plot", str(OLD / store), "--out", str(picture))
        assert picture.stat().st_size > 1000


def test_a_run_of_the_first_engine_is_reused(tmp_path: Path) -> None:
    shutil.copytree(OLD / "6a6c210", tmp_path / "store")
    for entry in scan_runs(tmp_path / "store")[0]:
        experiment = Experiment.from_description(entry.experiment)
        seen: list[Any] = []
        with pytest.warns(OtherLibraries) if _libraries_moved(entry.path) else nullcontext():
            result = byzbench.run(experiment, out=tmp_path / "store", callback=seen.append)
        assert not seen
        assert (result.trace, result.final["mean"]) == ("", entry.value)
        again = byzbench.run(experiment, out=tmp_path / "again")
        assert again.trace
        lines = [json.loads(line) for line in (entry.path / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == len((Path(str(again.run)) / "metrics.jsonl").read_text().splitlines())


def test_a_run_that_began_before_traces_begins_again(tmp_path: Path) -> None:
    (entry, *_), _ = scan_runs(OLD / "6a6c210")
    folder = shutil.copytree(entry.path, tmp_path / entry.path.name)
    (folder / "result.json").unlink()
    seen: list[Any] = []
    with pytest.warns(OtherLibraries) if _libraries_moved(folder) else nullcontext():
        result = byzbench.run(Experiment.from_description(entry.experiment), out=tmp_path, callback=seen.append)
    assert seen[0]["round"] == 0
    assert len(result.trace) == 64


def test_older_tuned_parameters_follow_a_rename(tmp_path: Path, changed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "SCHEMA", 6)
    on = {"env": "cartpole", "attacks": [], "algorithms": ["decbyzpg"], "seeds": [1], "trajectories": 1}
    data = {
        "schema": 1,
        "kind": "attack",
        "components": {"attack": "alie"},
        "parameters": {"attack": {"z": 2.0}},
        "study": "0" * 16,
        "trials": "0" * 64,
        "objective": {"value": 1.0},
        "on": {**on, "agents": 5, "byzantine": 1, "topology": "ring"},
    }
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps(data))
    found = TunedParameters.read(path)
    assert (found.components, found.parameters) == ({"attack": "little"}, {"attack": {"deviations": 2.0}})


def test_suites_may_say_their_schema(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text('schema = 2\nalgo = "solo"\n')
    assert SweepGrid.read(path).algo == ["solo"]
    path.write_text("schema = 999\n")
    with pytest.raises(CorruptRecord, match="made by a newer byzbench"):
        SweepGrid.read(path)


def _libraries_moved(folder: Path) -> bool:
    record = json.loads((folder / "experiment.json").read_text())
    described = migrate("run", record, folder)["experiment"]
    return bool(code_difference(record["code"], provenance(Experiment.from_description(described))))
