"""Canonical descriptions: what an experiment is called for ever, whatever its parts are called today.

A described experiment is a flat dict: an axis to a plain value, or to a component `{"name", "parameters"}`, whose
parameters may hold further components. Its hash names its run folder, so that no rename, no moved field and no new axis
may change it. `CHANGES` is the one table of what has changed; each change works in both directions:

    forward   an older description as it is written today: how records are read
    backward  today's description as it was first written: what is hashed

Schema 1 is what was written when the table began, and its spelling is the first of everything that existed then.
Nothing here imports a component, so that a store is listed quickly.
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from byzbench.errors import CorruptRecord, InvalidParameter

SCHEMA = 3
"""The schema number of every document that byzbench writes. It rises with each change of a document's form."""

Described = dict[str, Any]

_RULES_INSIDE = {("agreement", "rule"): "aggregator"}
"""Parameters that hold a component of another kind than their owner's."""


class Change(Protocol):
    """A change of how experiments are described."""

    @property
    def schema(self) -> int:
        """Return the first schema number that has the change."""

    def forward(self, described: Described, whole: bool) -> None:
        """Rewrite a description of an older schema, in place. One that is not `whole` lacks axes and parameters."""

    def backward(self, described: Described) -> None:
        """Rewrite a description that has the change as it was before, in place."""


@dataclass(frozen=True)
class AxisAdded:
    """An axis that came later, and the value at which experiments are what they were before.

    Example:
        >>> AxisAdded(3, "weather", {"name": "calm", "parameters": {}}).schema
        3
    """

    schema: int
    axis: str
    value: Any

    def forward(self, described: Described, whole: bool) -> None:
        """Add the axis."""
        if whole:
            described.setdefault(self.axis, copy.deepcopy(self.value))

    def backward(self, described: Described) -> None:
        """Leave the axis out while it has that value."""
        if described.get(self.axis) == self.value:
            del described[self.axis]


class _Renamed(ABC):
    """A change that swaps two names, in both directions alike."""

    old: str
    new: str

    def forward(self, described: Described, whole: bool) -> None:
        """Use the new name."""
        self._rename(described, self.old, self.new)

    def backward(self, described: Described) -> None:
        """Use the old name."""
        self._rename(described, self.new, self.old)

    @abstractmethod
    def _rename(self, described: Described, before: str, after: str) -> None:
        """Replace one name by another, in place."""


@dataclass(frozen=True)
class AxisRenamed(_Renamed):
    """An axis under a new name."""

    schema: int
    old: str
    new: str

    def _rename(self, described: Described, before: str, after: str) -> None:
        if before in described:
            described[after] = described.pop(before)


@dataclass(frozen=True)
class ComponentRenamed(_Renamed):
    """A component under a new name."""

    schema: int
    kind: str
    old: str
    new: str

    def _rename(self, described: Described, before: str, after: str) -> None:
        for part in _components(described, self.kind):
            if part["name"] == before:
                part["name"] = after


@dataclass(frozen=True)
class ParameterAdded:
    """A parameter that came later, and the value at which its component does what it did before."""

    schema: int
    kind: str
    component: str
    name: str
    value: Any

    def forward(self, described: Described, whole: bool) -> None:
        """Add the parameter."""
        for part in _components(described, self.kind) if whole else ():
            if part["name"] == self.component:
                part["parameters"].setdefault(self.name, copy.deepcopy(self.value))

    def backward(self, described: Described) -> None:
        """Leave the parameter out while it has that value."""
        for part in _components(described, self.kind):
            if part["name"] == self.component and part["parameters"].get(self.name) == self.value:
                del part["parameters"][self.name]


@dataclass(frozen=True)
class ParameterRenamed(_Renamed):
    """A parameter of a component under a new name."""

    schema: int
    kind: str
    component: str
    old: str
    new: str

    def _rename(self, described: Described, before: str, after: str) -> None:
        for part in _components(described, self.kind):
            if part["name"] == self.component and before in part["parameters"]:
                part["parameters"][after] = part["parameters"].pop(before)


@dataclass(frozen=True)
class ParameterMoved:
    """A parameter of all components of a kind that became an axis with components of its own.

    Attributes:
        kind, name: the parameter's old place. Every component of that kind had it.
        neutral: its value where it does nothing.
        axis: the new axis. Without effect it holds the component `absent`, else `present`, whose parameter
            `parameter` has the value.
    """

    schema: int
    kind: str
    name: str
    neutral: Any
    axis: str
    absent: str
    present: str
    parameter: str

    def forward(self, described: Described, whole: bool) -> None:
        """Move the value to the new axis."""
        owner = described.get(self.kind)
        if owner is None or self.name not in owner["parameters"]:
            return
        value = owner["parameters"].pop(self.name)
        idle = value == self.neutral
        described[self.axis] = {
            "name": self.absent if idle else self.present,
            "parameters": {} if idle else {self.parameter: value},
        }

    def backward(self, described: Described) -> None:
        """Move the value back.

        A component of the axis that came later than the move stays there: no parameter ever said the same.
        """
        part = described.get(self.axis)
        if not isinstance(part, dict) or part["name"] not in (self.absent, self.present):
            return
        idle = part["name"] == self.absent
        if not idle and set(part["parameters"]) != {self.parameter}:
            return
        del described[self.axis]
        described[self.kind]["parameters"][self.name] = self.neutral if idle else part["parameters"][self.parameter]


