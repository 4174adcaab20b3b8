"""References of suites: the clean return of a method that averages honest agents only, the unit of scores.

A suite names such a method for each division (`honest_mean` as its rule, with parameters that were tuned like those of
any row). The score of a cell is

    max(0, (auc - random) / (R - random)),    R = mean over the suite's seeds of the reference's auc in that stratum,

auc the area under the evaluation curve divided by the budget. R is a constant of the suite at one engine, so that no
row moves another one's score: 1 is a unit and not a maximum. The file `NAME.references.json` beside the suite file
holds the references, one for each engine; `byzbench leaderboard reference NAME` runs the method and adds one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from byzbench.canonical import SCHEMA
from byzbench.errors import CorruptRecord, InvalidParameter, StorageError, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.files import parse_object
from byzbench.experiments.migrations import migrate
from byzbench.identity import ENGINE, identity_of
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.exchangeability import area
from byzbench.leaderboard.frozen import experiment_options, frozen
from byzbench.leaderboard.schema import (
    Axis,
    Cell,
    ComponentVersion,
    Decimal,
    Described,
    Digest,
    Part,
    Positive,
    Slug,
    validate,
)
from byzbench.leaderboard.suites import CLEAN, Place, Stratum, Suite, folder


class ReferenceRuns(Part):
    """The runs of a reference in one stratum.

    Attributes:
        method: by axis: what ran, every parameter's value.
        areas: areas under the evaluation curves, divided by the budget, by seed index.
        traces: sha256 of each `trace.jsonl`.
    """

    method: dict[Axis, Described]
    areas: Annotated[tuple[Decimal, ...], Field(min_length=1)]
    traces: Annotated[tuple[Digest, ...], Field(min_length=1)]

    @property
    def mean(self) -> float:
        """R: the mean over seeds."""
        return sum(map(float, self.areas)) / len(self.areas)


class Reference(Part):
    """The reference of a suite at one engine.

    Attributes:
        engine: `byzbench.identity.ENGINE` when it ran.
        components: the versions of what ran, by kind and name.
        strata: by name.
    """

    engine: Positive
    components: Annotated[dict[str, ComponentVersion], Field(max_length=200)]
    strata: dict[Slug, ReferenceRuns]


class References(Part):
    """`NAME.references.json`, the references of a suite by engine."""

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)]
    suite_sha256: Digest
    references: tuple[Reference, ...] = ()


@cache
def references(suite: Suite) -> Mapping[int, Reference]:
    """Return the references of a suite by engine.

    Raises:
        CorruptRecord: they are not this suite's, or not of every stratum and seed, or a reference is not above random.
    """
    name = f"{suite.name}.references.json"
    try:
        data = parse_object(folder().joinpath(name).read_bytes(), Path(name))
    except FileNotFoundError:
        return {}
    try:
        document = validate(References, migrate("references", data, name) | {"schema": data.get("schema")}, name)
    except Refused as error:
        raise CorruptRecord(str(error)) from None
    found = {reference.engine: reference for reference in document.references}
    wanted = {stratum.name: stratum.random for stratum in suite.strata}
    whole = all(
        set(reference.strata) == set(wanted)
        and all(len(runs.areas) == len(runs.traces) == suite.seeds for runs in reference.strata.values())
        and all(runs.mean > wanted[stratum] for stratum, runs in reference.strata.items())
        for reference in found.values()
    )
    if document.suite_sha256 != suite.sha256 or len(found) < len(document.references) or not whole:
        raise CorruptRecord(f"{name} is not that of the suite file beside it")
    return found


def unit(suite: Suite, stratum: Stratum, engine: int | None = None) -> float:
    """Return the return that is scored 1 in a stratum.

    Args:
        suite: the suite.
        stratum: one of its strata.
        engine: of the row that is scored; None: the newest that has a reference.

    Raises:
        InvalidParameter: the suite has no reference at that engine.
    """
    if stratum.reference is not None:
        return stratum.reference
    found = references(suite)
    at = max(found, default=0) if engine is None else engine
    if at not in found:
        raise InvalidParameter(
            f"suite {suite.name} has no reference at engine {at or ENGINE}; "
            f"`byzbench leaderboard reference {suite.name}` runs it"
        )
    return found[at].strata[stratum.name].mean


def reference_cells(suite: Suite) -> dict[Place, Experiment]:
    """Return the experiments of a suite's reference: each stratum without an attack, on every seed.

    Raises:
        InvalidParameter: the suite names returns instead of methods.
        UserError: the method is not defined in a stratum.
    """
    if not suite.references:
        raise InvalidParameter(f"suite {suite.name} has no method of reference: its strata name returns")
    methods = {reference.division: reference.options for reference in suite.references}
    texts = frozen(suite)
    return {
        Place(stratum, CLEAN, None, index): Experiment.create(
            **{**experiment_options(texts.strata[stratum.name]), **methods[stratum.division]}, attack=CLEAN, seed=seed
        )
        for stratum in suite.strata
        for index, seed in enumerate(suite.seed_values)
    }


def reference_of(cells: Mapping[Place, Experiment], runs: Mapping[Place, Cell]) -> Reference:
    """Return the reference that finished runs come to.

    Args:
        cells: what `reference_cells` gave.
        runs: what a submission would say of each.

    Raises:
        UserError: a run failed or diverged.
    """
    if bad := [place for place, cell in runs.items() if cell.status != "ok" or cell.trace is None]:
        raise UserError(f"the reference {runs[bad[0]].status} in {bad[0].stratum.name} on seed {bad[0].seed}")
    strata: dict[str, ReferenceRuns] = {}
    versions: dict[str, ComponentVersion] = {}
    for stratum in dict.fromkeys(place.stratum for place in cells):
        own = {place: cell for place, cell in cells.items() if place.stratum == stratum}
        first = next(iter(own.values()))
        versions |= {
            name: ComponentVersion(version=part.version, digest=part.digest, data=part.data or None)
            for name, part in identity_of(first).components.items()
        }
        strata[stratum.name] = ReferenceRuns(
            method={k: v for k, v in first.describe().items() if k in ("algorithm", "aggregator", "agreement")},
            areas=tuple(repr(area(runs[place], stratum)) for place in own),
            traces=tuple(str(runs[place].trace) for place in own),
        )
    return Reference(engine=ENGINE, components=dict(sorted(versions.items())), strata=strata)


def write_reference(suite: Suite, reference: Reference) -> Path:
    """Write a reference beside its suite file, in place of one of the same engine, and return the path.

    Raises:
        StorageError: the file cannot be written.
    """
    path = Path(str(folder().joinpath(f"{suite.name}.references.json")))
    kept = [one for engine, one in references(suite).items() if engine != reference.engine]
    document = References(version=SCHEMA, suite_sha256=suite.sha256, references=(*kept, reference))
    text = json.dumps(document.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1) + "\n"
    try:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    references.cache_clear()
    return path
