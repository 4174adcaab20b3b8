"""All cases by group: the first word of a case's name says what computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from byzbench.experiments.experiment import Experiment
from byzbench.identity import component_name, parts
from tests.golden import cases
from tests.golden.parts import Inputs, build
from tests.golden.running import described, experiment_of, trace
from tests.golden.vectors import attacks, federation, geometry, learning, places, rules, tasks, wires


@dataclass(frozen=True)
class Group:
    """Cases of one kind.

    Attributes:
        generated: yields names and inputs of the cases that there should be.
        outputs: computes a case from its name without the group, and its inputs.
    """

    generated: Callable[[], Iterator[tuple[str, Inputs]]]
    outputs: Callable[[str, Inputs], dict[str, Any]]


def _runs() -> Iterator[tuple[str, Inputs]]:
    for name, options in cases.generated():
        create, also = cases.resolved(options)
        yield f"run {name}", {"experiment": described(Experiment.create(**create)), "also": also}


def _run(name: str, inputs: Inputs) -> dict[str, Any]:
    return trace(experiment_of(inputs["experiment"]), inputs["also"])


GROUPS: Mapping[str, Group] = {
    "run": Group(_runs, _run),
    "attack": Group(attacks.generated, attacks.outputs),
    "federation": Group(federation.generated, federation.outputs),
    "geometry": Group(geometry.generated, geometry.outputs),
    "learning": Group(learning.generated, learning.outputs),
    "place": Group(places.generated, places.outputs),
    "rule": Group(rules.generated, rules.outputs),
    "task": Group(tasks.generated, tasks.outputs),
    "wire": Group(wires.generated, wires.outputs),
}


def base() -> dict[str, Any]:
    """Return the description that a new golden file writes others as differences from."""
    return described(Experiment.create(**cases.PEERS))


def generated() -> Iterator[tuple[str, Inputs]]:
    """Yield the name and the inputs of every case."""
    for group in GROUPS.values():
        yield from group.generated()


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the outputs of a case.

    Raises:
        KeyError: there is no such group.
    """
    group, _, rest = name.partition(" ")
    return GROUPS[group].outputs(rest, inputs)


def components(inputs: Inputs) -> frozenset[str]:
    """Return the names of the components whose code a case runs."""
    names = set(inputs.get("components", ()))
    if "experiment" in inputs:
        names.update(map(component_name, parts(experiment_of(inputs["experiment"]))))
    for kind, description in inputs.items():
        if isinstance(description, dict) and set(description) == {"name", "parameters"}:
            part = build(kind, description)
            names.update(map(component_name, (part, *parts(part))))
    return frozenset(names)
