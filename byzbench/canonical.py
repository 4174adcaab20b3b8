"""Canonical descriptions of experiments, whose hash does not change when components or parameters are renamed.

A description is a flat dict from an axis to a plain value or to a component `{"name", "parameters"}`, whose parameters
may hold further components. Its hash is the name of the run folder. No rename, no moved field and no new axis may
change the hash. The table `CHANGES` lists every change of the form; each change can be applied in two directions:

    forward   rewrites an older description in today's form; used to read records
    backward  rewrites a description of today in the form in which it was first written; used to compute the hash

Schema 1 is the form at the time the table was introduced. This module imports no component, so that a store is listed
quickly.
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from byzbench.errors import CorruptRecord, InvalidParameter

SCHEMA = 9
"""The schema number of every document that byzbench writes. It is raised with each change of a document's form."""

Described = dict[str, Any]
"""The description of an experiment, in full or in part."""

_RULES_INSIDE = {("agreement", "rule"): "aggregator"}
"""Parameters whose value is a component of another kind than the component that has the parameter."""


class Change(Protocol):
    """Change of the form of descriptions."""

    @property
    def schema(self) -> int:
        """First schema number with the change."""

    def forward(self, described: Described, whole: bool) -> None:
        """Apply the change to a description in place.

        Args:
            described: A description of an older schema.
            whole: Whether it has every axis and parameter of its schema.
        """

    def backward(self, described: Described) -> None:
        """Undo the change in a description in place."""


@dataclass(frozen=True)
class AxisAdded:
    """Addition of an axis.

    Attributes:
        schema: The first schema number with the axis.
        axis: The name of the axis.
        value: The value at which an experiment behaves as it did without the axis.

    Example:
        >>> described = {"seed": 0}
        >>> change = AxisAdded(3, "weather", "calm")
        >>> change.forward(described, whole=True)
        >>> described
        {'seed': 0, 'weather': 'calm'}
        >>> change.backward(described)
        >>> described
        {'seed': 0}
    """

    schema: int
    axis: str
    value: Any

    def forward(self, described: Described, whole: bool) -> None:
        """Add the axis with the neutral value."""
        if whole:
            described.setdefault(self.axis, copy.deepcopy(self.value))

    def backward(self, described: Described) -> None:
        """Remove the axis if it has the neutral value."""
        if described.get(self.axis) == self.value:
            del described[self.axis]


class _Renamed(ABC):
    """Base class of changes that replace one name by another."""

    old: str
    new: str

    def forward(self, described: Described, whole: bool) -> None:
        """Replace the old name by the new one."""
        self._rename(described, self.old, self.new)

    def backward(self, described: Described) -> None:
        """Replace the new name by the old one."""
        self._rename(described, self.new, self.old)

    @abstractmethod
    def _rename(self, described: Described, before: str, after: str) -> None:
        """Replace a name by another one in place."""


@dataclass(frozen=True)
class AxisRenamed(_Renamed):
    """Renaming of an axis."""

    schema: int
    old: str
    new: str

    def _rename(self, described: Described, before: str, after: str) -> None:
        _rename_key(described, before, after)


@dataclass(frozen=True)
class ComponentRenamed(_Renamed):
    """Renaming of a component."""

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
    """Addition of a parameter. At `value` the component behaves as it did without the parameter.

    Attributes:
        schema: The first schema number with the parameter.
        kind: The kind of the component.
        component: The name of the component; a tuple where a base class has the new parameter, with `value` as its
            default: the names of its subclasses in byzbench. The hash leaves it out of other subclasses, too.
        name: The name of the parameter.
        value: The value at which the component behaves as before.
    """

    schema: int
    kind: str
    component: str | tuple[str, ...]
    name: str
    value: Any

    def forward(self, described: Described, whole: bool) -> None:
        """Add the parameter with the neutral value."""
        names = self.component if isinstance(self.component, tuple) else (self.component,)
        for part in _components(described, self.kind) if whole else ():
            if part["name"] in names:
                part["parameters"].setdefault(self.name, copy.deepcopy(self.value))

    def backward(self, described: Described) -> None:
        """Remove the parameter if it has the neutral value."""
        for part in _components(described, self.kind):
            parameters = part["parameters"]
            is_meant = isinstance(self.component, tuple) or part["name"] == self.component
            if is_meant and self.name in parameters and parameters[self.name] == self.value:
                del parameters[self.name]


