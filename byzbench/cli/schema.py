"""Command `byzbench schema`: print the JSON Schema of a file format."""

from __future__ import annotations

from typing import Annotated

import typer

from byzbench.cli.output import write_json


def schema(
    name: Annotated[
        str | None, typer.Argument(help="A file format, for example result.json; default: list all.")
    ] = None,
) -> None:
    """Print the JSON Schema of a file that byzbench writes or reads.

    Examples:
        byzbench schema
        byzbench schema sweep.toml > sweep.schema.json
    """
    from byzbench.file_formats import FORMATS, json_schema
    from byzbench.reports.terminal import echo

    if name is not None:
        write_json(json_schema(name), indent=2)
        return
    width = max(map(len, FORMATS))
    for each in FORMATS.values():
        echo(f"{each.name:<{width}}  {each.content}", indent=width + 2)
