"""Documents of older schemas are read, and no change of spelling changes a hash."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from sealing import seal_checkpoint

import byzbench
from byzbench import Experiment, canonical, cli, identity, registry
from byzbench.canonical import (
    SCHEMA,
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
from byzbench.core import FloatRange
from byzbench.errors import ArchivedRun, CorruptRecord, InvalidParameter, OtherLibraries, RenamedParameter
from byzbench.experiments.provenance import code_difference, provenance
from byzbench.experiments.result import Result
from byzbench.leaderboard.checks import check_submission, submission_plan_of
from byzbench.leaderboard.entries import read_entry
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.schema import Method, Tuning
from byzbench.leaderboard.suite_study import search_problems, study_hash, tuning_seeds
from byzbench.leaderboard.suites import suite
from byzbench.records import migrations
from byzbench.records.migrations import migrate
from byzbench.records.run_folder import LOGS, RunFolder
from byzbench.records.store import StoredRun, gather, scan_runs
from byzbench.records.tuned import TunedParameters
from byzbench.sweeps.cells import run_cell
from byzbench.sweeps.grid import SweepGrid, plan_sweep
from byzbench.tuning.problem import tuning_problem

OLD = Path(__file__).resolve().parent / "old_runs"
ROW = Path(__file__).resolve().parents[1] / "leaderboards/submissions/smoke-v2/defence/fedppo"
CALM = {"name": "calm", "parameters": {}}
CHANGES: list[Change] = [
    ParameterRenamed(2, "attack", "alie", "z", "shift"),
    ComponentRenamed(3, "attack", "alie", "little"),
    ParameterRenamed(3, "attack", "little", "shift", "deviations"),
    ParameterAdded(4, "aggregator", "krum", "ties", "index"),
    AxisRenamed(4, "mixing", "averaging"),
    AxisAdded(5, "weather", CALM),
    ParameterMoved(6, "policy", "log_std", -0.5, "noise", "plain", "scaled", "factor"),
]


def described(**options: Any) -> dict[str, Any]:
    return Experiment.create(agents=9, byzantine=2, **options).describe()


def change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the table of changes. Experiments are created before, as no component has the names of this table."""
    monkeypatch.setattr(canonical, "CHANGES", checked(CHANGES, 6))


