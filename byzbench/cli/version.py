"""Command `byzbench version`: print the versions of byzbench, its behaviour and its libraries."""

from __future__ import annotations

from byzbench.cli import options
from byzbench.cli.output import write_json


def version(as_json: options.Json = False) -> None:
    """Print the version of the package, the engine, the schema of records, the libraries and the processor.

    Examples:
        byzbench version
        byzbench version --json
    """
    import torch

    from byzbench.canonical import SCHEMA
    from byzbench.experiments.provenance import commit, processor, versions
    from byzbench.identity import ENGINE
    from byzbench.reports.terminal import echo

    libraries = {name: number for name, number in versions().items() if name != "byzbench"}
    facts = {
        "byzbench": versions()["byzbench"],
        "commit": commit(),
        "engine": ENGINE,
        "schema": SCHEMA,
        "libraries": libraries,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
    }
    if as_json:
        write_json(facts)
        return
    for name, value in (facts | {"libraries": ", ".join(map(" ".join, libraries.items()))}).items():
        if value is not None:
            echo(f"{name:<10} {value}", indent=11)
