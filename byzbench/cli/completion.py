"""Command `byzbench completion`: print the script by which a shell completes commands, options and components.

The names of components are completed without importing any.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NoReturn

import typer

COMPLETING = "_BYZBENCH_COMPLETE"
"""The environment variable by which a shell asks for a script or for completions."""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish", "powershell"], typer.Argument(help="The shell.")],
) -> None:
    """Print the script by which a shell completes commands, options, and the names of components.

    Examples:
        byzbench completion bash >> ~/.bashrc
        byzbench completion fish > ~/.config/fish/completions/byzbench.fish
    """
    from byzbench.cli.groups import LazyGroup

    os.environ[COMPLETING] = f"source_{shell}"
    try:
        answer_shell(LazyGroup(name="byzbench"))
    except SystemExit as end:
        raise typer.Exit(int(end.code or 0)) from None


def answer_shell(command: Any) -> NoReturn:
    """Print what a shell asks for by an environment variable, and exit."""
    from typer.completion import completion_init

    completion_init()
    command.main(prog_name="byzbench")
    raise SystemExit(1)


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds that begin with a text.

    Example:
        >>> complete_kind("ag")
        ['aggregator', 'agreement']
    """
    from byzbench.registry import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def complete_suite(incomplete: str) -> list[str]:
    """Return the names of suites that begin with a text.

    Example:
        >>> complete_suite("smoke-v2")
        ['smoke-v2']
    """
    from importlib.resources import files

    # byzbench.leaderboard.suites has the same names, and takes seconds to be imported.
    names = (path.name for path in files("byzbench.leaderboards").joinpath("suites").iterdir())
    return sorted(n.removesuffix(".toml") for n in names if n.startswith(incomplete) and n.endswith(".toml"))


def complete_component(kind: str) -> Callable[[str], list[str]]:
    """Return a function that completes the name of a component.

    In a composition or a list, it completes the last name.

    Args:
        kind: The kind.

    Example:
        >>> complete_component("aggregator")("nnm+trimmed_me")
        ['nnm+trimmed_mean']
    """

    def complete(incomplete: str) -> list[str]:
        from byzbench.registry import origins

        start = re.sub(r"\w*$", "", incomplete)
        return [name for known in origins(kind) if (name := f"{start}{known}").startswith(incomplete)]

    return complete


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the components that begin with a text, of the kind that was typed before it or of all kinds."""
    from byzbench.errors import UnknownName
    from byzbench.registry import KINDS, kind_of, origins

    typed = ctx.params.get("kind")
    try:
        kinds = [kind_of(typed)] if typed else list(KINDS)
    except UnknownName:
        return []
    return sorted({name for kind in kinds for name in origins(kind) if name.startswith(incomplete)})
