"""Which code ran: what stands beside the experiment in every record, and what a reused result must match."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import byzbench
from byzbench.contracts import Component
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.records import SCHEMA

_LIBRARIES = ("torch", "numpy", "numba", "gymnasium", "networkx")
_PLANNERS = ("cells", "executors", "mirror", "question", "store", "suite", "sweep", "tracking", "tuned", "tuning")
_BYSTANDERS = (
    "cli/",
    "envs/",
    "reports/",
    "testing/",
    "leaderboard/",
    *(f"experiments/{name}.py" for name in _PLANNERS),
)
"""What plans, fetches, shows or tests runs: none of it has a hand in what they compute."""


@cache
def versions() -> dict[str, str]:
    """Versions that can change a bit of a result."""
    found = {"byzbench": byzbench.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in _LIBRARIES}


def origin(experiment: Experiment) -> dict[str, Any]:
    """What `experiment.json` says of a run of this experiment by the code that is here."""
    return {"schema": SCHEMA, "experiment": experiment.describe(), "code": provenance(experiment)}


def provenance(experiment: Experiment) -> dict[str, Any]:
    """Digest of the code, the plug-ins and their data, versions, and what of the machine decides about bits."""
    digest = hashlib.sha256(_own_code())
    for folder in sorted({p for part in parts(experiment) if (p := _plugin(type(part)))}):
        digest.update(_hash_plugin(folder))
    data = sorted({path for part in parts(experiment) for path in part.data})
    digest.update(_hash_sources({f"{n}/{path.name}": path for n, path in enumerate(data)}))
    return {
        "digest": digest.hexdigest(),
        "versions": versions() | {name: version(name) for part in parts(experiment) for name in part.libraries},
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
    }


def harness_digest() -> str:
    """Of byzbench alone, as `provenance` has it."""
    return _own_code().hex()


def plugin_digest(cls: type) -> str | None:
    """Of the package of a component that is not ours; None of one that is."""
    folder = _plugin(cls)
    return _hash_plugin(folder).hex() if folder else None


def _hash_plugin(folder: Path) -> bytes:
    found = folder.rglob("*.py") if folder.is_dir() else [folder]
    return _hash_sources({path.relative_to(folder.parent).as_posix(): path for path in found})


@cache
def _own_code() -> bytes:
    """The harness and all zoos, without bystanders."""
    package = Path(str(byzbench.__file__)).parent
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    for zoo in ("algorithms", "attacks", "topologies"):
        spec = find_spec(f"byzbench.{zoo}")
        for folder in (spec.submodule_search_locations if spec else None) or []:
            files |= {f"{zoo}/{path.name}": path for path in Path(folder).glob("*.py")}
    return _hash_sources({name: path for name, path in files.items() if not name.startswith(_BYSTANDERS)})


def _hash_sources(files: Mapping[str, Path]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.digest()


def parts(experiment: Experiment) -> Iterator[Component]:
    """Every component, nested ones included."""
    stack = [v for f in fields(experiment) if isinstance(v := getattr(experiment, f.name), Component)]
    while stack:
        part = stack.pop()
        yield part
        stack += [v for f in fields(part) if isinstance(v := getattr(part, f.name), Component)]


def _plugin(cls: type) -> Path | None:
    """The folder (or file) of the top-level package of a component that is not ours."""
    top = cls.__module__.partition(".")[0]
    module = sys.modules.get(top)
    if top == "byzbench" or module is None or not getattr(module, "__file__", None):
        return None
    path = Path(str(module.__file__))
    return path.parent if path.name == "__init__.py" else path
