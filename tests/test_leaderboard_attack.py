"""The search for the attack that hurts a row most, and its entry of the track adaptive."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from byzbench import registry
from byzbench.core import Categorical
from byzbench.errors import InvalidParameter, UnknownName, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard import suites
from byzbench.leaderboard.attack_study import (
    AttackStudy,
    attack_search_problems,
    attack_study,
    attack_text,
    plan_attack,
)
from byzbench.leaderboard.boards import boards
from byzbench.leaderboard.entries import find_entry, read_entry, scan_entries
from byzbench.leaderboard.frozen import freeze_suite
from byzbench.leaderboard.plan import SubmissionPlan, plan_submission
from byzbench.leaderboard.resolved import text_of
from byzbench.leaderboard.schema import EntryMetadata, Method
from byzbench.leaderboard.site.entry_pages import _tunings
from byzbench.leaderboard.submitting import collect_cells, tuned_by, write_submission
from byzbench.leaderboard.suite_study import tuning_seeds, winner
from byzbench.leaderboard.suites import Suite, suite
from byzbench.sweeps.cells import CellOutcome
from byzbench.tuning.search import open_study, run_study
from tests.test_tuning import Imagined
from tests.tiny_suite import ABOUT, METHOD, TINY, checked, forget_suites, main, run

AGAINST = METHOD.model_copy(update={"against": "tiny"})
TEXT = TINY
for before, after in {
    "tiny-v1": "attacked-v1",
    "seeds = 2": "seeds = 1\nevaluations = 2\nevaluation_episodes = 1\n[tuning]\nepisodes = 500\nseeds = 3",
    "[[algorithm]]": '[[attack]]\nspec = "avg_zero"\nknows = "omniscient"\nrole = "held_out"\n[[algorithm]]',
}.items():
    TEXT = TEXT.replace(before, after)
"""Budget for four trials of 3 seeds x 5 agents x 8 trajectories."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite with tuning, in place of the frozen ones."""
    home = tmp_path_factory.mktemp("home")
    (home / "suites").mkdir()
    (home / "suites" / "attacked-v1.toml").write_text(TEXT)
    (home / "suites" / "untuned-v1.toml").write_text(TINY.replace("tiny-v1", "untuned-v1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "files", lambda package: home)
        forget_suites()
        for name in ("attacked-v1", "untuned-v1"):
            freeze_suite(suite(name))
        yield suite("attacked-v1")
    forget_suites()


@pytest.fixture(scope="module")
def row(attacked: Suite) -> SubmissionPlan:
    return plan_submission(attacked, "defence", METHOD)


@pytest.fixture(scope="module")
def study(row: SubmissionPlan) -> AttackStudy:
    return attack_study(row, AGAINST, ["rop", "avg_zero", "agr_tailored"])


def imagined(cell: Experiment) -> CellOutcome:
    """Return an outcome where sign_flip hurts less than avg_zero in the search, and more on fresh seeds."""
    fresh = cell.seed in tuning_seeds(suite("attacked-v1"), "fresh")
    inner = getattr(cell.attack, "inner", cell.attack)
    area = {"none": 29.0, "sign_flip": 23.0 if fresh else 27.0, "avg_zero": 26.0}[registry.name_of(inner)]
    return CellOutcome("finished", {"evaluation": {"evaluation_auc": area}, "steps": 9})


@pytest.fixture(scope="module")
def home(row: SubmissionPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `submissions`: a row, and the attack that a study with imagined runs found against it."""
    home = tmp_path_factory.mktemp("attacked")
    run(row, home / "runs")
    write_submission(row, collect_cells(row, home / "runs"), ABOUT, home / "submissions")
    study = attack_study(row, AGAINST, ["sign_flip", "avg_zero"])
    opened = open_study(study, home / "study.journal")
    run_study(study, opened, Imagined(home / "runs", imagined), study.trials)
    cells = [cell for values in study.finalists(opened) for cell in study.fresh_experiments(values).values()]
    tuned = winner(study, opened, {cell.hash: imagined(cell) for cell in cells})
    tuned.write(home / "tuned.json")
    entered = plan_attack(row, AGAINST, attack_of(tuned.model_dump()))
    run(entered, home / "runs")
    tunings = [tuned_by(type(tuned).read(home / "tuned.json"), entered.method)]
    about = EntryMetadata(name="Against tiny", slug="against-tiny", authors=("A. Author",), license="MIT")
    write_submission(entered, collect_cells(entered, home / "runs"), about, home / "submissions", tunings=tunings)
    return home


def attack_of(tuned: dict[str, Any]) -> str:
    return text_of({"name": tuned["components"]["attack"], "parameters": tuned["parameters"]["attack"]})


def test_a_trial_is_one_attack_with_its_own_parameters_everywhere(study: AttackStudy) -> None:
    assert list(study.space)[:2] == ["attack.name", "attack.wrapper"]
    assert study.space["attack.wrapper"] == Categorical("none", "split_brain")
    assert {key for key in study.space if key.startswith("attack.rop")} == {
        "attack.rop_z",
        "attack.rop_pi",
        "attack.rop_angle",
    }
    values = {"attack.name": "rop", "attack.wrapper": "split_brain", "attack.rop_z": 2.5}
    assert study.attack(values) == "split_brain(rop(on=both, z=2.5))"
    assert study.is_active("attack.rop_pi", values)
    assert not study.is_active("attack.agr_tailored_direction", values)
    (stratum,) = study.strata
    cell = study.experiment(values, stratum.name, 7)
    assert (cell.seed, registry.describe(cell.attack)) == (
        7,
        registry.describe(registry.make("attack", "split_brain(rop(on=both, z=2.5))")),
    )
    assert replace(cell, attack=registry.make("attack", "none"), seed=0) == replace(study.cells[stratum.name], seed=0)


def test_the_budget_is_that_of_tuned_rows_and_seeds_are_not_the_suites(attacked: Suite, study: AttackStudy) -> None:
    assert study.trials == 500 // (3 * 5 * 8)
    fresh = {cell.seed for cell in study.fresh_experiments({}).values()}
    assert {seed for _, seed in study.pairs} == {*tuning_seeds(attacked)}
    assert fresh == {*tuning_seeds(attacked, "fresh")}
    assert not (fresh | {*study.seeds}) & {*attacked.seed_values}


def test_the_value_is_the_mean_score_cut_off_at_zero(study: AttackStudy) -> None:
    (stratum,) = study.strata
    areas = dict(zip(study.pairs, (stratum.random - 5, 24.3, 26.3), strict=True))
    assert study.value(areas) == pytest.approx((0 + 2 + 4) / (3 * (30 - 22.3)))


def test_the_first_trials_are_the_candidates_with_their_defaults(study: AttackStudy) -> None:
    starts = study.starts()
    assert [start["attack.name"] for start in starts] == ["rop", "avg_zero", "agr_tailored"]
    assert starts[1] == {"attack.name": "avg_zero", "attack.wrapper": "none"}
    assert starts[0]["attack.rop_z"] == 1.0


def test_different_trials_meet_again_on_fresh_seeds(study: AttackStudy) -> None:
    opened = optuna.create_study(direction="minimize")
    names = ["rop", "avg_zero", "agr_tailored", "sign_flip"]
    where = {"attack.name": optuna.distributions.CategoricalDistribution(names)}
    for name, value in (("rop", 0.3), ("avg_zero", 0.1), ("avg_zero", 0.1), ("agr_tailored", 0.2), ("sign_flip", 0.4)):
        params = {"attack.name": name}
        opened.add_trial(optuna.trial.create_trial(params=params, distributions=where, value=value))
    finalists = [values.get("attack.name") for values in study.finalists(opened)]
    assert finalists == [None, "avg_zero", "agr_tailored", "rop"]  # None: the row without an attack


def test_attacks_without_effect_are_no_candidates(attacked: Suite, row: SubmissionPlan) -> None:
    with pytest.raises(InvalidParameter, match="candidate rush: give the attack that it wraps"):
        attack_study(row, AGAINST, ["rush"])
    with pytest.raises(InvalidParameter, match="learned reads a file"):
        attack_study(row, AGAINST, ["learned"])
    with pytest.raises(InvalidParameter, match="reward_flip crafts no messages"):
        attack_study(row, AGAINST, ["reward_flip"])
    with pytest.raises(UnknownName, match="ropp"):
        attack_study(row, AGAINST, ["ropp"])
    assert attack_study(row, AGAINST, ["reward_flip", "rop"]).attacks == ("rop(on=both)",)
    alone = plan_submission(attacked, "defence", Method(algo="solo(N=4)"))
    with pytest.raises(UserError, match="receive no messages"):
        attack_study(alone, Method(algo="solo(N=4)", against="alone"))


def test_an_attack_that_was_found_passes_the_checks_and_is_best_known(attacked: Suite, home: Path) -> None:
    report = checked(home / "submissions" / "attacked-v1" / "adaptive" / "against-tiny")
    assert not report.refused, report.findings
    assert report.entry is not None
    tuning = report.entry.submission.tuning
    assert tuning is not None
    assert tuning.search is not None
    assert tuning.attacks == ("sign_flip(on=both)", "avg_zero(on=both)")
    assert (tuning.trials, tuning.search.episodes, tuning.search.steps) == (4, 4 * 3 * 5 * 8, 4 * 3 * 9)
    scores = [(area - 22.3) / (30 - 22.3) for area in (27.0, 26.0)]  # of the first trials; then the lowest stays
    assert list(map(float, tuning.search.best)) == pytest.approx([*scores, scores[1], scores[1]])
    assert float(tuning.search.default) == pytest.approx((29 - 22.3) / (30 - 22.3))
    assert float(tuning.search.again) == pytest.approx((23 - 22.3) / (30 - 22.3))
    assert "sign_flip(" in str(report.entry.submission.method.attack)  # by fresh seeds, not by the search
    assert list(_tunings(report.entry.submission)) == [
        "4 trials on 3 seeds, of sign_flip(on=both), avg_zero(on=both); "
        "on fresh seeds 0.87 without an attack, 0.09 under it; 480 episodes"
    ]
    assert len(report.entry.cells) == 2 * attacked.seeds  # without the attack, and under it
    (board,) = boards(attacked, scan_entries(home / "submissions")[0])
    (shown,) = board.rows
    assert shown.score is not None
    attack = str(report.entry.submission.method.attack)
    (stratum,) = attacked.strata
    adaptive = report.entry.areas(attacked, stratum, attack)
    scores = [max(0.0, (value - 22.3) / (30 - 22.3)) for value in adaptive]
    assert shown.best_known == pytest.approx(min(shown.score.worst.value, sum(scores) / len(scores)))


def _of_another_row(tuning: dict[str, Any]) -> None:
    tuning["search"]["method"]["against"] = "another"


def _never_a_candidate(tuning: dict[str, Any]) -> None:
    tuning["search"]["ranges"]["attack.name"] = ["rop"]


def _narrower(tuning: dict[str, Any]) -> None:
    ranges = tuning["search"]["ranges"]
    tuning["search"]["ranges"] = {key: [1e-9, 1e-8, True] if "scale" in key else ["rush"] for key in ranges}


def _dearer(tuning: dict[str, Any]) -> None:
    tuning["search"]["episodes"] = 10**6


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_of_another_row, "the study attacked another method, or another row"),
        (_never_a_candidate, "attack.name is .*, and the search space is rop"),
        (_never_a_candidate, "the attacks are not those of the search space"),
        (_narrower, "attack.wrapper is .*, and the search space is rush"),
        (_dearer, "the search took 1,000,000 episodes, and the suite allows 500"),
    ],
)
def test_a_search_that_the_suite_does_not_allow_is_refused(
    home: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], line: str
) -> None:
    shutil.copytree(home / "submissions", tmp_path / "submissions")
    folder = tmp_path / "submissions" / "attacked-v1" / "adaptive" / "against-tiny"
    about = json.loads((folder / "submission.json").read_text())
    change(about["tuning"])
    (folder / "submission.json").write_text(json.dumps(about))
    messages = [str(finding) for finding in checked(folder).findings if finding.check == "tuned-otherwise"]
    assert re.search(line, "\n".join(messages)), messages


@pytest.mark.parametrize(
    ("attack", "lines"),
    [
        ("sign_flip(on=both, scale=2)", []),
        ("split_brain(avg_zero(on=both))", []),
        ("sign_flip(on=gradient)", ["sign_flip has parameters that were not searched"]),
        ("rush(avg_zero(on=both))", ["attack.wrapper is rush, and the search space is none, split_brain"]),
        ("sign_flip(on=both, scale=99)", ["attack.sign_flip_scale is 99.0, and the search space is 0.05, 50, True"]),
    ],
)
def test_an_attack_must_be_of_the_search_space(attacked: Suite, home: Path, attack: str, lines: list[str]) -> None:
    submission = read_entry(home / "submissions" / "attacked-v1" / "adaptive" / "against-tiny").submission
    described = {"cartpole-complete": registry.describe(registry.make("attack", attack))}
    assert list(attack_search_problems(attacked, submission, described)) == lines


def test_an_attack_is_written_in_one_way() -> None:
    assert attack_text("avg_zero") == "avg_zero(on=both)"
    assert attack_text("ipm", "rush", {"scale": 0.5}) == "rush(ipm(on=both, scale=0.5))"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("tinny",), "there is no row 'tinny' in .*"),
        (("untuned",), "suite untuned-v1 has no table `tuning`, so its rows cannot be tuned"),
        (("against-tiny",), "there is no row 'against-tiny' in"),
        (("{home}/submissions/attacked-v1/adaptive/against-tiny",), "is no row of the track defence of attacked-v1"),
        (("tiny", "--attacks", "reward_flip"), "candidate reward_flip crafts no messages"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    home: Path, tmp_path: Path, arguments: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shutil.copytree(home / "submissions", tmp_path / "submissions")
    untuned = tmp_path / "submissions" / "untuned-v1" / "defence" / "untuned"
    shutil.copytree(home / "submissions" / "attacked-v1" / "defence" / "tiny", untuned)
    about = json.loads((untuned / "submission.json").read_text())
    about |= {"suite": "untuned-v1", "suite_sha256": suite("untuned-v1").sha256}
    about["entry"] |= {"slug": "untuned"}
    (untuned / "submission.json").write_text(json.dumps(about))
    written = [argument.format(home=home) for argument in arguments]
    assert main(monkeypatch, "leaderboard", "attack", *written, "--from", str(tmp_path), "--dry-run") == 2
    message = capsys.readouterr().err
    assert re.search(line, message.replace("\n", " ")), message


def test_a_dry_run_names_the_study(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    arguments = ("tiny", "--attacks", "rop,ipm", "--from", str(home), "--dry-run")
    assert main(monkeypatch, "leaderboard", "attack", *arguments) == 0
    output = capsys.readouterr().out
    assert re.match(r"tiny-attacked-v1-[0-9a-f]{16}: 4 trials of 3 runs over rop\(on=both\), ipm\(on=both\)", output)
    assert find_entry("tiny", home / "submissions") == home / "submissions" / "attacked-v1" / "defence" / "tiny"
    assert read_entry(find_entry("tiny", home / "submissions")).slug == "tiny"


@pytest.mark.slow
def test_the_command_searches_runs_and_resumes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    row = Path("submissions", "attacked-v1", "defence", "tiny")
    shutil.copytree(home / row, tmp_path / row)  # without the attack on file, which may be found again
    out = tmp_path / "runs"
    arguments = ("tiny", "--attacks", "sign_flip,avg_zero", "--from", str(tmp_path), "--out", str(out), "--executor")
    printed = []
    for _ in range(2):
        assert main(monkeypatch, "leaderboard", "attack", *arguments, "serial") == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    command = next(line for line in printed[0].splitlines() if line.startswith("submit: "))
    submit = command.removeprefix("submit: byzbench ").replace("NAME", "Found").replace("AUTHOR", "Author").split()
    assert main(monkeypatch, *submit, "--out", str(tmp_path / "submissions")) == 0
    folder = tmp_path / "submissions" / "attacked-v1" / "adaptive" / "found"
    assert not checked(folder).refused
