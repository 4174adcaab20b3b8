"""What the texts of a suite came to when it was frozen: every parameter of its tasks, graphs, attacks and algorithms.

A suite file writes components as texts, and leaves the rest to defaults that may change later. The file beside it,
`NAME.json`, holds the descriptions; `byzbench leaderboard freeze NAME` writes it once. Experiments are built from it,
and it is read through the migrations of descriptions (`byzbench.canonical`), so that no change of a default and no
rename moves a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from byzbench import registry
from byzbench.canonical import SCHEMA, modern
from byzbench.errors import CorruptRecord, InvalidParameter, StorageError, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.files import parse_object
from byzbench.experiments.migrations import is_described, migrate
from byzbench.identity import ENGINE
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.schema import Axis, Described, Digest, Division, Part, Positive, Slug, Spec, validate
from byzbench.leaderboard.suites import CLEAN, Suite, folder

METHOD = ("algorithm", "aggregator", "agreement")
"""The axes of a method. An attack is one more axis; everything else of an experiment is the suite's."""

_USUAL: Mapping[Division, str] = {"decentralised": "decbyzpg", "server": "byzpg"}
"""An algorithm that can be run in a division, where a suite names none. Nothing of it is kept."""


class Frozen(Part):
    """The file beside a suite file.

    Attributes:
        version: its schema number when it was written; the rest is as it would be written today.
        suite_sha256: of the suite file.
        engine: `byzbench.identity.ENGINE` when it was written.
        pilot_sha256: of the pilot file that admitted it; None of suites older than pilots.
        strata: by name, by axis: everything that is neither method nor attack nor seed.
        attacks: by text, by axis.
        algorithms: by stratum, by text: the methods on which attacks are tried.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)]
    suite_sha256: Digest
    engine: Positive
    pilot_sha256: Digest | None = None
    strata: dict[Slug, dict[Axis, Any]]
    attacks: dict[Spec, dict[Axis, Described]]
    algorithms: dict[Slug, dict[Spec, dict[Axis, Described]]]


@cache
def frozen(suite: Suite) -> Frozen:
    """Return the descriptions of a suite.

    Raises:
        InvalidParameter: it has none.
        CorruptRecord: they are not this suite's, or were written by a newer byzbench.
    """
    name = f"{suite.name}.json"
    try:
        data = parse_object(folder().joinpath(name).read_bytes(), Path(name))
    except FileNotFoundError:
        raise InvalidParameter(
            f"suite {suite.name} is not frozen; `byzbench leaderboard freeze {suite.name}` does it, once"
        ) from None
    try:
        document = validate(Frozen, migrate("frozen", data, name) | {"schema": data.get("schema")}, name)
    except Refused as error:
        raise CorruptRecord(str(error)) from None
    algorithms = {s.name: {a.spec for a in suite.algorithms if a.division == s.division} for s in suite.strata}
    there = {stratum: set(by) for stratum, by in document.algorithms.items()}
    wanted = (suite.sha256, set(algorithms), {attack.spec for attack in suite.attacks}, algorithms)
    if (document.suite_sha256, set(document.strata), set(document.attacks), there) != wanted:
        raise CorruptRecord(f"{name} is not that of the suite file beside it")

    def today(described: Any) -> dict[str, Any]:
        if not is_described(described):
            raise CorruptRecord(f"{name} holds something that describes nothing")
        return modern(described, document.version)

    return document.model_copy(
        update={
            "strata": {stratum: today(own) for stratum, own in document.strata.items()},
            "attacks": {text: today(attack) for text, attack in document.attacks.items()},
            "algorithms": {s: {text: today(own) for text, own in by.items()} for s, by in document.algorithms.items()},
        }
    )


def refuse_second(suite: Suite) -> None:
    """Raise UserError if the descriptions of a suite are there: they are never written again."""
    if folder().joinpath(name := f"{suite.name}.json").is_file():
        raise UserError(f"{name} is there, and a frozen suite is never written again: make another suite")


def freeze_suite(suite: Suite, pilot_sha256: str | None = None) -> Path:
    """Write the descriptions of a suite by the defaults that are here, and return the path.

    Args:
        suite: the suite.
        pilot_sha256: of the pilot file that admitted it.

    Raises:
        UserError: they are there, and are never written again; or the suite cannot be run.
        StorageError: the file cannot be written.
    """
    refuse_second(suite)
    path = Path(str(folder().joinpath(f"{suite.name}.json")))
    strata: dict[str, dict[str, Any]] = {}
    algorithms: dict[str, dict[str, Any]] = {}
    for stratum in suite.strata:
        texts = [algorithm.spec for algorithm in suite.algorithms if algorithm.division == stratum.division]
        described = {
            text: Experiment.create(text, attack=CLEAN, **suite.options(stratum)).describe()
            for text in texts or [_USUAL[stratum.division]]
        }
        first = next(iter(described.values()))
        strata[stratum.name] = {k: v for k, v in first.items() if k not in (*METHOD, "attack", "seed")}
        algorithms[stratum.name] = {text: {axis: described[text][axis] for axis in METHOD} for text in texts}
    attacks = {a.spec: {"attack": registry.describe(registry.build("attack", a.spec))} for a in suite.attacks}
    data = {"schema": SCHEMA, "suite_sha256": suite.sha256, "engine": ENGINE}
    data |= {"pilot_sha256": pilot_sha256} if pilot_sha256 else {}
    text = json.dumps(data | {"strata": strata, "attacks": attacks, "algorithms": algorithms}, indent=1) + "\n"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    return path


def experiment_options(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `Experiment.create` that a description sets."""
    return {
        registry.FLAGS.get(axis, axis): registry.from_description(axis, value) if axis in registry.KINDS else value
        for axis, value in described.items()
    }
