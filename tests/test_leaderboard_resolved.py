"""What rows hold so that no change of a default, no rename and no newer schema moves them."""

from __future__ import annotations

import copy as copies
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_suite
from sealing import seal
from synthetic_entries import submission, write_entry
from tiny_suite import ABOUT, METHOD, as_schema_1, checked, lines_of, main, replayed, rewrite

from byzbench import canonical, registry
from byzbench.canonical import SCHEMA, ParameterRenamed
from byzbench.core import Recommendation
from byzbench.errors import CorruptRecord, InvalidParameter, UserError
from byzbench.leaderboard import suites
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.frozen import freeze_suite, frozen
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.resolved import explicit_parameters, text_of, vet_description
from byzbench.leaderboard.schema import Method, read_submission
from byzbench.leaderboard.submitting import RunManifest, collect_cells, ran_in, write_submission
from byzbench.leaderboard.suites import Suite, suite

tiny, home, copy = tiny_suite.tiny, tiny_suite.home, tiny_suite.copy
STRATUM = "cartpole-complete"


def resolved(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "submission.json").read_text())["resolved"])


def change_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change what decbyzpg has on cartpole where nobody says: the task's suggestion, and its own recommendation."""
    monkeypatch.setattr(registry.find("task", "cartpole"), "suggested", {"N": 3, "B": 1, "p": 0.7, "lr": 0.1})
    recommended = {"cartpole": Recommendation({"N": 3, "p": 0.9}, "a test")}
    monkeypatch.setattr(registry.find("algorithm", "decbyzpg"), "recommended", recommended)


