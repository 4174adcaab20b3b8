"""Replay: randomly drawn cells of a submission are run again, and the submitted numbers are compared with the runs.

    exact           the trace and every number are the same
    consistent      some numbers differ, and so do engine, versions or machine; tests find no contradiction
    infrastructure  the cell could not be run, which is evidence neither for the entry nor against it
    mismatch        numbers differ where they must be the same, or a test contradicts them

Where the engine, the versions of the components, the libraries and the CPU are those of the entry, only exact cells
pass. Three tests (`byzbench.leaderboard.exchangeability`) cover what this comparison does not:

    own seeds          the claims of cells that are not exact, against runs of the same cells here
    fresh seeds        the claims of one stratum and attack, against runs on seeds derived from the salt
    relabelled agents  the same claims, against runs on the suite's seeds with another placement of Byzantine agents
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
from byzbench.experiments.experiment import Experiment
from byzbench.identity import identity_of
from byzbench.leaderboard.checks import environment_difference
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.exchangeability import LEVELS, Group, area, claim_group, exchange_p, least_p, normalised_area
from byzbench.leaderboard.plan import SubmissionPlan
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.schema import Cell, Track
from byzbench.leaderboard.submitting import cell_of
from byzbench.leaderboard.suites import CLEAN, CellKey, Suite, seed_of
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

Verdict = Literal["exact", "consistent", "infrastructure", "mismatch"]
_SEVERITY: Sequence[Verdict] = ("exact", "consistent", "infrastructure", "mismatch")
_EXIT: Mapping[Verdict, int] = {"exact": 0, "consistent": 0, "mismatch": 1, "infrastructure": 3}

OPENING = 1e-4
"""Relative difference up to which numbers of the first round differ by rounding only."""

CONTROLS = 4
"""Number of control runs, which show the effect of rounding on a cell."""


@dataclass(frozen=True)
class ReplayedCell:
    """The result of one replayed cell.

    Attributes:
        cell: The hash of the experiment.
        place: The place of the cell in the suite, as a text.
        verdict: The verdict.
        evidence: The numbers on which the verdict is based, in one line.
    """

    cell: str
    place: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class SeedComparison:
    """The result of one test.

    Attributes:
        test: The name of the test.
        p: The p-value of the hypothesis that the claims are honest.
        level: The level of the test; a smaller p-value contradicts the claims.
        least: The smallest p-value that this number of runs can have.
        runs: Number of runs that claims were compared with.
        failed: Number of further runs that ended with an error.
    """

    test: str
    p: float
    level: float
    least: float
    runs: int
    failed: int = 0

    @classmethod
    def of(cls, test: str, groups: Sequence[Group], failed: int = 0) -> SeedComparison:
        """Test groups of claims and runs.

        Args:
            test: The name of the test, a key of `LEVELS`.
            groups: The groups, each as from `claim_group`.
            failed: Number of runs that ended with an error and are in no group.
        """
        runs = sum(len(values) for _, values in groups)
        return cls(test, exchange_p(groups), LEVELS[test], least_p(groups), runs, failed)

    @property
    def verdict(self) -> Verdict:
        """The verdict of the test; `exact` where it contradicts nothing."""
        return "mismatch" if self.p < self.level else "infrastructure" if self.failed else "exact"

    def __str__(self) -> str:
        few = f"; too few runs to contradict: p is at least {self.least:.1g}" if self.least >= self.level else ""
        failed = f"; {self.failed} more ended with an error" if self.failed else ""
        runs = f"{self.runs} run{'s' * (self.runs != 1)}"
        return f"{self.test}: p = {self.p:.3g} at level {self.level:g}, {runs}{few}{failed}"


@dataclass(frozen=True)
class ReplayResult:
    """The result of all drawn cells of an entry.

    Attributes:
        verdict: The most severe verdict of the cells and the tests.
        engine: The engine of the installed code.
        salt: The salt of the draw; the same salt draws the same cells and the same fresh seeds.
        cells: The results of the drawn cells.
        comparisons: The results of the tests that were run.
    """

    verdict: Verdict
    engine: int
    salt: str
    cells: tuple[ReplayedCell, ...]
    comparisons: tuple[SeedComparison, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 verified, 1 contradicted, 3 not run."""
        return _EXIT[self.verdict]

    def __str__(self) -> str:
        verified = self.verdict in ("exact", "consistent")
        return f"{self.verdict} at engine {self.engine}" if verified else self.verdict

    def to_json(self) -> dict[str, Any]:
        """Return the result as data for JSON."""
        return asdict(self)


