"""References of suites: clean returns of a method that averages honest agents only, the unit of scores.

A suite names such a method for each division (with the rule `honest_mean`, and parameters tuned like those of any
row). The score of a cell is

    max(0, (auc - random) / (R - random)),    R = mean over the suite's seeds of the reference's auc in that stratum,

with auc the area under the evaluation curve divided by the budget. R is a constant of the suite at one engine, so that
a score does not depend on other rows: 1 is a unit and not a maximum. The file `NAME.references.json` beside the suite
file has the references, one for each engine; `byzbench leaderboard reference NAME` runs the method and adds one.
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
from byzbench.experiments.experiment import Experiment, experiment_options
from byzbench.identity import ENGINE, identity_of
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.exchangeability import area
from byzbench.leaderboard.frozen import METHOD, frozen
from byzbench.leaderboard.schema import (
    Axis,
    Cell,
    ComponentVersion,
    Decimal,
    Described,
    Digest,
    Document,
    Positive,
    Slug,
    validate,
)
from byzbench.leaderboard.suites import CLEAN, CellKey, Stratum, Suite, folder
from byzbench.records.files import parse_object
from byzbench.records.migrations import migrate


class ReferenceRuns(Document):
    """The runs of a reference in one stratum.

    Attributes:
        method: By axis, the method with the value of every parameter.
        areas: Areas under the evaluation curves, divided by the budget, by seed index.
        traces: The sha256 of each `trace.jsonl`, by seed index.
    """

    method: dict[Axis, Described]
    areas: Annotated[tuple[Decimal, ...], Field(min_length=1)]
    traces: Annotated[tuple[Digest, ...], Field(min_length=1)]

    @property
    def mean(self) -> float:
        """R: the mean over seeds."""
        return sum(map(float, self.areas)) / len(self.areas)


class Reference(Document):
    """The reference of a suite at one engine.

    Attributes:
        engine: `byzbench.identity.ENGINE` of the runs.
        components: The versions of the components, by kind and name.
        strata: The runs by stratum.
    """

    engine: Positive
    components: Annotated[dict[str, ComponentVersion], Field(max_length=200)]
    strata: dict[Slug, ReferenceRuns]


class References(Document):
    """The document `NAME.references.json`, the references of a suite.

    Attributes:
        version: The schema number of the document.
        suite_sha256: The sha256 of the suite file.
        references: The references, one for each engine.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)]
    suite_sha256: Digest
    references: tuple[Reference, ...] = ()


@cache
def suite_references(suite: Suite) -> Mapping[int, Reference]:
    """Return the references of a suite by engine; there are none if the file does not exist.

    Raises:
        CorruptRecord: The file belongs to another suite, lacks strata or seeds, or has a reference that is not above
            random.
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
    by_engine = {reference.engine: reference for reference in document.references}
    random = {stratum.name: stratum.random for stratum in suite.strata}
    valid = all(
        set(reference.strata) == set(random)
        and all(len(runs.areas) == len(runs.traces) == suite.seeds for runs in reference.strata.values())
        and all(runs.mean > random[stratum] for stratum, runs in reference.strata.items())
        for reference in by_engine.values()
    )
    if document.suite_sha256 != suite.sha256 or len(by_engine) < len(document.references) or not valid:
        raise CorruptRecord(f"{name} does not belong to the suite file beside it")
    return by_engine


def unit(suite: Suite, stratum: Stratum, engine: int | None = None) -> float:
    """Return R, the return that has score 1 in a stratum.

    Args:
        suite: The suite.
        stratum: One of its strata.
        engine: The engine of the row that is scored; None: the newest engine that has a reference.

    Raises:
        InvalidParameter: The suite has no reference at that engine.

    Example:
        >>> from byzbench.leaderboard.suites import suite
        >>> unit(suite("smoke-v1"), suite("smoke-v1").strata[0])
        475.0
    """
    if stratum.reference is not None:
        return stratum.reference
    by_engine = suite_references(suite)
    at = max(by_engine, default=0) if engine is None else engine
    if at not in by_engine:
        raise InvalidParameter(
            f"suite {suite.name} has no reference at engine {at or ENGINE}; "
            f"`byzbench leaderboard reference {suite.name}` runs it"
        )
    return by_engine[at].strata[stratum.name].mean


def reference_cells(suite: Suite) -> dict[CellKey, Experiment]:
    """Return the experiments of a suite's references: every stratum without an attack, on every seed.

    A method that has a reference on file runs with the values that it had there, whatever the defaults are today.

    Raises:
        InvalidParameter: The suite has reference returns instead of methods.
        UserError: The method is not defined in a stratum.
    """
    if not suite.references:
        raise InvalidParameter(f"suite {suite.name} has no reference method: its strata have reference returns")
    by_division = {reference.division: reference.options for reference in suite.references}
    methods = {stratum.name: by_division[stratum.division] for stratum in suite.strata}
    for reference in suite_references(suite).values():
        methods = {stratum: experiment_options(runs.method) for stratum, runs in reference.strata.items()}
    texts = frozen(suite)
    return {
        CellKey(stratum, CLEAN, None, index): Experiment.create(
            **{**experiment_options(texts.strata[stratum.name]), **methods[stratum.name]}, attack=CLEAN, seed=seed
        )
        for stratum in suite.strata
        for index, seed in enumerate(suite.seed_values)
    }


def reference_of(cells: Mapping[CellKey, Experiment], runs: Mapping[CellKey, Cell]) -> Reference:
    """Return the reference of finished runs.

    Args:
        cells: The experiments by place, as from `reference_cells`.
        runs: The runs by place, in the form of cells of a submission.

    Raises:
        UserError: A run failed or diverged.
    """
    if bad := [place for place, cell in runs.items() if cell.status != "ok" or cell.trace is None]:
        raise UserError(f"the reference {runs[bad[0]].status} in {bad[0].stratum.name} on seed {bad[0].seed}")
    strata: dict[str, ReferenceRuns] = {}
    versions: dict[str, ComponentVersion] = {}
    for stratum in dict.fromkeys(place.stratum for place in cells):
        stratum_cells = {place: cell for place, cell in cells.items() if place.stratum == stratum}
        first = next(iter(stratum_cells.values()))
        versions |= {
            name: ComponentVersion(version=part.version, digest=part.digest, data=part.data or None)
            for name, part in identity_of(first).components.items()
        }
        strata[stratum.name] = ReferenceRuns(
            method={k: v for k, v in first.describe().items() if k in METHOD},
            areas=tuple(repr(area(runs[place], stratum)) for place in stratum_cells),
            traces=tuple(str(runs[place].trace) for place in stratum_cells),
        )
    return Reference(engine=ENGINE, components=dict(sorted(versions.items())), strata=strata)


def write_reference(suite: Suite, reference: Reference) -> Path:
    """Write a reference into the file beside the suite file, and return the path of the file.

    A reference of the same engine is replaced.

    Args:
        suite: The suite.
        reference: The reference.

    Raises:
        StorageError: The file cannot be written.
    """
    path = Path(str(folder().joinpath(f"{suite.name}.references.json")))
    others = [other for engine, other in suite_references(suite).items() if engine != reference.engine]
    document = References(version=SCHEMA, suite_sha256=suite.sha256, references=(*others, reference))
    text = json.dumps(document.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1) + "\n"
    try:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    suite_references.cache_clear()
    return path
