"""Replay: cells that the entrant could not choose are run again, and what was submitted is compared with the runs.

    exact           the trace and every number are found again
    consistent      other numbers, where the engine, a version or the machine is another; tests find no contradiction
    infrastructure  it could not be run; nothing follows from that, for or against
    mismatch        other numbers where they must be the same, or numbers that no such run would give

Where the engine, the versions of the components, the libraries and the CPU are those of the entry, only exact cells
pass. Three tests (`byzbench.leaderboard.exchangeability`) look for what exactness cannot show or does not apply to:

    own seeds          the claims of cells that are not exact, against runs of the same cells here
    fresh seeds        the claims of one stratum and attack, against runs on seeds that follow from the salt
    relabelled agents  the same, against runs of the own seeds with the Byzantine agents at other places
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from byzbench import registry
from byzbench.experiments.cells import Outcome
from byzbench.experiments.executors import Executor
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.suite import Plan
from byzbench.experiments.sweep import sweep
from byzbench.identity import identity_of
from byzbench.leaderboard.checks import environment_difference
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.exchangeability import LEVELS, Group, area, claim_group, exchange_p, least_p, normalised_area
from byzbench.leaderboard.plan import Lot
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.schema import Cell, Track
from byzbench.leaderboard.submitting import cell_of
from byzbench.leaderboard.suites import CLEAN, Place, Suite, seed_of

Verdict = Literal["exact", "consistent", "infrastructure", "mismatch"]
_SEVERITY: Sequence[Verdict] = ("exact", "consistent", "infrastructure", "mismatch")
_EXIT: Mapping[Verdict, int] = {"exact": 0, "consistent": 0, "mismatch": 1, "infrastructure": 3}

OPENING = 1e-4
"""Relative difference within which the first round is the same but for rounding."""

CONTROLS = 4
"""Runs that show how far rounding alone moves a cell."""


@dataclass(frozen=True)
class Replayed:
    """What came of one cell: its verdict, and the numbers behind it in one line."""

    cell: str
    place: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Comparison:
    """What came of one test.

    Attributes:
        test: its name.
        p: the probability that honest claims look this much better than the runs, or more.
        level: the probability below which they are contradicted.
        least: the smallest p-value that as many runs can have.
        runs: how many runs claims were compared with. failed: how many more ended with an error.
    """

    test: str
    p: float
    level: float
    least: float
    runs: int
    failed: int = 0

    @classmethod
    def of(cls, test: str, groups: Sequence[Group], failed: int = 0) -> Comparison:
        """Make a test of groups of claims and runs."""
        runs = sum(len(values) for _, values in groups)
        return cls(test, exchange_p(groups), LEVELS[test], least_p(groups), runs, failed)

    @property
    def verdict(self) -> Verdict:
        """What it says of the entry."""
        return "mismatch" if self.p < self.level else "infrastructure" if self.failed else "exact"

    def __str__(self) -> str:
        few = f"; so few cannot contradict, p is at least {self.least:.1g}" if self.least >= self.level else ""
        lost = f"; {self.failed} more ended with an error" if self.failed else ""
        return (
            f"{self.test}: p = {self.p:.3g} at level {self.level:g}, {self.runs} run{'s' * (self.runs != 1)}{few}{lost}"
        )


@dataclass(frozen=True)
class Replay:
    """What came of all cells that were drawn.

    Attributes:
        verdict: the worst of them, and of the tests.
        engine: of the code that is here.
        salt: what the draw depended on; the same one draws the same cells and the same fresh seeds.
        cells: those that were drawn.
        comparisons: the tests that could be made.
    """

    verdict: Verdict
    engine: int
    salt: str
    cells: tuple[Replayed, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def exit_code(self) -> int:
        """0: verified. 1: contradicted. 3: it could not be run."""
        return _EXIT[self.verdict]

    def __str__(self) -> str:
        verified = self.verdict in ("exact", "consistent")
        return f"{self.verdict} at engine {self.engine}" if verified else self.verdict

    def to_json(self) -> dict[str, Any]:
        """Return it as data."""
        return asdict(self)


def fresh_salt() -> str:
    """Return a salt that nobody could know when the entry was written."""
    return os.urandom(8).hex()


def draw(entry: Entry, places: Iterable[Place], count: int, salt: str) -> list[Place]:
    """Return the cells to replay: the first by sha256 over salt, submission and cell.

    Without the salt the order would follow from the submission alone, and an entrant could reword NOTES.md until the
    cells that are drawn are good ones.
    """

    def key(place: Place) -> bytes:
        return hashlib.sha256(f"{salt}/{entry.digest}/{entry.at[place.key].cell}".encode()).digest()

    return sorted(places, key=key)[:count]


def replay(
    entry: Entry,
    here: Lot,
    count: int,
    salt: str,
    store: Path,
    executor: Executor,
    watch: Callable[[str], None] | None = None,
    *,
    own_seeds_only: bool = False,
) -> Replay:
    """Run cells of an entry again.

    Args:
        entry: a submission that has passed the checks.
        here: its cells, by the code that is here.
        count: how many are drawn; all that there are, if there are fewer.
        salt: see `draw`.
        store: an empty folder that is the executor's.
        executor: who runs them.
        watch: called with a line for each run.
        own_seeds_only: whether to leave out fresh seeds and relabelled agents.
    """
    places = draw(entry, here.cells, count, salt)
    others = {} if own_seeds_only else _others(entry, here, places, salt)
    todo = {f"replay {named(place)}": here.cells[place] for place in places}
    for test, cells in others.items():
        todo |= {f"{test} {named(place)} · {i}": cell for i, (place, cell) in enumerate(cells)}
    runner = _Runner(store, executor, watch, dated=any(cell.dates for cell in entry.cells))
    outcomes = runner(todo)
    replayed, own = _own_seeds(entry, here, places, runner, outcomes)
    comparisons = [own] if own else []
    for test, cells in others.items():
        again = [(place, runner.cell(place, cell, outcomes)) for place, cell in cells]
        comparisons.append(_compare(entry, here.suite, test, again))
    verdicts = [cell.verdict for cell in replayed] + [comparison.verdict for comparison in comparisons]
    worst = max(verdicts, key=_SEVERITY.index)
    return Replay(worst, int(here.code.engine or 0), salt, tuple(replayed), tuple(comparisons))


def _others(entry: Entry, here: Lot, places: Sequence[Place], salt: str) -> dict[str, list[tuple[Place, Experiment]]]:
    """Return the runs besides replays, by test, as many as cells are drawn.

    All are of one stratum and attack, that of the first attacked cell drawn. Seeds serve all strata and attacks, so
    values of several would not be independent, and a test that permutes them apart would contradict honest rows.
    """
    first = next((place for place in places if place.attack != CLEAN), places[0])
    taken = {*here.suite.seed_values, *(entry.submission.tuning.seeds if entry.submission.tuning else ())}
    numbers = (seed_of(here.suite.sha256, salt, number) for number in range(len(places) + len(taken)))
    seeds = [seed for seed in numbers if seed not in taken][: len(places)]
    found = {"fresh seeds": [(first, replace(here.cells[first], seed=seed)) for seed in seeds]}
    if first.attack != CLEAN:
        alike = [place for place in here.cells if place.key[:3] == first.key[:3]]
        turns = [(alike[number % len(alike)], f"{salt}/{number}") for number in range(len(places))]
        found["relabelled agents"] = [(place, relabelled(here.cells[place], word)) for place, word in turns]
    return found


def relabelled(cell: Experiment, salt: str) -> Experiment:
    """Return the same cell with its Byzantine agents at other places, which follow from a salt."""
    return replace(cell, placement=registry.load("placement", "relabelled", salt=seed_of(salt)))


def pays(track: Track, attack: str) -> int:
    """Return 1 if a larger area under the curve of a cell serves the entrant, -1 if a smaller one does."""
    return -1 if track in ("attack", "adaptive") and attack != CLEAN else 1


def _compare(entry: Entry, suite: Suite, test: str, runs: Sequence[tuple[Place, Cell]]) -> Comparison:
    """Compare runs of one stratum and attack with its claims on all seeds."""
    place = runs[0][0]
    one = unit(suite, place.stratum)
    values = [normalised_area(run, place.stratum, one) for _, run in runs if run.status != "failed"]
    claims = [normalised_area(claim, place.stratum, one) for claim in entry.cells if claim.place[:3] == place.key[:3]]
    groups = [claim_group(claims, values, pays(entry.submission.track, place.attack))]
    return Comparison.of(test, groups, len(runs) - len(values))


def _own_seeds(
    entry: Entry, here: Lot, places: Sequence[Place], runner: _Runner, outcomes: Mapping[str, Outcome]
) -> tuple[list[Replayed], Comparison | None]:
    """Judge the replay of each cell; those that need not be exact together, by a test.

    Cells of one trace, as under attacks that change nothing, are one run, and count once.
    """
    environment = environment_difference(entry.submission, here)
    results: list[Replayed] = []
    groups: dict[tuple[str | None, int], list[Group]] = {}
    for place in places:
        claim, again = entry.at[place.key], runner.cell(place, here.cells[place], outcomes)
        sign = pays(entry.submission.track, place.attack)
        now = identity_of(here.cells[place])
        behaviour = entry.submission.code.identity(now).difference(now)
        verdict, evidence = judge_replay(claim, again, behaviour + environment, sign)
        if verdict == "consistent":
            runs = [again]
            if not behaviour or opening_difference(claim, again) <= OPENING:
                runs += _controls(place, here.cells[place], runner)
            runs = [run for run in runs if run.status != "failed"]
            areas = [area(run, place.stratum) for run in runs]
            evidence += f"; area {area(claim, place.stratum):.5g}, here {min(areas):.5g} to {max(areas):.5g}"
            one = unit(here.suite, place.stratum)
            values = [normalised_area(run, place.stratum, one) for run in runs]
            claims = [normalised_area(claim, place.stratum, one)]
            groups.setdefault((again.trace, sign), []).append(claim_group(claims, values, sign))
        results.append(Replayed(claim.cell, named(place), verdict, evidence))
    distinct = [(np.mean([claim for claim, _ in same], 0), same[0][1]) for same in groups.values()]
    return results, Comparison.of("own seeds", distinct) if distinct else None


def judge_replay(claim: Cell, again: Cell, differences: Sequence[str], sign: int) -> tuple[Verdict, str]:
    """Return what one replay says of a claim, and why; `consistent` where a test has to tell.

    Args:
        claim: what was submitted.
        again: what came of the same cell here.
        differences: in which engine, versions, libraries and CPU of the two runs differ.
        sign: see `pays`.
    """
    if again.status == "failed" and claim.status != "failed":
        return "infrastructure", f"it ended here with: {again.reason}"
    unclocked = {"seconds": None, "reason": None}
    other = [
        name for name in Cell.model_fields if name not in unclocked and getattr(claim, name) != getattr(again, name)
    ]
    if not other:
        return "exact", f"trace {str(claim.trace)[:12]}…, evaluation return {claim.value}"
    numbers = ", ".join(f"{name} {_short(getattr(claim, name))} for {_short(getattr(again, name))}" for name in other)
    if claim.trace is not None and claim.trace == again.trace:
        return "mismatch", f"the trace is the same, and the submission says {numbers}"
    if claim.status in ("failed", "timeout") and sign > 0:
        return "consistent", f"it was submitted as {claim.status}, and runs here"
    if not differences:
        return "mismatch", f"at the same engine, versions, libraries and CPU the submission says {numbers}"
    return "consistent", f"{'; '.join(differences)}; first round off by {opening_difference(claim, again):.1e}"


def opening_difference(claim: Cell, again: Cell) -> float:
    """Return the largest relative difference between numbers of the first rounds; infinity if one is missing."""
    pairs = [(claim.opening.get(name), again.opening.get(name)) for name in claim.opening | again.opening]
    if not pairs or any(one is None or other is None for one, other in pairs):
        return math.inf
    values = [(float(one), float(other)) for one, other in pairs if one is not None and other is not None]
    return max(abs(a - b) / max(abs(a), abs(b), OPENING) for a, b in values)


def _controls(place: Place, cell: Experiment, runner: _Runner) -> list[Cell]:
    """Run a cell with rewards that are larger by a rounding error, a few times."""
    controls = [perturbed(cell, number) for number in range(1, CONTROLS + 1)]
    outcomes = runner({f"control {named(place)} · {number}": control for number, control in enumerate(controls, 1)})
    return [runner.cell(place, control, outcomes) for control in controls]


def perturbed(cell: Experiment, number: int) -> Experiment:
    """Return the same cell with every reward larger by `number` units in the last place of a float32."""
    scale = cell.task.reward_scale * (1 + number * float(np.finfo(np.float32).eps))
    return replace(cell, task=replace(cell.task, reward_scale=scale))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else f"{text[:36]}…"


def named(place: Place) -> str:
    """Return a cell's place in words."""
    return " · ".join(filter(None, (place.stratum.name, place.algo, place.attack, f"seed {place.seed}")))