def fresh_salt() -> str:
    """Return a random salt of 16 hexadecimal digits, which could not be known when the entry was written."""
    return os.urandom(8).hex()


def draw_cells(entry: Entry, places: Iterable[CellKey], count: int, salt: str) -> list[CellKey]:
    """Return the cells to replay: the first ones by sha256 of salt, submission and cell.

    Without a salt the order would depend on the submission alone, and an entrant could edit NOTES.md until the drawn
    cells are favourable.

    Args:
        entry: The submission.
        places: The places of its cells.
        count: Number of cells to draw; all of them if there are fewer.
        salt: The salt.
    """

    def key(place: CellKey) -> bytes:
        return hashlib.sha256(f"{salt}/{entry.digest}/{entry.cells_by_key[place.key].cell}".encode()).digest()

    return sorted(places, key=key)[:count]


def replay_entry(
    entry: Entry,
    here: SubmissionPlan,
    count: int,
    salt: str,
    store: Path,
    executor: Executor,
    callback: Callable[[str], None] | None = None,
    *,
    own_seeds_only: bool = False,
) -> ReplayResult:
    """Run cells of an entry again, and compare the submitted numbers with the runs.

    Args:
        entry: A submission that has passed the checks.
        here: The cells of the submission, as the installed code builds them.
        count: Number of cells to draw; all of them if there are fewer.
        salt: The salt of the draw.
        store: An empty folder that the executor writes to.
        executor: The executor that runs the cells.
        callback: A function that is called with a line for each run.
        own_seeds_only: True to leave out the tests on fresh seeds and with relabelled agents.

    Returns:
        The verdict, with the results of cells and tests.
    """
    places = draw_cells(entry, here.cells, count, salt)
    further_runs = {} if own_seeds_only else _further_runs(entry, here, places, salt)
    cells_by_label = {f"replay {named(place)}": here.cells[place] for place in places}
    for test, cells in further_runs.items():
        cells_by_label |= {f"{test} {named(place)} · {i}": cell for i, (place, cell) in enumerate(cells)}
    runner = _Runner(store, executor, callback, dated=any(cell.dates for cell in entry.cells))
    outcomes = runner(cells_by_label)
    replayed, own_seeds = _own_seeds(entry, here, places, runner, outcomes)
    comparisons = [own_seeds] if own_seeds else []
    for test, cells in further_runs.items():
        runs = [(place, runner.cell(place, cell, outcomes)) for place, cell in cells]
        comparisons.append(_compare(entry, here.suite, test, runs))
    verdicts = [cell.verdict for cell in replayed] + [comparison.verdict for comparison in comparisons]
    worst = max(verdicts, key=_SEVERITY.index)
    return ReplayResult(worst, int(here.code.engine or 0), salt, tuple(replayed), tuple(comparisons))


def _further_runs(
    entry: Entry, plan: SubmissionPlan, places: Sequence[CellKey], salt: str
) -> dict[str, list[tuple[CellKey, Experiment]]]:
    """Return the runs of the tests on fresh seeds and with relabelled agents, each as many as cells are drawn.

    All are of one stratum and attack, those of the first drawn cell with an attack. The seeds are the same in all
    strata and under all attacks, so values of several would be dependent, and the test would contradict honest rows.
    """
    first = next((place for place in places if place.attack != CLEAN), places[0])
    used = {*plan.suite.seed_values, *(entry.submission.tuning.seeds if entry.submission.tuning else ())}
    candidates = (seed_of(plan.suite.sha256, salt, number) for number in range(len(places) + len(used)))
    seeds = [seed for seed in candidates if seed not in used][: len(places)]
    runs = {"fresh seeds": [(first, replace(plan.cells[first], seed=seed)) for seed in seeds]}
    if first.attack != CLEAN:
        all_seeds = [place for place in plan.cells if place.key[:3] == first.key[:3]]
        salted = [(all_seeds[number % len(all_seeds)], f"{salt}/{number}") for number in range(len(places))]
        runs["relabelled agents"] = [(place, relabelled(plan.cells[place], own_salt)) for place, own_salt in salted]
    return runs


