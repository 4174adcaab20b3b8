"""Command-line interface, with one module for each command. Heavy modules are imported inside the commands."""

from __future__ import annotations

import errno
import gc
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from byzbench.cli.completion import COMPLETING, answer_shell
from byzbench.cli.groups import LazyGroup
from byzbench.errors import ByzbenchError, error_text, exhaustion, without_pydantic
from byzbench.experiments.termination import Terminated, interrupting_sigterm
from byzbench.platforms import check_platform
from byzbench.reports.terminal import accept_all_characters, echo

app = typer.Typer(
    name="byzbench",
    cls=LazyGroup,
    help="Federated and decentralised reinforcement learning with Byzantine agents: train, attack, compare.\n\n"
    "Examples:\n    byzbench run --algo decbyzpg --attack alie --compare\n    byzbench list attacks",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        from byzbench import __version__

        typer.echo(f"byzbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the `byzbench` command; an error of the user gives one line on standard error and exit code 2."""
    accept_all_characters()
    warnings.showwarning = show_warning  # type: ignore[assignment]
    gc.set_threshold(50_000, 20, 20)  # imports make many objects that stay; by default, each 700 of them are looked at
    command = typer.main.get_command(app)
    if COMPLETING in os.environ:
        answer_shell(command)
    with interrupting_sigterm():
        code = _run(command)
    sys.exit(code)


def _run(command: Any) -> int:
    """Run a command, print its error, and return its exit code."""
    try:
        check_platform()
        # `command.main` would handle an interrupt without printing how to resume.
        with command.make_context("byzbench", sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except ByzbenchError as error:
        return _fail(str(error), error.exit_code or 2)
    except SystemExit as error:  # byzbench itself raises typer.Exit
        if isinstance(error.__context__, BrokenPipeError):  # rich ends a program whose output is no longer read
            _discard_output()
            return 1
        return _fail(f"a component ended the command: {error_text(error)}", 2)
    except KeyboardInterrupt as interrupt:
        code = interrupt.exit_code if isinstance(interrupt, Terminated) else 130
        return _fail("stopped; the same command resumes", code)
    except BrokenPipeError:
        _discard_output()
        return 1
    except Exception as error:
        if line := exhaustion(error):
            return _fail(line, 2)
        if isinstance(error, OSError) and error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):
            _discard_output()
            return _fail(f"cannot write standard output: {error.strerror}", 1)
        # typer has its own copy of click's exceptions, whose module differs between releases of typer.
        if not hasattr(error, "format_message"):
            raise
        text = without_pydantic(error.format_message())
        return _fail(text, 2) if text else 0
    return 0


def _discard_output() -> None:
    """Let Python write what is left of standard output nowhere at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    echo(f"byzbench: error: {' '.join(message.split())}", err=True, indent=2)
    return code


def show_warning(message: Warning | str, *_: Any) -> None:
    """Print a warning in one line."""
    echo(f"byzbench: warning: {' '.join(str(message).split())}", err=True, indent=2)
