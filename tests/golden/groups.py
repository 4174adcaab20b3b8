"""All cases by group: the first word of a case's name says what computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from byzbench.canonical import component_names, to_current
from byzbench.identity import component_name, parts
from tests.golden import cases
from tests.golden.parts import Cases, Inputs, build, is_component
from tests.golden.running import described_inputs, experiment_of, trace
from tests.golden.vectors import attacks, federation, geometry, graphs, learning, messages, rules, tasks


@dataclass(frozen=True)
class Group:
    """Cases of one kind.

    Attributes:
        generated: yields the cases that the golden file should have.
        outputs: computes a case from its name without the group, and its inputs.
    """

    generated: Callable[[], Cases]
    outputs: Callable[[str, Inputs], dict[str, Any]]


def _runs() -> Cases:
    for name, options in cases.generated():
        create, also = cases.resolved(options)
        yield f"run {name}", partial(described_inputs, create, also=also)


def _run(name: str, inputs: Inputs) -> dict[str, Any]:
    return trace(experiment_of(inputs["experiment"]), inputs["also"])


GROUPS: Mapping[str, Group] = {
    "run": Group(_runs, _run),
    "attack": Group(attacks.generated, attacks.outputs),
    "federation": Group(federation.generated, federation.outputs),
    "geometry": Group(geometry.generated, geometry.outputs),
    "graph": Group(graphs.generated, graphs.outputs),
    "learning": Group(learning.generated, learning.outputs),
    "message": Group(messages.generated, messages.outputs),
    "rule": Group(rules.generated, rules.outputs),
    "task": Group(tasks.generated, tasks.outputs),
}


def generated() -> dict[str, Callable[[], Inputs]]:
    """Return by name every case that the golden file should have, as a function that resolves its inputs."""
    return {name: inputs for group in GROUPS.values() for name, inputs in group.generated()}


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the outputs of a case.

    Raises:
        KeyError: there is no such group.
    """
    group, _, rest = name.partition(" ")
    return GROUPS[group].outputs(rest, inputs)


def components(inputs: Inputs) -> frozenset[str]:
    """Return the names of the components whose code a case runs; by its descriptions if they cannot be built."""
    described = {kind: value for kind, value in inputs.items() if is_component(value)}
    try:
        whole = [build(kind, value) for kind, value in described.items()]
        inside = [*whole, *([experiment_of(inputs["experiment"])] if "experiment" in inputs else [])]
        return frozenset(map(component_name, [*whole, *chain.from_iterable(map(parts, inside))]))
    except Exception:
        return described_components(inputs)


def described_components(inputs: Inputs) -> frozenset[str]:
    """Return the names of the components that the inputs of a case describe."""
    described = {kind: value for kind, value in inputs.items() if is_component(value)}
    return frozenset(component_names(to_current(inputs.get("experiment", {}) | described, 1)))


def base() -> dict[str, Any]:
    """Return the description that a new golden file writes the others as differences from."""
    return described_inputs(cases.PEERS)["experiment"]


def shortened(inputs: Inputs, base: Mapping[str, Any]) -> Inputs:
    """Return inputs whose experiment is written as its difference from a base."""
    if "experiment" not in inputs:
        return inputs
    changed = {axis: value for axis, value in inputs["experiment"].items() if base.get(axis, ...) != value}
    return {**inputs, "experiment": changed}


def whole(inputs: Inputs, base: Mapping[str, Any]) -> Inputs:
    """Return inputs with the whole experiment; the inverse of `shortened`."""
    return {**inputs, "experiment": {**base, **inputs["experiment"]}} if "experiment" in inputs else inputs
