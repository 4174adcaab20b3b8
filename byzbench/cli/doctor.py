"""Command `byzbench doctor`: check the installation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from byzbench.cli import options
from byzbench.cli.output import write_json


class Fact(NamedTuple):
    """Fact about the installation."""

    name: str
    works: bool
    text: str


def doctor(as_json: options.Json = False) -> None:
    """Check the installation: extras, compiled kernels, threads, Ray, Weights & Biases, and whether plug-ins load.

    Exit 0: all works. 1: something does not; an extra that is not installed is no fault.

    Examples:
        byzbench doctor
        byzbench doctor --json
    """
    from byzbench.reports.terminal import echo

    facts = [*_versions(), *_extras(), _kernels(), _threads(), _wandb(), *_plugins()]
    if as_json:
        write_json([fact._asdict() for fact in facts])
    else:
        width = max(len(fact.name) for fact in facts)
        for fact in facts:
            echo(f"{'ok  ' if fact.works else 'FAIL'}  {fact.name:<{width}}  {fact.text}", indent=width + 8)
    raise typer.Exit(0 if all(fact.works for fact in facts) else 1)


def _versions() -> Iterator[Fact]:
    """Yield the versions of byzbench and of the libraries that change results."""
    from byzbench.experiments.provenance import versions

    own = versions()
    yield Fact("byzbench", True, own["byzbench"])
    yield Fact("libraries", True, ", ".join(f"{name} {number}" for name, number in own.items() if name != "byzbench"))


def _extras() -> Iterator[Fact]:
    """Yield the distributions of every extra for users."""
    from importlib.metadata import PackageNotFoundError, metadata, version

    try:
        extras = sorted(set(metadata("byzbench").get_all("Provides-Extra") or []) - {"dev"})
    except PackageNotFoundError:
        yield Fact("extras", True, "byzbench runs from a folder that is not installed, so its extras are not known")
        return
    for extra in extras:
        present, missing = [], []
        for name in _required("byzbench", extra):
            try:
                present.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                missing.append(name)
        remedy = f"without {', '.join(missing)}: pip install 'byzbench[{extra}]'"
        yield Fact(f"extra {extra}", True, "; ".join([", ".join(present)] * bool(present) + [remedy] * bool(missing)))


def _required(distribution: str, extra: str) -> list[str]:
    """Return the distributions that an extra requires, those of extras among them included."""
    from importlib.metadata import PackageNotFoundError, metadata

    from packaging.requirements import Requirement

    names: list[str] = []
    try:
        requirements = [Requirement(text) for text in metadata(distribution).get_all("Requires-Dist") or []]
    except PackageNotFoundError:
        return names
    for requirement in requirements:
        if requirement.marker and "extra" in str(requirement.marker) and requirement.marker.evaluate({"extra": extra}):
            names.append(requirement.name)
            for inner in requirement.extras:
                names += _required(requirement.name, inner)
    return list(dict.fromkeys(names))


def _increment(x: float) -> float:
    return x + 1


def _kernels() -> Fact:
    """Compile a function as kernels are, call it, and return whether its machine code can be kept."""
    from byzbench.errors import error_text

    try:
        from byzbench.compilation import compiled

        kernel: Any = compiled(_increment, "float64(float64)")
        works, folder = kernel(1.0) == 2.0, kernel._cache.cache_path
    except Exception as error:
        return Fact("kernels", False, f"Numba cannot compile: {error_text(error)}")
    if not folder:
        return Fact("kernels", False, "Numba has no writable folder for its cache: set NUMBA_CACHE_DIR")
    return Fact("kernels", works, f"compiled by Numba, cached beside the code as in {folder}")


def _threads() -> Fact:
    """Return the number of threads of linear algebra."""
    import torch

    text = f"{torch.get_num_threads()} in torch, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '(not set)')}"
    return Fact("threads", True, f"{text}; {os.cpu_count()} cores; runs use one thread each")


def _wandb() -> Fact:
    """Return whether Weights & Biases has a login, without a connection."""
    import netrc
    from importlib.metadata import version
    from urllib.parse import urlsplit

    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        has_login = bool(os.environ.get("WANDB_API_KEY")) or netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        has_login = False
    login = f"has a login of {host}" if has_login else "no login: --wandb online needs `wandb login`, offline does not"
    return Fact("wandb", True, f"{version('wandb')}, WANDB_MODE={os.environ.get('WANDB_MODE', '(not set)')}, {login}")


def _plugins() -> Iterator[Fact]:
    """Yield whether each component of another distribution can be imported."""
    from byzbench import registry
    from byzbench.errors import BrokenPlugin

    for kind in registry.KINDS:
        for name, origin in registry.origins(kind).items():
            if origin.module.startswith("byzbench."):
                continue
            try:
                registry.find(kind, name)
            except BrokenPlugin as error:
                yield Fact(f"{kind} {name}", False, str(error))
            else:
                yield Fact(f"{kind} {name}", True, f"loads, from {origin.distribution}")
