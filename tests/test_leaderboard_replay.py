"""Replays: what is exact, what is a mismatch, and how often tests are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_suite
import torch
from tiny_suite import ABOUT, METHOD, checked, edited, inflate, lines_of, replayed, rewrite, run

from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training
from byzbench.identity import ENGINE
from byzbench.leaderboard.exchangeability import LEVELS, area, claim_group, exchange_p
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.replay import ReplayResult, compare_cell, draw_cells, pays, replay_entry
from byzbench.leaderboard.runners import LocalRunner
from byzbench.leaderboard.schema import Cell, Method
from byzbench.leaderboard.submitting import collect_cells, write_submission
from byzbench.leaderboard.suites import Suite, suite
from byzbench.sweeps.executors import SerialExecutor

tiny, home, copy = tiny_suite.tiny, tiny_suite.home, tiny_suite.copy


def test_another_engine_or_version_is_named_and_replayed_by_a_test(copy: Path, tmp_path: Path) -> None:
    components = edited(copy)["components"]
    components["attack ipm"] |= {"version": 7}
    rewrite(copy, lines_of(copy), code=edited(copy, engine=99, components=components))
    assert [(f.check, f.what, f.fatal) for f in checked(copy).findings] == [
        ("other-version", f"engine: 99 then, {ENGINE} now", False),
        ("other-version", "attack ipm: version 7 then, 1 now", False),
    ]
    cells = lines_of(copy)
    cells[3] |= {"trace": "f" * 64}
    rewrite(copy, cells)
    outcome = replayed(copy, tmp_path / "scratch", own_seeds_only=True)
    assert (outcome.verdict, str(outcome)) == ("consistent", f"consistent at engine {ENGINE}")
    assert f"engine: 99 then, {ENGINE} now" in outcome.cells[0].evidence
    assert [(c.test, c.runs) for c in outcome.comparisons] == [("own seeds", 5)], "the replay and four controls"


def test_any_inflation_of_a_drawn_cell_is_a_mismatch_at_the_same_engine(copy: Path, tmp_path: Path) -> None:
    for number, trace in enumerate((lines_of(copy)[3]["trace"], "f" * 64)):
        cells = lines_of(copy)
        cells[3] = inflate(cells[3], 1.001) | {"trace": trace}
        rewrite(copy, cells)
        outcome = replayed(copy, tmp_path / f"scratch-{number}", own_seeds_only=True)
        assert [(c.place, c.verdict) for c in outcome.cells] == [("cartpole-complete · ipm · seed 1", "mismatch")]
        assert (outcome.verdict, outcome.exit_code) == ("mismatch", 1)


def test_what_cannot_be_run_is_nobodys_fault(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(todo: Experiment, **options: Any) -> None:
        raise MemoryError("no 8 GiB")

    monkeypatch.setattr("byzbench.sweeps.cells.run_experiment", fail)
    outcome = replayed(copy, tmp_path / "scratch")
    assert (outcome.verdict, outcome.exit_code) == ("infrastructure", 3)
    assert "out of memory: no 8 GiB" in outcome.cells[0].evidence


def test_an_attack_is_replayed_and_a_lowered_curve_serves_it(
    home: Path, copy: Path, tiny: Suite, tmp_path: Path
) -> None:
    """Its runs without an attack have the traces of the row that is attacked, and are not taken for copies."""
    submissions = copy.parents[2]
    for track, method, slug in (
        ("attack", Method(attack="sign_flip"), "flip"),
        ("adaptive", Method(algo=str(METHOD.algo), attack="sign_flip", against="tiny"), "aimed"),
    ):
        entered = plan_submission(tiny, track, method)  # type: ignore[arg-type]
        run(entered, home / "runs")
        about = ABOUT.model_copy(update={"slug": slug, "name": slug})
        folder = write_submission(entered, collect_cells(entered, home / "runs"), about, submissions)
        assert checked(folder).findings == []
        assert {axis for axes in entered.resolved.values() for axis in axes} == (
            {"attack"} if track == "attack" else {"algorithm", "aggregator", "agreement", "attack"}
        )
    assert [pays(track, "sign_flip") for track in ("defence", "attack", "adaptive")] == [1, -1, -1]  # type: ignore[arg-type]
    assert pays("attack", "none") == 1
    report = checked(folder)
    assert report.entry is not None
    assert report.submission_plan is not None
    scratch = tmp_path / "scratch"
    outcome = replay_entry(
        report.entry, report.submission_plan, 4, "x", LocalRunner(scratch, SerialExecutor(scratch)), own_seeds_only=True
    )
    assert [cell.verdict for cell in outcome.cells] == ["exact"] * 4
    other = json.loads((folder / "submission.json").read_text())
    other["resolved"]["cartpole-complete"]["algorithm"]["parameters"]["lr"] = 0.5
    rewrite(folder, lines_of(folder), resolved=other["resolved"])
    findings = checked(folder).findings
    assert "the method differs from that of this entry: algorithm lr is 0.5, not 0.05" in [
        finding.what for finding in findings
    ]


CLAIM = Cell(
    cell="0" * 16,
    stratum="s",
    attack="ipm",
    seed=0,
    status="ok",
    verdict="ok",
    value="75.0",
    curve=("20.0", "75.0"),
    opening={"return": "21.5"},
    trajectories=12,
    steps=100,
    trace="1" * 64,
)


def other(value: float, opening: float = 21.5) -> Cell:
    values = {"value": repr(value), "curve": ("20.0", repr(value)), "opening": {"return": repr(opening)}}
    return CLAIM.model_copy(update={**values, "trace": "2" * 64})


def test_verdicts_and_their_evidence() -> None:
    torch = ["torch: 1.0 then, 2.0 now"]
    assert compare_cell(CLAIM, CLAIM.model_copy(update={"seconds": "3.0"}), [])[0] == "exact"
    assert compare_cell(CLAIM, other(75.01), [])[0] == "mismatch"
    assert "value 75.0 for 75.01" in compare_cell(CLAIM, other(75.01), [])[1]
    assert compare_cell(CLAIM, CLAIM.model_copy(update={"value": "70.0"}), torch)[0] == "mismatch", "of its own trace"
    more, moved = CLAIM.model_copy(update={"messages": 9}), ["agreement mda: version 1 then, 2 now"]
    assert compare_cell(CLAIM, more, torch)[0] == "mismatch", "no version differs"
    assert compare_cell(CLAIM, more, moved, moved=True)[0] == "consistent"
    assert compare_cell(CLAIM, more.model_copy(update={"value": "70.0"}), moved, moved=True)[0] == "mismatch"
    verdict, evidence = compare_cell(CLAIM, other(40.0, 25.0), torch)
    assert verdict == "consistent"
    assert evidence == f"{torch[0]}; first round differs by {3.5 / 25:.1e}"
    failed = Cell(**CLAIM.model_dump(include={"cell", "stratum", "attack", "seed"}), status="failed", reason="x")
    assert compare_cell(CLAIM, failed, [])[0] == "infrastructure"
    assert compare_cell(failed, failed.model_copy(update={"reason": "y"}), [])[0] == "exact"
    assert compare_cell(failed, CLAIM, torch) == ("mismatch", "it was submitted as failed, and runs here")


def test_the_area_starts_at_random_and_what_is_not_finite_counts_as_random(tiny: Suite) -> None:
    stratum = tiny.strata[0]
    assert area(CLAIM.model_copy(update={"curve": ("30.0", None, "40.0")}), stratum) == pytest.approx(
        (22.3 / 2 + 30 + 22.3 + 40 / 2) / 3
    )
    assert area(CLAIM.model_copy(update={"status": "diverged"}), stratum) == 22.3


def test_the_p_value_counts_choices_of_claims() -> None:
    one, two = np.array([3.0]), np.array([1.0, 2.0])
    assert exchange_p([(one, two)]) == pytest.approx(1 / 3)
    assert exchange_p([(one, two)] * 4) == pytest.approx(3**-4)
    assert exchange_p([(np.ones(2), np.ones(3))]) == 1.0, "equal runs contradict nothing"
    assert exchange_p([(np.array([5.0, 6.0]), np.array([1.0, 2.0, 3.0]))]) == pytest.approx(1 / 10)
    many = [(np.array([9.0, 8.0]), np.arange(5.0))] * 9
    assert exchange_p(many) == pytest.approx(1 / 200_001), "too many to enumerate"
    claims, runs = claim_group([0.5], [0.4], -1)
    assert (claims, runs) == (pytest.approx([-0.52]), pytest.approx([-0.4]))


def test_honest_claims_are_contradicted_at_the_level() -> None:
    rng = np.random.default_rng(0)
    p = [exchange_p([(x[:1], x[1:]) for x in rng.normal(size=(8, 6))]) for _ in range(1000)]
    assert np.mean(np.array(p) < 0.05) <= 0.07
    p = [exchange_p([(x[:4], x[4:]) for x in rng.normal(size=(3, 7))]) for _ in range(1000)]
    assert np.mean(np.array(p) < 0.05) <= 0.07
    assert sum(LEVELS.values()) <= 0.002


@pytest.mark.slow
def test_an_engine_that_rounds_otherwise_is_consistent_and_raised_curves_are_not(
    tiny: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose first parameters are off by the last place of a float32, on a suite of eight seeds."""
    entered = plan_submission(suite("seeds-v1"), "defence", METHOD)
    start = Training.__init__

    def rounded(self: Training, todo: Experiment) -> None:
        start(self, todo)
        theta, generator = self.state["theta"], torch.Generator().manual_seed(todo.seed)
        noise = torch.randn(theta.shape, generator=generator) * torch.finfo(theta.dtype).eps
        self.state = {name: value * (1 + noise) if value is theta else value for name, value in self.state.items()}

    with monkeypatch.context() as patch:
        patch.setattr(Training, "__init__", rounded)
        run(entered, tmp_path / "runs")
    folder = write_submission(entered, collect_cells(entered, tmp_path / "runs"), ABOUT, tmp_path / "submissions")
    rewrite(folder, lines_of(folder), code=edited(folder, engine=99))
    outcome = verified(folder, tmp_path / "honest")
    assert outcome.verdict == "consistent"
    assert not [cell for cell in outcome.cells if cell.verdict == "exact"], "every trace is another one"
    own, fresh, relabelled = outcome.comparisons
    assert (own.runs, fresh.runs, relabelled.runs) == (40, 8, 8)
    scale = 0.2 * (tiny.strata[0].reference - tiny.strata[0].random)
    rewrite(folder, [raised(line, scale) if line["attack"] == "ipm" else line for line in lines_of(folder)])
    outcome = verified(folder, tmp_path / "raised")
    assert (outcome.verdict, outcome.exit_code) == ("mismatch", 1)
    assert outcome.comparisons[0].p < LEVELS["own seeds"]


def verified(folder: Path, scratch: Path) -> ReplayResult:
    """Eight cells are run again, under the first salt that draws six attacked ones."""
    report = checked(folder)
    entry, here = report.entry, report.submission_plan
    assert entry is not None
    assert here is not None
    salts = (
        s for s in map(str, range(1000)) if sum(p.attack == "ipm" for p in draw_cells(entry, here.cells, 8, s)) == 6
    )
    return replay_entry(entry, here, 8, next(salts), LocalRunner(scratch, SerialExecutor(scratch)))


def raised(line: dict[str, Any], by: float) -> dict[str, Any]:
    curve = [repr(float(point) + by) for point in line["curve"]]
    return line | {"curve": curve, "return": curve[-1]}
