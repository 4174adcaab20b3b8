"""Suites whose strata set a schedule: their cells, attacks on time, and the replay of asynchronous cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.curves import area_under_curve
from byzbench.leaderboard import suites
from byzbench.leaderboard.exchangeability import area
from byzbench.leaderboard.frozen import freeze_suite
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.replay import draw_cells, perturbed, relabelled, replay_entry
from byzbench.leaderboard.runners import LocalRunner
from byzbench.leaderboard.schema import Method
from byzbench.leaderboard.submitting import collect_cells, write_submission
from byzbench.leaderboard.suites import Suite, suite
from byzbench.sweeps.executors import SerialExecutor
from tests.tiny_suite import ABOUT, METHOD, TINY, checked, forget_suites, run

SCHEDULE = "asynchronous(speed=two_speed, ratio=4, slow=0.5, quorum=n-f, staleness=4)"
STRATUM = TINY[TINY.index("[[stratum]]") :].replace("cartpole-complete", "cartpole-asynchronous")
ON_TIME = '[[attack]]\nspec = "{}"\nknows = "{}"\nrole = "{}"\nstrata = ["cartpole-asynchronous"]\n'
SERVER = STRATUM
for old, new in {
    "cartpole-asynchronous": "cartpole-star",
    "decentralised": "server",
    '"complete"': '"star"',
    "reference = 30\n": 'schedule = "asynchronous"\n[[reference]]\ndivision = "server"\nalgo = "afedpg(N=4)"\n',
}.items():
    SERVER = SERVER.replace(old, new)
TIMED = f"""{TINY}{STRATUM}schedule = "{SCHEDULE}"\n{SERVER}"""
for old, new in {
    "tiny-v1": "timed-v1",
    "seeds = 2": "seeds = 1\nevaluations = 2\nevaluation_episodes = 1",
    "[[algorithm]]": ON_TIME.format("rush(ipm(on=both))", "omniscient", "worst_case") + "[[algorithm]]",
}.items():
    TIMED = TIMED.replace(old, new)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite with an asynchronous stratum, which alone has an attack on time."""
    home = tmp_path_factory.mktemp("home")
    (home / "suites").mkdir()
    (home / "suites" / "timed-v1.toml").write_text(TIMED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "files", lambda package: home)
        forget_suites()
        freeze_suite(suite("timed-v1"))
        yield suite("timed-v1")
    forget_suites()


def test_a_stratum_hands_its_schedule_to_its_cells_alone(timed: Suite) -> None:
    cells = plan_submission(timed, "defence", METHOD).cells
    assert len(cells) == (2 + 3) * timed.seeds
    for place, cell in cells.items():
        assert cell.schedule.asynchronous == (place.stratum.name == "cartpole-asynchronous"), place
    schedule = next(cell.schedule for cell in cells.values() if cell.schedule.asynchronous)
    assert (schedule.speed, schedule.ratio, schedule.quorum, schedule.staleness) == ("two_speed", 4, "n-f", 4)  # type: ignore[attr-defined]
    attacks = {s.name: timed.attacks_of(s) for s in timed.strata}
    assert attacks["cartpole-complete"] == ("none", "ipm")
    assert attacks["cartpole-asynchronous"] == ("none", "ipm", "rush(ipm(on=both))")
    assert [s.task for s in timed.strata] == ["cartpole", f"cartpole, {SCHEDULE}", "cartpole, asynchronous"]
    assert timed.strata[0].learner == timed.strata[1].learner  # one parameter set for both


def test_a_method_that_cannot_take_the_schedule_is_refused(timed: Suite) -> None:
    assert plan_submission(timed, "defence", Method(algo="afedpg(N=4)")).division == "server"
    with pytest.raises(Undefined, match="cartpole-star: schedule 'asynchronous': the server of byzpg") as error:
        plan_submission(timed, "defence", Method(algo="byzpg(N=4)"))
    assert "\n" not in str(error.value)


def test_asynchronous_cells_have_areas_and_are_replayed_exactly(timed: Suite, tmp_path: Path) -> None:
    entered = plan_submission(timed, "defence", METHOD)
    run(entered, tmp_path / "runs")
    write_submission(entered, collect_cells(entered, tmp_path / "runs"), ABOUT, tmp_path / "submissions")
    folder = tmp_path / "submissions" / "timed-v1" / "defence" / "tiny"
    report = checked(folder)
    assert not report.refused, report.findings
    assert report.entry is not None
    stratum = timed.strata[1]
    cells = [cell for cell in report.entry.cells if cell.stratum == stratum.name]
    assert len(cells) == 3 * timed.seeds
    traces = {(cell.attack, cell.seed): cell.trace for cell in cells}
    assert all(traces["rush(ipm(on=both))", seed] != traces["none", seed] for seed in range(timed.seeds))
    for cell in cells:
        # The date of an evaluation is the number of trajectories of the honest agent with the most of them.
        assert cell.dates[-1] == cell.trajectories >= stratum.trajectories
        curve = [float(value) for value in cell.curve if value is not None]
        assert area(cell, stratum) == pytest.approx(area_under_curve(cell.dates, curve, 22.3, 8))
    draws = {salt: draw_cells(report.entry, entered.cells, 1, salt)[0] for salt in map(str, range(50))}
    salt, drawn = next((salt, place) for salt, place in draws.items() if place.attack.startswith("rush"))
    runner = LocalRunner(tmp_path / "again", SerialExecutor(tmp_path / "again"))
    result = replay_entry(report.entry, entered, 1, salt, runner, own_seeds_only=True)
    assert [(cell.place, cell.verdict) for cell in result.cells] == [(str(drawn), "exact")]
    cell = entered.cells[drawn]
    assert perturbed(cell, 1).schedule == relabelled(cell, "salt").schedule == cell.schedule


def test_a_study_runs_a_held_out_attack_where_it_applies() -> None:
    held_out = '[[attack]]\nspec = "{}"\nknows = "omniscient"\nrole = "held_out"\n'
    on_time = ON_TIME.format("slowdown(avg_zero(on=both))", "omniscient", "held_out")
    tuning = "[tuning]\nepisodes = 1000\nseeds = 3\n"
    text = TIMED.replace("[[attack]]", tuning + "[[attack]]", 1)
    everywhere = text.replace("[[algorithm]]", held_out.format("avg_zero(on=both)") + on_time + "[[algorithm]]")
    with pytest.raises(InvalidParameter, match="cartpole-complete must have an attack with the role held_out"):
        Suite.of(text.replace("[[algorithm]]", on_time + "[[algorithm]]").encode(), "timed-v1")
    parsed = Suite.of(everywhere.encode(), "timed-v1")
    assert [parsed.held_out(stratum) for stratum in parsed.strata[:2]] == [
        ("avg_zero(on=both)",),
        ("avg_zero(on=both)", "slowdown(avg_zero(on=both))"),
    ]
