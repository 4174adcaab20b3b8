"""Pilots of suites: the file, the tests by which strata and attacks are admitted, and the command."""

from __future__ import annotations

import doctest
import importlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_suite import forget_suites, main

from byzbench import registry
from byzbench.errors import UserError
from byzbench.experiments.curves import area_under_curve
from byzbench.leaderboard import pilot_page, suites
from byzbench.leaderboard.admission import PilotResult, StageResult, attainable_maximum, examine, harm_p_value, select
from byzbench.leaderboard.freezing import suite_problems
from byzbench.leaderboard.pilot import CellRuns, Pilot, Selection, Stage, pilot_cells, read_pilot
from byzbench.leaderboard.pilot_panel import paired_power
from byzbench.leaderboard.suites import CLEAN, Suite
from byzbench.reports.estimators import ratio_interval

SMOKE = Path(__file__).parents[1] / "leaderboards" / "pilots" / "smoke-v2.toml"

HEAD = """
name = "tiny-v1"
title = "Seconds."
seeds = 5
evaluations = 2
evaluation_episodes = 1

[pilot]
choose_seeds = 4
confirm_seeds = 5
difference = 0.2
pair = ["rfa", "krum"]

[[attack]]
spec = "none"
[[attack]]
spec = "large_noise(relative=False, on=both)"
knows = "local"
[[attack]]
spec = "ipm"
knows = "omniscient"
role = "sanity"
[[attack]]
spec = "min_max"
knows = "omniscient"
role = "held_out"

[[reference]]
division = "decentralised"
algo = "decbyzpg(p=1, N=4)"
aggregator = "honest_mean"
agreement = "gossip+honest_mean"

[[stratum]]
name = "complete"
division = "decentralised"
env = "cartpole"
topology = "complete"
agents = 5
byzantine = 1
trajectories = 8
low = 1
high = 500
random = 9
"""
"""A curve starts at the return of a constant action, so that a method that noise breaks is at the floor."""

NOISE = "large_noise(relative=False, on=both)"


def method(name: str, aggregator: str, agreement: str = "mda", robust: bool = True, attacked: bool = True) -> str:
    flags = f"robust = {str(robust).lower()}\nattacked = {str(attacked).lower()}\n"
    rules = f'aggregator = "{aggregator}"\nagreement = "{agreement}"\n'
    return f'[[panel]]\nname = "{name}"\ndivision = "decentralised"\nalgo = "decbyzpg(p=1, N=4)"\n{rules}{flags}'


REFERENCE = method("reference", "honest_mean", "gossip+honest_mean", robust=False, attacked=False)
RULES = [method(rule, rule) for rule in ("rfa", "krum", "trimmed_mean")]
TINY = HEAD + REFERENCE + "".join(RULES) + method("mean", "mean", "mean")

SANITY = """[[attack]]
spec = "ipm"
knows = "omniscient"
role = "sanity"
"""
CHANGES = {
    SANITY: "",
    "trajectories = 8": "trajectories = 48",
    "evaluations = 2": "evaluations = 4",
    "evaluation_episodes = 1": "evaluation_episodes = 3",
    "choose_seeds = 4": "choose_seeds = 6",
    "confirm_seeds = 5": "confirm_seeds = 6",
    "N=4": "N=4, lr=0.05",
    '"krum"]': '"mean"]',
    NOISE: "avg_zero(on=both)",
    '"local"': '"omniscient"',
}
LEARNING = HEAD + REFERENCE + RULES[0] + method("mean", "mean", "mean")
for old, new in CHANGES.items():
    LEARNING = LEARNING.replace(old, new)
"""A pilot of methods that learn a little, of which plain averaging does not under the attack."""


def write(folder: Path, text: str = TINY) -> Path:
    path = folder / "tiny-v1.toml"
    path.write_text(text)
    return path


