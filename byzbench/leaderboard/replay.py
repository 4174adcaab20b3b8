"""Replay: cells that the entrant could not choose are run again, and what they say is held against what was said.

    exact           the same bytes: the trace and every number are those of the submission
    numeric         other bits, the same curve: it differs by rounding, which seldom turns an action
    statistical     the curve drifts away, and so do controls: runs whose rewards are larger by a rounding error
    infrastructure  it could not be run; nothing follows from that, for or against
    mismatch        nothing of the kind: what was said is not what the code does

Every attacked cell that is drawn is run once more with its agents renamed, so that the liars sit where no method can
have learned by heart that they sit. These runs and the claims of the same cell on all seeds must look like one sample.
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
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.plan import Lot
from byzbench.leaderboard.schema import Cell
from byzbench.leaderboard.submitting import cell_of
from byzbench.leaderboard.suites import CLEAN, Place, Stratum

Verdict = Literal["exact", "numeric", "statistical", "infrastructure", "mismatch"]

OPENING = 1e-4
"""Relative error within which the first round must be found again on any machine."""

CLOSE = 0.02
"""Curves are the same if no point of them differs by more than this share of the way from random to the reference."""

CONTROLS = 4
"""Runs that show how far rounding alone takes a cell that drifts."""

ALPHA = 0.01
"""How seldom honest claims may be told from relabelled runs."""

_EXIT = {"exact": 0, "numeric": 0, "statistical": 0, "mismatch": 1, "infrastructure": 3}


@dataclass(frozen=True)
class Replayed:
    """What came of one cell: its verdict, and the numbers behind it in one line."""

    cell: str
    place: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Replay:
    """What came of all cells that were drawn.

    Attributes:
        verdict: the worst of them.
        salt: what the draw depended on; the same one draws the same cells.
        relabelled: whether claims and relabelled runs look alike, with the p-value; empty where none were run.
    """

    verdict: Verdict
    salt: str
    cells: tuple[Replayed, ...]
    relabelled: str

    @property
    def exit_code(self) -> int:
        """0: verified. 1: contradicted. 3: it could not be run."""
        return _EXIT[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """As data."""
        return asdict(self)


def fresh_salt() -> str:
    """A salt that nobody could know when the entry was written."""
    return os.urandom(8).hex()


def draw(entry: Entry, places: Iterable[Place], count: int, salt: str) -> list[Place]:
    """The cells to replay: by the order of sha256 over salt, submission and cell.

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
    """
    places = draw(entry, here.cells, count, salt)
    runner = _Runner(store, executor, watch)
    renamed = {p: _relabelled(here.cells[p], f"{salt}/{p.key}") for p in places if p.attack != CLEAN}
    again = {f"replay {_named(p)}": here.cells[p] for p in places}
    runs = runner(again | {f"relabelled {_named(p)}": cell for p, cell in renamed.items()})
    found = []
    for place in places:
        claim, rerun = entry.at[place.key], runner.cell(place, here.cells[place], runs)
        verdict, why = judge(claim, rerun, place.stratum)
        if verdict == "statistical":
            controls = [_control(here.cells[place], j) for j in range(1, CONTROLS + 1)]
            extra = runner({f"control {_named(place)} · {j}": c for j, c in enumerate(controls, 1)})
            verdict, why = drift(claim, rerun, [runner.cell(place, c, extra) for c in controls], place.stratum)
        found.append(Replayed(claim.cell, _named(place), verdict, why))
    alike = _alike(entry, {p: runner.cell(p, cell, runs) for p, cell in renamed.items()})
    worst: Verdict = max((r.verdict for r in found), key=_SEVERITY.index)
    if alike and alike[0] < ALPHA:
        worst = "mismatch"
    said = f"p = {alike[0]:.3g} for {alike[1]} runs with agents renamed to return as much as claimed" if alike else ""
    return Replay(worst, salt, tuple(found), said)


_SEVERITY: Sequence[Verdict] = ("exact", "numeric", "statistical", "infrastructure", "mismatch")


def judge(claim: Cell, again: Cell, stratum: Stratum) -> tuple[Verdict, str]:
    """What one replay says of a claim; `statistical` where controls have to tell."""
    if again.status == "failed" and claim.status != "failed":
        return "infrastructure", f"it ended here with: {again.reason}"
    if claim.status in ("failed", "timeout"):
        fared = "fails here too" if again.status == "failed" else "runs here, and scores 0 as it was submitted"
        return "exact" if again.status == "failed" else "numeric", f"it was submitted as {claim.status}, and {fared}"
    if claim.trace == again.trace:
        plain = {"seconds": None, "reason": None}
        if claim.model_copy(update=plain) == again.model_copy(update=plain):
            return "exact", f"trace {str(claim.trace)[:12]}…, evaluation return {claim.value}"
        off = [name for name in Cell.model_fields if name not in plain and getattr(claim, name) != getattr(again, name)]
        told = ", ".join(f"{name} {_short(getattr(claim, name))} for {_short(getattr(again, name))}" for name in off)
        return "mismatch", f"the trace is the same, and the submission says {told}"
    scale = stratum.reference - stratum.random
    start = max((_off(claim.opening.get(k), again.opening.get(k)) for k in claim.opening | again.opening), default=0.0)
    apart = _apart(claim, again) / scale
    told = f"the first round differs by {start:.1e}, the curves by {apart:.1%} at most"
    return "numeric" if start <= OPENING and apart <= CLOSE else "statistical", told


def drift(claim: Cell, again: Cell, controls: Sequence[Cell], stratum: Stratum) -> tuple[Verdict, str]:
    """What controls say of a claim whose curve is not found again.

    The claim, the replay and the controls differ by rounding alone, if the claim is honest. It may then be higher than
    all of these by as much again as they lie apart, and by what is close. A claim that is lower harms nobody else.
    """
    scale = stratum.reference - stratum.random
    values = [float(c.value) for c in (again, *controls) if c.status == "ok" and c.value is not None]
    if not values:
        return "infrastructure", "neither the replay nor a control came to its end"
    said = float(claim.value) if claim.value is not None else stratum.random
    low, high = min(values), max(values)
    allowed = high + (high - low) + CLOSE * scale
    told = f"return {said:.6g}; {len(values)} runs that differ by rounding return {low:.6g} to {high:.6g}"
    return ("statistical", told) if said <= allowed else ("mismatch", f"{told}, at most {allowed:.6g} is believed")


def rank_p(ranks: Sequence[int], sizes: Sequence[int]) -> float:
    """The probability of ranks, each uniform on 0..n by itself, to sum to this little or less.

    A relabelled run is one more draw from what n claims were drawn from; its rank counts the claims that it reaches.
    """
    weights = np.ones(1)
    for n in sizes:
        weights = np.convolve(weights, np.full(n + 1, 1 / (n + 1)))
    return float(weights[: sum(ranks) + 1].sum())


def _alike(entry: Entry, renamed: Mapping[Place, Cell]) -> tuple[float, int] | None:
    ranks, sizes = [], []
    for place, again in renamed.items():
        if again.status == "failed":
            continue
        group = [c for c in entry.cells if c.place[:3] == place.key[:3]]
        value = -math.inf if again.value is None else float(again.value)
        claims = [float(c.value) if c.value is not None else -math.inf for c in group]
        ranks.append(sum(claim <= value for claim in claims))
        sizes.append(len(claims))
    return (rank_p(ranks, sizes), len(ranks)) if ranks else None


def _relabelled(cell: Experiment, salt: str) -> Experiment:
    number = int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8], "big") >> 1
    return replace(cell, placement=registry.load("placement", "relabelled", salt=number))


def _control(cell: Experiment, number: int) -> Experiment:
    """The same cell with every reward larger by `number` units in its last place: off by rounding, and no more."""
    scale = cell.task.reward_scale * (1 + number * float(np.finfo(np.float32).eps))
    return replace(cell, task=replace(cell.task, reward_scale=scale))


def _off(one: str | None, other: str | None) -> float:
    """The relative difference of two numbers of the opening."""
    if one is None or other is None:
        return math.inf
    a, b = float(one), float(other)
    return abs(a - b) / max(abs(a), abs(b), OPENING)


def _apart(claim: Cell, again: Cell) -> float:
    """The largest difference of two curves, their ends included."""
    if len(claim.curve) != len(again.curve) or claim.status != again.status:
        return math.inf
    pairs = [*zip(claim.curve, again.curve, strict=True), (claim.value, again.value)]
    if any((a is None) != (b is None) for a, b in pairs):
        return math.inf
    return max((abs(float(a) - float(b)) for a, b in pairs if a is not None and b is not None), default=0.0)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else f"{text[:36]}…"


def _named(place: Place) -> str:
    return " · ".join(filter(None, (place.stratum.name, place.algo, place.attack, f"seed {place.seed}")))


class _Runner:
    """Runs experiments in a scratch store, and reads them as cells."""

    def __init__(self, store: Path, executor: Executor, watch: Callable[[str], None] | None) -> None:
        self._store, self._executor, self._watch = store, executor, watch
        self._done = 0

    def __call__(self, cells: Mapping[str, Experiment]) -> dict[str, Outcome]:
        """The outcomes, by hash. Cells may be the same experiment, which then runs once."""
        labels = {cell.hash: label for label, cell in cells.items()}
        todo = {labels[cell.hash]: cell for cell in cells.values()}

        def over(label: str, outcome: Outcome) -> None:
            self._done += 1
            if self._watch:
                self._watch(f"run {self._done}: {label}: {outcome.error or outcome.result['verdict']['name']}")

        done = sweep(Plan("replay", todo, {}), self._store, self._executor, watch=over).outcomes
        return {todo[label].hash: outcome for label, outcome in done.items()}

    def cell(self, place: Place, cell: Experiment, outcomes: Mapping[str, Outcome]) -> Cell:
        return cell_of(place, cell, outcomes[cell.hash], self._store / cell.hash)
