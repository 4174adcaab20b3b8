"""Replay: randomly drawn cells of a submission are run again, and the submitted numbers are compared with the runs.

    exact           the trace and every number are the same
    consistent      some numbers differ, and so do engine, versions or machine; tests find no contradiction
    undecided       as consistent, but claims are better for the entrant than runs, and too few to be contradicted
    infrastructure  the cell could not be run, which is evidence neither for the entry nor against it
    refused         a plug-in of the entry failed in the sandbox, ended its process, or changed the code around it
    mismatch        numbers differ where they must be the same, or a test contradicts them

Where the engine, the versions of the components, the libraries and the CPU are those of the entry, only exact cells
pass. A cell that was submitted as failed, timed out or diverged and that runs here is a mismatch in any environment.
Three tests (`byzbench.leaderboard.exchangeability`) cover what this comparison does not:

    own seeds          the claims of cells that are not exact, against runs of the same cells here; one-sided, against
                       claims that are wrong in the direction that pays in the track
    fresh seeds        the claims of one stratum and attack, against runs on seeds derived from the salt; two-sided
    relabelled agents  the same claims, against runs on the suite's seeds with another placement of Byzantine agents;
                       two-sided

Claims that a test makes suspicious are tested again under another salt and with more cells and runs. Only this second
test decides, so that an honest entry is contradicted at most with its level.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from byzbench import registry
from byzbench.experiments.experiment import Experiment
from byzbench.identity import identity_of
from byzbench.leaderboard.checks import environment_difference
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.exchangeability import LEVELS, Group, area, claim_group, exchange_p, least_p, normalised_area
from byzbench.leaderboard.plan import SubmissionPlan
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.runners import NoCell, Runner, Verdict
from byzbench.leaderboard.schema import Cell, Track
from byzbench.leaderboard.suites import CLEAN, CellKey, Suite, seed_of

_EXIT: Mapping[Verdict, int] = {
    "exact": 0,
    "consistent": 0,
    "undecided": 3,
    "infrastructure": 3,
    "refused": 1,
    "mismatch": 1,
}
"""The exit codes of verdicts, which are in the order of their severity."""

OPENING = 1e-4
"""Relative difference up to which numbers of the first round differ by rounding only."""

SUSPICIOUS = 0.02
"""Largest p-value at which a test is repeated under another salt. The repeated test decides."""

REPEATED = 32
"""Smallest number of cells that are drawn, and of runs on other seeds, for a repeated test."""

UNDECIDED = 0.05
"""Largest p-value at which an entry is undecided if all its cells are too few to contradict it."""

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
        repeat: The same test under another salt, which decides; None without one.
    """

    test: str
    p: float
    level: float
    least: float
    runs: int
    failed: int = 0
    repeat: SeedComparison | None = None

    @classmethod
    def of(cls, test: str, groups: Sequence[Group]) -> SeedComparison:
        """Test whether claims are larger than the runs of their groups.

        Args:
            test: The name of the test, a key of `LEVELS`.
            groups: The groups, each as from `claim_group`.
        """
        runs = sum(len(values) for _, values in groups)
        return cls(test, exchange_p(groups), LEVELS[test], least_p(groups), runs)

    @classmethod
    def two_sided(cls, test: str, claims: Sequence[float], runs: Sequence[float], failed: int) -> SeedComparison:
        """Test whether claims are larger or smaller than runs.

        Args:
            test: The name of the test, a key of `LEVELS`.
            claims: Normalised areas of submitted cells.
            runs: Normalised areas of the runs here.
            failed: Number of further runs, which ended with an error.
        """
        groups = [[claim_group(claims, runs, sign)] for sign in (1, -1)]
        p = min(1.0, 2 * min(map(exchange_p, groups)))
        return cls(test, p, LEVELS[test], min(1.0, 2 * least_p(groups[0])), len(runs), failed)

    @property
    def weak(self) -> bool:
        """True if the runs are so few that the p-value cannot be far below the level."""
        return self.least > self.level / 10

    @property
    def suspicious(self) -> bool:
        """True if the p-value is small, or on own seeds as small as it can be, so that the test has to be repeated."""
        extreme = self.test == "own seeds" and self.runs > 0 and math.isclose(self.p, self.least)
        return self.p <= SUSPICIOUS or extreme

    @property
    def verdict(self) -> Verdict:
        """The verdict of the test, or of the repeated one; `exact` where it contradicts nothing."""
        if self.repeat:
            return self.repeat.verdict
        if self.p < self.level:
            return "mismatch"
        undecided = self.test == "own seeds" and self.weak and self.p <= UNDECIDED
        return "infrastructure" if self.failed else "undecided" if undecided else "exact"

    def __str__(self) -> str:
        few = f"; too few runs to contradict: p is at least {self.least:.1g}" if self.least >= self.level else ""
        failed = f"; {self.failed} more ended with an error" if self.failed else ""
        runs = f"{self.runs} run{'s' * (self.runs != 1)}"
        repeat = f"; repeated under another salt: {self.repeat}" if self.repeat else ""
        return f"{self.test}: p = {self.p:.3g} at level {self.level:g}, {runs}{few}{failed}{repeat}"


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
        """The exit code of the command: 0 verified, 1 contradicted, 3 not run or undecided."""
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
    runner: Runner,
    *,
    own_seeds_only: bool = False,
) -> ReplayResult:
    """Run cells of an entry again, and compare the submitted numbers with the runs.

    Args:
        entry: A submission that has passed the checks.
        here: The cells of the submission, as the installed code builds them.
        count: Number of cells to draw; all of them if there are fewer.
        salt: The salt of the draw.
        runner: The runner of the cells.
        own_seeds_only: True to leave out the tests on fresh seeds and with relabelled agents.

    Returns:
        The verdict, with the results of cells and tests.
    """
    tests = ("own seeds",) if own_seeds_only else tuple(LEVELS)
    own = _OwnSeeds(entry, here, runner)
    order = draw_cells(entry, here.cells, len(here.cells), salt)
    tested = next((place for place in order if place.attack != CLEAN), order[0])
    comparisons = _test_draw(own, tested, count, salt, tests)
    cells = own.cells
    suspicious = [comparison.test for comparison in comparisons if comparison.suspicious]
    if suspicious and not own.mismatch:
        again = _OwnSeeds(entry, here, runner, first_control=1 + CONTROLS)
        repeated = _test_draw(again, tested, max(count, REPEATED), f"{salt}/repeated", suspicious, extend=True)
        repeats = {repeat.test: repeat for repeat in repeated}
        comparisons = [replace(comparison, repeat=repeats.get(comparison.test)) for comparison in comparisons]
        cells = [*cells, *again.cells]
    verdicts = [cell.verdict for cell in cells] + [comparison.verdict for comparison in comparisons]
    worst = max(verdicts, key=[*_EXIT].index)
    return ReplayResult(worst, int(here.code.engine or 0), salt, tuple(cells), tuple(comparisons))