def synthetic_runs(
    pilot: Pilot, stage: Stage, levels: Mapping[tuple[str, str, str], float], chosen: Selection
) -> dict[tuple[str, str, str], CellRuns]:
    """Runs whose AUC is about `levels`, else 209: a score of about 1."""
    runs = {}
    for place in pilot_cells(pilot, stage, chosen):
        key = place.stratum.name, str(place.algo), place.attack
        rng = np.random.default_rng([ord(letter) for letter in "".join(key) + stage])
        areas = levels.get(key, 209.0) * (1 + 0.02 * rng.standard_normal(len(pilot.stage_seeds(stage))))
        traces = tuple(f"{key} {index}" for index in range(len(areas)))
        runs[key] = CellRuns(areas, traces, (2.0,) * len(areas), (3.0,) * len(areas))
    return runs


def synthetic(
    pilot: Pilot, stage: Stage, levels: Mapping[tuple[str, str, str], float], selection: Selection | None = None
) -> StageResult:
    """The result of a stage with runs of `synthetic_runs`."""
    chosen = selection or Selection.whole(pilot)
    return examine(pilot, stage, synthetic_runs(pilot, stage, levels, chosen), chosen)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Pilot:
    return read_pilot(write(tmp_path_factory.mktemp("pilot")))


BROKEN = {("complete", "mean", NOISE): 9.0}


@pytest.mark.parametrize("module", ["pilot", "pilot_panel", "admission"])
def test_examples_hold(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SMOKE.parents[2])
    results = doctest.testmod(importlib.import_module(f"byzbench.leaderboard.{module}"))
    assert results.attempted
    assert not results.failed


# The file


def test_a_stratum_of_a_pilot_sets_the_policy_and_the_scenario(tmp_path: Path) -> None:
    more = 'env = "cartpole"\npolicy = "linear"\nscenario = "heterogeneous(of=starts)"'
    pilot = read_pilot(write(tmp_path, TINY.replace('env = "cartpole"', more)))
    cells = pilot_cells(pilot, "choose", Selection.whole(pilot)).values()
    assert {registry.name_of(cell.policy) for cell in cells} == {"linear"}
    assert {cell.scenario for cell in cells} == {registry.make("scenario", "heterogeneous(of=starts)")}