@pytest.mark.parametrize(
    "options",
    [
        {"attack": "alie(z=1.5)"},
        {"attack": "split_brain(alie(z=1.5))", "aggregator": "nnm+krum", "agreement": "gossip+krum"},
        {"policy": "mlp(log_std=-1.0)", "topology": "torus"},
    ],
)
def test_no_rename_and_no_new_axis_changes_a_hash(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    old = described(**options)
    change(monkeypatch)
    before = canonical.digest_of(old)
    today = canonical.to_current(old, 1)
    assert today != old
    assert hash_of(today) == before
    assert canonical.canonical(today) == old
    assert hash_of({**today, "weather": {"name": "storm", "parameters": {}}}) != before


def test_renames_reach_components_inside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    old = described(attack="split_brain(alie(z=1.5))", agreement="gossip+krum")
    change(monkeypatch)
    today = canonical.to_current(old, 1)
    assert today["attack"]["parameters"]["inner"] == {
        "name": "little",
        "parameters": {"deviations": 1.5, "on": "gradient", "whose": "colluders", "sign": -1}
        | {k: v for k, v in today["attack"]["parameters"]["inner"]["parameters"].items() if k != "deviations"},
    }
    assert today["agreement"]["parameters"]["rule"]["parameters"]["ties"] == "index"
    assert "mixing" not in today
    assert "attack alie" in set(canonical.component_names(today))
    assert canonical.first_name("attack", "little") == "alie"
    assert canonical.first_parameter("attack", "little", "deviations") == "z"


def test_a_moved_parameter_keeps_its_place_in_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    old = [described(policy=f"mlp(log_std={s})") for s in ("-0.5", "-1.0")]
    change(monkeypatch)
    calm, scaled = (canonical.to_current(description, 1) for description in old)
    assert calm["noise"] == {"name": "plain", "parameters": {}}
    assert scaled["noise"] == {"name": "scaled", "parameters": {"factor": -1.0}}
    assert "log_std" not in scaled["policy"]["parameters"]
    assert hash_of(calm) != hash_of(scaled)


@pytest.mark.parametrize(
    "changes, message",
    [
        ([ComponentRenamed(2, "attack", "a", "b"), ComponentRenamed(2, "attack", "b", "a")], "circle: b -> a -> b"),
        ([AxisRenamed(2, "a", "b"), AxisRenamed(3, "b", "c"), AxisRenamed(3, "c", "a")], "in a circle"),
        ([AxisRenamed(3, "a", "b"), AxisRenamed(2, "c", "d")], "schema numbers must rise"),
        ([AxisRenamed(999, "a", "b")], "schema numbers must rise from 2 to 3"),
        ([AxisRenamed(0, "a", "b")], "schema numbers must rise"),
    ],
)
def test_a_table_that_cannot_be_applied_is_one_line(changes: list[Change], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as error:
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


def with_unmoved_components(store: Path) -> list[StoredRun]:
    """Return the runs of a store whose components have the versions that they had then; `mda` has not."""
    return [entry for entry in scan_runs(store)[0] if entry.name("agreement") != "mda"]


@pytest.mark.parametrize("store", ["6a6c210", "6a6c210-scenarios"])
def test_a_run_of_the_first_engine_is_reused(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of the second store have every scenario in their task, and were made by an editable installation."""
    monkeypatch.setattr(identity, "ENGINE", 1)
    shutil.copytree(OLD / store, tmp_path / "store")
    entries = with_unmoved_components(tmp_path / "store")
    assert entries
    for entry in entries:
        experiment = Experiment.from_description(entry.experiment)
        calls: list[Any] = []
        with pytest.warns(OtherLibraries) if _libraries_moved(entry.path) else nullcontext():
            result = byzbench.run(experiment, out=tmp_path / "store", callback=calls.append)
        assert not calls
        assert (result.trace, result.final["mean"]) == ("", entry.value)
        again = byzbench.run(experiment, out=tmp_path / "again")
        assert again.trace
        lines = [json.loads(line) for line in (entry.path / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == len((Path(str(again.run)) / "metrics.jsonl").read_text().splitlines())


def test_a_run_with_an_older_version_of_a_component_is_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "ENGINE", 1)
    (entry,) = (entry for entry in scan_runs(OLD / "6a6c210")[0] if entry.name("agreement") == "mda")
    shutil.copytree(entry.path, tmp_path / entry.path.name)
    with pytest.warns(ArchivedRun, match="agreement mda: version 1 then, 2 now"):
        byzbench.run(Experiment.from_description(entry.experiment), out=tmp_path)


@pytest.mark.filterwarnings("ignore::byzbench.errors.OtherLibraries")
def test_a_run_that_began_before_traces_is_not_thrown_away_unsaid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "ENGINE", 1)
    entry, *_ = with_unmoved_components(OLD / "6a6c210")
    folder = shutil.copytree(entry.path, tmp_path / entry.path.name)
    (folder / "result.json").unlink()
    experiment = Experiment.from_description(entry.experiment)
    with pytest.raises(
        CorruptRecord, match=r"checkpoint\.safetensors is not a checkpoint of byzbench; move the folder"
    ):
        byzbench.run(experiment, out=tmp_path)
    outcome = run_cell(experiment.describe(), str(tmp_path), "reuse", wait=False)
    assert outcome.archived.startswith(f"{folder} is now {folder}-archived: ")
    assert len(outcome.result["trace"]) == 64


def test_older_tuned_parameters_follow_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
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
    loaded = TunedParameters.read(path)
    assert (loaded.components, loaded.parameters) == ({"attack": "little"}, {"attack": {"deviations": 2.0}})


def test_results_and_metrics_of_older_runs_have_the_names_of_today() -> None:
    """One step renames the metrics of schema 3 in all records, and leaves those of today as they are."""
    for entry in gather([OLD / "6a6c210", OLD / "6e8340e"])[0]:
        assert entry.experiment["assumed_byzantine"] == entry.experiment["byzantine"]
        assert "declared" not in entry.experiment
        result = Result.from_json(dict(entry.result))
        written = json.loads((entry.path / "result.json").read_text())
        assert result.num_malformed == written["screened"]
        assert result.aggregation["byzantine_pull"] == written["aggregation"]["pull"]
        assert result.aggregation["robustness_constant"] == written["aggregation"]["constant"]
        assert {topic: sent["max_bytes_per_agent"] for topic, sent in result.traffic.items()} == {
            topic: sent["most"] for topic, sent in written.get("traffic", {}).items()
        }
        lines = [json.loads(line) for line in (entry.path / "metrics.jsonl").read_text().splitlines()]
        migrated = RunFolder(entry.path).metrics()
        for name, earlier in {
            "num_malformed": "screened",
            "num_silent": "silent",
            "num_undefined": "kept",
            "aggregate_byzantine_pull": "aggregate_pull",
        }.items():
            assert [line[name] for line in migrated] == [line[earlier] for line in lines]
            assert not any(earlier in line for line in migrated)
        assert [len(line) for line in migrated] == [len(line) for line in lines]


def test_a_metric_that_has_an_earlier_name_today_keeps_it(tmp_path: Path) -> None:
    """A plug-in may log a metric under a name that byzbench has no more."""
    folder = RunFolder(tmp_path)
    line = dict.fromkeys(LOGS["metrics.jsonl"], 0) | {"large": 1.0, "num_silent": 2}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "experiment.json").write_text(json.dumps({"schema": SCHEMA}))
    assert folder.metrics() == [line]
    (tmp_path / "experiment.json").write_text(json.dumps({"schema": 3}))
    assert folder.metrics() == [{"large_batch" if k == "large" else k: v for k, v in line.items()}]


FED_PPO = {
    "minibatch": "minibatch_size",
    "trace": "gae_lambda",
    "unit": "return_scale",
    "critic_weight": "vf_coef",
    "entropy_weight": "ent_coef",
    "longest": "max_grad_norm",
}


def test_parameters_of_fed_ppo_are_hashed_as_they_were() -> None:
    today = Experiment.create("fed_ppo(gae_lambda=0.9, minibatch_size=64)", env="hopper", agents=5)
    described = today.describe()
    canonical_form = canonical.canonical(described)
    assert set(FED_PPO) < set(canonical_form["algorithm"]["parameters"])
    assert canonical_form["declared"] == 1
    assert canonical.to_current(canonical_form, 1) == json.loads(json.dumps(described))
    for earlier, name in FED_PPO.items():
        assert canonical.current_parameter("algorithm", "fed_ppo", earlier) == name
        assert canonical.current_parameter("algorithm", "fed_ppo", name) == name
        assert canonical.first_parameter("algorithm", "fed_ppo", name) == earlier
        assert canonical.current_parameter("algorithm", "gpomdp", earlier) == earlier


@pytest.mark.parametrize(
    ("algo", "parameters"),
    [
        ("fed_ppo(trace=0.9, minibatch=64)", {}),
        ("fed_ppo", {"trace": 0.9, "minibatch": 64}),
        ("fed_ppo(trace=0.5)", {"gae_lambda": 0.9, "minibatch": 64}),
    ],
)
def test_earlier_names_of_parameters_work_with_a_warning(algo: str, parameters: dict[str, Any], tmp_path: Path) -> None:
    options: dict[str, Any] = {"env": "hopper", "agents": 5}
    new = Experiment.create("fed_ppo", parameters={"algo": {"gae_lambda": 0.9, "minibatch_size": 64}}, **options)
    with pytest.warns(RenamedParameter) as warned:
        assert Experiment.create(algo, parameters={"algo": parameters}, **options) == new
    assert "algorithm 'fed_ppo': trace is now called gae_lambda" in {str(warning.message) for warning in warned}
    path = tmp_path / "suite.toml"
    values = "".join(f"{name} = {value}\n" for name, value in parameters.items())
    path.write_text(f'algo = "{algo}"\nenv = "hopper"\nagents = 5\n[parameters.algorithm]\n{values}')
    with pytest.warns(RenamedParameter):
        assert [cell.hash for cell in plan_sweep(SweepGrid.read(path)).cells.values()] == [new.hash]


def test_a_parameter_is_not_written_under_two_names() -> None:
    for create in (
        lambda: Experiment.create("fed_ppo(trace=0.9, gae_lambda=0.9)"),
        lambda: Experiment.create("fed_ppo", parameters={"algo": {"gae_lambda": 0.9, "trace": 0.9}}),
    ):
        with pytest.raises(InvalidParameter, match="trace is an earlier name of gae_lambda, which is given too"):
            create()


def test_a_study_of_earlier_names_is_the_same_study() -> None:
    """Its search space and its fixed parameters have the names under which they were first hashed."""
    where = FloatRange(0.9, 1.0)
    point = {"algo": "fed_ppo", "agents": 5, "trajectories": 8}
    new = tuning_problem(
        "algorithm", point, ["none"], search={"algorithm.gae_lambda": where}, fixed={"algo": {"max_grad_norm": 1.0}}
    )
    assert new.hash == "328344309a48d8e9"  # as it was when the parameters had their earlier names
    earlier: dict[str, Any] = {"search": {"algorithm.trace": where}, "fixed": {"algo": {"longest": 1.0}}}
    with pytest.warns(RenamedParameter):
        old = tuning_problem("algorithm", point, ["none"], **earlier)
    with pytest.warns(RenamedParameter, match="longest is now called max_grad_norm"):
        assert old.hash == new.hash
    assert old.space == {"algorithm.gae_lambda": where}
    assert old.keys == {"algorithm.gae_lambda": "algorithm.trace"}


def test_a_row_with_earlier_names_is_read_and_has_its_hashes() -> None:
    """The frozen suite of the row has `declared`, its method the earlier names of FedPPO, its cells `screened`."""
    entry = read_entry(ROW)
    plan = submission_plan_of(entry, suite("smoke-v2"))
    assert {place.key: cell.hash for place, cell in plan.cells.items()} == {c.place: c.cell for c in entry.cells}
    assert set(FED_PPO.values()) < set(plan.resolved["cartpole-star"]["algorithm"]["parameters"])
    written = [json.loads(line) for line in (ROW / "cells.jsonl").read_text().splitlines()]
    assert [cell.num_malformed for cell in entry.cells] == [line["screened"] for line in written]


def test_a_tuned_row_with_earlier_names_passes_the_checks(tmp_path: Path) -> None:
    """The text of its method, the method of its study and the search space have the names of schema 3."""
    board, method = suite("smoke-v2"), Method(algo="fed_ppo")
    ranges = {"algorithm.minibatch": (32, 512, True), "algorithm.trace": (0.9, 1.0, False)}
    ranges |= {"algorithm.entropy_weight": (0.0, 0.02, False)}
    search = {"method": {"algo": "fed_ppo"}, "ranges": ranges, "episodes": 1, "steps": 1}
    tuning = {
        "study": study_hash(board.sha256, method, ranges, 0),
        "trials_sha256": "0" * 64,
        "trials": 1,
        "seeds": tuning_seeds(board),
        "attacks": board.held_out(board.strata[0]),
        "search": search | {"best": ["1.0"], "again": "1.0", "default": "1.0"},
    }
    folder = shutil.copytree(ROW, tmp_path / "smoke-v2" / "defence" / "fedppo")
    path = folder / "submission.json"
    tuned = {"algo": "fed_ppo(minibatch=128, trace=0.95, entropy_weight=0.0)"}
    document = json.loads(path.read_text()) | {"method": tuned, "tuning": tuning}
    path.write_text(json.dumps(document))
    report = check_submission(folder, tmp_path)
    assert not report.refused, report.findings
    assert not [finding for finding in report.findings if finding.check == "defaults"]
    assert report.submission_plan is not None
    assert {cell.hash for cell in report.submission_plan.cells.values()} == {c.cell for c in read_entry(ROW).cells}
    for text, found in (
        ("fed_ppo(minibatch=128, trace=0.95, longest=0.5)", "algorithm longest is 0.5, and was not searched"),
        ("fed_ppo(minibatch=128, trace=0.9)", "algorithm is not the one of `method`"),
    ):
        path.write_text(json.dumps(document | {"method": {"algo": text}}))
        assert found in " ".join(finding.what for finding in check_submission(folder, tmp_path).findings)


def test_the_search_of_a_row_of_today_has_first_names() -> None:
    board, tuned = suite("smoke-v2"), Method(algo="fed_ppo(gae_lambda=0.95)")
    resolved = plan_submission(board, "defence", tuned).resolved
    ranges = {"algorithm.trace": [0.9, 1.0, False]}
    search = {"method": {"algo": "fed_ppo"}, "ranges": ranges, "episodes": 1, "steps": 1, "best": ["1.0"]}
    tuning = Tuning.model_validate(
        {
            "study": study_hash(board.sha256, Method(algo="fed_ppo"), ranges, 0),
            "trials_sha256": "0" * 64,
            "trials": 1,
            "seeds": tuning_seeds(board),
            "attacks": board.held_out(board.strata[0]),
            "search": search | {"again": "1.0", "default": "1.0"},
        }
    )
    assert not list(search_problems(board, tuning, tuned, resolved))


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


EARLIER_TASKS = {
    "cartpole": "d60999710cb732cb",
    "cartpole:heterogeneity=0.3": "0490d81bfbcedeb2",
    "cartpole:normalize=16": "72e7ef0208687f43",
    "cartpole:shift='length=2',shift_at=0.3,absent='3:0-0.5 4:0.20-1'": "702cf7c54b3696dc",
    "cartpole:normalize=2,absent='4:0.5-1.0',reward_scale=0.1,reward_noise=0.5": "18370b2524566324",
    "cartpole:heterogeneity=1,shift_at=0.3,reward_scale=10": "2ac6882ede6ef2f8",
    "cartpole:reward_tail=student": "879843bbc66dbaab",
    "cartpole:normalize=16,heterogeneity=1,shift='length=2.0 gravity=0.50',reward_scale=0.1,reward_noise=0.5,"
    "reward_tail=student": "60b4048cf4167c9e",
}
"""Tasks up to schema 4 with scenarios, and the hashes that experiments had when tasks had these parameters."""


@pytest.mark.filterwarnings("ignore::byzbench.errors.RenamedParameter")
@pytest.mark.parametrize("env", EARLIER_TASKS)
def test_scenarios_are_hashed_as_parameters_of_tasks(env: str) -> None:
    options: dict[str, Any] = {"agents": 5, "byzantine": 1, "topology": "star", "seed": 7}
    options |= {"evaluations": 20, "evaluation_episodes": 10}
    today = Experiment.create("gpomdp", env=env, **options)
    assert today.hash == EARLIER_TASKS[env]
    described = json.loads(json.dumps(today.describe()))
    earlier = canonical.canonical(described)
    assert "scenario" not in earlier
    assert canonical.to_current(earlier, 1) == described
    assert Experiment.create("gpomdp", scenario=registry.written_form(today.scenario), **options) == today


@pytest.mark.parametrize(
    "scenario",
    [
        "heterogeneous(of=rewards)",
        "nonstationary(physics='length=2', drift=0.1)",
        "nonstationary(rewards=2.0)",
        "churn(join=0.2, absent='3:0-0.5')",
        "reward_noise+reward_scale",
        "reward_noise+reward_noise(scale=0.5)",
        "none+reward_noise",
    ],
)
def test_a_scenario_that_no_task_had_has_a_place_of_its_own(scenario: str) -> None:
    described = Experiment.create("gpomdp", scenario=scenario, agents=5, byzantine=1).describe()
    canonical_form = canonical.canonical(described)
    assert canonical_form["scenario"] == described["scenario"]
    assert "heterogeneity" not in canonical_form["task"]["parameters"]


def test_the_earlier_place_of_a_scenario_works_with_a_warning(tmp_path: Path) -> None:
    scenario = "heterogeneous(spread=0.3)+reward_noise(scale=0.5, law=student)"
    new = Experiment.create("gpomdp", scenario=scenario, agents=5)
    where = "task 'cartpole': heterogeneity is now written --scenario \"heterogeneous(spread=0.3)+reward_noise(scale"
    for options in (
        {"env": "cartpole(heterogeneity=0.3, reward_noise=0.5, reward_tail=student)"},
        {"env": "cartpole:reward_tail=student", "parameters": {"env": {"heterogeneity": 0.3, "reward_noise": 0.5}}},
    ):
        with pytest.warns(RenamedParameter, match="now written --scenario") as warned:
            assert Experiment.create("gpomdp", agents=5, **options) == new
        assert str(warned[0].message).startswith(where)
    path = tmp_path / "sweep.toml"
    path.write_text(
        'algo = "gpomdp"\nenv = "cartpole(heterogeneity=0.3, reward_noise=0.5, reward_tail=student)"\nagents = 5\n'
    )
    with pytest.warns(RenamedParameter):
        assert [cell.hash for cell in plan_sweep(SweepGrid.read(path)).cells.values()] == [new.hash]
    with pytest.raises(InvalidParameter, match="normalize is a parameter of the scenario, which is given too"):
        Experiment.create("gpomdp", env="cartpole:normalize=2", scenario="reward_noise")
    with pytest.raises(InvalidParameter, match=r"spread=2\.0: must be less than or equal to 1"):
        Experiment.create("gpomdp", env="cartpole:heterogeneity=2.0")


@pytest.mark.slow
def test_a_store_of_schema_1_with_scenarios_is_read_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = (
        "heterogeneous(spread=0.3)+nonstationary(at=0.3, physics='length=2.0')+churn(absent='3:0.20-0.5 4:0.5-1')"
        "+reward_scale(factor=2.0)+reward_noise(scale=0.5, law=student)+normalized(episodes=2)"
    )
    options: dict[str, Any] = {"agents": 5, "byzantine": 1, "topology": "ring", "trajectories": 24}
    experiment = Experiment.create("learn(N=2)", "sign_flip:on=parameters", scenario=scenario, **options)
    whole = byzbench.run(experiment, out=tmp_path / "whole")
    monkeypatch.setattr("byzbench.experiments.runner.SAVE_EVERY", -1.0)

    def stop(line: Any) -> None:
        if line["round"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        byzbench.run(experiment, out=tmp_path / "cut", callback=stop)
    path = tmp_path / "cut" / experiment.hash / "experiment.json"
    record = json.loads(path.read_text())
    earlier = canonical.canonical(record["experiment"])
    values = earlier["task"]["parameters"]
    assert (values["shift"], values["absent"], values["normalize"]) == ("length=2.0", "3:0.20-0.5 4:0.5-1", 2)
    components = record["identity"]["components"]
    record["identity"]["components"] = {k: v for k, v in components.items() if not k.startswith("scenario ")}
    path.write_text(json.dumps({**record, "schema": 1, "experiment": earlier}))
    seal_checkpoint(path.parent)
    (entry,), problems = scan_runs(tmp_path / "cut")
    assert not problems
    assert (entry.hash, entry.experiment) == (experiment.hash, json.loads(json.dumps(experiment.describe())))
    rounds: list[int] = []
    resumed = byzbench.run(experiment, out=tmp_path / "cut", callback=lambda line: rounds.append(line["round"]))
    assert rounds[0] == 3
    assert resumed.trace == whole.trace