def _test_draw(
    own: _OwnSeeds, tested: CellKey, count: int, salt: str, tests: Sequence[str], *, extend: bool = False
) -> list[SeedComparison]:
    """Run tests on one draw of cells.

    Args:
        own: The comparison of drawn cells with their replays, which replays them if the test of own seeds is run.
        tested: A cell of the stratum and attack that the tests on fresh seeds and with relabelled agents are run on.
        count: Number of cells to draw; all of them if there are fewer.
        salt: The salt of the draw.
        tests: The names of the tests, keys of `LEVELS`.
        extend: True to draw more cells while those that are not exact are too few for the test of own seeds. A few
            forged cells among exact ones are drawn in this way.
    """
    entry, here, runner = own.entry, own.plan, own.runner
    order = draw_cells(entry, here.cells, len(here.cells), salt)
    drawn = order[:count]
    further_runs = {
        test: _further_runs(entry, here, tested, count, salt, test) for test in tests if test != "own seeds"
    }
    cells_by_label = {f"replay {place}": (place, here.cells[place]) for place in drawn if "own seeds" in tests}
    for test, cells in further_runs.items():
        cells_by_label |= {f"{test} {place} · {i}": (place, cell) for i, (place, cell) in enumerate(cells)}
    runs_by_hash = runner(cells_by_label)
    comparisons = []
    if "own seeds" in tests:
        own.add(drawn, runs_by_hash)
        while (
            extend
            and own.comparison.weak
            and not own.mismatch
            and (further := order[len(own.cells) : 2 * len(own.cells)])
        ):
            own.add(further, runner({f"replay {place}": (place, here.cells[place]) for place in further}))
        comparisons += [own.comparison] if own.groups else []
    for test, cells in further_runs.items():
        if runs := [runs_by_hash[cell.hash] for _, cell in cells]:
            comparisons.append(_compare(entry, here.suite, tested, test, runs))
    return comparisons


