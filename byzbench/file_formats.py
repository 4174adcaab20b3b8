"""Formats of the files that byzbench writes and reads, as JSON Schema (draft 2020-12).

Schemas are made from the classes that read or write the files, and from the declarations of axes and metrics. They
describe what this version writes. Files of earlier versions are migrated when they are read. A schema says less than
the checks of a reader: a file may fit its schema and be refused, for example for a component that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

from byzbench.axes import AXES, Axis, recorded_axes
from byzbench.canonical import SCHEMA
from byzbench.errors import InvalidParameter, suggest
from byzbench.experiments.metric_descriptions import METRICS, TIMING, TRACE, MetricDescription, result_descriptions
from byzbench.experiments.result import Result
from byzbench.leaderboard.audits import Audit
from byzbench.leaderboard.frozen import Frozen
from byzbench.leaderboard.pilot import Pilot
from byzbench.leaderboard.references import References
from byzbench.leaderboard.replay import ReplayResult
from byzbench.leaderboard.schema import Cell, Submission
from byzbench.leaderboard.submitting import RunManifest
from byzbench.leaderboard.suites import Suite
from byzbench.records.run_folder import LOGS
from byzbench.records.tuned import TunedParameters
from byzbench.reproduce.study import StudyResult
from byzbench.sweeps.grid import SweepGrid

JsonSchema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class FileFormat:
    """Format of one kind of file.

    Attributes:
        name: The name, by which `json_schema` finds it.
        place: Where such files are: in a run folder, a store, a submission, a suite, or where the user puts them.
        content: What such a file holds, in one sentence.
        build: A function that returns the schema, of a line for a file of lines.
    """

    name: str
    place: str
    content: str
    build: Callable[[], JsonSchema]


def json_schema(name: str) -> JsonSchema:
    """Return the JSON Schema of a file format; that of TOML holds for the parsed file, that of lines for each line.

    Args:
        name: The name of the format, a key of `FORMATS`.

    Raises:
        InvalidParameter: There is no such format.

    Example:
        >>> json_schema("failure.json")["required"]
        ['error', 'traceback']
    """
    if name not in FORMATS:
        raise InvalidParameter(f"no file format {name!r}. {suggest(name, FORMATS)}Formats: {', '.join(FORMATS)}.")
    described = {"title": name, "description": FORMATS[name].content}
    return {"$schema": DRAFT, **_untitled(FORMATS[name].build()), **described}


def _object(properties: Mapping[str, JsonSchema], required: Iterable[str] | None = None, **further: Any) -> JsonSchema:
    """Return the schema of an object without other keys."""
    names = list(properties if required is None else required)
    return {
        "type": "object",
        "properties": dict(properties),
        "required": names,
        "additionalProperties": False,
    } | further


def _array(items: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": items}


def _map(values: JsonSchema) -> JsonSchema:
    return {"type": "object", "additionalProperties": values}


_SCHEMA_NUMBER: JsonSchema = {
    "type": "integer",
    "minimum": 1,
    "maximum": SCHEMA,
    "description": "number of the form of the file",
}
_TEXT: JsonSchema = {"type": "string"}
_COUNT: JsonSchema = {"type": "integer", "minimum": 0}
_NUMBER: JsonSchema = {"type": ["number", "null"]}
_COMPONENT = _object({"name": _TEXT, "parameters": {"type": "object"}})
_HASHES = _array({"type": "string", "pattern": "^[0-9a-f]{16}$"})
_TYPES: Mapping[type, JsonSchema] = {str: _TEXT, int: _COUNT, float: {"type": "number"}, bool: {"type": "boolean"}}


def _untitled(schema: Any) -> Any:
    """Return a schema of pydantic without titles, which repeat names, and with one-line descriptions."""
    if isinstance(schema, list):
        return [_untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        cleaned[key] = value.split("\n")[0] if key == "description" and isinstance(value, str) else _untitled(value)
    return cleaned


def _of_class(model: type[BaseModel]) -> Callable[[], JsonSchema]:
    return lambda: model.model_json_schema(by_alias=True)


def _experiment() -> JsonSchema:
    component = _object({"version": {"type": "integer", "minimum": 1}, "digest": _TEXT, "data": _TEXT}, ["version"])
    identity = _object({"engine": {"type": "integer", "minimum": 1}, "components": _map(component)})
    code: JsonSchema = {"digest": _TEXT, "commit": {"type": ["string", "null"]}, "versions": _map(_TEXT)}
    code |= dict.fromkeys(("cpu", "processor"), _TEXT) | {"blas": {}, "threads": _COUNT}
    described = {axis.key: _recorded(axis) for axis in recorded_axes()}
    parts = {"experiment": _object(described), "identity": identity, "code": _object(code)}
    return _object({"schema": _SCHEMA_NUMBER, **parts})


def _recorded(axis: Axis) -> JsonSchema:
    """Return the schema of an axis in the description of an experiment."""
    return _COMPONENT if axis.is_kind else _TYPES[axis.type]


def _result() -> JsonSchema:
    schema = TypeAdapter(Result).json_schema()
    properties = schema["properties"]
    properties["return"] = properties.pop("final")
    properties["schema"] = _SCHEMA_NUMBER
    for key in result_descriptions():
        if key.name in properties:
            properties[key.name] = {**properties[key.name], "description": key.meaning}
    required = ["schema", *(name if name != "final" else "return" for name in schema["required"])]
    return schema | {"required": required, "additionalProperties": False}


def _line(log: str, keys: Iterable[MetricDescription]) -> Callable[[], JsonSchema]:
    """Return a function that returns the schema of a line of a log; metrics may have further numbers, of plug-ins."""
    others: Any = _NUMBER if log == "metrics.jsonl" else False

    def build() -> JsonSchema:
        values = {key.name: (_TEXT if key.shape == "string" else _NUMBER) for key in keys}
        described = {key.name: values[key.name] | {"description": key.meaning} for key in keys}
        described[LOGS[log][0]] |= _COUNT
        return _object(described, LOGS[log], additionalProperties=others)

    return build


def _sweep_file() -> JsonSchema:
    schema = SweepGrid.model_json_schema()
    aliases = {alias: schema["properties"][axis.name] for axis in AXES for alias in axis.aliases}
    schema["properties"] |= {"schema": _SCHEMA_NUMBER, **aliases}
    return schema


def _verdict() -> JsonSchema:
    replay = TypeAdapter(ReplayResult).json_schema()
    definitions = replay.pop("$defs", {})
    facts = {name: {"type": ["string", "null"]} for name in ("submission", "commit", "base")}
    found = {"findings": _array(_TEXT), "replay": {"anyOf": [replay, {"type": "null"}]}, "exit": _COUNT}
    return _object({"schema": _SCHEMA_NUMBER, "folder": _TEXT, **facts, **found}, **{"$defs": definitions})


FORMATS: Mapping[str, FileFormat] = {
    each.name: each
    for each in (
        FileFormat(
            "experiment.json",
            "run folder",
            "The resolved experiment, the identity of its behaviour, and the code that ran it.",
            _experiment,
        ),
        FileFormat("result.json", "run folder", "The result of a finished run; it is written last.", _result),
        FileFormat("metrics.jsonl", "run folder", "A line of metrics for each round.", _line("metrics.jsonl", METRICS)),
        FileFormat(
            "trace.jsonl",
            "run folder",
            "A line for each round that is the same for equal runs.",
            _line("trace.jsonl", TRACE),
        ),
        FileFormat(
            "timing.jsonl", "run folder", "A line of measured time for each round.", _line("timing.jsonl", TIMING)
        ),
        FileFormat(
            "failure.json",
            "run folder",
            "The error that ended a cell of a sweep; `timeout` has the limit in seconds, if that ended it.",
            lambda: _object(
                {"error": _TEXT, "traceback": _array(_TEXT), "timeout": {"type": "number"}}, ["error", "traceback"]
            ),
        ),
        FileFormat(
            "archived.json",
            "run folder HASH-archived",
            "The reasons why a run was set aside: the differences in behaviour, one line each.",
            lambda: _object({"schema": _SCHEMA_NUMBER, "reasons": _array(_TEXT)}),
        ),
        FileFormat(
            "sweep-HASH.json",
            "store",
            "The hashes of the cells of a sweep, by which reports find its runs.",
            lambda: _object({"schema": _SCHEMA_NUMBER, "name": _TEXT, "cells": _HASHES}),
        ),
        FileFormat(
            "leaderboard-SUITE-HASH.json",
            "store",
            "The entry that the runs of a store belong to, written by `byzbench leaderboard run`.",
            _of_class(RunManifest),
        ),
        FileFormat("sweep.toml", "yours", "The axes of a sweep; `byzbench sweep` reads it.", _sweep_file),
        FileFormat(
            "tuned.json",
            "yours",
            "Tuned parameters and the study that they are from; `byzbench tune` writes it.",
            _of_class(TunedParameters),
        ),
        FileFormat(
            "study.json",
            "docs/",
            "The measured rows of a study of `byzbench reproduce`, from which its page is made.",
            lambda: TypeAdapter(StudyResult).json_schema(),
        ),
        FileFormat(
            "submission.json",
            "submission",
            "The method of an entry of a leaderboard, and the code that ran it.",
            _of_class(Submission),
        ),
        FileFormat("cells.jsonl", "submission", "The result of each cell of the suite, a line each.", _of_class(Cell)),
        FileFormat(
            "verdict.json",
            "yours",
            "What the checks and the replay of a submission found; `byzbench leaderboard verify --verdict` writes it.",
            _verdict,
        ),
        FileFormat("SUITE.toml", "suites", "The strata, attacks and references of a suite.", _of_class(Suite)),
        FileFormat(
            "SUITE.json",
            "suites",
            "A frozen suite with the value of every parameter, beside its file.",
            _of_class(Frozen),
        ),
        FileFormat("SUITE.references.json", "suites", "The runs by which scores are measured.", _of_class(References)),
        FileFormat(
            "pilot.toml", "pilots", "A candidate suite, with the design and the panel of its pilot.", _of_class(Pilot)
        ),
        FileFormat(
            "audit.json", "leaderboards", "How rows were replayed by the code of later engines.", _of_class(Audit)
        ),
    )
}
"""The formats by name."""
