"""Differences between stored and present outputs, and which component or engine version must be raised for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.golden.summaries import is_array

ENGINE = "ENGINE"

TOLERANCE = 1e-3
"""Relative; for processors and libraries on which outputs are not known to be exact."""


def differences(stored: Mapping[str, Any], present: Mapping[str, Any], exact: bool) -> list[str]:
    """Return what differs between two outputs of a case, one line each; keys that only one of them has are ignored.

    Args:
        stored: the outputs of the golden file.
        present: the outputs of the code that is here.
        exact: compare to the bit. Otherwise with a tolerance, and of runs only the first round.
    """
    errors = [outputs.get("error", "no error") for outputs in (stored, present)]
    if errors[0] != errors[1]:
        return [f"{errors[0]} then, {errors[1]} now"]
    if not exact and "rounds" in stored:
        stored = {name: stored[name] for name in ("first", "diagnostics") if name in stored}
    return list(_differences("", stored, present, exact))


def _differences(path: str, stored: Any, present: Any, exact: bool) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(present, dict):
        for name in stored:
            if name in present:
                yield from _differences(f"{path} {name}".strip(), stored[name], present[name], exact)
    elif is_array(stored) and is_array(present):
        if stored[0] != present[0] if exact else not _all_close(stored[1:], present[1:]):
            yield f"{path}: {stored[1:]} then, {present[1:]} now"
    elif isinstance(stored, list) and isinstance(present, list) and len(stored) == len(present):
        # Only the first difference: in a list of rounds, the others follow from it.
        for index, (old, new) in enumerate(zip(stored, present, strict=True)):
            if lines := list(_differences(f"{path} {index}", old, new, exact)):
                yield lines[0]
                return
    elif stored != present if exact else not _all_close([stored], [present]):
        yield f"{path}: {stored} then, {present} now"


def _all_close(stored: list[Any], present: list[Any]) -> bool:
    """Return whether numbers agree within the tolerance, relative to the largest of them, and other values exactly."""
    if len(stored) != len(present):
        return False
    scale = max((abs(value) for value in stored if isinstance(value, float | int)), default=0.0)
    return all(
        abs(old - new) <= TOLERANCE * scale + 1e-9
        if isinstance(old, float | int) and isinstance(new, float | int)
        else old == new
        for old, new in zip(stored, present, strict=True)
    )


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


def edited_modules(modules: Mapping[str, Mapping[str, str]], stored: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return, for every component that was edited since outputs were stored, the modules that were.

    Args:
        modules: by component, the digest of each module whose code defines it.
        stored: the digest of each module when outputs were stored.
    """
    edited = {
        name: frozenset(module for module, digest in digests.items() if stored.get(module) != digest)
        for name, digests in modules.items()
    }
    return {name: changed for name, changed in edited.items() if changed}


def responsible(
    cases: Iterable[Case], edited: Mapping[str, frozenset[str]], defined_in: Mapping[str, str]
) -> dict[str, dict[str, list[str]]]:
    """Return the components, or `ENGINE`, whose version must be raised, with the cases that moved and their lines.

    A case that moved without an edited component moved because of the engine. An edited component of a case that moved
    is not responsible if another component of the case is defined in the modules that were edited (it wraps or imports
    that one), or if the cases in which it is the only edited component did not move.

    Args:
        cases: all that were compared.
        edited: see `edited_modules`.
        defined_in: by component, the module that defines it.
    """
    cases = list(cases)
    suspects = {case.name: _suspects(case, edited, defined_in) for case in cases}
    alone = [(suspects[case.name][0], bool(case.moved)) for case in cases if len(suspects[case.name]) == 1]
    cleared = {name for name, _ in alone} - {name for name, moved in alone if moved}
    causes: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        if case.moved:
            names = suspects[case.name]
            for name in [name for name in names if name not in cleared] or names or [ENGINE]:
                causes.setdefault(name, {})[case.name] = case.moved
    return causes


def _suspects(case: Case, edited: Mapping[str, frozenset[str]], defined_in: Mapping[str, str]) -> list[str]:
    """Return the edited components of a case, without those whose edited modules define others of them."""
    names = sorted(case.components & edited.keys())
    own = {defined_in[name] for name in names if defined_in[name] in edited[name]}
    return [name for name in names if defined_in[name] in own or not edited[name] <= own]


def dependents(cases: Iterable[Case], edited: Mapping[str, frozenset[str]], names: Iterable[str]) -> list[str]:
    """Return the components of cases that moved whose modules were edited, except those that are named."""
    moved = {component for case in cases if case.moved for component in case.components if component in edited}
    return sorted(moved.difference(names))