def test_a_changed_default_moves_no_row(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither parameters of the task or the algorithm, nor a rule of the algorithm, nor a parameter of the attack."""
    change_parameters(monkeypatch)
    rules = {"topology": "complete", "aggregator": "krum", "agreement": "mda"}
    monkeypatch.setattr(registry.find("algorithm", "decbyzpg"), "defaults", rules)
    monkeypatch.setattr(registry.find("attack", "ipm").__init__, "__defaults__", ("gradient", 7.0))
    assert registry.make("attack", "ipm").scale == 7.0
    findings = checked(copy).findings
    assert [str(finding).partition("$.resolved: ")[2] for finding in findings] == [
        "algorithm lr is 0.05, not 0.1 as by today's defaults",
        "algorithm p is 0.5, not 0.9 as by today's defaults",
        "aggregator is rfa, not krum as by today's defaults",
    ]
    assert not any(finding.fatal for finding in findings)
    assert replayed(copy, tmp_path / "scratch", own_seeds_only=True).verdict == "exact"


Change = Callable[[dict[str, Any]], Any]
CONTRADICTIONS: dict[str, tuple[Change, str]] = {
    "another value than was written": (
        lambda axes: axes["algorithm"]["parameters"].update(N=5),
        "algorithm is not the one of `method`",
    ),
    "another algorithm": (
        lambda axes: (axes["algorithm"].update(name="dec_page_pg"), axes["algorithm"]["parameters"].pop("output")),
        "not the one of `method`",
    ),
    "a missing parameter": (lambda axes: axes["aggregator"]["parameters"].pop("nu"), "the value of every parameter"),
    "a value out of bounds": (lambda axes: axes["algorithm"]["parameters"].update(lr=-1.0), "lr=-1.0"),
    "a parameter that there is not": (lambda axes: axes["aggregator"]["parameters"].update(mu=1), "no parameter 'mu'"),
    "a rule that there is not": (lambda axes: axes["aggregator"].update(name="os"), "unknown aggregator 'os'"),
    "no rule": (lambda axes: axes.pop("agreement"), "agreement is missing"),
    "the suite's task": (
        lambda axes: axes.update(task={"name": "acrobot", "parameters": {}}),
        "task is set by the suite",
    ),
    "the suite's attack": (
        lambda axes: axes.update(attack={"name": "none", "parameters": {}}),
        "attack is set by the suite",
    ),
    "an axis that there is not": (lambda axes: axes.update(weather=axes["agreement"]), "'weather' is not a kind"),
}


@pytest.mark.parametrize("how", CONTRADICTIONS)
def test_a_resolved_method_that_is_not_the_one_written_is_refused(how: str, copy: Path) -> None:
    change, expected = CONTRADICTIONS[how]
    described = resolved(copy)
    change(described[STRATUM])
    rewrite(copy, lines_of(copy), resolved=described)
    (finding,) = checked(copy).findings
    assert (finding.check, finding.fatal) == ("method", True)
    assert expected in finding.what


def test_a_resolved_method_is_for_the_strata_of_the_entry(tiny: Suite, copy: Path) -> None:
    described = resolved(copy)
    for other in ({}, {"elsewhere": described[STRATUM]}, {**described, "elsewhere": described[STRATUM]}):
        rewrite(copy, lines_of(copy), resolved=other)
        assert [(f.check, f.fatal) for f in checked(copy).findings] == [("method", True)]
    graphs = plan_submission(suite("graphs-v1"), "defence", METHOD).resolved
    assert graphs["cartpole-complete"] == graphs["cartpole-ring"]
    graphs["cartpole-ring"] = copies.deepcopy(graphs["cartpole-ring"])
    graphs["cartpole-ring"]["algorithm"]["parameters"]["lr"] = 0.03
    with pytest.raises(
        InvalidParameter, match="cartpole-ring differs from cartpole-complete, and both are of cartpole"
    ):
        plan_submission(suite("graphs-v1"), "defence", METHOD, graphs)


@pytest.mark.parametrize(
    "kind, described",
    [
        ("attack", {"name": "learned", "parameters": {"on": "gradient", "policy": "weights"}}),
        (
            "attack",
            {"name": "split_brain", "parameters": {"inner": {"name": "learned", "parameters": {"policy": "w"}}}},
        ),
        ("topology", {"name": "from_file", "parameters": {"path": "graph"}}),
    ],
)
def test_a_description_names_no_file(kind: str, described: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="reads a file; in a submission its parameters are the defaults"):
        vet_description(kind, described)


def test_what_is_written_is_read_through_migrations(tiny: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the batch of decbyzpg had been called `batch` once, and the rule inside nnm `rule`."""
    submission_plan = plan_submission(tiny, "defence", METHOD)
    old = copies.deepcopy(submission_plan.resolved)
    parameters = old[STRATUM]["algorithm"]["parameters"]
    old[STRATUM]["algorithm"]["parameters"] = {"batch" if k == "N" else k: v for k, v in parameters.items()}
    changes = (
        ParameterRenamed(SCHEMA + 1, "algorithm", "decbyzpg", "batch", "N"),
        ParameterRenamed(SCHEMA + 1, "aggregator", "nnm", "rule", "inner"),
    )
    monkeypatch.setattr(canonical, "CHANGES", changes)
    assert (
        plan_submission(tiny, "defence", Method(algo="decbyzpg(batch=4, B=2)"), old, SCHEMA).resolved
        == submission_plan.resolved
    )
    inner = {"name": "krum", "parameters": {"neighbours": "n-f"}}
    for text in ("nnm(krum(neighbours=n-f))", "nnm(rule=krum(neighbours=n-f))"):
        partial = explicit_parameters(Method(algo="decbyzpg", aggregator=text), SCHEMA)["aggregator"]
        assert partial == {"name": "nnm", "parameters": {"inner": inner}}


def test_a_description_is_written_as_users_write_it() -> None:
    for kind, text in (("attack", "split_brain(alie(z=1.5, on=both))"), ("aggregator", "nnm(bucketing(krum, s=2))")):
        component = registry.make(kind, text)
        assert registry.make(kind, text_of(registry.describe(component))) == component


def test_a_suite_is_frozen_once(tiny: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert main(monkeypatch, "leaderboard", "freeze", "tiny-v1", "--pilot", "pilot.toml") == 2
    assert "exists, and a frozen suite is never written again" in capsys.readouterr().err
    path = Path(str(suites.folder())) / "tiny-v1.json"
    content = json.loads(path.read_text())
    for change, error, expected in (
        (None, InvalidParameter, "is not frozen; `byzbench leaderboard freeze tiny-v1 --pilot FILE`"),
        ({"suite_sha256": "0" * 64}, CorruptRecord, "does not belong to the suite file beside it"),
        ({"attacks": {}}, CorruptRecord, "does not belong to the suite file beside it"),
        ({"schema": 999}, CorruptRecord, "made by a newer byzbench: it has schema 999"),
        ({"engine": -1}, CorruptRecord, "engine"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(suites, "files", lambda package: tmp_path)
            (tmp_path / "suites").mkdir(exist_ok=True)
            if change is not None:
                (tmp_path / "suites" / "tiny-v1.json").write_text(json.dumps(content | change))
            frozen.cache_clear()
            with pytest.raises(error, match=expected):
                frozen(tiny)
    frozen.cache_clear()


def test_frozen_suites_are_what_their_texts_say() -> None:
    for name in suites.suites():
        board, texts = suite(name), frozen(suite(name))
        for attack in board.attacks:
            method = Method(attack=attack.spec)
            assert plan_submission(board, "attack", method).resolved, "it can be run"
            assert explicit_parameters(method, SCHEMA)["attack"]["name"] == texts.attacks[attack.spec]["attack"]["name"]
        for stratum in board.strata:
            described = texts.strata[stratum.name]
            assert (described["agents"], described["byzantine"]) == (stratum.agents, stratum.byzantine)
            assert (described["task"]["name"], described["topology"]["name"]) == (stratum.env, stratum.topology)


def test_a_submission_of_schema_1_is_read_and_not_replayed(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    as_schema_1(copy)
    report = checked(copy)
    assert [(f.check, f.fatal) for f in report.findings] == [("older", False)]
    assert "before seeds followed from the suite" in report.findings[0].what
    assert report.entry is not None
    code = report.entry.submission.code
    assert (code.engine, code.source, code.commit) == (None, "b" * 64, "c" * 40)
    assert report.submission_plan is None
    assert main(monkeypatch, "leaderboard", "verify", str(copy)) == 3
    assert capsys.readouterr().out.count("\n") == 2


def test_a_submission_with_an_engine_of_none_is_no_way_around_replays(tiny: Suite) -> None:
    data = submission(tiny, "e")
    del data["code"]["engine"]
    with pytest.raises(Refused, match="code must name the engine that ran it"):
        read_submission(json.dumps(data).encode())


def test_newer_documents_are_named_in_one_line(
    home: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    rewrite(copy, lines_of(copy), schema=999)
    (finding,) = checked(copy).findings
    assert finding.what == f"it was made by a newer byzbench: it has schema 999, and this one reads up to {SCHEMA}"
    ticket = tmp_path / "leaderboard-tiny.json"
    ticket.write_text(json.dumps({"schema": 999}))
    with pytest.raises(CorruptRecord, match=r"leaderboard-tiny\.json was made by a newer byzbench"):
        RunManifest.read(ticket)
    (tmp_path / "audit.json").write_text(json.dumps({"schema": 999, "rows": {}}))
    assert main(monkeypatch, "leaderboard", "audit", "--from", str(tmp_path)) == 2
    assert "audit.json was made by a newer byzbench" in capsys.readouterr().err


def test_a_run_file_keeps_what_the_method_came_to(tiny: Suite, home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A default that changes between `run` and `write_submission` changes nothing; files without it are read."""
    ticket = RunManifest.of(plan_submission(tiny, "defence", METHOD))
    path = ticket.write(tmp_path)
    change_parameters(monkeypatch)
    again = RunManifest.read(path)
    assert write_submission(
        again.submission_plan(), collect_cells(again.submission_plan(), home / "runs"), ABOUT, tmp_path / "out"
    ).is_dir()
    path.write_text(ticket.model_dump_json(by_alias=True, exclude={"version", "resolved"}))
    assert RunManifest.read(path).submission_plan().resolved[STRATUM]["algorithm"]["parameters"]["lr"] == 0.1
    assert RunManifest.read(path).name == ticket.name


def test_runs_without_a_trace_are_not_collected(tiny: Suite, home: Path, tmp_path: Path) -> None:
    entered = plan_submission(tiny, "defence", METHOD)
    shutil.copytree(home / "runs", tmp_path / "runs")
    result = tmp_path / "runs" / next(iter(entered.cells.values())).hash / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"trace": ""}))
    seal(result.parent)
    with pytest.raises(UserError, match=r"1 of 4 cells have not been run by .*, or have no trace"):
        collect_cells(entered, tmp_path / "runs")


def test_the_environment_is_that_of_the_runs(tiny: Suite, home: Path, tmp_path: Path) -> None:
    entered = plan_submission(tiny, "defence", METHOD)
    shutil.copytree(home / "runs", tmp_path / "runs")
    assert ran_in(entered, tmp_path / "runs") == entered.environment
    for number, cell in enumerate(entered.cells.values()):
        path = tmp_path / "runs" / cell.hash / "experiment.json"
        record = json.loads(path.read_text())
        record["code"] |= {"processor": "Other CPU 1", "cpu": f"AVX{number % 2}"}
        path.write_text(json.dumps(record))
    environment = ran_in(entered, tmp_path / "runs")
    assert (environment.processor, environment.cpu) == ("Other-CPU-1", "mixed")
    assert environment.versions == entered.environment.versions


def test_old_entries_are_listed_on_the_site(tiny: Suite, tmp_path: Path) -> None:
    from byzbench.leaderboard.site.build import site
    from byzbench.leaderboard.site.collection import collect_entries as collection

    as_schema_1(write_entry(tmp_path / "submissions", tiny, "older"))
    catalogue, findings = collection(tmp_path / "submissions")
    assert not findings
    pages = {path: content.decode() for path, content in site(catalogue)}
    assert "cannot be replayed" in pages["boards/tiny-v1.defence.decentralised.html"]
    assert "cannot be replayed" in pages["entries/tiny-v1.defence.older.html"]


def test_a_stratum_sets_the_policy_and_the_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suites").mkdir()
    more = 'env = "cartpole"\npolicy = "linear"\nscenario = "heterogeneous"'
    text = tiny_suite.TINY.replace("tiny-v1", "linear-v1").replace('env = "cartpole"', more)
    (tmp_path / "suites" / "linear-v1.toml").write_text(text)
    monkeypatch.setattr(suites, "files", lambda package: tmp_path)
    tiny_suite.forget_suites()
    try:
        board = suite("linear-v1")
        freeze_suite(board)
        (described,) = frozen(board).strata.values()
        assert (described["policy"]["name"], described["scenario"]["name"]) == ("linear", "heterogeneous")
        assert board.strata[0].task == "cartpole, linear, heterogeneous"
        entered = plan_submission(board, "defence", METHOD)
        cells = list(entered.cells.values())
        assert {registry.name_of(c.policy) for c in cells} == {"linear"}
        assert {registry.name_of(c.scenario) for c in cells} == {"heterogeneous"}
        tiny_suite.run(entered, tmp_path / "runs")
        folder = write_submission(entered, collect_cells(entered, tmp_path / "runs"), ABOUT, tmp_path / "submissions")
        assert not checked(folder).findings
        assert replayed(folder, tmp_path / "scratch", own_seeds_only=True).verdict == "exact"
    finally:
        tiny_suite.forget_suites()
