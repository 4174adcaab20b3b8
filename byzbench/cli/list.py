"""Command `byzbench list`: list components without importing any."""

from __future__ import annotations

from typing import Annotated

import typer

from byzbench.cli import options
from byzbench.cli.output import write_json


def list_components(
    kind: Annotated[str | None, typer.Argument(help="A kind, for example attacks; default: all.")] = None,
    as_json: options.Json = False,
) -> None:
    """List components with their names and summaries, and the distribution of plug-ins.

    Examples:
        byzbench list
        byzbench list aggregators
    """
    from byzbench import registry
    from byzbench.catalogue import summary
    from byzbench.reports.terminal import echo

    kinds = [registry.kind_of(kind)] if kind else list(registry.KINDS)
    rows = [(origin, summary(origin)) for kind_name in kinds for origin in registry.origins(kind_name).values()]
    if as_json:
        listed = [
            {"kind": origin.kind, "name": origin.name, "summary": text, "distribution": origin.distribution}
            for origin, text in rows
        ]
        write_json(listed, indent=2)
        return
    width = max((len(origin.name) for origin, _ in rows), default=0)
    for position, kind_name in enumerate(kinds):
        if len(kinds) > 1:
            typer.echo(f"{chr(10) if position else ''}{registry.KINDS[kind_name]} (--{registry.FLAGS[kind_name]})")
        for origin, text in rows:
            if origin.kind == kind_name:
                distribution = "" if origin.distribution.startswith("byzbench ") else f"  [{origin.distribution}]"
                echo(f"  {origin.name:<{width}}  {text}{distribution}".rstrip(), indent=width + 4)
