"""References, which scores are measured in, and the studies by which a suite's rows are tuned alike."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from byzbench import registry
from byzbench.core import Recommendation
from byzbench.errors import CorruptRecord, InvalidParameter
from byzbench.leaderboard import references, suites
from byzbench.leaderboard.frozen import freeze_suite
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.schema import Method
from byzbench.leaderboard.submitting import cell_of, collect_cells, fill, tuned_by, write_submission
from byzbench.leaderboard.suite_study import method_studies, tuning_seeds, winner
from byzbench.leaderboard.suites import Suite, suite
from byzbench.sweeps.executors import SerialExecutor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep
from byzbench.tuning.search import open_study, run_study
from tests.tiny_suite import ABOUT, checked, forget_suites, run

METHOD = Method(algo="decbyzpg(p=1.0, N=4)", agreement="gossip+mean")
ATTACKS = (
    ("none", None, None),
    ("ipm(on=both)", "omniscient", "worst_case"),
    ("large_noise(relative=False, on=both)", "local", "sanity"),
    ("avg_zero(on=both)", "omniscient", "held_out"),
    ("alie(z=1.5, on=both)", "coordinated", "held_out"),
)


def text(name: str = "tunable-v1", **replaced: str) -> str:
    """Return a suite file of two strata, seconds to run, in which parts are replaced."""
    whole = f"""
name = "{name}"
title = "Seconds."
seeds = 2
evaluations = 2
evaluation_episodes = 1
[tuning]
episodes = 1000
trials = 2
seeds = 3
[[reference]]
division = "decentralised"
algo = "decbyzpg(N=4, p=1.0, lr=0.01)"
aggregator = "honest_mean"
agreement = "gossip+honest_mean"
"""
    for spec, knows, role in ATTACKS:
        whole += f'[[attack]]\nspec = "{spec}"\n'
        whole += f'knows = "{knows}"\nrole = "{role}"\n' if knows else ""
    for graph in ("complete", "ring"):
        whole += f"""
[[stratum]]
name = "cartpole-{graph}"
division = "decentralised"
env = "cartpole"
topology = "{graph}"
agents = 5
byzantine = 1
trajectories = 8
low = 1
high = 500
random = 18
"""
    for before, after in replaced.items():
        whole = whole.replace(before, after)
    return whole


@pytest.fixture(scope="module")
def tunable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite with a reference on file, in place of the frozen ones."""
    home = tmp_path_factory.mktemp("home")
    (home / "suites").mkdir()
    (home / "suites" / "tunable-v1.toml").write_text(text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "files", lambda package: home)
        forget_suites()
        references.suite_references.cache_clear()
        tunable = suite("tunable-v1")
        freeze_suite(tunable)
        cells = references.reference_cells(tunable)
        done = run_sweep(
            SweepPlan("reference", {c.hash: c for c in cells.values()}, {}),
            home / "runs",
            SerialExecutor(home / "runs"),
        )
        runs = {p: cell_of(p.key, c.hash, done.outcomes[c.hash], home / "runs" / c.hash) for p, c in cells.items()}
        references.write_reference(tunable, references.reference_of(cells, runs))
        yield tunable
    forget_suites()
    references.suite_references.cache_clear()


