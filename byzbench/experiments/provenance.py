"""Provenance of a run: what stands beside the experiment in every record.

`identity` decides whether two runs are the same; `code` is information, named where it differs and never a reason to
discard a run.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import byzbench
from byzbench.canonical import SCHEMA, component_names, hash_of
from byzbench.experiments.experiment import Experiment
from byzbench.identity import ComponentIdentity, RunIdentity, equal_digests, identity_of, parts

_LIBRARIES = ("torch", "numpy", "numba", "gymnasium", "networkx")


@cache
def versions() -> dict[str, str]:
    """Return the versions of what can change a bit of every result."""
    found = {"byzbench": byzbench.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in _LIBRARIES}


def origin(experiment: Experiment) -> dict[str, Any]:
    """Return what `experiment.json` says of a run of this experiment by the code that is here."""
    return {
        "schema": SCHEMA,
        "experiment": experiment.describe(),
        "identity": identity_of(experiment).to_json(),
        "code": provenance(experiment),
    }


def provenance(experiment: Experiment) -> dict[str, Any]:
    """Return the code, the libraries and the processor that run an experiment here."""
    return {
        "digest": source_digest(),
        "commit": commit(),
        "versions": versions() | {name: version(name) for part in parts(experiment) for name in part.libraries},
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
        "threads": 1,
    }


def code_difference(then: Any, now: Mapping[str, Any]) -> list[str]:
    """Return the libraries and processors in which two records of code differ, one plain line each.

    Args:
        then: the `code` of an older record, which may be anything.
        now: the `code` of a run by the code that is here.
    """
    then = then if isinstance(then, Mapping) else {}
    before, after = then.get("versions"), now["versions"]
    before = before if isinstance(before, Mapping) else {}
    names = {name: (before.get(name), after[name]) for name in after}
    names |= {name: (then.get(name), now[name]) for name in ("cpu", "processor")}
    return [f"{name}: {a} then, {b} now" for name, (a, b) in names.items() if a is not None and a != b]


@cache
def processor() -> str:
    """Return the type of the processor, as vendor, family and model; what the platform calls it where it says less."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = dict(line.split(":", 1) for line in reversed(text.splitlines()) if ":" in line)
    named = {key.strip(): value.strip() for key, value in found.items()}
    numbers = [named.get(key, "") for key in ("vendor_id", "cpu family", "model")]
    return "-".join(numbers) if all(numbers) else platform.machine() or "unknown"


@cache
def source_digest() -> str:
    """Return the sha256 of all source files of byzbench: information for a reader who compares two records."""
    package = Path(str(byzbench.__file__)).parent
    found = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    for zoo in ("algorithms", "attacks", "topologies"):
        spec = find_spec(f"byzbench.{zoo}")
        for folder in (spec.submodule_search_locations if spec else None) or []:
            found |= {f"{zoo}/{path.name}": path for path in Path(folder).glob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(found):
        content = found[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def commit() -> str | None:
    """Return the commit of the checkout that byzbench is imported from; None unless its code is as committed."""
    folder = Path(str(byzbench.__file__)).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel")).resolve()
        if top != folder.resolve() or git("status", "--porcelain", "*.py"):
            return None
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


FIRST_CODE = "a0a2fe7760a9624b10e9f93e688b5fdda2f5bf49f4b04b250b4dfd0daefcb7c3"
"""The digest in records of the last code without versions, whose outputs are those of engine 1 and of all first
versions. Records of schema 1 with another digest cannot be compared."""


def differences(record: Mapping[str, Any], experiment: Experiment, where: object) -> list[str]:
    """Return what keeps a stored run from being that of an experiment by the code that is here, one plain line each.

    Args:
        record: `experiment.json`, migrated to today's schema.
        experiment: what would be run.
        where: the record's path, for errors.

    Raises:
        CorruptRecord: the record's identity is none.
    """
    then = recorded_identity(record, where)
    if then is None:
        return ["the record is older than versions of behaviour, and not of the code that they began with"]
    return then.difference(identity_of(experiment))


def recorded_identity(record: Mapping[str, Any], where: object) -> RunIdentity | None:
    """Return the identity in a migrated record; None if the record is older than identities and of unknown code.

    Raises:
        CorruptRecord: it holds something else.
    """
    described = record["experiment"]
    if "identity" in record:
        return RunIdentity.from_json(hash_of(described), record["identity"], where)
    code = record.get("code")
    if not isinstance(code, Mapping) or code.get("digest") != FIRST_CODE:
        return None
    listed = {name: equal_digests().get(name, {}).get("1") for name in component_names(described)}
    parts = {name: ComponentIdentity(1, same[0]) for name, same in listed.items() if same}
    return RunIdentity(hash_of(described), 1, parts) if len(parts) == len(listed) else None
