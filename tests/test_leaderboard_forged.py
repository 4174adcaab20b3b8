"""Forged submissions: claims that are wrong in the direction that pays end as mismatches, honest ones do not.

Nothing is run: `Runs` stands in place of the runner, and gives every experiment a curve that follows from its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
import synthetic_entries
import tiny_suite
from tiny_suite import ABOUT, METHOD

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.plan import SubmissionPlan, plan_submission
from byzbench.leaderboard.replay import ReplayResult, replay_entry
from byzbench.leaderboard.runners import CellsByLabel, Verdict
from byzbench.leaderboard.schema import Cell, Method, Submission, Track, validate
from byzbench.leaderboard.suites import CLEAN, CellKey, Suite, suite

tiny = tiny_suite.tiny

METHODS: dict[Track, Method] = {
    "defence": METHOD,
    "attack": Method(attack="zero"),
    "adaptive": Method(algo=METHOD.algo, attack="zero", against="tiny"),
}
CLEAN_AREA, ATTACKED_AREA = 200.0, 150.0
BETWEEN_SEEDS, ROUNDING = 1.0, 0.2
"""Standard deviations of areas between seeds or placements, and between runs that differ by rounding."""


def normal(*key: object) -> float:
    """Return a draw from the standard normal distribution that follows from a key."""
    return float(np.random.default_rng([*hashlib.sha256(repr(key).encode()).digest()]).standard_normal())


def area_of(experiment: Experiment, attack: str, rounding: object) -> float:
    """Return the area under the curve of an experiment, by the seed, the places of Byzantine agents and rounding."""
    place = normal(Runs.entry, experiment.seed, registry.describe(experiment.placement))
    return (CLEAN_AREA if attack == CLEAN else ATTACKED_AREA) + BETWEEN_SEEDS * place + ROUNDING * normal(rounding)


def cell_with(place: CellKey, experiment: Experiment, area: float, trace: object) -> Cell:
    line = synthetic_entries.cell(suite("seeds-v1"), place, "tiny", area)
    changes = {"cell": experiment.hash, "trace": synthetic_entries.digest(trace)}
    return validate(Cell, line | changes, "cell")


class Runs:
    """Runs that are not run, in the form of `byzbench.leaderboard.runners.Runner`."""

    entry: ClassVar[int] = 0
    """The number of the entry, from which the areas on all seeds follow."""

    on_failure: Verdict = "infrastructure"

    def __call__(self, cells: CellsByLabel) -> dict[str, Cell]:
        return {
            cell.hash: cell_with(place, cell, area_of(cell, place.attack, cell.hash), cell.hash)
            for place, cell in cells.values()
        }


@cache
def plan_of(track: Track) -> SubmissionPlan:
    return plan_submission(suite("seeds-v1"), track, METHODS[track])


Change = Callable[[Cell], Cell]


def entry_of(track: Track, change: Change, *, environment: bool = True, engine: int = 1, number: int = 0) -> Entry:
    """Return an entry whose attacked cells are changed.

    Args:
        track: The track.
        change: The change of a cell.
        environment: True to name another version of torch, so that cells need not be exact.
        engine: The engine that is named.
        number: The number of the entry.
    """
    Runs.entry = number
    plan = plan_of(track)
    other = plan.environment.model_copy(update={"versions": {**plan.environment.versions, "torch": "1.0.0"}})
    submission = Submission(
        schema=SCHEMA,
        track=track,
        suite=plan.suite.name,
        suite_sha256=plan.suite.sha256,
        entry=ABOUT,
        method=METHODS[track],
        resolved=plan.resolved,
        code=plan.code.model_copy(update={"engine": engine}),
        environment=other if environment else plan.environment,
        cells_sha256="0" * 64,
    )
    cells = []
    for place, experiment in plan.cells.items():
        rounding = ("claim", number, place.key) if environment else experiment.hash
        trace = rounding if environment else experiment.hash
        cell = cell_with(place, experiment, area_of(experiment, place.attack, rounding), trace)
        cells.append(change(cell))
    return Entry(submission, tuple(cells), synthetic_entries.digest(track, number))


@pytest.fixture(autouse=True)
def runs(tiny: Suite) -> None:
    plan_of.cache_clear()


def replayed(entry: Entry, count: int = 8, salt: str = "0", **options: Any) -> ReplayResult:
    here = plan_of(entry.submission.track)
    return replay_entry(entry, here, count, salt, Runs(), **options)


def attacked(change: Change) -> Change:
    return lambda cell: cell if cell.attack == CLEAN else change(cell)


def not_run(status: str) -> Change:
    def change(cell: Cell) -> Cell:
        places = cell.model_dump(include={"cell", "stratum", "attack", "seed", "algo"})
        return Cell(**places, status=status, reason="MemoryError: out of memory")  # type: ignore[arg-type]

    return change


def diverged(cell: Cell) -> Cell:
    return cell.model_copy(update={"status": "diverged", "verdict": "diverged", "value": None})


def moved(by: float, **changes: Any) -> Change:
    """Return a change that moves a curve, and gives it a trace that no run has."""

    def change(cell: Cell) -> Cell:
        curve = tuple(repr(float(point or 0) + by) for point in cell.curve)
        trace = synthetic_entries.digest(cell.place, by)
        return cell.model_copy(update={"curve": curve, "value": curve[-1], "trace": trace, **changes})

    return change


OTHER_START = {"opening": {"return": "99.0"}}
FORGED: dict[str, tuple[Track, Change, dict[str, Any]]] = {
    f"{track}, {name}": (track, attacked(change), options)
    for track, sign in (("defence", 1), ("attack", -1), ("adaptive", -1))
    for name, change, options in (
        ("failed", not_run("failed"), {}),
        ("failed at another engine", not_run("failed"), {"engine": 99}),
        ("failed in the same environment", not_run("failed"), {"environment": False}),
        ("timeout", not_run("timeout"), {}),
        ("diverged", diverged, {}),
        ("diverged at another engine", diverged, {"engine": 99}),
        ("moved by 50", moved(50.0 * sign), {}),
        ("moved by 20", moved(20.0 * sign), {}),
        ("moved by 50 at another engine", moved(50.0 * sign), {"engine": 99}),
        ("moved by 1 in the same environment", moved(1.0 * sign), {"environment": False}),
    )
} | {
    "attack, clean curves raised": ("attack", lambda cell: moved(50.0)(cell) if cell.attack == CLEAN else cell, {}),
    "defence, clean curves raised": ("defence", moved(50.0), {}),
}


@pytest.mark.parametrize("count", [8, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_entry_is_a_mismatch(kind: str, count: int) -> None:
    track, change, options = FORGED[kind]
    outcome = replayed(entry_of(track, change, **options), count)
    assert (outcome.verdict, outcome.exit_code) == ("mismatch", 1), outcome


@pytest.mark.parametrize("track", METHODS)
@pytest.mark.parametrize("status", ["failed", "timeout", "diverged"])
def test_a_cell_that_runs_here_is_a_mismatch_if_it_is_submitted_as_not_run(
    status: str, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where areas are near those of a random policy, which such a cell counts as."""
    monkeypatch.setitem(globals(), "ATTACKED_AREA", 26.0)
    for engine in (1, 99):
        entry = entry_of(track, attacked(diverged if status == "diverged" else not_run(status)), engine=engine)
        outcome = replayed(entry)
        assert (outcome.verdict, outcome.exit_code) == ("mismatch", 1)
        assert any(f"it was submitted as {status}, and " in cell.evidence for cell in outcome.cells)


