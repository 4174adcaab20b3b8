"""`byzbench run --compare`: the companions, what is computed from them, and what is printed."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byzbench import cli, registry
from byzbench.core import Communication
from byzbench.errors import InvalidParameter
from byzbench.experiments.defaults import recommendation
from byzbench.experiments.experiment import Experiment
from byzbench.reports.comparison import (
    ALONE,
    AS_ASKED,
    AVERAGING,
    CLEAN,
    averaging_rule,
    companions,
    compare,
    compare_areas,
    comparison_lines,
    comparison_table,
    parameter_line,
    retention,
    uncovered,
)

TINY: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 8, "evaluations": 2, "evaluation_episodes": 2}
FLAGS = "--agents 5 --byzantine 1 --trajectories 8 --evaluations 2 --evaluation-episodes 2".split()  # noqa: SIM905

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`byzbench run --compare` within this process, in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BYZBENCH_OUT", raising=False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["byzbench", "run", *words, "--compare"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


# Recommended parameters and budgets


def test_the_default_preset_has_the_recommended_parameters() -> None:
    actual = recommendation(registry.find("algorithm", "decbyzpg"), registry.make("task", "cartpole"))  # type: ignore[arg-type]
    assert actual is not None
    assert actual.origin
    default = Experiment.create("decbyzpg")
    assert {name: getattr(default.algorithm, name) for name in actual.parameters} == actual.parameters
    assert Experiment.create("decbyzpg", preset="recommended") == default
    assert default.algorithm.p <= 0.5, "at least half of the rounds take small batches"
    paper = Experiment.create("decbyzpg", preset="paper").algorithm
    assert [getattr(paper, name) for name in ("N", "B", "p", "lr")] == [50, 4, 0.2, 5e-4]


@pytest.mark.parametrize("algo", ["decbyzpg", "dec_page_pg", "dec_pg", "byzpg", "fed_page_pg", "fed_pg", "solo"])
def test_methods_with_a_recommendation_name_its_origin(algo: str) -> None:
    cls: Any = registry.find("algorithm", algo)
    assert all(
        actual.origin and set(actual.parameters) <= {"N", "B", "p", "lr", "lr_schedule", "baseline"}
        for actual in cls.recommended.values()
    )
    assert "cartpole" in cls.recommended
    assert Experiment.create(algo).hash != Experiment.create(algo, preset="paper").hash
    assert Experiment.create(algo, env="acrobot").hash == Experiment.create(algo, env="acrobot", preset="paper").hash


@pytest.mark.parametrize("algo", ["gpomdp", "fed_ppo", "mdpgt", "clipped_gossip", "svrpg"])
def test_without_a_recommendation_the_default_preset_is_the_papers(algo: str) -> None:
    assert Experiment.create(algo).hash == Experiment.create(algo, preset="paper").hash


def test_explicit_values_win_over_the_recommendation() -> None:
    experiment = Experiment.create("decbyzpg(lr=0.5)", parameters={"algo": {"N": 3}})
    assert (experiment.algorithm.lr, experiment.algorithm.N) == (0.5, 3)  # type: ignore[attr-defined]
    official = Experiment.create("decbyzpg", preset="official").algorithm
    assert (official.N, official.lr, official.logits) == (50, 5e-4, "tanh")  # type: ignore[attr-defined]


def test_the_hash_is_of_the_values_whatever_named_them() -> None:
    explicit = {"N": 50, "B": 4, "p": 0.2, "lr": 5e-4, "lr_schedule": "constant", "baseline": "none"}
    by_hand = Experiment.create("decbyzpg", trajectories=2000, parameters={"algo": explicit})
    assert by_hand.hash == Experiment.create("decbyzpg", trajectories=2000, preset="paper").hash


def test_an_unknown_preset_is_refused_with_all_names() -> None:
    with pytest.raises(InvalidParameter, match="no preset 'best'; its presets: recommended, paper, official"):
        Experiment.create("decbyzpg", preset="best")


def test_the_default_budget_is_the_tasks() -> None:
    assert (Experiment.create().trajectories, Experiment.create(env="acrobot").trajectories) == (500, 2000)
    assert Experiment.create(trajectories=7).trajectories == 7


# Companions


def test_companions_differ_in_what_their_names_say() -> None:
    rows = companions([Experiment.create("decbyzpg", "ipm", "ring", seed=seed, **TINY) for seed in (3, 4)])
    assert [row.name for row in rows] == [AS_ASKED, CLEAN, AVERAGING, ALONE]
    assert all([e.seed for e in row.experiments] == [3, 4] for row in rows)
    requested, clean, averaging, alone = (row.experiments[0] for row in rows)
    assert clean == Experiment.create("decbyzpg", "none", "ring", seed=3, **TINY)
    expected = Experiment.create("decbyzpg", "ipm", "ring", aggregator="mean", agreement="mean", seed=3, **TINY)
    assert averaging == expected
    assert (registry.name_of(alone.algorithm), registry.name_of(alone.attack)) == ("solo", "none")
    assert (alone.agents, alone.trajectories, alone.evaluations) == (requested.agents, requested.trajectories, 2)
    assert alone.members.byzantine.tolist() == requested.members.byzantine.tolist()
    assert alone.algorithm == Experiment.create("solo").algorithm


@pytest.mark.parametrize(
    "kind, rule, expected",
    [
        ("aggregator", "rfa", "mean"),
        ("aggregator", "nnm+trimmed_mean", "mean"),
        ("aggregator", "ios", "weighted_mean"),
        ("agreement", "none", "none"),
        ("agreement", "mda(cap=7)", "mean(cap=7)"),
        ("agreement", "gossip(exchanges=3)+ios", "gossip(exchanges=3)+weighted_mean"),
    ],
)
def test_rules_become_plain_averages(kind: str, rule: str, expected: str) -> None:
    assert averaging_rule(registry.make(kind, rule)) == registry.make(kind, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("algo", [*registry.origins("algorithm")])
def test_every_method_can_be_compared(algo: str) -> None:
    alone = getattr(registry.find("algorithm", algo), "communication", "") == Communication.SINGLE_AGENT
    counts = {"agents": 1, "byzantine": 0} if alone else {"agents": 9, "byzantine": 1}
    rows = companions([Experiment.create(algo, "sign_flip", **counts)])
    assert all(bool(row.experiments) != bool(row.reason) for row in rows)
    averaging = rows[2].experiments
    for experiment in averaging:
        rules = dict(experiment.rules)
        names = {registry.name_of(getattr(rule, "rule", rule)) for rule in rules.values()}
        assert names <= {"mean", "weighted_mean", "none"}


@pytest.mark.parametrize(
    "options, reasons",
    [
        ({}, ["no attack was given", "no attack was given", ""]),
        ({"attack": "ipm", "byzantine": 0}, ["there is no Byzantine agent", "there is no Byzantine agent", ""]),
        (
            {"algo": "solo", "attack": "ipm"},
            ["agents send no messages", "agents send no messages", "this is the run as asked"],
        ),
        ({"algo": "dec_page_pg", "attack": "ipm"}, ["", "the method as asked averages", ""]),
    ],
)
def test_undefined_companions_have_a_reason(options: dict[str, Any], reasons: list[str]) -> None:
    rows = companions([Experiment.create(**{**TINY, **options})])
    assert [row.reason for row in rows[1:]] == reasons


# What is computed


def result(area: float | None, end: float = 100.0, verdict: str = "ok") -> dict[str, Any]:
    evaluation = {"evaluation": end, "evaluation_auc": area}
    return {"run": "runs/x", "evaluation": evaluation, "verdict": {"name": verdict}}


def test_a_comparison_is_computed_from_areas() -> None:
    rows = companions([Experiment.create("decbyzpg", "ipm", "ring", seed=seed, **TINY) for seed in range(3)])
    random = rows[0].experiments[0].task.reference["random"]
    areas = {AS_ASKED: [200, 210, 220], CLEAN: [400, 410, 420], AVERAGING: [100, 100, 100], ALONE: [150, 150, 150]}
    results = {
        e.hash: result(float(area), end=float(area))
        for row in rows
        for e, area in zip(row.experiments, areas[row.name], strict=True)
    }
    actual = {row.name: row for row in compare(rows, results).rows}
    assert actual[AS_ASKED].retention == pytest.approx((210 - random) / (410 - random))
    assert actual[AVERAGING].retention == pytest.approx((100 - random) / (410 - random))
    assert (actual[CLEAN].retention, actual[ALONE].retention, actual[ALONE].versus_alone) == (None, None, None)
    versus = actual[AS_ASKED].versus_alone
    assert versus is not None
    half = 4.3027 * 0.05 * (475 - random) / 3**0.5  # Student's quantile, and the least standard deviation of reports
    assert (versus.value, versus.low, versus.high) == pytest.approx((60, 60 - half, 60 + half), abs=0.01)
    assert actual[AS_ASKED].evaluation == pytest.approx(210)


def test_retention_is_undefined_where_the_method_does_not_learn() -> None:
    assert retention([100.0], [200.0], 20.0, 475.0) == pytest.approx(80 / 180)
    assert retention([30.0], [100.0], 20.0, 475.0) is None
    assert retention([100.0], [200.0], None, 475.0) is None
    assert retention([None], [200.0], 20.0, 475.0) is None
    assert retention([30.0], [10.0], 20.0, None) is None


def test_differences_need_both_rows() -> None:
    assert compare_areas([1.0], []) is None
    assert compare_areas([1.0, None], [1.0, 2.0]) is None


def test_parameters_are_shown_with_their_origin() -> None:
    assert "no variance reduction" in parameter_line(Experiment.create("solo"))
    assert "no variance reduction" not in parameter_line(Experiment.create("decbyzpg"))
    assert "recommended for cartpole by: " in parameter_line(Experiment.create("decbyzpg"))
    assert "recommended" not in parameter_line(Experiment.create("decbyzpg", preset="paper"))
    paper = parameter_line(Experiment.create("decbyzpg", preset="paper"))
    assert paper == "decbyzpg: N=50, B=4, p=0.2, lr=0.0005; suggested for cartpole"
    mixed = parameter_line(Experiment.create("decbyzpg(lr=0.5)"))
    assert mixed.startswith("decbyzpg: N=10, B=5, p=0.5, lr=0.5, lr_schedule=inverse_sqrt, baseline=others; N, B, p, ")
    assert mixed.endswith("; lr as given")


def test_a_graph_without_a_guarantee_is_named() -> None:
    assert "on topology ring: agreement mda needs n > 4f" in uncovered(Experiment.create("decbyzpg", "alie", "ring"))
    assert uncovered(Experiment.create("decbyzpg", "alie", "complete")) == ""
    assert uncovered(Experiment.create("decbyzpg", "alie", "ring", byzantine=0)) == ""


def test_a_failed_companion_is_a_row_with_its_error() -> None:
    rows = companions([Experiment.create("decbyzpg", "ipm", **TINY)])
    results: dict[str, Any] = {row.experiments[0].hash: result(100.0) for row in rows}
    results[rows[2].experiments[0].hash] = {"error": "it broke"}
    actual = compare(rows, results)
    cells = {row[0]: row[-1] for row in comparison_table(actual).cells}
    assert cells[AVERAGING] == "failed: it broke"
    assert cells[AS_ASKED] == "ok"


# The command


def test_a_comparison_prints_one_table_and_reuses_its_runs(command: Command, tmp_path: Path) -> None:
    words = ["--attack", "alie:z=1.5", "--topology", "ring", *FLAGS]
    code, out, err = command(*words)
    assert code == 0
    for name in (AS_ASKED, CLEAN, AVERAGING, ALONE):
        assert f"\n{name} " in out
        assert f"{name} · seed 0: evaluation return" in err
    for message in (
        "decbyzpg · alie · ring · cartpole: K=5, f=1, 8 trajectories, seed 0",
        "note: no guarantee covers f=1",
    ):
        assert message in out
    assert "solo: N=" in out
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 4
    code, out, err = command(*words, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["verdict"]["name"]
    assert [row["name"] for row in data["comparison"]["rows"]] == [AS_ASKED, CLEAN, AVERAGING, ALONE]
    assert all(len(row["areas"]) == 1 for row in data["comparison"]["rows"])
    assert data["run"] == data["comparison"]["rows"][0]["runs"][0]
    assert "(reused)" in command(*words)[2]


def test_without_an_attack_the_table_says_why_rows_are_empty(command: Command) -> None:
    code, out, _ = command(*FLAGS, "--algo", "byzpg", "--seeds", "3")
    assert code == 0
    assert out.count("not run: no attack was given") == 2
    assert "3 seeds" in out


@pytest.mark.parametrize(
    "words, message",
    [
        ("--attack alei", "unknown attack 'alei'. Did you mean 'alie'"),
        ("--preset best", "its presets: recommended, paper, official"),
        ("--trajectories 0", "trajectories must be a whole number from 1"),
        ("--attack sign_flip --algo page_pg --agents 5", "page_pg is a method of one agent"),
    ],
)
def test_bad_input_ends_in_one_line(command: Command, tmp_path: Path, words: str, message: str) -> None:
    code, out, err = command(*words.split())
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("byzbench: error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_ends_in_one_line(command: Command) -> None:
    code, out, err = command("--algo", "decbyzpg(streams=official)", "--env", "pendulum", *FLAGS)
    assert (code, out) == (2, "")
    assert "streams=official has the released code's initial policy" in err.splitlines()[-1]


def test_lines_under_the_table_are_few() -> None:
    rows = companions([Experiment.create("decbyzpg", "ipm", "ring", **TINY)])
    actual = compare(rows, {row.experiments[0].hash: result(100.0) for row in rows})
    assert len(comparison_lines(actual)) <= 6
