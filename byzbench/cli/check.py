"""`byzbench check`: does a component keep its contract?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from byzbench.errors import BrokenPlugin, UnknownName, UserError, suggest

if TYPE_CHECKING:
    from byzbench.contracts import Component

KITS = ("attack", "aggregator")


def check(
    component: Annotated[str, typer.Argument(help="A file, path/to/my_attack.py; or a name, as in --attack.")],
    kind: Annotated[
        Literal["attack", "aggregator"] | None, typer.Option(help="What the name is, where both kinds have it.")
    ] = None,
    exempt: Annotated[
        list[str] | None, typer.Option(help="A check that may fail: it is reported, and counts for nothing.")
    ] = None,
) -> None:
    """Hold an attack or an aggregator to its contract, and print a report in Markdown; exit code 1 if it fails."""
    found = _load(component, kind)
    checks, cases = _kit(found.kind)
    if unknown := sorted(set(exempt or []) - set(checks)):
        raise UserError(
            f"no check {unknown[0]!r}. {suggest(unknown[0], checks)}Checks of an {found.kind}: {', '.join(checks)}"
        )
    rows = [(name, *_verdict(found, run, cases, name in (exempt or []))) for name, run in checks.items()]
    failed = sum(verdict == "failed" for _, verdict, _ in rows)
    typer.echo(f"# {found.kind} {type(found).__name__}\n")
    typer.echo(f"`{component}`: {f'{failed} of {len(rows)} checks failed' if failed else 'it keeps its contract'}.\n")
    typer.echo("| check | result | reason |\n|---|---|---|")
    for row in rows:
        typer.echo(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |")
    raise typer.Exit(1 if failed else 0)


def _verdict(component: Component, run: Callable[[Any, Any], None], cases: list[Any], exempt: bool) -> tuple[str, str]:
    """Passed, failed or exempt; and why: of the first case that fails what it said, else what was asked."""
    asked = (run.__doc__ or "").strip().split("\n")[0]
    for case in cases:
        try:
            run(component, case)
        except Exception as error:
            said = " ".join(str(error).split()) or asked
            reason = said if isinstance(error, AssertionError) else f"{type(error).__name__}: {said}"
            return "exempt" if exempt else "failed", f"{reason} ({case})"
    return "passed", asked


def _kit(kind: str) -> tuple[dict[str, Callable[[Any, Any], None]], list[Any]]:
    """The checks of a kind by name, and the cases that each is run on."""
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
            f"{name!r} is no file, and no {kind or 'attack or aggregator'}. {suggest(name, known)}".strip()
        )
    if len(kinds) > 1:
        raise UserError(f"{name!r} is an {' and an '.join(kinds)}: add --kind")
    return registry.build(kinds[0], text)


def _from_file(text: str) -> Component:
    """The one component that a file defines, with its defaults."""
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
        raise UserError(f"{text} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BrokenPlugin(f"{text} cannot be imported: {type(error).__name__}: {error}") from error
    bases = tuple(getattr(contracts, kind.capitalize()) for kind in KITS)
    here = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == name and issubclass(c, bases)]
    classes = [c for c in here if not c.__name__.startswith("_")]
    if len(classes) != 1:
        listed = ", ".join(c.__name__ for c in classes) or "none"
        raise UserError(f"{text}: a file defines one attack or one aggregator; this one defines {listed}")
    cls = classes[0]
    if inspect.isabstract(cls):
        raise UserError(f"{text}: {cls.__name__} does not define {', '.join(sorted(vars(cls)['__abstractmethods__']))}")
    if "__dataclass_fields__" not in vars(cls):
        raise UserError(f"{text}: {cls.__name__} is no dataclass: write @dataclass(frozen=True) above it")
    try:
        return cls()
    except TypeError as error:
        raise UserError(f"{text}: {cls.__name__} cannot be made with its defaults: {error}") from None