@pytest.mark.parametrize(
    "old, new, message",
    [
        (REFERENCE, "", "a pilot without a reference"),
        ('aggregator = "honest_mean"', 'aggregator = "mean"', "not the reference of decentralised"),
        ('spec = "min_max"', 'spec = "min_max_max"', "unknown attack 'min_max_max'"),
        ('aggregator = "rfa"', 'aggregator = "rfaa"', "unknown aggregator 'rfaa'"),
        ('pair = ["rfa", "krum"]', 'pair = ["rfa", "median"]', "attacked methods of both names of the pair"),
        ('pair = ["rfa", "krum"]', 'pair = ["rfa", "reference"]', "attacked methods of both names of the pair"),
        ('knows = "local"', 'knows = "local"\nstrata = ["ring"]', "'ring', which does not exist"),
        ("choose_seeds = 4", "choose_seeds = 3", "greater than or equal to 4"),
        ("robust = true", "robust = false", "no robust method in decentralised"),
        ("robust = true\nattacked = true", "robust = true\nattacked = false", "is robust, and must be attacked"),
        ('name = "krum"', 'name = "rfa"', "have one name"),
    ],
)
def test_a_file_that_is_no_pilot_is_refused_in_one_line(
    old: str,
    new: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert old in TINY
    changed = TINY.replace(old, new) if new != 'aggregator = "mean"' else TINY.replace(old, new, 1)
    path = write(tmp_path, changed)
    assert main(monkeypatch, "pilot", str(path), "--out", str(tmp_path / "runs"), "--executor", "serial") == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_stages_have_different_seeds_that_follow_from_the_file(tiny: Pilot, tmp_path: Path) -> None:
    choose, confirm = (tiny.stage_seeds(stage) for stage in ("choose", "confirm"))
    assert (len(choose), len(confirm)) == (4, 5)
    assert not {*choose, *tiny.seed_values} & {*confirm}
    assert read_pilot(write(tmp_path)).stage_seeds("choose") == choose
    assert read_pilot(write(tmp_path, TINY + "\n")).stage_seeds("choose") != choose


def test_cells_are_the_panel_without_held_out_attacks(tiny: Pilot) -> None:
    cells = pilot_cells(tiny, "choose")
    assert {place.attack for place in cells} == {CLEAN, NOISE, "ipm"}
    assert {place.attack for place in cells if place.algo == "reference"} == {CLEAN}
    assert len(cells) == 4 * (1 + 4 * 3)


def test_the_pilot_of_smoke_is_whole() -> None:
    pilot = read_pilot(SMOKE)
    levels = {"own": 0, "byzantine": 1, "graph": 1}
    for attack in pilot.attacks:
        if attack.knows is not None:
            known = registry.make("attack", attack.spec).threat.knowledge  # type: ignore[attr-defined]
            level = max(levels.get(what, 2) for what in known)
            assert ("local", "coordinated", "omniscient")[level] == attack.knows, attack.spec
    assert [len(pilot.worst_case(stratum)) for stratum in pilot.strata] == [5, 4, 4]
    one_seed = {place: cell for place, cell in pilot_cells(pilot, "choose").items() if place.seed == 0}
    assert len(one_seed) == (2 + 6 * 7) + (2 + 6 * 6) + (1 + 4 * 6)
    for place, cell in one_seed.items():
        for spec in pilot.held_out(place.stratum) if place.attack == CLEAN else ():
            replace(cell, attack=registry.make("attack", spec)).check()  # type: ignore[arg-type]


# The tests


def test_an_attack_is_admitted_by_its_named_pair_on_both_stages(tiny: Pilot) -> None:
    chosen = synthetic(tiny, "choose", BROKEN)
    assert [(s.num_runs, s.num_floor, s.num_ceiling, s.admitted) for s in chosen.shares] == [(16, 4, 0, True)]
    assert [(t.stratum, t.method, t.harmful) for t in chosen.harm] == [("complete", "mean", True)]
    selection = select(tiny, chosen)
    assert selection == Selection(("complete",), (NOISE, "ipm"), {NOISE: ("complete", "mean")})
    assert not PilotResult(chosen, synthetic(tiny, "confirm", BROKEN, selection)).failures
    # The pair is fixed: harm to another method does not confirm the attack.
    other = synthetic(tiny, "confirm", {("complete", "rfa", NOISE): 100.0}, selection)
    assert [t.method for t in other.harm] == ["mean"]
    assert len(PilotResult(chosen, other).failures) == 1
    assert "mean in complete retains 1.0" in other.failures[0]


def test_an_attack_that_only_breaks_a_method_that_is_not_robust_is_not_admitted() -> None:
    text = TINY.replace(method("mean", "mean", "mean"), method("mean", "mean", "mean", robust=False))
    pilot = Pilot.model_validate({**tomllib.loads(text), "sha256": "0"})
    result = synthetic(pilot, "choose", BROKEN)
    assert not result.harm[0].harmful
    assert select(pilot, result).strata == ()
    assert PilotResult(result).failures[0] == "the stage choose admits no stratum with an attack"


def test_a_stratum_with_many_runs_at_the_floor_or_at_the_maximum_is_not_admitted(tiny: Pilot) -> None:
    both = BROKEN | {("complete", "krum", NOISE): 1e4}
    result = synthetic(tiny, "choose", both)
    assert [(s.num_floor, s.num_ceiling, s.admitted) for s in result.shares] == [(4, 4, False)]
    assert result.harm[0].stratum is None
    assert "4 of 16 runs" in result.failures[0]


def test_a_reference_that_does_not_learn_leaves_no_scores(tiny: Pilot) -> None:
    result = synthetic(tiny, "choose", {("complete", "reference", CLEAN): 5.0})
    assert not result.scores
    assert "the reference is not above random" in result.failures[0]
    json.loads(pilot_page.to_json(tiny, PilotResult(result)))


def test_the_attainable_maximum_is_a_curve_at_the_top_from_the_first_date_on(tiny: Pilot) -> None:
    expected = area_under_curve([4, 8], [500.0, 500.0], 9.0, 8)
    assert attainable_maximum(tiny.strata[0], evaluations=2) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_harm_is_certain_wherever_the_interval_of_the_retention_is_below(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clean = 1 + 0.1 * rng.standard_normal(8)
    attacked = rng.uniform(0.6, 0.95) * clean + 0.1 * rng.standard_normal(8)
    high = ratio_interval(attacked, clean)[1]
    assert high is not None
    assert harm_p_value(attacked, clean) < 0.05 or high >= 0.9


def test_power_is_that_of_simulated_tests() -> None:
    from scipy import stats

    draws = 0.2 + 0.25 * np.random.default_rng(0).standard_normal((20_000, 9))
    result = stats.ttest_1samp(draws, 0.0, axis=1)
    assert paired_power(0.2, 0.25, 9) == pytest.approx(
        ((result.pvalue < 0.05) & (result.statistic > 0)).mean(), abs=0.01
    )
    assert paired_power(0.2, 1e-6, 20) == 1.0


def test_methods_are_separated_and_inert_attacks_named(tiny: Pilot) -> None:
    runs = {
        (place.stratum.name, str(place.algo), place.attack): CellRuns(
            np.array([200.0, 210, 190, 205]) - 150 * (place.algo == "mean") * (place.attack == NOISE),
            tuple("abcd") if place.attack != NOISE else (None, *"efg"),
            (1.0,) * 4,
            (1.5,) * 4,
        )
        for place in pilot_cells(tiny, "choose")
    }
    result = examine(tiny, "choose", runs, Selection.whole(tiny))
    assert {(m, a) for _, m, a in result.inert} == {(m, "ipm") for m in ("rfa", "krum", "trimmed_mean", "mean")}
    order = result.separations[0]
    assert dict(zip(order.methods, order.ranks, strict=True))["mean"] == (4, 4)
    assert {("rfa", "mean"), ("krum", "mean"), ("trimmed_mean", "mean")} == set(order.better)
    assert result.power[0].spread == pytest.approx(0.05)
    assert result.overhead == 1.5


# The freeze

SUITE = TINY[: TINY.index("[pilot]")] + TINY[TINY.index("[[attack]]") : TINY.index("[[panel]]")]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("", "", None),
        (SANITY, "", None),
        ("seeds = 5", "seeds = 2", "it has 2 seeds, and the power over complete asks for"),
        ("evaluations = 2", "evaluations = 3", "its evaluations differ from those of the pilot"),
        ("low = 1", "low = 2", "the stratum complete is not one of the pilot"),
        (SANITY, SANITY.replace("sanity", "worst_case"), "the attack ipm is not one of the pilot, or has another role"),
        ('spec = "min_max"', 'spec = "min_sum"', "the attack min_sum is not one of the pilot"),
        ('algo = "decbyzpg(p=1, N=4)"', 'algo = "decbyzpg(p=1, N=5)"', "its references differ"),
        (NOISE, "avg_zero(on=both)", "the attack avg_zero(on=both) is not one of the pilot"),
    ],
)
def test_a_suite_holds_what_its_pilot_admitted(tiny: Pilot, old: str, new: str, message: str | None) -> None:
    assert old in SUITE
    problems = problems_of(tiny, SUITE.replace(old, new))
    assert bool(problems) == (message is not None)
    assert message is None or problems[0].startswith(message)