def test_few_drawn_cells_are_enough_to_make_an_entry_suspicious() -> None:
    """With two drawn cells the p-value of low curves is at least 1/36, so that they were never contradicted."""
    entry = entry_of("attack", attacked(moved(-50.0)))
    for salt in map(str, range(4)):
        outcome = replayed(entry, 2, salt, own_seeds_only=True)
        drawn = sum("zero" in cell.place for cell in outcome.cells[:2])
        assert drawn < 2 or outcome.verdict == "mismatch"


def test_what_too_few_cells_cannot_decide_is_not_verified() -> None:
    """All cells are too few: eight, without controls since the first round is another one."""
    entry = entry_of("attack", attacked(moved(-50.0, **OTHER_START)), environment=False, engine=99)
    outcome = replayed(entry, 16, own_seeds_only=True)
    assert (outcome.verdict, outcome.exit_code) == ("undecided", 3)
    assert str(outcome.comparisons[0]).endswith("8 runs; too few runs to contradict: p is at least 0.004")
    assert replayed(entry, 16).verdict == "mismatch", "the other tests see it"


def test_a_suspicious_test_is_repeated_and_the_repeated_one_decides() -> None:
    outcome = replayed(entry_of("attack", attacked(moved(-50.0))))
    assert all(comparison.repeat is not None for comparison in outcome.comparisons)
    assert [comparison.runs for comparison in outcome.comparisons] == [40, 8, 8]
    assert [c.repeat.runs for c in outcome.comparisons if c.repeat] == [80, 32, 32], "all 16 cells"
    own = outcome.comparisons[0]
    assert own.repeat is not None
    assert "; repeated under another salt: own seeds: p = " in str(own)
    acquitted = replace(own, repeat=replace(own.repeat, p=0.5))
    assert (own.verdict, acquitted.verdict) == ("mismatch", "exact")


def test_tests_on_other_seeds_are_two_sided() -> None:
    for by in (-50.0, 50.0):
        outcome = replayed(entry_of("defence", attacked(moved(by))))
        p = {comparison.test: comparison.p for comparison in outcome.comparisons}
        assert p["fresh seeds"] == p["relabelled agents"] == pytest.approx(2 / 12870)
        assert (p["own seeds"] < 0.02) == (by > 0)


def test_a_run_that_diverges_by_rounding_may_be_claimed_as_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Runs.__call__

    def sometimes(self: Runs, cells: CellsByLabel) -> dict[str, Cell]:
        return {
            name: diverged(cell) if normal("diverges", name) > 0 else cell for name, cell in run(self, cells).items()
        }

    monkeypatch.setattr(Runs, "__call__", sometimes)
    outcome = replayed(entry_of("defence", attacked(diverged)), 16, own_seeds_only=True)
    assert outcome.verdict == "consistent"


@pytest.mark.parametrize("track", METHODS)
def test_honest_entries_are_not_contradicted(track: Track) -> None:
    assert replayed(entry_of(track, lambda cell: cell, environment=False)).verdict == "exact"
    for number in range(5):
        entry = entry_of(track, lambda cell: cell, number=number, engine=1 + 98 * (number % 2))
        assert replayed(entry, salt=str(number)).verdict == "consistent"


@pytest.mark.slow
@pytest.mark.parametrize("track", METHODS)
def test_of_200_drawings_on_honest_entries_none_is_a_mismatch(track: Track) -> None:
    for number in range(200):
        entry = entry_of(track, lambda cell: cell, number=number // 10)
        outcome = replayed(entry, salt=str(number))
        assert outcome.verdict == "consistent", [*map(str, outcome.comparisons)]
