"""Suites whose divisions have several tasks: a method has one parameter set for each, tuned by its own study."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from byzbench.errors import InvalidParameter
from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard import suites
from byzbench.leaderboard.attack_study import attack_study
from byzbench.leaderboard.boards import boards
from byzbench.leaderboard.entries import read_entry, scan_entries
from byzbench.leaderboard.frozen import freeze_suite
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.resolved import current_method
from byzbench.leaderboard.schema import Method, Submission, TaskMethod, encode_document
from byzbench.leaderboard.site.entry_pages import _tunings
from byzbench.leaderboard.submitting import fill
from byzbench.leaderboard.suite_study import method_studies
from byzbench.leaderboard.suites import Suite, suite
from byzbench.leaderboard.summaries import markdown
from byzbench.records.tuned import TunedParameters
from byzbench.sweeps import executors
from byzbench.sweeps.cells import CellOutcome
from tests.test_tuning import Imagined
from tests.tiny_suite import checked, forget_suites, main

CHAIN = "chain(states=5, steps=5)"
METHOD = Method(algo="decbyzpg(p=1.0, N=4)", agreement="gossip(mean)")
STRATUM = """
[[stratum]]
name = "{name}"
division = "decentralised"
env = "{env}"
topology = "{graph}"
agents = 5
byzantine = 1
trajectories = 8
low = {low}
high = {high}
random = {random}
reference = {reference}
"""
TEXT = """
name = "tasks-v1"
title = "Seconds."
seeds = 1
evaluations = 2
evaluation_episodes = 1
[tuning]
episodes = 500
seeds = 3
[[attack]]
spec = "none"
[[attack]]
spec = "ipm"
knows = "omniscient"
[[attack]]
spec = "avg_zero(on=both)"
knows = "omniscient"
role = "held_out"
[[attack]]
spec = "alie(z=1.5, on=both)"
knows = "coordinated"
role = "held_out"
strata = ["cartpole"]
"""
TEXT += STRATUM.format(name="cartpole", env="cartpole", graph="complete", low=1, high=500, random=18, reference=30)
for graph in ("complete", "ring"):
    chain = {"low": 0, "high": 1, "random": 0.3, "reference": 0.9}
    TEXT += STRATUM.format(name=f"chain-{graph}", env=CHAIN, graph=graph, **chain)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite of two tasks in place of the frozen ones; a study has two trials."""
    home = tmp_path_factory.mktemp("home")
    (home / "suites").mkdir()
    (home / "suites" / "tasks-v1.toml").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "files", lambda package: home)
        forget_suites()
        freeze_suite(suite("tasks-v1"))
        yield suite("tasks-v1")
    forget_suites()