@dataclass(frozen=True)
class ParameterRenamed(_Renamed):
    """Renaming of a parameter of one component."""

    schema: int
    kind: str
    component: str
    old: str
    new: str

    def _rename(self, described: Described, before: str, after: str) -> None:
        for part in _components(described, self.kind):
            if part["name"] == self.component:
                _rename_key(part["parameters"], before, after)


def _rename_key(data: dict[str, Any], before: str, after: str) -> None:
    """Rename a key in place, in the order of the keys, if the dict has it."""
    if before in data:
        items = [(after if key == before else key, value) for key, value in data.items()]
        data.clear()
        data.update(items)


@dataclass(frozen=True)
class ParameterMoved:
    """Move of a parameter from all components of a kind to an axis with components of its own.

    Attributes:
        schema: The first schema number with the axis.
        kind, name: The kind whose components all had the parameter, and the name of the parameter.
        neutral: The value at which the parameter has no effect.
        axis: The new axis.
        absent: The component of the axis for the neutral value.
        present: The component of the axis for every other value.
        parameter: The parameter of `present` that has the value.
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
        """Move the value from the parameter to the axis."""
        owner = described.get(self.kind)
        if owner is None or self.name not in owner["parameters"]:
            return
        value = owner["parameters"].pop(self.name)
        is_neutral = value == self.neutral
        described[self.axis] = {
            "name": self.absent if is_neutral else self.present,
            "parameters": {} if is_neutral else {self.parameter: value},
        }

    def backward(self, described: Described) -> None:
        """Move the value from the axis back to the parameter.

        A component of the axis that was added after the move stays, since no value of the parameter corresponds to it.
        """
        part = described.get(self.axis)
        if not isinstance(part, dict) or part["name"] not in (self.absent, self.present):
            return
        is_neutral = part["name"] == self.absent
        if not is_neutral and set(part["parameters"]) != {self.parameter}:
            return
        del described[self.axis]
        described[self.kind]["parameters"][self.name] = (
            self.neutral if is_neutral else part["parameters"][self.parameter]
        )


@dataclass(frozen=True)
class ParametersMoved:
    """Move of several parameters from all components of a kind to one component of a new axis.

    Attributes:
        schema: The first schema number with the axis.
        kind, names: The kind whose components all had the parameters, and their names.
        axis, component: The new axis, and its component that has the parameters.
        added: The further parameters of that component, with the values at which it behaves as before the move.
        special: Other components of the axis that equal `component` with some of the parameters fixed, with these.

    Example:
        >>> change = ParametersMoved(4, "task", ("hidden",), "policy", "mlp", {"bias": True})
        >>> described = {"task": {"name": "cartpole", "parameters": {"hidden": [16]}}}
        >>> change.forward(described, whole=True)
        >>> described["policy"]
        {'name': 'mlp', 'parameters': {'bias': True, 'hidden': [16]}}
        >>> change.backward(described)
        >>> described
        {'task': {'name': 'cartpole', 'parameters': {'hidden': [16]}}}
    """

    schema: int
    kind: str
    names: tuple[str, ...]
    axis: str
    component: str
    added: Mapping[str, Any] = field(default_factory=dict)
    special: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def forward(self, described: Described, whole: bool) -> None:
        """Move the values from the parameters to the axis."""
        owner = described.get(self.kind)
        if owner is None:
            return
        moved = {name: owner["parameters"].pop(name) for name in self.names if name in owner["parameters"]}
        if moved:
            added = copy.deepcopy(dict(self.added)) if whole else {}
            described[self.axis] = {"name": self.component, "parameters": {**added, **moved}}

    def backward(self, described: Described) -> None:
        """Move the values from the axis back to the parameters.

        A component or a value that was added after the move stays, since no values of the parameters correspond to it.
        """
        part, owner = described.get(self.axis), described.get(self.kind)
        if not isinstance(part, dict) or owner is None or part["name"] not in (self.component, *self.special):
            return
        values = {**self.added, **self.special.get(part["name"], {}), **part["parameters"]}
        if set(values) == {*self.names, *self.added} and all(values[k] == v for k, v in self.added.items()):
            owner["parameters"] |= {name: values[name] for name in self.names}
            del described[self.axis]


@dataclass(frozen=True)
class Part:
    """Component of a composition to which parameters move.

    Attributes:
        component: The name of the component.
        names: By the name of a parameter of the component, the name that it had before.
        added: The further parameters of the component, with the values at which it behaves as before the move.
    """

    component: str
    names: Mapping[str, str]
    added: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParametersComposed:
    """Move of parameters from all components of a kind to a composition of components on a new axis.

    A component is part of the composition if one of its parameters has another value than the neutral one.

    Attributes:
        schema: The first schema number with the axis.
        kind: The kind whose components all had the parameters.
        neutral: The parameters, with the values at which they have no effect.
        axis: The new axis.
        absent: The component of the axis where all parameters are neutral.
        parts: The parts of the composition, in order; each has the next one as its parameter `inner`.

    Example:
        >>> parts = (Part("hot", {"by": "heat"}), Part("wet", {"rain": "rain"}))
        >>> change = ParametersComposed(5, "task", {"heat": 0, "rain": 0}, "weather", "calm", parts)
        >>> described = {"task": {"name": "cartpole", "parameters": {"heat": 0, "rain": 3}}}
        >>> change.forward(described, whole=True)
        >>> described["weather"]
        {'name': 'wet', 'parameters': {'inner': None, 'rain': 3}}
        >>> change.backward(described)
        >>> described
        {'task': {'name': 'cartpole', 'parameters': {'heat': 0, 'rain': 3}}}
    """

    schema: int
    kind: str
    neutral: Mapping[str, Any]
    axis: str
    absent: str
    parts: tuple[Part, ...]

    def forward(self, described: Described, whole: bool) -> None:
        """Move the values from the parameters to the axis."""
        owner = described.get(self.kind)
        if owner is None:
            return
        moved = {name: owner["parameters"].pop(name) for name in self.neutral if name in owner["parameters"]}
        if moved:
            described[self.axis] = self._composed(moved)

    def backward(self, described: Described) -> None:
        """Move the values from the axis back to the parameters.

        A composition that corresponds to no values of the parameters stays.
        """
        composed, owner = described.get(self.axis), described.get(self.kind)
        if composed is None or owner is None or self.neutral.keys() & owner["parameters"].keys():
            return
        names, values = {part.component: part.names for part in self.parts}, dict(self.neutral)
        component = composed
        while isinstance(component, dict):
            parameters = component["parameters"]
            values |= {old: parameters.get(new) for new, old in names.get(component["name"], {}).items()}
            component = parameters.get("inner")
        if self._composed(values) == composed:
            owner["parameters"] |= values
            del described[self.axis]

    def _composed(self, values: Mapping[str, Any]) -> Described:
        """Return the composition for some of the parameters; the others are neutral."""
        whole, composed = {**self.neutral, **values}, None
        for part in reversed(self.parts):
            if any(whole[old] != self.neutral[old] for old in part.names.values()):
                moved = {new: whole[old] for new, old in part.names.items()}
                composed = {"name": part.component, "parameters": {"inner": composed, **part.added, **moved}}
        return composed or {"name": self.absent, "parameters": {"inner": None}}


SCENARIO_PARAMETERS: Mapping[str, Any] = {
    "normalize": 0,
    "heterogeneity": 0.0,
    "shift": "",
    "shift_at": 0.5,
    "absent": "",
    "reward_scale": 1.0,
    "reward_noise": 0.0,
    "reward_tail": "normal",
}
"""Parameters of tasks up to schema 4 that are scenarios today, with the values at which they have no effect."""

PAGE_ALGORITHMS = ("byzpg", "dec_page_pg", "decbyzpg", "fed_page_pg", "page_pg", "solo")
POLICY_GRADIENTS = (
    *PAGE_ALGORITHMS,
    "balance",
    "bridge",
    "clipped_gossip",
    "cs_plus",
    "ensemble_frl",
    "fedpg_br",
    "gpomdp",
    "gts",
    "ios",
    "learn",
    "mdpgt",
    "nna",
    "svrpg",
    "w_msr",
)
"""Algorithms of schema 6 with the base classes `PageAlgorithm` and `PolicyGradient`."""

UNCLOCKED: Mapping[str, Any] = {
    "speed": None,
    "ratio": 4.0,
    "slow": 0.5,
    "sigma": 0.5,
    "tail": 1.5,
    "per": "agent",
    "rate": 1000.0,
    "crash": 0.0,
    "downtime": 1.0,
    "latency": 0.0,
    "latency_law": "constant",
    "bandwidth": None,
    "quorum": "all",
    "timeout": None,
}
"""The parameters of the schedule `synchronous` without a clock, in which all runs before schema 8 were made."""

CHANGES: tuple[Change, ...] = (
    AxisAdded(3, "evaluations", 20),
    AxisAdded(3, "evaluation_episodes", 10),
    AxisRenamed(4, "declared", "assumed_byzantine"),
    ParameterRenamed(4, "algorithm", "fed_ppo", "minibatch", "minibatch_size"),
    ParameterRenamed(4, "algorithm", "fed_ppo", "trace", "gae_lambda"),
    ParameterRenamed(4, "algorithm", "fed_ppo", "unit", "return_scale"),
    ParameterRenamed(4, "algorithm", "fed_ppo", "critic_weight", "vf_coef"),
    ParameterRenamed(4, "algorithm", "fed_ppo", "entropy_weight", "ent_coef"),
    ParameterRenamed(4, "algorithm", "fed_ppo", "longest", "max_grad_norm"),
    ParametersMoved(
        4,
        "task",
        ("hidden", "squash"),
        "policy",
        "mlp",
        {"activation": "tanh", "initialization": "uniform", "log_std": -0.5},
        {"linear": {"hidden": []}},
    ),
    ParametersComposed(
        5,
        "task",
        SCENARIO_PARAMETERS,
        "scenario",
        "none",
        (
            Part("heterogeneous", {"spread": "heterogeneity"}, {"of": "physics"}),
            Part("nonstationary", {"at": "shift_at", "physics": "shift"}, {"rewards": 1.0, "drift": 0.0}),
            Part("churn", {"absent": "absent"}, {"join": 0.0, "leave": 0.0, "crash": 0.0}),
            Part("reward_scale", {"factor": "reward_scale"}),
            Part("reward_noise", {"scale": "reward_noise", "law": "reward_tail"}),
            Part("normalized", {"episodes": "normalize"}),
        ),
    ),
    ParameterAdded(5, "task", "gymnasium", "options", {}),
    ParameterAdded(5, "task", "gymnasium", "wrappers", []),
    ParameterAdded(6, "algorithm", "decbyzpg", "output", "last"),
    ParameterAdded(7, "algorithm", POLICY_GRADIENTS, "max_norm", 1.0),
    ParameterAdded(7, "algorithm", PAGE_ALGORITHMS, "max_weight", None),
    *(
        ParameterAdded(7, "algorithm", algorithm, name, value)
        for algorithm in ("fedpg_br", "svrpg")
        for name, value in (("pool", "episodes"), ("fallback", "stay"), ("discount", None), ("scale", "none"))
    ),
    ParameterAdded(7, "aggregator", "fedpg_filter", "fallback", "least"),
    ParameterAdded(7, "policy", "mlp", "std", "shared"),
    AxisAdded(8, "schedule", {"name": "synchronous", "parameters": UNCLOCKED}),
    ParameterAdded(9, "algorithm", "basgd", "filled", None),
    ParameterAdded(9, "aggregator", "bulyan", "compat", "exact"),
    ParameterAdded(9, "aggregator", "signguard", "compat", "exact"),
)
"""Every change since schema 1, oldest first. Entries are never edited or removed; `checked` tests the table."""


def checked(changes: Sequence[Change], newest: int) -> tuple[Change, ...]:
    """Return a table of changes if they can be applied in order.

    Args:
        changes: The changes, oldest first.
        newest: The newest schema number.

    Returns:
        The changes as a tuple.

    Raises:
        InvalidParameter: Schema numbers decrease or are outside 2..`newest`, or renames form a circle.
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