def problems_of(
    pilot: Pilot, text: str, levels: Mapping[tuple[str, str, str], float] = BROKEN, **changes: Any
) -> list[str]:
    """What keeps a suite from being frozen if the runs of the stage confirm have some levels."""
    chosen = synthetic(pilot, "choose", BROKEN)
    runs = synthetic_runs(pilot, "confirm", levels, select(pilot, chosen))
    confirmed = replace(examine(pilot, "confirm", runs, select(pilot, chosen)), **changes)
    return suite_problems(Suite.of(text.encode(), "tiny-v1"), pilot, PilotResult(chosen, confirmed), runs)


def test_a_suite_is_refused_that_its_pilot_did_not_confirm_or_whose_attack_is_inert(tiny: Pilot) -> None:
    bare = PilotResult(synthetic(tiny, "choose", BROKEN))
    written = Suite.of(SUITE.encode(), "tiny-v1")
    assert suite_problems(written, tiny, bare, {}) == ["the pilot tiny-v1 has no stage confirm"]
    assert problems_of(tiny, SUITE, {}) == [f"the pilot did not admit the attack {NOISE}"]
    inert = (("complete", "rfa", "ipm"),)
    assert problems_of(tiny, SUITE, inert=inert) == [
        "the attack ipm is inert for rfa in complete: its traces are those without an attack"
    ]
    assert not problems_of(tiny, SUITE.replace(SANITY, ""), inert=inert)


