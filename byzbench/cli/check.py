"""Command `byzbench check`: run the conformance tests of a component."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from byzbench.errors import BrokenPlugin, UnknownName, UserError, suggest

if TYPE_CHECKING:
    from byzbench.contracts import Component

KITS = ("attack", "aggregator")


def check(
    component: Annotated[str, typer.Argument(help="A file such as path/to/my_attack.py, or a name as in --attack.")],
    kind: Annotated[
        Literal["attack", "aggregator"] | None,
        typer.Option(help="The kind of the name, needed only if both kinds have it."),
    ] = None,
    exempt: Annotated[
        list[str] | None, typer.Option(help="A check that may fail; it is reported, but not counted.")
    ] = None,
) -> None:
    """Run the conformance tests of an attack or an aggregator and print a report in Markdown.

    Exit 0: all checks passed. 1: a check failed.

    Examples:
        byzbench check my_attack.py
        byzbench check krum --kind aggregator
    """
    tested = _load(component, kind)
    checks, cases = _kit(tested.kind)
    if unknown := sorted(set(exempt or []) - set(checks)):
        raise UserError(
            f"no check {unknown[0]!r}. {suggest(unknown[0], checks)}Checks of an {tested.kind}: {', '.join(checks)}"
        )
    rows = [(name, *_verdict(tested, test, cases, name in (exempt or []))) for name, test in checks.items()]
    failed = sum(verdict == "failed" for _, verdict, _ in rows)
    typer.echo(f"# {tested.kind} {type(tested).__name__}\n")
    typer.echo(f"`{component}`: {f'{failed} of {len(rows)} checks failed' if failed else 'all checks passed'}.\n")
    typer.echo("| check | result | reason |\n|---|---|---|")
    for row in rows:
        typer.echo(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |")
    raise typer.Exit(1 if failed else 0)


def _verdict(component: Component, run: Callable[[Any, Any], None], cases: list[Any], exempt: bool) -> tuple[str, str]:
    """Run one check on all cases.

    Args:
        component: The component.
        run: The check.
        cases: The cases of its kind.
        exempt: Whether the check may fail.

    Returns:
        "passed", "failed" or "exempt", and a reason: the error of the first case that fails, else the requirement.
    """
    requirement = (run.__doc__ or "").strip().split("\n")[0]
    for case in cases:
        try:
            run(component, case)
        except Exception as error:
            message = " ".join(str(error).split()) or requirement
            reason = message if isinstance(error, AssertionError) else f"{type(error).__name__}: {message}"
            return "exempt" if exempt else "failed", f"{reason} ({case})"
    return "passed", requirement


def _kit(kind: str) -> tuple[dict[str, Callable[[Any, Any], None]], list[Any]]:
    """Return the checks of a kind by name, and the cases that each runs on."""
    if kind == "attack":
        from byzbench.testing import attacks

        return {c.__name__: c for c in attacks.CHECKS}, [attacks.Case(0), attacks.Case(1, 1e-3), attacks.Case(2, 1e3)]
    from byzbench.testing import rules

    return {c.__name__: c for c in rules.CHECKS}, [rules.Case(0, 4, 1.0), rules.Case(1, 1, 1e-3), rules.Case(2, 7, 1e3)]


def _load(text: str, kind: str | None) -> Component:
    from byzbench import registry

    if text.endswith(".py") or "/" in text:
        return _from_file(text)
    name = registry.parse(text).name
    kinds = [k for k in ([kind] if kind else KITS) if name in registry.origins(k)]
    if not kinds:
        known = [n for k in ([kind] if kind else KITS) for n in registry.origins(k)]
        raise UnknownName(
            f"{name!r} is not a file, and not an {kind or 'attack or aggregator'}. {suggest(name, known)}".strip()
        )
    if len(kinds) > 1:
        raise UserError(f"{name!r} is the name of an {' and of an '.join(kinds)}: add --kind")
    return registry.build(kinds[0], text)


def _from_file(text: str) -> Component:
    """Import a file and build the one component that it defines, with its default parameters."""
    import importlib.util
    import inspect
    import sys
    from pathlib import Path

    from byzbench import contracts

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
    bases = tuple(getattr(contracts, kind.capitalize()) for kind in KITS)
    own_classes = [
        c for c in vars(module).values() if isinstance(c, type) and c.__module__ == name and issubclass(c, bases)
    ]
    classes = [c for c in own_classes if not c.__name__.startswith("_")]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        raise UserError(f"{text}: a file must define one attack or one aggregator; this one defines {names}")
    cls = classes[0]
    if inspect.isabstract(cls):
        raise UserError(f"{text}: {cls.__name__} does not define {', '.join(sorted(vars(cls)['__abstractmethods__']))}")
    if "__dataclass_fields__" not in vars(cls):
        raise UserError(f"{text}: {cls.__name__} is not a dataclass: write @dataclass(frozen=True) above it")
    try:
        return cls()
    except TypeError as error:
        raise UserError(f"{text}: {cls.__name__} cannot be built with its defaults: {error}") from None
