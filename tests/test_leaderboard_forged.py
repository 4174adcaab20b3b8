"""Forged submissions: claims that are wrong in the direction that pays end as mismatches, honest ones do not.

Nothing is run: `Runs` stands in place of the runner, and gives every experiment a curve that follows from its hash.
The kinds are those of `FORGED` and `EDITED`, which replays contradict, and of `REFUSED`, which the checks refuse: rows
of the track `reported` have no runs here, and what an adaptive attack is aimed at is checked before its runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import synthetic_entries
import tiny_suite
from tiny_suite import ABOUT, METHOD, checked

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.experiments.experiment import Experiment
from byzbench.identity import ENGINE
from byzbench.leaderboard.entries import Entry, read_entry
from byzbench.leaderboard.plan import SubmissionPlan, plan_submission
from byzbench.leaderboard.replay import ReplayResult, replay_entry
from byzbench.leaderboard.runners import CellsByLabel, Verdict
from byzbench.leaderboard.schema import Cell, EntryMetadata, Method, Submission, Track, validate
from byzbench.leaderboard.submitting import write_submission
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


def entry_of(track: Track, change: Change, *, environment: bool = True, engine: int = ENGINE, number: int = 0) -> Entry:
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
    "adaptive, clean curves raised": ("adaptive", lambda cell: moved(50.0)(cell) if cell.attack == CLEAN else cell, {}),
    "defence, clean curves raised": ("defence", moved(50.0), {}),
}


@pytest.mark.parametrize("count", [8, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_entry_is_a_mismatch(kind: str, count: int) -> None:
    track, change, options = FORGED[kind]
    outcome = replayed(entry_of(track, change, **options), count)
    assert (outcome.verdict, outcome.exit_code) == ("mismatch", 1), outcome


def with_changes(**changes: Any) -> Change:
    return lambda cell: cell.model_copy(update=changes)


def lowered_before_end(cell: Cell) -> Cell:
    """Return a cell whose curve keeps its end, and is lower before it."""
    lowered = tuple(repr(float(point or 0) - 50.0) for point in cell.curve[:-1])
    return cell.model_copy(update={"curve": (*lowered, cell.value)})


SAME_TRACE = "the trace is the same, and the submission has"
EDITED: dict[str, tuple[Track, Change, str]] = {
    "adaptive, curves lowered before their end": ("adaptive", lowered_before_end, f"{SAME_TRACE} curve "),
    "adaptive, fewer steps": ("adaptive", with_changes(steps=9), f"{SAME_TRACE} steps 9 for "),
    "adaptive, fewer bytes": ("adaptive", with_changes(bytes=1), f"{SAME_TRACE} bytes 1 for "),
    "adaptive, more malformed messages": (
        "adaptive",
        with_changes(num_malformed=3),
        f"{SAME_TRACE} num_malformed 3 for 0",
    ),
    "adaptive, no consensus": (
        "adaptive",
        with_changes(verdict="no_consensus"),
        f"{SAME_TRACE} verdict no_consensus for ok",
    ),
    "adaptive, another trace": (
        "adaptive",
        with_changes(trace="f" * 64),
        "at the same engine, versions, libraries and CPU the submission has trace ffff",
    ),
}
"""Edits of attacked cells, in the environment that is installed, with a part of the evidence."""


@pytest.mark.parametrize("kind", EDITED)
def test_an_edited_cell_is_a_mismatch_and_the_edit_is_named(kind: str) -> None:
    track, change, evidence = EDITED[kind]
    outcome = replayed(entry_of(track, attacked(change), environment=False))
    assert (outcome.verdict, outcome.exit_code) == ("mismatch", 1), outcome
    contradicted = [cell for cell in outcome.cells if cell.verdict == "mismatch"]
    assert contradicted
    assert all(evidence in cell.evidence for cell in contradicted), contradicted


Lines = list[dict[str, Any]]
Forgery = Callable[[Path, Lines], None]
"""A change of the folder of a submission, with its cells as read."""


def first(lines: Lines, **changes: Any) -> Lines:
    """Return cells of which the first attacked one is changed."""
    number = next(number for number, line in enumerate(lines) if line["attack"] != CLEAN)
    return [*lines[:number], lines[number] | changes, *lines[number + 1 :]]


def edit(change: Callable[[Lines], Lines], **changes: Any) -> Forgery:
    return lambda folder, lines: tiny_suite.rewrite(folder, change(lines), **changes)


def other_labels(lines: Lines) -> Lines:
    """Return cells with clean runs where attacked ones were, and the other way round."""
    names = {line["attack"] for line in lines}
    return [line | {"attack": next(iter(names - {line["attack"]}))} for line in lines]


def copied(track: Track) -> Forgery:
    """Return a forgery that copies all traces of a row of the track `defence` or `reported`."""

    def copy(folder: Path, lines: Lines) -> None:
        target = folder.parents[1] / "defence" / "tiny"
        if track == "reported":
            shutil.copytree(folder, target := folder.with_name("third"))
            metadata = {**ABOUT.model_dump(mode="json", exclude_none=True), "slug": "third", "name": "Third"}
            tiny_suite.rewrite(target, lines, entry=metadata)
        pairs = zip(lines, tiny_suite.lines_of(target), strict=True)
        tiny_suite.rewrite(folder, [line | {"trace": other["trace"]} for line, other in pairs])

    return copy


def in_place_of_defence(folder: Path, lines: Lines) -> None:
    target = read_entry(folder.parents[1] / "defence" / "tiny")
    tiny_suite.rewrite(folder, lines, supersedes=target.digest)


def weaker_rule(folder: Path, lines: Lines) -> None:
    """Replace the rule of the row that is attacked by the mean, which withstands nothing."""
    method = METHODS["adaptive"].model_copy(update={"aggregator": "mean"})
    plan = plan_submission(suite("seeds-v1"), "adaptive", method)
    hashes = {place.key: cell.hash for place, cell in plan.cells.items()}
    cells = [line | {"cell": hashes[line["stratum"], line["attack"], None, line["seed"]]} for line in lines]
    described = {stratum: dict(axes) for stratum, axes in plan.resolved.items()}
    tiny_suite.rewrite(folder, cells, method=method.model_dump(exclude_none=True), resolved=described)


def another_attack(folder: Path, lines: Lines) -> None:
    """Describe another attack than the one that is written."""
    resolved = json.loads((folder / "submission.json").read_text())["resolved"]
    for axes in resolved.values():
        axes["attack"] = {"name": "sign_flip", "parameters": {"scale": 1.0, "on": "updates"}}
    tiny_suite.rewrite(folder, lines, resolved=resolved)


SAME: Callable[[Lines], Lines] = list
ADAPTIVE = {"algo": METHOD.algo, "attack": "zero"}
SEEDS_TUNED = {"study": "0" * 16, "trials_sha256": "0" * 16, "trials": 1, "attacks": []}
REFUSED: dict[str, tuple[Track, Forgery, str, str]] = {
    "adaptive, aimed at no row": (
        "adaptive",
        edit(SAME, method=ADAPTIVE | {"against": "nobody"}),
        "aim",
        "there is no entry 'nobody' in this suite",
    ),
    "adaptive, aimed at nothing": (
        "adaptive",
        edit(SAME, method=ADAPTIVE),
        "method",
        "an entry of the track adaptive names against and algo and attack",
    ),
    "adaptive, a weaker rule than that of the row": ("adaptive", weaker_rule, "aim", "aggregator"),
    "adaptive, another attack than the one that is written": ("adaptive", another_attack, "method", "attack"),
    "adaptive, clean runs for attacked ones": ("adaptive", edit(other_labels), "wrong-cell", "zero · seed 0 has "),
    "adaptive, an attacked cell left out": (
        "adaptive",
        edit(lambda lines: [line for line in lines if (line["attack"], line["seed"]) != ("zero", 3)]),
        "missing-cell",
        "is missing; a failed run is recorded with the status failed",
    ),
    "adaptive, the run of another seed": (
        "adaptive",
        edit(lambda lines: first(lines, trace=lines[-1]["trace"])),
        "copied-trace",
        "zero · seed 0 and cartpole-complete · zero · seed 7 have the same trace",
    ),
    "reported, a return that the task cannot give": (
        "reported",
        edit(lambda lines: first(lines, **{"return": "501.0", "curve": ["501.0"]})),
        "plausibility",
        "is 501.0; returns of this task are between 1 and 500",
    ),
    "reported, a return that is not the end of the curve": (
        "reported",
        edit(lambda lines: first(lines, **{"return": "499.0"})),
        "plausibility",
        "and the return is 499.0",
    ),
    "reported, the same return in all cells": (
        "reported",
        edit(lambda lines: [line | {"return": "300.0", "curve": ["300.0"]} for line in lines]),
        "plausibility",
        "all 16 returns are 300.0",
    ),
    "reported, half of the budget": (
        "reported",
        edit(lambda lines: first(lines, trajectories=4)),
        "plausibility",
        "is 4; with this budget 8 to 16 are possible",
    ),
    "reported, fewer steps than episodes": (
        "reported",
        edit(lambda lines: first(lines, steps=7)),
        "plausibility",
        "is 7; 8 episodes have at least as many steps",
    ),
    "reported, one run for two seeds": (
        "reported",
        edit(lambda lines: first(lines, trace=lines[-1]["trace"])),
        "copied-trace",
        "have the same trace",
    ),
    "reported, an attack that the suite does not have": (
        "reported",
        edit(lambda lines: first(lines, attack="zero")),
        "strange-cell",
        "zero · seed 0 is not a cell of this entry",
    ),
    "reported, a cell twice": ("reported", edit(lambda lines: [*lines, lines[-1]]), "repeated-cell", "occurs 2 times"),
    "reported, a failure without a reason": (
        "reported",
        edit(lambda lines: first(lines, status="failed", **{"return": None})),
        "plausibility",
        "must be present in a failed cell",
    ),
    "reported, another suite file": (
        "reported",
        edit(SAME, suite_sha256="0" * 64),
        "suite",
        "is not the sha256 of seeds-v1",
    ),
    "reported, tuned on the suite's seeds": (
        "reported",
        lambda folder, lines: tiny_suite.rewrite(
            folder, lines, tuning=SEEDS_TUNED | {"seeds": [suite("seeds-v1").seed_values[0]]}
        ),
        "tuned-on-seeds",
        "contains 1 seeds of the suite, for example ",
    ),
    "reported, in place of a row that does not exist": (
        "reported",
        edit(SAME, supersedes="0" * 64),
        "supersedes",
        "is not the digest of a submission in this folder",
    ),
    "reported, the name of another row": (
        "reported",
        edit(SAME, entry={**ABOUT.model_dump(mode="json", exclude_none=True), "slug": "other", "name": "TINY"}),
        "twin",
        "looks like the name of defence/tiny",
    ),
    "reported, the runs of another row of the track": (
        "reported",
        copied("reported"),
        "copied-trace",
        "16 traces are those of seeds-v1/reported/third",
    ),
    "reported, the runs of a row of another track": (
        "reported",
        copied("defence"),
        "copied-trace",
        "16 traces are those of seeds-v1/defence/tiny",
    ),
    "reported, an attack": ("reported", edit(SAME, method={"attack": "zero"}), "method", "names algo"),
    "reported, in place of a row of another track": (
        "reported",
        in_place_of_defence,
        "supersedes",
        "another track",
    ),
}


"""Kinds that no check refuses yet."""


@pytest.fixture(scope="module")
def honest(tiny: Suite, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Track, Path]:
    """Folders of submissions by track, each with an honest row `other` beside a row `tiny` of the track `defence`."""
    board, folders = suite("seeds-v1"), {}
    tracks: tuple[Track, ...] = ("adaptive", "reported")
    other = ABOUT.model_copy(update={"slug": "other", "name": "Other"})
    for track in tracks:
        folders[track] = out = tmp_path_factory.mktemp(track)
        entries: dict[Track, EntryMetadata] = {"defence": ABOUT, "adaptive": other}
        for one in ("defence", track):
            if one == "reported":
                synthetic_entries.write_entry(out, board, "other", track=one, method={"algo": "closed"})
                continue
            plan, cells = plan_submission(board, one, METHODS[one]), {}
            for place, cell in plan.cells.items():
                run = one, place.key
                cells[place] = cell_with(place, cell, area_of(cell, place.attack, run), run)
            write_submission(plan, cells, entries[one], out)
        assert not checked(out / board.name / track / "other").refused
    return folders


@pytest.mark.parametrize(
    "kind",
    [
        *REFUSED,
    ],
)
def test_a_forged_row_is_refused_with_a_reason(kind: str, honest: Mapping[Track, Path], tmp_path: Path) -> None:
    track, forge, check, reason = REFUSED[kind]
    folder = shutil.copytree(honest[track], tmp_path / "submissions") / "seeds-v1" / track / "other"
    forge(folder, tiny_suite.lines_of(folder))
    fatal = [finding for finding in checked(folder).findings if finding.fatal]
    assert any(finding.check == check and reason in finding.what for finding in fatal), fatal


def test_there_are_forty_kinds_over_the_four_tracks() -> None:
    kinds = [*FORGED, *EDITED, *REFUSED]
    assert len(set(kinds)) >= 40
    assert {kind.partition(",")[0] for kind in kinds} == {"defence", "attack", "adaptive", "reported"}


@pytest.mark.parametrize("track", METHODS)
@pytest.mark.parametrize("status", ["failed", "timeout", "diverged"])
def test_a_cell_that_runs_here_is_a_mismatch_if_it_is_submitted_as_not_run(
    status: str, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where areas are near those of a random policy, which such a cell counts as."""
    monkeypatch.setitem(globals(), "ATTACKED_AREA", 26.0)
    for engine in (ENGINE, 99):
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
        entry = entry_of(track, lambda cell: cell, number=number, engine=(ENGINE, 99)[number % 2])
        assert replayed(entry, salt=str(number)).verdict == "consistent"


@pytest.mark.slow
@pytest.mark.parametrize("track", METHODS)
def test_of_200_drawings_on_honest_entries_none_is_a_mismatch(track: Track) -> None:
    for number in range(200):
        entry = entry_of(track, lambda cell: cell, number=number // 10)
        outcome = replayed(entry, salt=str(number))
        assert outcome.verdict == "consistent", [*map(str, outcome.comparisons)]