CHANGES: tuple[Change, ...] = (
    AxisAdded(3, "evaluations", 20),
    AxisAdded(3, "evaluation_episodes", 10),
)
"""Every change since schema 1, oldest first. Entries are never edited or removed; `checked` says what holds of them."""


def checked(changes: Sequence[Change], newest: int) -> tuple[Change, ...]:
    """Return the table if its changes can be applied in order.

    Args:
        changes: the table, oldest change first.
        newest: the schema number of what is written.

    Raises:
        InvalidParameter: schema numbers fall, lie outside 2..`newest`, or names are changed in a circle.
    """
    before = 2
    renamed: dict[tuple[str, ...], str] = {}
    for change in changes:
        if type(change.schema) is not int or not before <= change.schema <= newest:
            raise InvalidParameter(
                f"migration {change!r}: schema numbers must rise from 2 to {newest}, and follow {before}"
            )
        before = change.schema
        if isinstance(change, _Renamed):
            place = tuple(getattr(change, part, "") for part in ("kind", "component"))
            renamed[(*place, change.old)] = change.new
            path = [change.old]
            while (following := renamed.get((*place, path[-1]))) is not None:
                path.append(following)
                if following in path[:-1]:
                    raise InvalidParameter(f"migrations rename in a circle: {' -> '.join(path)}")
    return tuple(changes)


def _components(described: Mapping[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """Every component of a kind in a description, however deep it lies."""
    for axis, value in described.items():
        yield from _inside(axis, value, kind)


def _inside(kind: str, value: Any, wanted: str) -> Iterator[dict[str, Any]]:
    if not (isinstance(value, dict) and isinstance(value.get("parameters"), dict)):
        return
    if kind == wanted:
        yield value
    for name, inner in value["parameters"].items():
        yield from _inside(_RULES_INSIDE.get((kind, name), kind), inner, wanted)


def modern(described: Mapping[str, Any], schema: int, whole: bool = True) -> Described:
    """Return a description that was written under an older schema as it is written today.

    Args:
        described: the description; it is not changed.
        schema: the schema number of the document that holds it.
        whole: whether it has every axis and parameter. One that has not gets none that it lacks.
    """
    found: Described = copy.deepcopy(dict(described))
    for change in CHANGES:
        if change.schema > schema:
            change.forward(found, whole)
    return found


def canonical(described: Mapping[str, Any]) -> Described:
    """Return a description of today as it would first have been written."""
    found: Described = copy.deepcopy(dict(described))
    for change in reversed(CHANGES):
        change.backward(found)
    return found


def component_names(described: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kind and the first name of every component of a description of today, for example `attack alie`."""
    stack = list(described.items())
    while stack:
        kind, value = stack.pop()
        if isinstance(value, dict) and isinstance(value.get("parameters"), dict):
            yield f"{kind} {first_name(kind, value['name'])}"
            stack += [(_RULES_INSIDE.get((kind, name), kind), inner) for name, inner in value["parameters"].items()]


def first_name(kind: str, name: str) -> str:
    """Return the name under which a component was first hashed."""
    for change in reversed(CHANGES):
        if isinstance(change, ComponentRenamed) and (change.kind, change.new) == (kind, name):
            name = change.old
    return name


def first_parameter(kind: str, component: str, name: str) -> str:
    """Return the name under which a component's parameter was first hashed. `component` is its name of today."""
    for change in reversed(CHANGES):
        if isinstance(change, ComponentRenamed) and (change.kind, change.new) == (kind, component):
            component = change.old
        if isinstance(change, ParameterRenamed) and (change.kind, change.component, change.new) == (
            kind,
            component,
            name,
        ):
            name = change.old
    return name


def digest_of(described: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of a dict as it stands: sha256 of its JSON with sorted keys."""
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_of(described: Mapping[str, Any]) -> str:
    """Return the hash of a described experiment: 16 hexadecimal digits of its canonical description."""
    return digest_of(canonical(described))


def schema_of(data: Mapping[str, Any], where: object) -> int:
    """Return the schema number of a document; one without is of the first.

    Raises:
        CorruptRecord: it is no positive integer, or that of a newer byzbench.
    """
    schema = data.get("schema", 1)
    if type(schema) is not int or schema < 1:
        raise CorruptRecord(f"{where}: schema must be a positive integer, got {str(schema)[:40]!r}")
    if schema > SCHEMA:
        raise CorruptRecord(
            f"{where} was made by a newer byzbench: it has schema {schema}, and this one reads up to {SCHEMA}"
        )
    return schema


CHANGES = checked(CHANGES, SCHEMA)