def relabelled(cell: Experiment, salt: str) -> Experiment:
    """Return the same cell with another placement of its Byzantine agents, which is derived from a salt."""
    return replace(cell, placement=registry.load("placement", "relabelled", salt=seed_of(salt)))


def pays(track: Track, attack: str) -> int:
    """Return 1 if a larger area under the curve of a cell is in the entrant's favour, -1 if a smaller one is.

    Example:
        >>> pays("defence", "alie"), pays("attack", "alie"), pays("attack", "none")
        (1, -1, 1)
    """
    return -1 if track in ("attack", "adaptive") and attack != CLEAN else 1


def _compare(entry: Entry, suite: Suite, test: str, runs: Sequence[tuple[CellKey, Cell]]) -> SeedComparison:
    """Compare runs of one stratum and attack with the claims of the entry on all seeds."""
    place = runs[0][0]
    reference = unit(suite, place.stratum)
    values = [normalised_area(run, place.stratum, reference) for _, run in runs if run.status != "failed"]
    claimed = [cell for cell in entry.cells if cell.place[:3] == place.key[:3]]
    claims = [normalised_area(claim, place.stratum, reference) for claim in claimed]
    groups = [claim_group(claims, values, pays(entry.submission.track, place.attack))]
    return SeedComparison.of(test, groups, len(runs) - len(values))


def _own_seeds(
    entry: Entry, plan: SubmissionPlan, places: Sequence[CellKey], runner: _Runner, outcomes: Mapping[str, CellOutcome]
) -> tuple[list[ReplayedCell], SeedComparison | None]:
    """Classify the replay of each cell, and test together the cells that need not be exact.

    Cells with the same trace, for example under attacks without effect, are one run and count once.

    Args:
        entry: The submission.
        plan: Its cells, as the installed code builds them.
        places: The drawn cells.
        runner: The runner, for control runs.
        outcomes: The outcomes of the replays, by hash.

    Returns:
        The results of the cells; and the test, None if every cell is exact or needs no test.
    """
    environment = environment_difference(entry.submission, plan)
    results: list[ReplayedCell] = []
    groups: dict[tuple[str | None, int], list[Group]] = {}
    for place in places:
        claim, again = entry.cells_by_key[place.key], runner.cell(place, plan.cells[place], outcomes)
        sign = pays(entry.submission.track, place.attack)
        installed = identity_of(plan.cells[place])
        behaviour = entry.submission.code.identity(installed).difference(installed)
        verdict, evidence = compare_cell(claim, again, behaviour + environment, sign)
        if verdict == "consistent":
            runs = [again]
            if not behaviour or opening_difference(claim, again) <= OPENING:
                runs += _controls(place, plan.cells[place], runner)
            runs = [run for run in runs if run.status != "failed"]
            areas = [area(run, place.stratum) for run in runs]
            evidence += f"; area {area(claim, place.stratum):.5g}, here {min(areas):.5g} to {max(areas):.5g}"
            reference = unit(plan.suite, place.stratum)
            values = [normalised_area(run, place.stratum, reference) for run in runs]
            claims = [normalised_area(claim, place.stratum, reference)]
            groups.setdefault((again.trace, sign), []).append(claim_group(claims, values, sign))
        results.append(ReplayedCell(claim.cell, named(place), verdict, evidence))
    distinct = [(np.mean([claim for claim, _ in same], 0), same[0][1]) for same in groups.values()]
    return results, SeedComparison.of("own seeds", distinct) if distinct else None


