"""The conformance tests of each kind of component."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

_MODULES = {
    "algorithm": "algorithms",
    "attack": "attacks",
    "topology": "topologies",
    "task": "tasks",
    "aggregator": "rules",
    "agreement": "agreements",
    "placement": "placements",
    "channel": "channels",
    "coin": "coins",
    "policy": "policies",
    "scenario": "scenarios",
    "schedule": "schedules",
}
"""The module of each kind in `byzbench.testing`."""

Check: TypeAlias = Callable[[Any, Any], None]


@dataclass(frozen=True)
class Kit:
    """Conformance tests of one kind.

    Attributes:
        checks: The checks by name, in the order of a report.
        cases: The cases on which each check runs.
        form: The checks of the shapes and types of outputs, without which the others cannot run.
    """

    checks: dict[str, Check]
    cases: tuple[Any, ...]
    form: tuple[Check, ...]


def kit_of(kind: str) -> Kit:
    """Return the conformance tests of a kind; none if `byzbench.testing` has no module for it.

    Args:
        kind: The kind, for example "attack".

    Example:
        >>> [check.__name__ for check in kit_of("coin").form]
        ['every_agent_obtains_a_number']
    """
    if kind not in _MODULES:
        return Kit({}, (), ())
    module = importlib.import_module(f"byzbench.testing.{_MODULES[kind]}")
    return Kit({check.__name__: check for check in module.CHECKS}, module.CASES, module.FORM)
