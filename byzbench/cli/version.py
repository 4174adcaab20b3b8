"""`byzbench version`: what runs here, and what decides whether two runs are the same."""

from __future__ import annotations

import typer

from byzbench.cli import options


def version(as_json: options.Json = False) -> None:
    """Print the package's version, the engine, the schema of records, the libraries and the processor."""
    import json

    import torch

    from byzbench.canonical import SCHEMA
    from byzbench.experiments.provenance import commit, processor, versions
    from byzbench.identity import ENGINE

    libraries = {name: number for name, number in versions().items() if name != "byzbench"}
    found = {
        "byzbench": versions()["byzbench"],
        "commit": commit(),
        "engine": ENGINE,
        "schema": SCHEMA,
        "libraries": libraries,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
    }
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in (found | {"libraries": ", ".join(map(" ".join, libraries.items()))}).items():
        if value is not None:
            typer.echo(f"{name:<10} {value}")