# The command


@pytest.mark.slow
def test_the_command_chooses_and_confirms_resumes_and_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store, page = write(tmp_path, LEARNING), tmp_path / "runs", tmp_path / "pilot.md"
    words = ["pilot", str(path), "--out", str(store), "--executor", "serial"]
    assert main(monkeypatch, *words, "--stage", "confirm") == 2
    assert "cells are not in" in capsys.readouterr().err
    assert main(monkeypatch, *words, "--stage", "choose") == 0
    assert "tiny-v1, to be confirmed: strata complete; attacks avg_zero(on=both)" in capsys.readouterr().out
    assert len(list(store.iterdir())) == 6 * (1 + 2 * 2)
    assert main(monkeypatch, *words, "--json", "--page", str(page)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["admitted"]
    assert result["confirm"]["num_runs"] == 6 * (1 + 2 * 2)
    first, done = page.read_text(), {folder: folder.stat().st_mtime for folder in store.iterdir()}
    assert main(monkeypatch, *words, "--page", str(page)) == 0
    assert page.read_text() == first
    assert {folder: folder.stat().st_mtime for folder in store.iterdir()} == done
    assert "tiny-v1, admitted: strata complete; attacks avg_zero(on=both)" in first
    assert f"byzbench pilot {path} --stage both --page {page}" in first
    assert "ENGINE" in first
    (tmp_path / "suites").mkdir()
    monkeypatch.setattr(suites, "files", lambda package: tmp_path)
    freeze = ["leaderboard", "freeze", "tiny-v1", "--pilot", str(path), "--out", str(store)]
    text = LEARNING[: LEARNING.index("[pilot]")] + LEARNING[LEARNING.index("[[attack]]") : LEARNING.index("[[panel]]")]
    for seeds, code in ((2, 2), (200, 0)):
        (tmp_path / "suites" / "tiny-v1.toml").write_text(text.replace("seeds = 5", f"seeds = {seeds}", 1))
        forget_suites()
        assert main(monkeypatch, *freeze) == code
    assert "it has 2 seeds, and the power over complete asks for" in capsys.readouterr().err
    frozen = json.loads((tmp_path / "suites" / "tiny-v1.json").read_text())
    assert frozen["pilot_sha256"] == read_pilot(path).sha256
    forget_suites()


def test_a_candidate_whose_attack_harms_nobody_is_not_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, LEARNING.replace("avg_zero(on=both)", "ipm(scale=0.001)").replace("= 48", "= 8"))
    assert main(monkeypatch, "pilot", str(path), "--out", str(tmp_path / "runs"), "--executor", "serial") == 1
    out = capsys.readouterr().out
    assert "tiny-v1 is not admitted" in out
    assert "not certainly harmful" in out


def test_an_unknown_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no pilot file"):
        read_pilot(tmp_path / "none.toml")
    path = write(tmp_path, 'name = "tiny-v1"\n')
    with pytest.raises(UserError) as refused:
        read_pilot(path)
    assert str(refused.value).startswith(f"pilot {path}: tiny-v1.toml $.title: is required; tiny-v1.toml $.seeds: is ")
    assert main(monkeypatch, "pilot", str(tmp_path / "none.toml")) == 2
