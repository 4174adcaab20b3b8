"""What moved between stored and present outputs, and which component or engine version must be raised for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.golden.summaries import is_array

ENGINE = "ENGINE"
TOLERANCE = 1e-3
"""Relative, on processors and with libraries for which outputs are not known to be exact."""


def differences(stored: Mapping[str, Any], now: Mapping[str, Any], exact: bool) -> list[str]:
    """Return what differs between two outputs of a case, one plain line each; keys that only one has are free.

    Args:
        stored: the outputs of the golden file.
        now: the outputs of the code that is here.
        exact: to the bit. Otherwise with a tolerance, and of runs only the first round.
    """
    if ("error" in stored) != ("error" in now):
        return [
            f"now ends with {now['error']}" if "error" in now else f"ended with {stored['error']}, and does no more"
        ]
    if not exact and "rounds" in stored:
        stored = {name: stored[name] for name in ("first", "diagnostics") if name in stored}
    return list(_walk("", stored, now, exact))


def _walk(path: str, stored: Any, now: Any, exact: bool) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(now, dict):
        for name in stored:
            if name in now:
                yield from _walk(f"{path} {name}".strip(), stored[name], now[name], exact)
    elif is_array(stored) and is_array(now):
        if stored[0] != now[0] if exact else not _close(stored[1:], now[1:]):
            yield f"{path}: {_numbers(stored)} then, {_numbers(now)} now"
    elif isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        for place, pair in enumerate(zip(stored, now, strict=True)):
            if moved := list(_walk(f"{path} {place}", *pair, exact)):
                yield moved[0]  # what follows the first is its consequence
                break
    elif stored != now if exact else not _close([stored], [now]):
        yield f"{path}: {stored} then, {now} now"


def _numbers(array: list[Any]) -> str:
    return f"[{', '.join(map(str, array[1:]))}]"


def _close(a: list[Any], b: list[Any]) -> bool:
    """Return whether numbers agree within the tolerance, relative to the largest of them; other values are equal."""
    if len(a) != len(b):
        return False
    numeric = [(x, y) for x, y in zip(a, b, strict=True) if isinstance(x, float | int) and isinstance(y, float | int)]
    scale = max((abs(x) for x, _ in numeric), default=0.0)
    close = all(abs(x - y) <= TOLERANCE * scale + 1e-9 for x, y in numeric)
    return close and all(x == y for x, y in zip(a, b, strict=True) if (x, y) not in numeric)


@dataclass(frozen=True)
class Case:
    """A case whose outputs were compared.

    Attributes:
        name: of the case.
        components: the names of the components whose code it runs.
        moved: what differs, one line each.
    """

    name: str
    components: frozenset[str]
    moved: list[str] = field(default_factory=list)


def edited(modules: Mapping[str, Mapping[str, str]], stored: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return the modules of each component that are not as they were when the outputs were stored.

    Args:
        modules: by component, the digest of each module whose code defines it.
        stored: the digest of each module.
    """
    changed = {
        name: frozenset(module for module, digest in parts.items() if stored.get(module) != digest)
        for name, parts in modules.items()
    }
    return {name: parts for name, parts in changed.items() if parts}


def responsible(
    cases: Iterable[Case], edits: Mapping[str, frozenset[str]], homes: Mapping[str, str]
) -> dict[str, dict[str, list[str]]]:
    """Return what must be named for the cases that moved: by component or `ENGINE`, the cases and their lines.

    A case without an edited component moved because of the engine. Of the edited ones in a case a component is not
    named if all its edited modules are those of another one in the case (it wraps or imports that one), or if it
    did not move where it is the only one that was edited.

    Args:
        cases: all of them.
        edits: see `edited`.
        homes: by component, the module that defines it.
    """
    cases = list(cases)
    named = {case.name: _named(case, edits, homes) for case in cases}
    still = Counter(parts[0] for case in cases if len(parts := named[case.name]) == 1 and not case.moved)
    stirred = Counter(parts[0] for case in cases if len(parts := named[case.name]) == 1 and case.moved)
    quiet = {name for name in still if not stirred[name]}
    found: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        if case.moved:
            parts = named[case.name]
            for name in [part for part in parts if part not in quiet] or parts or [ENGINE]:
                found.setdefault(name, {})[case.name] = case.moved
    return found


def _named(case: Case, edits: Mapping[str, frozenset[str]], homes: Mapping[str, str]) -> list[str]:
    """Return the edited components of a case whose edits are not all those of another one's own module."""
    parts = sorted(case.components & edits.keys())
    owned = {homes[part] for part in parts if homes[part] in edits[part]}
    return [part for part in parts if homes[part] in owned or not edits[part] <= owned]


def followers(cases: Iterable[Case], edits: Mapping[str, frozenset[str]], names: Iterable[str]) -> list[str]:
    """Return the edited components that are not to be named and take part in cases that moved."""
    parts = {part for case in cases if case.moved for part in case.components if part in edits}
    return sorted(parts.difference(names))