def enter(home: Path, patch: pytest.MonkeyPatch) -> Path:
    """Tune, run and submit a row on the command line, and return the folder of its submission."""
    method = ("--algo", str(METHOD.algo), "--agreement", str(METHOD.agreement))
    run = ("leaderboard", "run", "--suite", "tasks-v1", *method, "--tune", "--out", str(home / "runs"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(patch, *run, "--executor", "serial") == 0
        command = next(line for line in printed.getvalue().splitlines() if line.startswith("submit: "))
        submit = command.removeprefix("submit: byzbench ").replace("NAME", "tiny").replace("AUTHOR", "Author").split()
        assert main(patch, *submit, "--out", str(home / "submissions")) == 0
    return home / "submissions" / "tasks-v1" / "defence" / "tiny"


@pytest.fixture(scope="module")
def home(tasks: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs`, and `submissions` with a row whose cells were run, and whose trials are imagined."""
    home, make_executor = tmp_path_factory.mktemp("tuned"), executors.make_executor

    def imagined(cell: Experiment) -> CellOutcome:
        area = -abs(cell.algorithm.lr - 0.03)  # type: ignore[attr-defined]
        return CellOutcome("finished", {"evaluation": {"evaluation_auc": area}, "steps": 9})

    def opened(name: str, out: Path, *on_existing: Any, **options: Any) -> Any:
        is_study = not on_existing
        return contextlib.nullcontext(Imagined(out, imagined)) if is_study else make_executor(name, out, *on_existing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "make_executor", opened)
        enter(home, patch)
    return home


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """The submission's folder, to be tampered with."""
    shutil.copytree(home / "submissions", tmp_path / "submissions")
    return tmp_path / "submissions" / "tasks-v1" / "defence" / "tiny"


def files_of(home: Path) -> list[TunedParameters]:
    return [TunedParameters.read(path) for path in (home / "runs" / "studies").glob("tuned-*.json")]


def test_a_study_runs_the_strata_and_held_out_attacks_of_one_task(tasks: Suite) -> None:
    cartpole, chain = method_studies(tasks, METHOD)
    assert (cartpole.task, chain.task) == ("cartpole", CHAIN)
    assert {run[:2] for run in cartpole.pairs} == {
        ("cartpole", "avg_zero(on=both)"),
        ("cartpole", "alie(z=1.5, on=both)"),
    }
    assert {run[:2] for run in chain.pairs} == {(f"chain-{g}", "avg_zero(on=both)") for g in ("complete", "ring")}
    assert cartpole.trials == chain.trials == 500 // (6 * 5 * 8)
    assert len({cartpole.hash, chain.hash, replace(cartpole, task=None).hash}) == 3
    assert chain.value({run: 0.5 if run[0] == "chain-ring" else 0.25 for run in chain.pairs}) == 0.375


def test_an_attack_has_the_budget_of_all_tasks(tasks: Suite) -> None:
    study = attack_study(plan_submission(tasks, "defence", METHOD), METHOD, ["avg_zero"])
    assert study.trials == 2 * 500 // (9 * 5 * 8)


def test_a_method_has_the_parameters_of_its_task(tasks: Suite) -> None:
    method = METHOD.model_copy(update={"tasks": (TaskMethod(task=CHAIN, algo="decbyzpg(p=1.0, N=4, lr=0.25)"),)})
    plan = plan_submission(tasks, "defence", method)
    written = plan_submission(tasks, "defence", METHOD)
    for place, cell in plan.cells.items():
        is_chain = place.stratum.learner == CHAIN
        assert (cell.algorithm.lr == 0.25) == is_chain  # type: ignore[attr-defined]
        assert (cell.hash == written.cells[place].hash) != is_chain
    assert hash(method) != hash(METHOD)
    assert current_method(method, 3).in_task(CHAIN).algo == "decbyzpg(p=1.0, N=4, lr=0.25)"
    assert b"tasks" not in encode_document(METHOD)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ({"task": "lqr", "algo": "decbyzpg(lr=1)"}, r"no stratum of the entry has the task 'lqr'; tasks: cartpole; ch"),
        ({"task": CHAIN, "aggregator": "median"}, "aggregator of chain-complete is another one than that of cartpole"),
        ({"task": CHAIN, "agreement": "gossip(median)"}, "agreement of chain-complete is another one than that of"),
    ],
)
def test_a_task_must_be_of_the_suite_and_differ_in_parameters_only(
    tasks: Suite, part: dict[str, str], line: str
) -> None:
    method = METHOD.model_copy(update={"tasks": (TaskMethod(**part),)})
    with pytest.raises(InvalidParameter, match=line):
        plan_submission(tasks, "defence", method)


def test_a_row_tuned_by_one_study_a_task_passes_the_checks(tasks: Suite, home: Path, tmp_path: Path) -> None:
    folder = home / "submissions" / "tasks-v1" / "defence" / "tiny"
    report = checked(folder)
    assert not report.refused, report.findings
    assert report.entry is not None
    submission = report.entry.submission
    assert submission.tuning is None
    assert [tuning.task for tuning in submission.tunings or ()] == ["cartpole", CHAIN]
    assert {search.method for search in submission.searches} == {METHOD}
    tuned = {file.task: file.parameters["algorithm"]["lr"] for file in files_of(home)}
    (board,) = boards(tasks, scan_entries(home / "submissions")[0])
    (row,) = board.rows
    assert row.settings.origin == "tuned"
    assert row.settings.lr == tuple(sorted(set(tuned.values())))
    assert row.settings.search_episodes == sum(search.episodes for search in submission.searches) > 500
    first, second = _tunings(submission)
    assert (first.partition(": ")[0], second.partition(": ")[0]) == ("cartpole", CHAIN)
    assert f"`{CHAIN}`: algo `decbyzpg(p=1.0, N=4, " in markdown(report.entry, tasks, folder)
    assert report.submission_plan is not None
    for place, cell in report.submission_plan.cells.items():
        assert cell.algorithm.lr == tuned[place.stratum.learner]  # type: ignore[attr-defined]


def _swapped(about: dict[str, Any]) -> None:
    one, other = about["tunings"]
    one["task"], other["task"] = other["task"], one["task"]


def _one_missing(about: dict[str, Any]) -> None:
    about["tunings"].pop()


def _one_twice(about: dict[str, Any]) -> None:
    about["tunings"][1] = about["tunings"][0]


def _one_for_all(about: dict[str, Any]) -> None:
    about["tuning"] = {key: value for key, value in about.pop("tunings")[0].items() if key != "task"}


def _outside_its_study(about: dict[str, Any]) -> None:
    del about["tunings"][1]["search"]["ranges"]["algorithm.lr"]


def _narrower(about: dict[str, Any]) -> None:
    about["tunings"][0]["search"]["ranges"]["algorithm.lr"] = [1e-9, 1e-8, True]


def _of_another_method(about: dict[str, Any]) -> None:
    about["tunings"][0]["search"]["method"]["algo"] = "decbyzpg(p=1.0)"


def _not_the_suites(about: dict[str, Any]) -> None:
    del about["tunings"][0]["search"]


def _dearer(about: dict[str, Any]) -> None:
    about["tunings"][1]["search"]["episodes"] = 501


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_swapped, "the study is of another suite or task"),
        (_one_missing, r"the tunings are of cartpole, and the tasks of the entry are cartpole; chain\("),
        (_one_twice, "the tunings are of cartpole; cartpole, and the tasks of the entry"),
        (_one_for_all, "a study is of one task, and the entry has several"),
        (_outside_its_study, "algorithm lr is .*, and was not searched"),
        (_narrower, "algorithm.lr is .*, and the search space is 1e-09"),
        (_of_another_method, "the tuning of cartpole is no study of the suite, or one of another method"),
        (_not_the_suites, "the tuning of cartpole is no study of the suite, or one of another method"),
        (_dearer, "the search took 501 episodes, and the suite allows 500"),
    ],
)
def test_studies_that_are_not_those_of_the_tasks_are_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], line: str
) -> None:
    about = json.loads((folder / "submission.json").read_text())
    change(about)
    (folder / "submission.json").write_text(json.dumps(about))
    messages = [str(finding) for finding in checked(folder).findings if finding.check == "tuned-otherwise"]
    assert re.search(line, "\n".join(messages)), messages


