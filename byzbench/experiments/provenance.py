"""Provenance of a run: the identity of its behaviour, and the code, libraries and processor that ran it.

Every record holds `identity` and `code` beside the experiment. `identity` decides whether two runs are the same. `code`
is information: differences are reported, but are no reason to discard a run.
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
from byzbench.threads import blas, num_threads, one_thread

_LIBRARIES = ("torch", "numpy", "numba", "gymnasium", "networkx")


@cache
def versions() -> dict[str, str]:
    """Return the versions of byzbench, Python and the libraries on which the bits of every result depend."""
    own = {"byzbench": byzbench.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in _LIBRARIES}


def code_origin(experiment: Experiment) -> dict[str, Any]:
    """Return the content of `experiment.json` for a run of an experiment by the code of this process."""
    return {
        "schema": SCHEMA,
        "experiment": experiment.describe(),
        "identity": identity_of(experiment).to_json(),
        "code": provenance(experiment),
    }


@one_thread()
def provenance(experiment: Experiment) -> dict[str, Any]:
    """Return the code, libraries, processor, BLAS and number of threads with which this process runs an experiment."""
    return {
        "digest": source_digest(),
        "commit": commit(),
        "versions": versions() | {name: version(name) for part in parts(experiment) for name in part.libraries},
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
        "blas": blas(),
        "threads": num_threads(),
    }


def code_difference(then: Any, now: Mapping[str, Any]) -> list[str]:
    """Return the libraries, processors and numbers of threads in which two records of code differ, one line each.

    Args:
        then: The `code` of an older record, which may be of any type.
        now: The `code` of a run by this process.

    Example:
        >>> now = {"versions": {"torch": "2.9"}, "cpu": "AVX2", "processor": "x", "blas": "y", "threads": 1}
        >>> code_difference({"versions": {"torch": "2.8"}}, now)
        ['torch: 2.8 then, 2.9 now']
    """
    then = then if isinstance(then, Mapping) else {}
    before, after = then.get("versions"), now["versions"]
    before = before if isinstance(before, Mapping) else {}
    names = {name: (before.get(name), after[name]) for name in after}
    names |= {name: (then.get(name), now[name]) for name in ("cpu", "processor", "blas", "threads")}
    return [f"{name}: {a} then, {b} now" for name, (a, b) in names.items() if a is not None and a != b]


@cache
def processor() -> str:
    """Return the type of the processor as vendor, family and model, or else the platform's name of the machine."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    pairs = dict(line.split(":", 1) for line in reversed(text.splitlines()) if ":" in line)
    values = {key.strip(): value.strip() for key, value in pairs.items()}
    numbers = [values.get(key, "") for key in ("vendor_id", "cpu family", "model")]
    return "-".join(numbers) if all(numbers) else platform.machine() or "unknown"


@cache
def source_digest() -> str:
    """Return the sha256 of all source files of byzbench, as information for the comparison of two records."""
    package = Path(str(byzbench.__file__)).parent
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    for kind in ("algorithms", "attacks", "topologies"):
        spec = find_spec(f"byzbench.{kind}")
        for folder in (spec.submodule_search_locations if spec else None) or []:
            files |= {f"{kind}/{path.name}": path for path in Path(folder).glob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def commit() -> str | None:
    """Return the commit of the checkout of byzbench; None without a checkout, or if its code has been edited."""
    folder = Path(str(byzbench.__file__)).parents[1]

    def git(*arguments: str) -> str:
        completed = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
        return completed.stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel")).resolve()
        if top != folder.resolve() or git("status", "--porcelain", "*.py"):
            return None
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


FIRST_CODE = frozenset(
    {
        "a0a2fe7760a9624b10e9f93e688b5fdda2f5bf49f4b04b250b4dfd0daefcb7c3",  # installed
        "aa6aae759d0485eefafcc4e7f8d9962233207c5727c69a303f1469344e6a7e88",  # editable, without the leaderboards
    }
)
"""The source digests in records of the last code without versions, whose outputs are those of engine 1 and of version 1
of all components. Records of schema 1 with another digest cannot be compared."""


def recorded_differences(record: Mapping[str, Any], experiment: Experiment, where: object) -> list[str]:
    """Return the differences in behaviour between a stored run and a run by the code of this process, one line each.

    Args:
        record: The content of `experiment.json`, migrated to the present schema.
        experiment: The experiment.
        where: The path of the record, for messages.

    Raises:
        CorruptRecord: The identity in the record is invalid.
    """
    then = recorded_identity(record, where)
    if then is None:
        return ["the record is older than versions of behaviour, and not of the code that they began with"]
    return then.difference(identity_of(experiment))


def recorded_identity(record: Mapping[str, Any], where: object) -> RunIdentity | None:
    """Return the identity in a migrated record; None if the record is older than identities and of unknown code.

    Args:
        record: The content of `experiment.json`, migrated to the present schema.
        where: The path of the record, for messages.

    Raises:
        CorruptRecord: The identity in the record is invalid.
    """
    description = record["experiment"]
    if "identity" in record:
        return RunIdentity.from_json(hash_of(description), record["identity"], where)
    code = record.get("code")
    if not isinstance(code, Mapping) or code.get("digest") not in FIRST_CODE:
        return None
    digests = {name: equal_digests().get(name, {}).get("1") for name in component_names(description)}
    identities = {name: ComponentIdentity(1, equal[0]) for name, equal in digests.items() if equal}
    return RunIdentity(hash_of(description), 1, identities) if len(identities) == len(digests) else None