def compare_cell(claim: Cell, again: Cell, differences: Sequence[str], sign: int) -> tuple[Verdict, str]:
    """Return the verdict on one claim and the evidence for it; `consistent` where a test has to decide.

    Args:
        claim: The submitted cell.
        again: The same cell as run here.
        differences: Lines about the differences in engine, versions, libraries and CPU between the two runs.
        sign: 1 where a larger area is in the entrant's favour, -1 where a smaller one is.
    """
    if again.status == "failed" and claim.status != "failed":
        return "infrastructure", f"it ended here with: {again.reason}"
    not_compared = {"seconds", "reason"}
    changed = [
        name for name in Cell.model_fields if name not in not_compared and getattr(claim, name) != getattr(again, name)
    ]
    if not changed:
        return "exact", f"trace {str(claim.trace)[:12]}…, evaluation return {claim.value}"
    numbers = ", ".join(f"{name} {_short(getattr(claim, name))} for {_short(getattr(again, name))}" for name in changed)
    if claim.trace is not None and claim.trace == again.trace:
        return "mismatch", f"the trace is the same, and the submission has {numbers}"
    if claim.status in ("failed", "timeout") and sign > 0:
        return "consistent", f"it was submitted as {claim.status}, and runs here"
    if not differences:
        return "mismatch", f"at the same engine, versions, libraries and CPU the submission has {numbers}"
    return "consistent", f"{'; '.join(differences)}; first round differs by {opening_difference(claim, again):.1e}"


def opening_difference(claim: Cell, again: Cell) -> float:
    """Return the largest relative difference between numbers of the first rounds; infinity if one is missing."""
    pairs = [(claim.opening.get(name), again.opening.get(name)) for name in claim.opening | again.opening]
    if not pairs or any(first is None or second is None for first, second in pairs):
        return math.inf
    values = [(float(first), float(second)) for first, second in pairs if first is not None and second is not None]
    return max(abs(a - b) / max(abs(a), abs(b), OPENING) for a, b in values)


def _controls(place: CellKey, cell: Experiment, runner: _Runner) -> list[Cell]:
    """Run a cell `CONTROLS` times, with rewards that are larger by one or a few rounding errors."""
    controls = [perturbed(cell, number) for number in range(1, CONTROLS + 1)]
    outcomes = runner({f"control {named(place)} · {number}": control for number, control in enumerate(controls, 1)})
    return [runner.cell(place, control, outcomes) for control in controls]


def perturbed(cell: Experiment, number: int) -> Experiment:
    """Return the same cell with every reward multiplied by 1 + number * eps, eps the machine epsilon of float32."""
    inner = None if registry.name_of(cell.scenario) == "none" else cell.scenario
    factor = 1 + number * float(np.finfo(np.float32).eps)
    return replace(cell, scenario=registry.load("scenario", "reward_scale", factor=factor, inner=inner))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else f"{text[:36]}…"


def named(place: CellKey) -> str:
    """Return the place of a cell as a text: stratum, algorithm, attack and the index of the seed."""
    return " · ".join(filter(None, (place.stratum.name, place.algo, place.attack, f"seed {place.seed}")))


class _Runner:
    """A runner of experiments in a scratch store, with results in the form of cells.

    Args:
        store: The store.
        executor: The executor that runs the experiments.
        callback: A function that is called with a line for each run; None for no function.
        dated: Whether cells of the entry have dates of evaluations.
    """

    def __init__(self, store: Path, executor: Executor, callback: Callable[[str], None] | None, dated: bool) -> None:
        self._store, self._executor, self._callback, self._dated = store, executor, callback, dated
        self._num_runs = 0

    def __call__(self, cells: Mapping[str, Experiment]) -> dict[str, CellOutcome]:
        """Run experiments by label, and return the outcomes by hash. Equal experiments run once."""
        labels = {cell.hash: label for label, cell in cells.items()}
        distinct = {labels[cell.hash]: cell for cell in cells.values()}

        def report(label: str, outcome: CellOutcome) -> None:
            self._num_runs += 1
            if self._callback:
                status = f"failed: {outcome.error}" if outcome.error else "finished"
                self._callback(f"run {self._num_runs}: {label}: {status}")

        outcomes = run_sweep(SweepPlan("replay", distinct, {}), self._store, self._executor, callback=report).outcomes
        return {distinct[label].hash: outcome for label, outcome in outcomes.items()}

    def cell(self, place: CellKey, cell: Experiment, outcomes: Mapping[str, CellOutcome]) -> Cell:
        """Return a run as a cell of a submission.

        Dates, messages and bytes are left out where the cells of the entry are older than these fields.
        """
        result = cell_of(place, cell, outcomes[cell.hash], self._store / cell.hash)
        return result if self._dated else result.model_copy(update={"dates": (), "messages": None, "bytes": None})