@pytest.fixture(scope="module")
def submissions(tunable: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of submissions, with a row that was tuned as the suite allows."""
    home = tmp_path_factory.mktemp("tuned")
    (study,) = method_studies(tunable, METHOD)
    opened = open_study(study, home / "study.journal")
    run_study(study, opened, SerialExecutor(home / "runs"), study.trials)
    again = [cell for values in study.finalists(opened) for cell in study.fresh_experiments(values).values()]
    done = run_sweep(SweepPlan("again", {c.hash: c for c in again}, {}), home / "runs", SerialExecutor(home / "runs"))
    tuned = winner(study, opened, done.outcomes)
    tuned.write(home / "tuned.json")
    entered = plan_submission(tunable, "defence", fill(METHOD, [tuned]))
    run(entered, home / "runs")
    tunings = [tuned_by(type(tuned).read(home / "tuned.json"), entered.method)]
    write_submission(entered, collect_cells(entered, home / "runs"), ABOUT, home / "submissions", tunings=tunings)
    return home / "submissions"


def test_the_unit_of_scores_is_the_mean_clean_area_of_the_reference(tunable: Suite) -> None:
    (reference,) = references.suite_references(tunable).values()
    for stratum in tunable.strata:
        runs = reference.strata[stratum.name]
        assert len(runs.areas) == tunable.seeds
        assert references.unit(tunable, stratum) == pytest.approx(sum(map(float, runs.areas)) / 2)
        assert runs.method["aggregator"] == {"name": "honest_mean", "parameters": {}}
    with pytest.raises(InvalidParameter, match="no reference at engine 99"):
        references.unit(tunable, tunable.strata[0], 99)


def test_a_changed_default_moves_no_reference(tunable: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {place: cell.hash for place, cell in references.reference_cells(tunable).items()}
    changed = {"cartpole": Recommendation({"baseline": "others"}, "a test")}
    monkeypatch.setattr(registry.find("algorithm", "decbyzpg"), "recommended", changed)
    assert {place: cell.hash for place, cell in references.reference_cells(tunable).items()} == hashes
    monkeypatch.setattr(references, "suite_references", lambda suite: {})
    assert not set(hashes.values()) & {cell.hash for cell in references.reference_cells(tunable).values()}


@pytest.mark.parametrize("change", [{"suite_sha256": "0" * 64}, {"references": [{}]}, {"schema": 999}])
def test_a_file_of_references_that_is_not_the_suites_is_refused(
    tunable: Suite, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = json.loads(suites.folder().joinpath("tunable-v1.references.json").read_text())
    (tmp_path / "tunable-v1.references.json").write_text(json.dumps(data | change))
    monkeypatch.setattr(references, "folder", lambda: tmp_path)
    references.suite_references.cache_clear()
    with pytest.raises(CorruptRecord, match=r"tunable-v1\.references\.json"):
        references.suite_references(tunable)
    references.suite_references.cache_clear()


def test_a_study_runs_held_out_attacks_on_seeds_of_its_own(tunable: Suite) -> None:
    (study,) = method_studies(tunable, METHOD)
    assert {attack for _, attack, _ in study.pairs} == {"avg_zero(on=both)", "alie(z=1.5, on=both)"}
    assert len(study.pairs) == 12
    assert study.trials == 1000 // (12 * 5 * 8)
    assert not {*tuning_seeds(tunable), *tuning_seeds(tunable, "fresh")} & {*tunable.seed_values}
    assert "algorithm.p" not in study.space  # set outright
    assert "algorithm.lr" in study.space
    areas = {run: {"avg_zero(on=both)": 10.0, "alie(z=1.5, on=both)": 30.0}[run[1]] for run in study.pairs}
    areas |= {run: 50.0 for run in study.pairs if run[0] == "cartpole-ring" and run[1].startswith("avg")}
    assert study.value(areas) == (10 + 30) / 2  # the mean over strata of the worst attack


def test_a_row_tuned_by_the_suites_study_passes_the_checks(tunable: Suite, submissions: Path) -> None:
    report = checked(submissions / "tunable-v1" / "defence" / "tiny")
    assert not report.refused, report.findings
    assert report.entry is not None
    assert report.entry.submission.tuning is not None
    search = report.entry.submission.tuning.search
    assert search is not None
    assert search.method == METHOD
    assert search.episodes <= 1000
    assert search.steps > search.episodes
    assert list(map(float, search.best)) == sorted(map(float, search.best))
    assert [cell.dates[-1] >= 8 for cell in report.entry.cells] == [True] * len(report.entry.cells)


def _of_another_suite(tuning: dict[str, Any]) -> None:
    tuning["study"] = "0" * 16


def _narrower(tuning: dict[str, Any]) -> None:
    tuning["search"]["ranges"]["algorithm.lr"] = [1e-9, 1e-8, True]


def _other_seeds(tuning: dict[str, Any]) -> None:
    tuning["seeds"] = [1, 2, 3]


def _other_attacks(tuning: dict[str, Any]) -> None:
    tuning["attacks"] = ["ipm(on=both)"]


def _dearer(tuning: dict[str, Any]) -> None:
    tuning["search"]["episodes"] = 10**6


def _more_trials(tuning: dict[str, Any]) -> None:
    tuning["trials"] = 3


def _never_searched(tuning: dict[str, Any]) -> None:
    del tuning["search"]["ranges"]["algorithm.lr"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_of_another_suite, "the study is of another suite"),
        (_narrower, "algorithm.lr is .* and the search space is"),
        (_other_seeds, "the seeds are not those of the suite's studies"),
        (_other_attacks, "the attacks are not the held-out attacks of the suite"),
        (_dearer, "the search took 1,000,000 episodes, and the suite allows 1,000"),
        (_more_trials, "the search took 3 trials, and the suite allows 2"),
        (_never_searched, "algorithm lr is .*, and was not searched"),
    ],
)
def test_a_study_that_is_not_the_suites_is_refused(
    submissions: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], line: str
) -> None:
    shutil.copytree(submissions, tmp_path / "submissions")
    folder = tmp_path / "submissions" / "tunable-v1" / "defence" / "tiny"
    about = json.loads((folder / "submission.json").read_text())
    change(about["tuning"])
    (folder / "submission.json").write_text(json.dumps(about))
    report = checked(folder)
    assert report.refused
    messages = [str(finding) for finding in report.findings if finding.check == "tuned-otherwise"]
    assert re.search(line, "\n".join(messages)), messages


@pytest.mark.parametrize(
    ("replaced", "line"),
    [
        ({'agreement = "gossip+honest_mean"\n': "", "[[reference]]": "[[nothing]]"}, "nothing"),
        (
            {'role = "held_out"': 'role = "sanity"'},
            "cartpole-complete must have an attack with the role held_out",
        ),
        ({'role = "worst_case"': 'role = "sanity"'}, "must have an attack with the role worst_case"),
        ({'knows = "local"': 'knows = "local"\nstrata = ["pendulum"]'}, "for the stratum 'pendulum'"),
        (
            {"random = 18": "random = 18\nreference = 30"},
            "must have a reference return, or its division a reference method, and not both",
        ),
    ],
)
def test_a_suite_that_does_not_fit_together_is_refused(replaced: dict[str, str], line: str) -> None:
    with pytest.raises(InvalidParameter, match=line):
        Suite.of(text(**replaced).encode(), "tunable-v1")


@pytest.mark.parametrize(("written", "number"), [("", 2), ("trials = 1\n", 1), ("trials = 9\n", 2)])
def test_trials_are_limited_by_episodes_and_by_their_number(tunable: Suite, written: str, number: int) -> None:
    other = Suite.of(text().replace("trials = 2\n", written).encode(), "tunable-v1")
    (study,) = method_studies(other.model_copy(update={"sha256": tunable.sha256}), METHOD)
    assert study.trials == number


def test_a_budget_too_small_for_one_trial_is_refused(tunable: Suite) -> None:
    small = Suite.of(text().replace("episodes = 1000", "episodes = 10").encode(), "tunable-v1")
    with pytest.raises(InvalidParameter, match="does not allow one trial"):
        method_studies(small.model_copy(update={"sha256": tunable.sha256}), METHOD)
