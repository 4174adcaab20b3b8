"""Components as the golden file holds them: fully described, under the spelling by which they were first written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from byzbench import registry
from byzbench.canonical import canonical, first_name, to_current
from byzbench.core import Component

Inputs: TypeAlias = Mapping[str, Any]
"""What a case is computed from: descriptions of components by kind or of an `experiment`, and further options."""

Cases: TypeAlias = Iterator[tuple[str, Callable[[], Inputs]]]
"""Names of cases, and functions that return their inputs with every parameter resolved."""


def shipped(kind: str) -> Iterator[tuple[str, str]]:
    """Yield today's and the first name of every component of byzbench itself."""
    for name, origin in registry.origins(kind).items():
        if origin.module == f"byzbench.{registry.KINDS[kind]}.{name}":
            yield name, first_name(kind, name)


def described(kind: str, written: str) -> dict[str, Any]:
    """Return the canonical description of a component as users write it."""
    return json.loads(json.dumps(canonical({kind: registry.describe(registry.make(kind, written))})[kind]))


def described_part(kind: str, written: str) -> dict[str, Any]:
    """Return the inputs of a case of one component."""
    return {kind: described(kind, written)}


def build(kind: str, description: Mapping[str, Any]) -> Component:
    """Return the component of a canonical description."""
    return registry.from_description(kind, to_current({kind: description}, 1)[kind])


def is_component(value: Any) -> bool:
    """Return whether a value is the description of a component."""
    return isinstance(value, dict) and set(value) == {"name", "parameters"}