def _is_component(value: Any) -> bool:
    """Return whether a value is a described component, and not the mapping that a parameter may be."""
    return isinstance(value, dict) and value.keys() == {"name", "parameters"} and isinstance(value["parameters"], dict)


def _components(described: Mapping[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """Yield every component of a kind in a description, nested ones included."""
    for axis, value in described.items():
        yield from _nested(axis, value, kind)


def _nested(kind: str, value: Any, wanted: str) -> Iterator[dict[str, Any]]:
    """Yield the components of the kind `wanted` in a component of the kind `kind`, itself included."""
    if not _is_component(value):
        return
    if kind == wanted:
        yield value
    for name, inner in value["parameters"].items():
        yield from _nested(_RULES_INSIDE.get((kind, name), kind), inner, wanted)


def to_current(described: Mapping[str, Any], schema: int, whole: bool = True) -> Described:
    """Return a description of an older schema in today's form.

    Args:
        described: The description; it is not changed.
        schema: The schema number of the document that holds it.
        whole: Whether it has every axis and parameter of its schema. Added axes and parameters are filled in only then.

    Returns:
        A copy in today's form.

    Example:
        >>> to_current({"seed": 0}, schema=1)["evaluations"]
        20
        >>> to_current({"seed": 0}, schema=1, whole=False)
        {'seed': 0}
    """
    result: Described = copy.deepcopy(dict(described))
    for change in CHANGES:
        if change.schema > schema:
            change.forward(result, whole)
    return result


def canonical(described: Mapping[str, Any]) -> Described:
    """Return a description of today in the form in which it was first written.

    Example:
        >>> canonical({"seed": 0, "evaluations": 20, "evaluation_episodes": 5, "assumed_byzantine": 3})
        {'seed': 0, 'evaluation_episodes': 5, 'declared': 3}
    """
    result: Described = copy.deepcopy(dict(described))
    for change in reversed(CHANGES):
        change.backward(result)
    return result


def component_names(described: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kind and the first name of every component in a description of today, for example `attack alie`."""
    stack = list(described.items())
    while stack:
        kind, value = stack.pop()
        if _is_component(value):
            yield f"{kind} {first_name(kind, value['name'])}"
            stack += [(_RULES_INSIDE.get((kind, name), kind), inner) for name, inner in value["parameters"].items()]


def first_name(kind: str, name: str) -> str:
    """Return the name under which a component was first hashed."""
    for change in reversed(CHANGES):
        if isinstance(change, ComponentRenamed) and (change.kind, change.new) == (kind, name):
            name = change.old
    return name


def first_parameter(kind: str, component: str, name: str) -> str:
    """Return the name under which a parameter was first hashed.

    Args:
        kind: The kind of the component.
        component: The name of the component today.
        name: The name of the parameter today.
    """
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


def current_parameter(kind: str, component: str, name: str) -> str:
    """Return the name that a parameter has today.

    Args:
        kind: The kind of the component.
        component: The name of the component today.
        name: A name that the parameter has or had.

    Example:
        >>> current_parameter("algorithm", "fed_ppo", "trace")
        'gae_lambda'
    """
    component = first_name(kind, component)
    for change in CHANGES:
        if isinstance(change, ParameterRenamed) and (change.kind, change.old) == (kind, name):
            name = change.new if first_name(kind, change.component) == component else name
    return name


def digest_of(described: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a dict as JSON with sorted keys."""
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_of(described: Mapping[str, Any]) -> str:
    """Return the hash of an experiment: `digest_of` of its canonical description."""
    return digest_of(canonical(described))


def schema_of(data: Mapping[str, Any], where: object) -> int:
    """Return the schema number of a document, which is 1 if the document does not state one.

    Args:
        data: The document.
        where: The path of the document, for error messages.

    Raises:
        CorruptRecord: The number is not a positive integer, or belongs to a newer byzbench.
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
