"""Pilots: the runs that decide which strata and attacks a suite takes.

A pilot file is a candidate suite with two more tables: `[pilot]`, the design, and `[[panel]]`, the methods that are
run. The stage `choose` runs the panel in all strata under all attacks and selects strata and attacks; the stage
`confirm` runs the selection on other seeds and repeats every test. `byzbench.leaderboard.admission` has the tests.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from byzbench import registry
from byzbench.axes import method_axes
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.exchangeability import area
from byzbench.leaderboard.schema import Division, Document, Spec, validate
from byzbench.leaderboard.submitting import cell_of
from byzbench.leaderboard.suites import CLEAN, CellKey, Stratum, Suite, seed_of
from byzbench.records.files import read_named_file
from byzbench.sweeps.cells import stored_outcome
from byzbench.sweeps.grid import SweepPlan

REFERENCE = "reference"
"""The method of the panel whose mean clean AUC has score 1."""

Stage = Literal["choose", "confirm"]
NumSeeds = Annotated[int, Field(strict=True, ge=4, le=1000)]
Flag = Annotated[bool, Field(strict=True)]


class PilotDesign(Document):
    """The design of a pilot, fixed before its runs.

    Attributes:
        choose_seeds, confirm_seeds: Number of seeds of each stage.
        difference: Difference of scores that the paired test of `pair` should find.
        pair: Names of two methods of the panel.
    """

    choose_seeds: NumSeeds
    confirm_seeds: NumSeeds
    difference: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    pair: tuple[Spec, Spec]


class PanelMethod(Document):
    """A method of the panel.

    Attributes:
        name: Its name; unique in its division.
        division: The strata where it is run.
        algo, aggregator, agreement: The components, as users write them; None: the default of the algorithm.
        robust: Whether its runs under attack count in the shares of runs at the floor and at the maximum, and whether
            an attack of the worst case can be shown to be harmful by it.
        attacked: Whether it is run under attacks.
    """

    name: Spec
    division: Division
    algo: Spec
    aggregator: Spec | None = None
    agreement: Spec | None = None
    robust: Flag
    attacked: Flag

    @property
    def options(self) -> dict[str, Any]:
        """The options of `Experiment.create` that the method sets."""
        return self.model_dump(exclude_none=True, include={axis.name for axis in method_axes()})


class Pilot(Suite):
    """A candidate suite with the design and the panel of its pilot.

    Attributes:
        pilot: The design.
        panel: The methods.
    """

    pilot: PilotDesign
    panel: Annotated[tuple[PanelMethod, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_panel(self) -> Pilot:
        written = {reference.division: reference.options for reference in self.references}
        for division in sorted({stratum.division for stratum in self.strata}):
            by_name = {method.name: method for method in self.methods(division)}
            if len(by_name) < len(self.methods(division)):
                raise ValueError(f"two methods of the division {division} have one name")
            if REFERENCE not in by_name:
                raise ValueError(f"a pilot without a reference: the panel has no method {REFERENCE!r} in {division}")
            if by_name[REFERENCE].options != written.get(division):
                raise ValueError(f"the method {REFERENCE!r} of the panel is not the reference of {division}")
            if not any(method.robust for method in by_name.values()):
                raise ValueError(f"the panel has no robust method in {division}")
        if unattacked := [method.name for method in self.panel if method.robust and not method.attacked]:
            raise ValueError(f"{unattacked[0]} is robust, and must be attacked")
        if not self.pair_divisions:
            raise ValueError(
                f"no division has attacked methods of both names of the pair, {', '.join(self.pilot.pair)}"
            )
        return self

    def methods(self, division: Division) -> tuple[PanelMethod, ...]:
        """Return the panel of a division."""
        return tuple(method for method in self.panel if method.division == division)

    @property
    def pair_divisions(self) -> tuple[Division, ...]:
        """The divisions of strata in which both methods of the pair are attacked."""
        attacked = {(method.division, method.name) for method in self.panel if method.attacked}
        divisions = dict.fromkeys(stratum.division for stratum in self.strata)
        first, second = self.pilot.pair
        return tuple(d for d in divisions if first != second and {(d, first), (d, second)} <= attacked)

    def stage_seeds(self, stage: Stage) -> tuple[int, ...]:
        """Return the seeds of a stage; they follow from the file, the stage and the index."""
        count = self.pilot.choose_seeds if stage == "choose" else self.pilot.confirm_seeds
        return tuple(seed_of(self.sha256, stage, index) for index in range(count))


@dataclass(frozen=True)
class Selection:
    """A part of a candidate suite.

    Attributes:
        strata: Names of strata.
        attacks: Attacks of the worst case and those with the role `sanity`.
        pairs: By attack the stratum and the method that it must harm; empty: any.
    """

    strata: tuple[str, ...]
    attacks: tuple[str, ...]
    pairs: Mapping[str, tuple[str, str]]

    @classmethod
    def whole(cls, pilot: Pilot) -> Selection:
        """Return everything that a pilot runs in the stage `choose`."""
        attacks = tuple(a.spec for a in pilot.attacks if a.role != "held_out" and a.spec != CLEAN)
        return cls(tuple(stratum.name for stratum in pilot.strata), attacks, {})

    def strata_of(self, pilot: Pilot) -> tuple[Stratum, ...]:
        """Return the selected strata, in the order of the file."""
        return tuple(stratum for stratum in pilot.strata if stratum.name in self.strata)

    def attacks_in(self, pilot: Pilot, stratum: Stratum) -> tuple[str, ...]:
        """Return the selected attacks that apply to a stratum."""
        return tuple(spec for spec in pilot.attacks_of(stratum) if spec in self.attacks)


@dataclass(frozen=True)
class CellRuns:
    """The runs of one method in one stratum under one attack; position i of every field is the same seed.

    Attributes:
        areas: Raw AUC, [n]; NaN of a failed or diverged run.
        traces: sha256 of each trace; None of a failed run.
        seconds: Seconds of each training loop.
        spans: Seconds from the first to the last record of each run, evaluations included.
    """

    areas: np.ndarray
    traces: tuple[str | None, ...]
    seconds: tuple[float, ...]
    spans: tuple[float, ...]

    def same_traces(self, other: CellRuns) -> bool:
        """Return whether the runs have the traces of other runs; never of failed ones."""
        return None not in self.traces and self.traces == other.traces


StageRuns = Mapping[tuple[str, str, str], CellRuns]
"""The runs of a stage by stratum, method and attack."""


def read_pilot(path: Path) -> Pilot:
    """Read a pilot file.

    Args:
        path: A TOML file.

    Returns:
        The pilot; its attacks exist.

    Raises:
        InvalidParameter: The file does not exist or is not a pilot.
        UnknownName: An attack does not exist.

    Example:
        >>> pilot = read_pilot(Path("leaderboards/pilots/smoke-v2.toml"))
        >>> pilot.pair_divisions
        ('decentralised', 'server')
    """
    try:
        content = read_named_file(path)
        data = tomllib.loads(content.decode())
        pilot = validate(Pilot, {**data, "sha256": hashlib.sha256(content).hexdigest()}, path.name)
    except FileNotFoundError:
        raise InvalidParameter(f"there is no pilot file {path}") from None
    except (ValueError, RecursionError, Refused) as error:
        raise InvalidParameter(f"pilot {path}: {error}") from None
    for attack in pilot.attacks:
        registry.make("attack", attack.spec)
    return pilot


def pilot_cells(pilot: Pilot, stage: Stage, selection: Selection | None = None) -> dict[CellKey, Experiment]:
    """Return the experiments of a stage.

    Args:
        pilot: The pilot.
        stage: Which of its stages.
        selection: What is run; None: everything.

    Returns:
        Experiments by place, whose `algo` is the name of the method in the panel.

    Raises:
        UserError: A method is not defined in a stratum, or does not exist.

    Example:
        >>> pilot = read_pilot(Path("leaderboards/pilots/smoke-v2.toml"))
        >>> selection = Selection(("cartpole-star",), ("ipm(on=both)",), {})
        >>> len(pilot_cells(pilot, "choose", selection)) == 6 * (1 + 4 * 2)
        True
    """
    cells = {}
    for stratum, method, attack in _combinations(pilot, selection or Selection.whole(pilot)):
        for index, seed in enumerate(pilot.stage_seeds(stage)):
            place = CellKey(stratum, attack, method.name, index)
            try:
                cells[place] = Experiment.create(**pilot.options(stratum), **method.options, attack=attack, seed=seed)
            except UserError as error:
                raise type(error)(f"{place}: {error}") from None
    return cells


def pilot_plan(pilot: Pilot, stage: Stage, cells: Mapping[CellKey, Experiment]) -> SweepPlan:
    """Return the cells of a stage as a sweep, each experiment once.

    Args:
        pilot: The pilot.
        stage: Which of its stages.
        cells: The experiments by place, as from `pilot_cells`.

    Example:
        >>> pilot = read_pilot(Path("leaderboards/pilots/smoke-v2.toml"))
        >>> cells = pilot_cells(pilot, "choose", Selection(("cartpole-star",), (), {}))
        >>> next(iter(pilot_plan(pilot, "choose", cells).cells))
        'choose · cartpole-star · reference · none · seed 0'
    """
    labels = {cell.hash: f"{stage} · {place}" for place, cell in reversed([*cells.items()])}
    return SweepPlan(pilot.name, {labels[cell.hash]: cell for cell in cells.values()}, {})


def load_runs(cells: Mapping[CellKey, Experiment], store: Path) -> StageRuns:
    """Load the runs of a stage from a store.

    Args:
        cells: The experiments by place, as from `pilot_cells`.
        store: The folder of run folders.

    Returns:
        The runs by stratum, method and attack.

    Raises:
        UserError: A cell has not been run by the installed code.
        CorruptRecord: A run folder is corrupt.
    """
    outcomes = {place: stored_outcome(cell, store, "reuse") for place, cell in cells.items()}
    if missing := [place for place, outcome in outcomes.items() if outcome is None]:
        raise UserError(f"{len(missing)} of {len(cells)} cells are not in {store}, for example {missing[0]}")
    rows: dict[tuple[str, str, str], list[tuple[float, str | None, float, float]]] = {}
    for place, outcome in outcomes.items():
        assert outcome is not None
        folder = store / cells[place].hash
        cell = cell_of(place.key, cells[place].hash, outcome, folder)
        value = area(cell, place.stratum) if cell.status == "ok" else float("nan")
        seconds = float(cell.seconds or 0.0)
        key = (place.stratum.name, str(place.algo), place.attack)
        rows.setdefault(key, []).append((value, cell.trace, seconds, max(seconds, _span(folder))))
    return {key: _transposed(runs) for key, runs in rows.items()}


def _combinations(pilot: Pilot, selection: Selection) -> Iterator[tuple[Stratum, PanelMethod, str]]:
    """Yield the strata, methods and attacks of a selection; methods that are not attacked have no attack."""
    for stratum in selection.strata_of(pilot):
        for method in pilot.methods(stratum.division):
            attacks = selection.attacks_in(pilot, stratum) if method.attacked else ()
            yield from ((stratum, method, attack) for attack in (CLEAN, *attacks))


def _span(folder: Path) -> float:
    """Return the seconds between the writing of the first and of the last record of a run; 0 where one is missing."""
    try:
        return (folder / "result.json").stat().st_mtime - (folder / "experiment.json").stat().st_mtime
    except OSError:
        return 0.0


def _transposed(runs: list[tuple[float, str | None, float, float]]) -> CellRuns:
    areas, traces, seconds, spans = zip(*runs, strict=True)
    return CellRuns(np.array(areas), traces, seconds, spans)
