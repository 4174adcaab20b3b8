"""The process in a sandbox that runs one cell of an entry and writes it to its standard output.

It is the only process that imports the plug-ins of an entry. Whatever it writes is data to the verifier. It refuses a
plug-in that replaces functions of byzbench or of the libraries it computes with, or that leaves a thread behind. Code
that runs in the same process as these checks can defeat them: they keep honest code honest, and show a reader of the
plug-in what to look for.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import byzbench

_WATCHED = ("byzbench", "gymnasium")
_WATCHED_MODULES = ("math", "json", "hashlib", "random", "numpy", "torch", "torch.nn.functional", "numba")


def main() -> None:
    """Run the cell that standard input describes, and end the process without any handler that code has registered."""
    _reuse_kernels()
    with os.fdopen(os.dup(1), "w") as output:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        json.dump(run_described(json.load(sys.stdin)), output)
        output.flush()
    os._exit(0)


def run_described(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run a cell.

    Args:
        request: `experiment`, the description; `hash`, its hash; `place`, the place of the cell in its suite.

    Returns:
        `cell`, the cell in the form of submissions; or `refused`, the reason why there is none.
    """
    from byzbench import registry  # imported after kernels are in the cache
    from byzbench.leaderboard.submitting import cell_of
    from byzbench.sweeps.cells import run_cell

    for kind, described in request["experiment"].items():
        if kind in registry.KINDS and registry.find_origin(kind, described["name"]).module.startswith("byzbench."):
            registry.find(kind, described["name"])  # imported before any plug-in, so that its functions are known
    before, threads = dict(_functions()), set(threading.enumerate())
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_cell(request["experiment"], scratch, "reuse", wait=False)
        stratum, attack, algo, seed = request["place"]
        cell = cell_of((stratum, attack, algo, seed), request["hash"], outcome, Path(scratch) / request["hash"])
    if replaced := sorted(name for name, code in _functions() if before.get(name, code) is not code):
        return {"refused": f"a plug-in replaced {', '.join(replaced[:3])}"}
    if left := [thread.name for thread in threading.enumerate() if thread not in threads]:
        return {"refused": f"a plug-in left {len(left)} threads running"}
    return {"cell": cell.model_dump(mode="json", by_alias=True)}


def _reuse_kernels() -> None:
    """Copy the machine code that Numba keeps beside the source files to its cache, as it writes to what it reads from.

    Otherwise every cell would compile for ten seconds.
    """
    from numba.core import caching

    for folder in (Path(str(byzbench.__file__)).parent / name for name in ("rl", "tasks")):
        subpath = caching._CacheLocator.get_suitable_cache_subpath(str(folder / "__init__.py"))
        cache = Path(os.environ["NUMBA_CACHE_DIR"]) / subpath
        cache.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("__pycache__/*.nb?"):
            shutil.copy2(path, cache)


def _functions() -> Iterator[tuple[str, object]]:
    """Yield the name and the code of every function and method of the watched modules that are loaded."""
    for name, module in sorted(sys.modules.items()):
        if isinstance(module, ModuleType) and (name.partition(".")[0] in _WATCHED or name in _WATCHED_MODULES):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, type):
                    for method, inner in list(vars(value).items()):
                        if callable(inner) or isinstance(inner, property | classmethod | staticmethod):
                            yield f"{name}.{attribute}.{method}", _code(inner)
                elif callable(value):
                    yield f"{name}.{attribute}", _code(value)


def _code(value: object) -> object:
    """Return what a replacement changes: the code of a function, or else the object."""
    return value.__code__ if isinstance(value, FunctionType) else value