class _Runner:
    """Runs experiments in a scratch store, and reads them as cells."""

    def __init__(self, store: Path, executor: Executor, watch: Callable[[str], None] | None, dated: bool) -> None:
        self._store, self._executor, self._watch, self._dated = store, executor, watch, dated
        self._done = 0

    def __call__(self, cells: Mapping[str, Experiment]) -> dict[str, Outcome]:
        """Return the outcomes, by hash. Cells may be the same experiment, which then runs once."""
        labels = {cell.hash: label for label, cell in cells.items()}
        todo = {labels[cell.hash]: cell for cell in cells.values()}

        def over(label: str, outcome: Outcome) -> None:
            self._done += 1
            if self._watch:
                self._watch(f"run {self._done}: {label}: {outcome.error or outcome.result['verdict']['name']}")

        done = sweep(Plan("replay", todo, {}), self._store, self._executor, watch=over).outcomes
        return {todo[label].hash: outcome for label, outcome in done.items()}

    def cell(self, place: Place, cell: Experiment, outcomes: Mapping[str, Outcome]) -> Cell:
        """Return what a submission would say of a run; one that is older than dates of evaluations leaves them out."""
        found = cell_of(place, cell, outcomes[cell.hash], self._store / cell.hash)
        return found if self._dated else found.model_copy(update={"dates": (), "messages": None, "bytes": None})
