"""Groups of commands that import little: a module of a command when it is used, and no pydantic for a help text."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "run": "run",
    "sweep": "sweep",
    "tune": "tune",
    "report": "report",
    "plot": "plot",
    "breakdown": "breakdown",
    "worst": "worst",
    "bench": "bench",
    "new": "new",
    "check": "check",
    "leaderboard": "app",
    "pilot": "pilot",
    "reproduce": "reproduce",
    "evaluate": "evaluate",
    "sync": "sync",
    "runs": "runs",
    "list": "list_components",
    "show": "show",
    "replay": "replay",
    "render": "render",
    "schema": "schema",
    "doctor": "doctor",
    "completion": "completion",
    "version": "version",
}
"""The commands of `byzbench`, in the order of `--help`: the module, and its function or its group of commands."""


class Group(TyperGroup):
    """Group of commands whose help text needs no pydantic."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option `--help` with the default False; for None, typer imports pydantic to convert it."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


class LazyGroup(Group):
    """Group of `COMMANDS`, each imported when it is used."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _LazyCommands()  # type: ignore[assignment]


class _LazyCommands(Mapping[str, Any]):
    """Commands by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        attribute = COMMANDS[name]
        target = getattr(importlib.import_module(f"byzbench.cli.{name}"), attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False)
            target.command(name)(function)
        command = typer.main.get_command(target)
        command.name = name
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)
