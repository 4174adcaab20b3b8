"""File formats: files of real runs, of the shipped leaderboards and of studies fit their JSON Schemas."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import byzbench
from byzbench.experiments.experiment import Experiment
from byzbench.file_formats import FORMATS, json_schema
from byzbench.leaderboard.replay import ReplayResult
from byzbench.leaderboard.schema import read_submission
from byzbench.leaderboard.submitting import RunManifest
from byzbench.leaderboard.verification import Verification
from byzbench.records.run_folder import RunFolder
from byzbench.records.tuned import TunedOn, TunedParameters
from byzbench.sweeps.cells import timed_out

ROOT = Path(__file__).resolve().parent.parent
GRID = {"algo": "fed_pg(N=4)", "attack": ["none", "ipm"], "agents": 5, "trajectories": 8, "seeds": 2}
TUNED_ON: dict[str, Any] = {"env": "cartpole", "attacks": ["none"], "algorithms": ["fed_pg"], "seeds": [1000]}
SUBMISSIONS = [ROOT / "leaderboards/submissions/smoke-v2/defence" / name for name in ("nna-2", "decbyzpg-tuned-3")]
"""Rows whose files have the form of today; those of schema 3 are migrated when they are read."""


def validator(name: str) -> Draft202012Validator:
    schema = json_schema(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def read(path: Path) -> list[Any]:
    """The documents in a file: one, or those of the first lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        return [tomllib.loads(text)]
    return [json.loads(line) for line in text.splitlines()[:30]] if path.suffix == ".jsonl" else [json.loads(text)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a sweep, a cell that has failed, an archived run, an entry's file and tuned parameters."""
    out = tmp_path_factory.mktemp("store")
    byzbench.sweep(GRID, executor="serial", out=out)
    todo = Experiment.create(algo="fed_pg(N=4)", agents=5, trajectories=12)
    timed_out(todo, out, 1.5)
    RunFolder(out / todo.hash).archive(["engine: 1 then, 2 now"])
    timed_out(todo, out, 1.5)
    entry = read_submission((SUBMISSIONS[0] / "submission.json").read_bytes())
    RunManifest(version=1, suite=entry.suite, suite_sha256="0" * 64, track=entry.track, method=entry.method).write(out)
    TunedParameters(
        kind="algorithm",
        components={"algorithm": "fed_pg"},
        parameters={"algorithm": {"lr": 0.01}},
        study="0" * 16,
        trials="0" * 64,
        objective={"value": 1.5, "trial": 0, "trials": 2},
        on=TunedOn(**TUNED_ON, trajectories=8, agents=5, byzantine=1, topology="star"),
    ).write(out / "tuned.json")
    replay = ReplayResult("exact", 2, "salt", (), ())
    Verification(SUBMISSIONS[0], "0" * 64, None, None, (), replay, 0).write(out / "verdict.json")
    return out


def files(store: Path) -> Iterator[tuple[str, Path]]:
    """Every kind of file with examples of it."""
    logs = ("experiment.json", "result.json", "metrics.jsonl", "trace.jsonl", "timing.jsonl", "failure.json")
    yield from ((name, path) for name in (*logs, "archived.json") for path in store.glob(f"*/{name}"))
    yield "sweep-HASH.json", next(store.glob("sweep-*.json"))
    yield "leaderboard-SUITE-HASH.json", next(store.glob("leaderboard-*.json"))
    yield from ((name, store / name) for name in ("tuned.json", "verdict.json"))
    for submission in SUBMISSIONS:
        yield from ((name, submission / name) for name in ("submission.json", "cells.jsonl"))
    suites = ROOT / "leaderboards/suites"
    for format, name in (("SUITE.toml", "toml"), ("SUITE.json", "json"), ("SUITE.references.json", "references.json")):
        yield format, suites / f"smoke-v2.{name}"
    yield from (("pilot.toml", path) for path in ROOT.glob("leaderboards/pilots/*.toml"))
    yield "audit.json", ROOT / "leaderboards/audit.json"
    yield from (("study.json", ROOT / f"docs/{name}.json") for name in ("speedup", "wrong_f"))


def test_files_fit_their_schemas_and_changed_ones_do_not(store: Path) -> None:
    examples = list(files(store))
    assert {name for name, _ in examples} | {"sweep.toml"} == set(FORMATS)
    for name, path in examples:
        check = validator(name)
        documents = read(path)
        for document in documents:
            assert not [f"{path}: {error.json_path}: {error.message[:200]}" for error in check.iter_errors(document)]
        for changed in changes(documents[0], check.schema):
            assert not check.is_valid(changed), (name, changed)


def changes(document: dict[str, Any], schema: Any) -> Iterator[dict[str, Any]]:
    """The document without each required key, with a key of another type, and with an unknown one."""
    for key in schema.get("required", ()):
        yield {name: value for name, value in document.items() if name != key}
        yield copy.deepcopy(document) | {key: {"unknown": [None]}}
    if not schema.get("additionalProperties", True):
        yield copy.deepcopy(document) | {"unknown": "text"}


@pytest.mark.parametrize(
    "change, fits",
    [
        ({}, True),
        ({"task": ["cartpole"], "seeds": [3, 4], "schema": 1}, True),
        ({"attack": []}, False),
        ({"trajectories": "many"}, False),
        ({"attacks": "ipm"}, False),
        ({"seeds": 0}, False),
        ({"parameters": {"algo": 3}}, False),
    ],
)
def test_sweep_files(change: dict[str, Any], fits: bool) -> None:
    assert validator("sweep.toml").is_valid(GRID | {"exclude": [{"attack": "ipm"}]} | change) == fits
