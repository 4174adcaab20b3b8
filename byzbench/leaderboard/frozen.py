"""Descriptions of a frozen suite: every parameter of its tasks, graphs, attacks and algorithms.

A suite file writes components as texts, and parameters that are not written have defaults, which may change later. The
file beside it, `NAME.json`, has the value of every parameter; `byzbench leaderboard freeze NAME --pilot FILE` writes it
once. Experiments are built from this file, and it is read through the migrations of descriptions
(`byzbench.canonical`). Changes of defaults and renames therefore change no row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from byzbench import registry
from byzbench.axes import method_axes
from byzbench.canonical import SCHEMA, to_current
from byzbench.errors import CorruptRecord, InvalidParameter, StorageError, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.identity import ENGINE
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.schema import Axis, Described, Digest, Division, Document, Positive, Slug, Spec, validate
from byzbench.leaderboard.suites import CLEAN, Suite, folder
from byzbench.records.files import parse_object
from byzbench.records.migrations import is_described, migrate

METHOD = tuple(axis.key for axis in method_axes())
"""The axes of a method. The attack is a separate axis; the suite sets all other options of an experiment."""

_PLACEHOLDER: Mapping[Division, str] = {"decentralised": "decbyzpg", "server": "byzpg"}
"""An algorithm of each division, with which a stratum is described if the suite names none, not even as reference. It
is not recorded."""


class Frozen(Document):
    """The file `NAME.json` beside a suite file.

    Attributes:
        version: The schema number when the file was written; the other fields are as they would be written today.
        suite_sha256: The sha256 of the suite file.
        engine: `byzbench.identity.ENGINE` when the file was written.
        pilot_sha256: The sha256 of the pilot file that admitted the suite; None of suites older than pilots.
        strata: By name and axis, everything but method, attack and seed.
        attacks: By text and axis, the attacks.
        algorithms: By stratum, text and axis, the methods on which attacks are tried.
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
        InvalidParameter: The suite is not frozen.
        CorruptRecord: The file belongs to another suite, or was written by a newer byzbench.

    Example:
        >>> from byzbench.leaderboard.suites import suite
        >>> frozen(suite("smoke-v1")).attacks["large_noise(relative=False)"]["attack"]["parameters"]["scale"]
        1000.0
    """
    name = f"{suite.name}.json"
    try:
        data = parse_object(folder().joinpath(name).read_bytes(), Path(name))
    except FileNotFoundError:
        raise InvalidParameter(
            f"suite {suite.name} is not frozen; `byzbench leaderboard freeze {suite.name} --pilot FILE` freezes it"
        ) from None
    try:
        document = validate(Frozen, migrate("frozen", data, name) | {"schema": data.get("schema")}, name)
    except Refused as error:
        raise CorruptRecord(str(error)) from None
    algorithms = {s.name: {a.spec for a in suite.algorithms if a.division == s.division} for s in suite.strata}
    described_algorithms = {stratum: set(methods) for stratum, methods in document.algorithms.items()}
    expected = (suite.sha256, set(algorithms), {attack.spec for attack in suite.attacks}, algorithms)
    if (document.suite_sha256, set(document.strata), set(document.attacks), described_algorithms) != expected:
        raise CorruptRecord(f"{name} does not belong to the suite file beside it")

    def today(described: Any) -> dict[str, Any]:
        if not is_described(described):
            raise CorruptRecord(f"{name} has a component without a name or without parameters")
        return to_current(described, document.version)

    return document.model_copy(
        update={
            "strata": {stratum: today(axes) for stratum, axes in document.strata.items()},
            "attacks": {text: today(axes) for text, axes in document.attacks.items()},
            "algorithms": {
                stratum: {text: today(axes) for text, axes in methods.items()}
                for stratum, methods in document.algorithms.items()
            },
        }
    )


def refuse_second(suite: Suite) -> None:
    """Check that a suite has no descriptions yet.

    Raises:
        UserError: The file of descriptions exists; it is never overwritten.
    """
    if folder().joinpath(name := f"{suite.name}.json").is_file():
        raise UserError(f"{name} exists, and a frozen suite is never written again: make another suite")


def freeze_suite(suite: Suite, pilot_sha256: str | None = None) -> Path:
    """Write the descriptions of a suite, by the defaults that are installed, and return the path of the file.

    Args:
        suite: The suite.
        pilot_sha256: The sha256 of the pilot file that admitted the suite.

    Raises:
        UserError: The file exists, or a cell of the suite is not defined.
        StorageError: The file cannot be written.
    """
    refuse_second(suite)
    path = Path(str(folder().joinpath(f"{suite.name}.json")))
    strata: dict[str, dict[str, Any]] = {}
    algorithms: dict[str, dict[str, Any]] = {}
    examples = {**_PLACEHOLDER, **{reference.division: reference.algo for reference in suite.references}}
    for stratum in suite.strata:
        texts = [algorithm.spec for algorithm in suite.algorithms if algorithm.division == stratum.division]
        described = {
            text: Experiment.create(text, attack=CLEAN, **suite.options(stratum)).describe()
            for text in texts or [examples[stratum.division]]
        }
        first = next(iter(described.values()))
        strata[stratum.name] = {k: v for k, v in first.items() if k not in (*METHOD, "attack", "seed")}
        algorithms[stratum.name] = {text: {axis: described[text][axis] for axis in METHOD} for text in texts}
    attacks = {a.spec: {"attack": registry.describe(registry.make("attack", a.spec))} for a in suite.attacks}
    data = {"schema": SCHEMA, "suite_sha256": suite.sha256, "engine": ENGINE}
    data |= {"pilot_sha256": pilot_sha256} if pilot_sha256 else {}
    text = json.dumps(data | {"strata": strata, "attacks": attacks, "algorithms": algorithms}, indent=1) + "\n"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    return path