def _further_runs(
    entry: Entry, plan: SubmissionPlan, tested: CellKey, count: int, salt: str, test: str
) -> list[tuple[CellKey, Experiment]]:
    """Return `count` runs of the test on fresh seeds or with relabelled agents.

    All are of one stratum and attack. The seeds are the same in all strata and under all attacks, so values of several
    would be dependent, and the test would contradict honest rows. Without an attack there are no agents to relabel, and
    no runs.
    """
    if test == "fresh seeds":
        used = {*plan.suite.seed_values, *(seed for tuning in entry.submission.studies for seed in tuning.seeds)}
        candidates = (seed_of(plan.suite.sha256, salt, number) for number in range(count + len(used)))
        seeds = [seed for seed in candidates if seed not in used][:count]
        return [(tested, replace(plan.cells[tested], seed=seed)) for seed in seeds]
    if tested.attack == CLEAN:
        return []
    all_seeds = [place for place in plan.cells if place.key[:3] == tested.key[:3]]
    salted = [(all_seeds[number % len(all_seeds)], f"{salt}/{number}") for number in range(count)]
    return [(place, relabelled(plan.cells[place], own_salt)) for place, own_salt in salted]


def relabelled(cell: Experiment, salt: str) -> Experiment:
    """Return the same cell with another placement of its Byzantine agents, which is derived from a salt."""
    return replace(cell, placement=registry.make("placement", "relabelled", salt=seed_of(salt)))


def pays(track: Track, attack: str) -> int:
    """Return 1 if a larger area under the curve of a cell is in the entrant's favour, -1 if a smaller one is.

    Example:
        >>> pays("defence", "alie"), pays("attack", "alie"), pays("attack", "none")
        (1, -1, 1)
    """
    return -1 if track in ("attack", "adaptive") and attack != CLEAN else 1


def _compare(entry: Entry, suite: Suite, place: CellKey, test: str, runs: Sequence[Cell | NoCell]) -> SeedComparison:
    """Compare runs of one stratum and attack with the claims of the entry on all seeds."""
    reference = unit(suite, place.stratum)
    ended = [run for run in runs if isinstance(run, Cell) and run.status != "failed"]
    values = [normalised_area(run, place.stratum, reference) for run in ended]
    claimed = [cell for cell in entry.cells if cell.place[:3] == place.key[:3]]
    claims = [normalised_area(claim, place.stratum, reference) for claim in claimed]
    return SeedComparison.two_sided(test, claims, values, len(runs) - len(values))


