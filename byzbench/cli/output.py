"""Output of commands as JSON, apart from what environments and plug-ins print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

import typer

_output: ContextVar[TextIO | None] = ContextVar("output", default=None)
"""The standard output that is reserved for `write_output`."""


def write_output(text: str, newline: bool = True) -> None:
    """Write a text to standard output, also where that is reserved.

    Args:
        text: The text.
        newline: Whether a newline follows.
    """
    print(text, end="\n" if newline else "", file=_output.get() or sys.stdout, flush=True)


def write_json(data: Any, indent: int | None = None) -> None:
    """Write JSON data to standard output, also where that is reserved.

    Args:
        data: The data; all numbers are finite.
        indent: The number of spaces of a level; None: all in one line.
    """
    write_output(json.dumps(data, indent=indent, allow_nan=False))


def reserve(context: typer.Context, as_json: bool) -> bool:
    """Reserve standard output until the end of a command with `--json`, as the callback of that option."""
    if as_json:
        context.find_root().with_resource(_reserved())
    return as_json


@contextmanager
def _reserved() -> Iterator[None]:
    """Send what others print in a block to standard error: in Python, below it, and in processes that it starts."""
    descriptor, output = None, sys.stdout
    if output is sys.__stdout__ and output is not None:  # not replaced by a caller, who reads what Python prints
        output.flush()
        descriptor = os.dup(1)
        output = os.fdopen(descriptor, "w", encoding=output.encoding, errors=output.errors, closefd=False)
        os.dup2(2, 1)
    token = _output.set(output)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _output.reset(token)
        if descriptor is not None:
            output.flush()
            os.dup2(descriptor, 1)
            os.close(descriptor)