def test_an_entry_has_one_form_of_tuning(folder: Path) -> None:
    about = json.loads((folder / "submission.json").read_text())
    with pytest.raises(ValueError, match="either tuning or tunings"):
        Submission.model_validate(about | {"tuning": about["tunings"][0]})


def test_files_of_studies_fill_their_tasks_in_any_order(tasks: Suite, home: Path) -> None:
    one, other = files_of(home)
    assert fill(METHOD, [one, other]) == fill(METHOD, [other, one])
    with pytest.raises(InvalidParameter, match="must be of studies of a suite, each of one task"):
        fill(METHOD, [one, other.model_copy(update={"task": None})])
    with pytest.raises(InvalidParameter, match="the tuned algorithm is decbyzpg, and the method has another"):
        fill(Method(algo="byzpg"), [one])


def test_the_row_is_attacked_with_the_parameters_of_each_task(
    tasks: Suite, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    arguments = ("tiny", "--attacks", "rop,ipm", "--from", str(home), "--dry-run")
    assert main(monkeypatch, "leaderboard", "attack", *arguments) == 0
    assert ": 2 trials of 9 runs over rop(on=both), ipm(on=both)" in capsys.readouterr().out
    entry = read_entry(home / "submissions" / "tasks-v1" / "defence" / "tiny")
    assert entry.submission.method.tasks is not None


@pytest.mark.slow
def test_a_row_is_tuned_run_submitted_and_verified(
    tasks: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = enter(tmp_path, monkeypatch)
    assert main(monkeypatch, "leaderboard", "verify", str(folder), "--cells", "6", "--executor", "serial") == 0
    assert "exact" in capsys.readouterr().out


def test_a_dry_run_prints_the_studies_and_runs_nothing(
    tasks: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "runs"
    arguments = ("--suite", "tasks-v1", "--algo", "decbyzpg", "--tune", "--dry-run", "--out", str(out))
    assert main(monkeypatch, "leaderboard", "run", *arguments) == 0
    assert len(re.findall(r"decbyzpg-tasks-v1-\w+, (?:cartpole|chain\(.*\)): 2 trials", capsys.readouterr().out)) == 2
    assert not out.exists()