class _OwnSeeds:
    """The comparison of drawn cells with their replays, and the test of those that need not be exact.

    Args:
        entry: The submission.
        plan: Its cells, as the installed code builds them.
        runner: The runner.
        first_control: The number of the first control run of a cell; other numbers give other runs.

    Attributes:
        cells: The results of the cells so far.
    """

    def __init__(self, entry: Entry, plan: SubmissionPlan, runner: Runner, first_control: int = 1) -> None:
        self.entry, self.plan, self.runner = entry, plan, runner
        self._first_control = first_control
        self._environment = environment_difference(entry.submission, plan)
        self._groups: dict[tuple[str | None, int], list[Group]] = {}
        self.cells: list[ReplayedCell] = []

    def add(self, places: Sequence[CellKey], replays: Mapping[str, Cell | NoCell]) -> None:
        """Compare further cells with their replays.

        Args:
            places: The cells.
            replays: The replays, by hash.
        """
        for place in places:
            claim = self.entry.cells_by_key[place.key]
            verdict, evidence = self._compare(place, claim, replays[self.plan.cells[place].hash])
            self.cells.append(ReplayedCell(claim.cell, str(place), verdict, evidence))

    @property
    def mismatch(self) -> bool:
        """True if a cell is a mismatch, which no test can change."""
        return any(cell.verdict == "mismatch" for cell in self.cells)

    @property
    def groups(self) -> list[Group]:
        """The claims that are not exact, with runs here. Cells with the same trace, for example under attacks without
        effect, are one run and count once."""
        return [(np.mean([claim for claim, _ in same], 0), same[0][1]) for same in self._groups.values()]

    @property
    def comparison(self) -> SeedComparison:
        """The test of all groups."""
        return SeedComparison.of("own seeds", self.groups)

    def _compare(self, place: CellKey, claim: Cell, again: Cell | NoCell) -> tuple[Verdict, str]:
        """Compare one cell, and keep its claim and runs for the test if it need not be exact."""
        plan = self.plan
        if isinstance(again, NoCell):
            return again.verdict, again.reason
        if not any(cell.dates for cell in self.entry.cells):  # its cells are older than these fields
            again = again.model_copy(update={"dates": (), "messages": None, "bytes": None})
        installed = identity_of(plan.cells[place])
        behaviour = self.entry.submission.code.identity(installed).difference(installed)
        verdict, evidence = compare_cell(
            claim, again, behaviour + self._environment, self.runner.on_failure, moved=bool(behaviour)
        )
        if verdict != "consistent":
            return verdict, evidence
        runs: list[Cell | NoCell] = [again]
        if not behaviour or opening_difference(claim, again) <= OPENING:
            first = self._first_control
            controls = {n: perturbed(plan.cells[place], n) for n in range(first, first + CONTROLS)}
            runs += self.runner({f"control {place} · {n}": (place, cell) for n, cell in controls.items()}).values()
        ended = [run for run in runs if isinstance(run, Cell) and run.status != "failed"]
        if claim.status == "diverged" and all(run.status == "ok" for run in ended):
            return "mismatch", f"it was submitted as diverged, and none of {len(ended)} runs here diverges"
        areas = [area(run, place.stratum) for run in ended]
        evidence += f"; area {area(claim, place.stratum):.5g}, here {min(areas):.5g} to {max(areas):.5g}"
        reference, sign = unit(plan.suite, place.stratum), pays(self.entry.submission.track, place.attack)
        values = [normalised_area(run, place.stratum, reference) for run in ended]
        group = claim_group([normalised_area(claim, place.stratum, reference)], values, sign)
        self._groups.setdefault((again.trace, sign), []).append(group)
        return verdict, evidence


def compare_cell(
    claim: Cell,
    again: Cell,
    differences: Sequence[str],
    on_failure: Verdict = "infrastructure",
    *,
    moved: bool = False,
) -> tuple[Verdict, str]:
    """Return the verdict on one claim and the evidence for it; `consistent` where a test has to decide.

    Args:
        claim: The submitted cell.
        again: The same cell as run here.
        differences: Lines about the differences in engine, versions, libraries and CPU between the two runs.
        on_failure: The verdict on a cell that fails here alone.
        moved: Whether the engine or the version of a component differs: it may have sent other messages then, and have
            learned the same.
    """
    if again.status == "failed" and claim.status != "failed":
        return on_failure, f"it ended here with: {again.reason}"
    not_compared = {"seconds", "reason"}
    changed = [
        name for name in Cell.model_fields if name not in not_compared and getattr(claim, name) != getattr(again, name)
    ]
    if not changed:
        return "exact", f"trace {str(claim.trace)[:12]}…, evaluation return {claim.value}"
    numbers = ", ".join(f"{name} {_short(getattr(claim, name))} for {_short(getattr(again, name))}" for name in changed)
    if claim.trace is not None and claim.trace == again.trace:
        if moved and {"messages", "bytes"}.issuperset(changed):
            return "consistent", f"{'; '.join(differences)}; the trace is the same, with {numbers}"
        return "mismatch", f"the trace is the same, and the submission has {numbers}"
    if claim.status in ("failed", "timeout"):
        return "mismatch", f"it was submitted as {claim.status}, and runs here"
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


def perturbed(cell: Experiment, number: int) -> Experiment:
    """Return the same cell with every reward multiplied by 1 + number * eps, eps the machine epsilon of float32."""
    inner = None if registry.name_of(cell.scenario) == "none" else cell.scenario
    factor = 1 + number * float(np.finfo(np.float32).eps)
    return replace(cell, scenario=registry.make("scenario", "reward_scale", factor=factor, inner=inner))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else f"{text[:36]}…"
