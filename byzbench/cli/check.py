"""Command `byzbench check`: run the conformance tests of a component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli.completion import complete_name
from byzbench.errors import BrokenPlugin, ByzbenchError, UndeclaredKnowledge, UnknownName, UserError, suggest

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from byzbench.core import Component
    from byzbench.testing.kits import Check, Kit


def check(
    component: Annotated[
        str,
        typer.Argument(
            help="A file such as path/to/my_attack.py, or a name such as alie or alie:z=1.5.",
            autocompletion=complete_name,
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(help="The kind (attack, aggregator, ...), if several kinds have the name or the file several."),
    ] = None,
    exempt: Annotated[
        list[str] | None, typer.Option(help="A check that may fail; it is reported, but not counted.")
    ] = None,
) -> None:
    """Run the conformance tests of a component of any kind and print a report in Markdown.

    A component is a built-in one, one of an installed package, or the one that a file defines.

    Exit 0: all checks passed. 1: a check failed.

    Examples:
        byzbench check my_attack.py
        byzbench check krum
        byzbench check mean --kind aggregator
    """
    report, failed = _in_child(component, kind, exempt or [])
    typer.echo(report)
    raise typer.Exit(1 if failed else 0)


def _in_child(component: str, kind: str | None, exempt: list[str]) -> tuple[str, bool]:
    """Check a component in a process of its own, so that only a complete report counts.

    A component can end its process with any exit code, on import or in a method.

    Args:
        component: A file or a name.
        kind: The kind; None: that of the component.
        exempt: The checks that may fail.

    Returns:
        The report, and whether a check failed.

    Raises:
        BrokenPlugin: The process ended before the report was complete.
    """
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_report, args=(sending, component, kind, exempt))
    process.start()
    sending.close()
    try:
        wait([receiving, process.sentinel])
        outcome = receiving.recv() if receiving.poll() else None
    except EOFError:
        outcome = None
    finally:
        process.kill()
        process.join()
    if outcome is None:
        raise BrokenPlugin(f"{component} ended the process in which it was checked, before the report was complete")
    if isinstance(outcome, BaseException):
        raise outcome
    report, failed = outcome
    return report, failed


def _send_report(sending: Connection, component: str, kind: str | None, exempt: list[str]) -> None:
    """Send the report on a component, or the error that ended it."""
    import signal
    import warnings

    from byzbench.cli import show_warning

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    warnings.showwarning = show_warning  # type: ignore[assignment]
    outcome: Any
    try:
        outcome = report_checks(component, kind, exempt)
    except (ByzbenchError, SystemExit) as error:
        outcome = error
    sending.send(outcome)


def report_checks(component: str, kind: str | None, exempt: list[str]) -> tuple[str, bool]:
    """Return the report on a component in Markdown, and whether a check failed.

    Args:
        component: A file or a name.
        kind: The kind; None: that of the component.
        exempt: The checks that may fail.

    Raises:
        UserError: There is no such component or check.

    Example:
        >>> report, failed = report_checks("split", "coin", [])
        >>> report.splitlines()[2], failed
        ('`split`: all checks passed.', False)
    """
    from byzbench.testing.interfaces import takes_the_arguments_of_its_kind
    from byzbench.testing.kits import kit_of

    tested = _load(component, kind)
    kit = kit_of(tested.kind)
    checks = {takes_the_arguments_of_its_kind.__name__: takes_the_arguments_of_its_kind, **kit.checks}
    if unknown := sorted(set(exempt) - set(checks)):
        raise UserError(
            f"no check {unknown[0]!r}. {suggest(unknown[0], checks)}Checks of kind {tested.kind}: {', '.join(checks)}"
        )
    rows = _report(tested, checks, kit, set(exempt))
    failed = sum(result == "failed" for _, result, _ in rows)
    skipped = sum(result == "skipped" for _, result, _ in rows)
    summary = f"{failed} of {len(rows)} checks failed" if failed else "all checks passed"
    lines = [
        f"# {tested.kind} {type(tested).__name__}\n",
        f"`{component}`: {summary}{f', {skipped} were skipped' if skipped else ''}.\n",
        "| check | result | reason |\n|---|---|---|",
        *(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in rows),
    ]
    return "\n".join(lines), bool(failed)


def _report(component: Component, checks: dict[str, Check], kit: Kit, exempt: set[str]) -> list[tuple[str, str, str]]:
    """Return the name, the result and the reason of each check.

    If a method cannot be called, or returns something of a wrong form, the other checks are skipped: they would fail
    for the same reason.

    Args:
        component: The component.
        checks: The checks by name, that of the signatures first.
        kit: The conformance tests of its kind.
        exempt: The checks that may fail.
    """
    results: dict[str, tuple[str, str]] = {}
    first = next(iter(checks))
    for name in (first, *(check.__name__ for check in kit.form), *checks):
        if name in results:
            continue
        passed, reason, blocks = _run_check(component, checks[name], kit.cases if name != first else (None,))
        results[name] = ("passed" if passed else "exempt" if name in exempt else "failed", reason)
        if blocks and (name == first or checks[name] in kit.form):
            break
    needed = next((name for name, (result, _) in results.items() if result != "passed"), "")
    return [(name, *results.get(name, ("skipped", f"{needed} failed"))) for name in checks]


def _run_check(component: Component, run: Check, cases: tuple[object, ...]) -> tuple[bool, str, bool]:
    """Run one check on all cases.

    Args:
        component: The component.
        run: The check.
        cases: The cases of its kind.

    Returns:
        Whether it passed; the error of the first case that fails, else the requirement; and whether other checks would
        repeat the error, which those would not that find undeclared knowledge.
    """
    from byzbench.experiments.plugin_errors import locate

    requirement = (run.__doc__ or "").strip().split("\n")[0]
    for case in cases:
        suffix = "" if case is None else f" ({case})"
        try:
            run(component, case)
        except AssertionError as error:
            return False, (" ".join(str(error).split()) or requirement) + suffix, True
        except ByzbenchError as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}{suffix}"
            return False, text, not isinstance(error, UndeclaredKnowledge)
        except Exception as error:
            notes = " ".join(getattr(error, "__notes__", ()))
            text = locate(error, [component], label=False) or f"{type(error).__name__}: {' '.join(str(error).split())}"
            return False, f"{text}{f' {notes}' if notes else ''}{suffix}", True
    return True, requirement, False


def _load(text: str, kind: str | None) -> Component:
    from byzbench import registry

    allowed = [registry.kind_of(kind)] if kind else list(registry.KINDS)
    if text.endswith(".py") or "/" in text.partition("(")[0].partition(":")[0]:
        return _from_file(text, allowed)
    name = registry.parse_spec(text).name
    kinds = [k for k in allowed if name in registry.origins(k)]
    if not kinds:
        known = sorted({n for k in allowed for n in registry.origins(k)})
        which = f"of kind {allowed[0]}" if kind else "of any kind"
        raise UnknownName(f"{name!r} is not a file, and not a component {which}. {suggest(name, known)}".strip())
    if len(kinds) > 1:
        raise UserError(f"{name!r} is the name of several components: add --kind {' or --kind '.join(kinds)}")
    return registry.make(kinds[0], text)


def _from_file(text: str, kinds: Sequence[str]) -> Component:
    """Import a file and build the one component of some kinds that it defines, with its default parameters."""
    import importlib.util
    import inspect
    import sys
    from pathlib import Path

    from byzbench import registry

    path = Path(text)
    if not path.is_file():
        raise UserError(f"there is no file {text}")
    name = f"checked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{text} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BrokenPlugin(f"{text} cannot be imported: {type(error).__name__}: {error}") from error
    bases = tuple(registry.base_class(kind) for kind in registry.KINDS)
    own_classes = [
        c for c in vars(module).values() if isinstance(c, type) and c.__module__ == name and issubclass(c, bases)
    ]
    public = [c for c in own_classes if not c.__name__.startswith("_")]
    classes = [c for c in public if c.kind in kinds]
    if len(classes) != 1:
        which = f" of kind {kinds[0]}" if len(kinds) == 1 else ""
        names = ", ".join(f"{c.__name__} ({c.kind})" for c in public) or "none"
        raise UserError(f"{text}: a file must define one component{which}; this one defines {names}")
    cls = classes[0]
    if inspect.isabstract(cls):
        raise UserError(f"{text}: {cls.__name__} does not define {', '.join(sorted(vars(cls)['__abstractmethods__']))}")
    if "__dataclass_fields__" not in vars(cls):
        raise UserError(f"{text}: {cls.__name__} is not a dataclass: write @dataclass(frozen=True) above it")
    try:
        return cls()
    except TypeError as error:
        raise UserError(f"{text}: {cls.__name__} cannot be built with its defaults: {error}") from None
