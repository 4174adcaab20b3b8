"""What the method of an entry came to: every parameter's value, in every stratum.

Defaults of components and suggestions of tasks may change. So a submission holds both what its author wrote, `method`,
and what that came to when it was run, `resolved`; replays are built from the second, and hold it against the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from byzbench import registry
from byzbench.canonical import modern
from byzbench.contracts import Component
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard.frozen import METHOD, Frozen, experiment_options
from byzbench.leaderboard.schema import Method, Submission, Track
from byzbench.leaderboard.suites import CLEAN, Stratum

AXES: Mapping[Track, tuple[str, ...]] = {
    "defence": METHOD,
    "reported": METHOD,
    "attack": ("attack",),
    "adaptive": (*METHOD, "attack"),
}
"""The axes that are the entrant's, by track."""

Resolved = dict[str, dict[str, Any]]
"""By stratum, by axis: descriptions."""


def resolve(strata: tuple[Stratum, ...], texts: Frozen, track: Track, method: Method) -> Resolved:
    """Return what a method comes to in every stratum, by the defaults that are here.

    Raises:
        UserError: it is not defined somewhere; the line starts with the stratum.
    """
    resolved = {}
    for stratum in strata:
        own: dict[str, Any] = {"attack": CLEAN}
        if track == "attack":
            own |= experiment_options(next(iter(texts.algorithms[stratum.name].values())))
        try:
            experiment = Experiment.create(
                **{**own, **experiment_options(texts.strata[stratum.name]), **method.options}
            )
        except UserError as error:
            raise type(error)(f"{stratum.name}: {error}") from None
        resolved[stratum.name] = {axis: value for axis, value in experiment.describe().items() if axis in AXES[track]}
    return resolved


def check_resolved(
    resolved: Mapping[str, Any],
    strata: tuple[Stratum, ...],
    texts: Frozen,
    track: Track,
    method: Method,
    schema: int,
) -> Resolved:
    """Return the resolved method of an entry as it would be written today, if it is one.

    Args:
        resolved: as it was written.
        strata: those that the entry has to run.
        texts: the suite's own descriptions.
        track: of the entry.
        method: what its author wrote.
        schema: the number under which both were written.

    Raises:
        UserError: a stratum or a parameter is missing, or is none; or it is not what the author wrote.
    """
    if (given := set(resolved)) != (wanted := {stratum.name for stratum in strata}):
        raise InvalidParameter(f"is for {', '.join(sorted(given))}, and the entry's strata are {', '.join(wanted)}")
    today = {name: modern(described, schema) for name, described in resolved.items()}
    for name, described in today.items():
        try:
            _check_axes(described, texts.strata[name], track)
            for axis, component in explicit_parameters(method, schema).items():
                if not _contains(described.get(axis), component):
                    raise InvalidParameter(f"{axis} is not the one of `method`")
        except UserError as error:
            raise type(error)(f"{name}: {error}") from None
    for stratum in strata:
        first = next(s for s in strata if s.env == stratum.env)
        if today[first.name] != today[stratum.name]:
            raise InvalidParameter(f"{stratum.name} differs from {first.name}, and both are of {stratum.env}")
    return today


def _check_axes(described: Mapping[str, Any], own: Mapping[str, Any], track: Track) -> None:
    """Refuse a description that lacks an axis of the entrant's, or sets one of the suite's otherwise."""
    if missing := set(AXES[track]) - set(described):
        raise InvalidParameter(f"{', '.join(sorted(missing))} is missing")
    for axis, value in described.items():
        if axis in own or axis in {*METHOD, "attack"} - set(AXES[track]):
            if value != own.get(axis):
                raise InvalidParameter(f"{axis} is the suite's")
        elif isinstance(value, dict):
            vet_description(axis, value)


def vet_description(kind: str, described: Mapping[str, Any]) -> None:
    """Refuse a described component that is not registered, is not whole, or reads a file of its author's choosing.

    Raises:
        UserError: with the reason.
    """
    if kind not in registry.KINDS:
        raise InvalidParameter(f"{kind!r} is no kind of component")
    stack: list[Any] = [described]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack += part["parameters"].values()
            if any(part != _usual(reader, part["name"]) for reader in file_readers(part["name"])):
                raise InvalidParameter(f"{part['name']} reads a file; in a submission its parameters are the defaults")
    if registry.describe(registry.from_description(kind, dict(described))) != described:
        raise InvalidParameter(f"{kind} {described['name']!r} does not have the value of every parameter")


def file_readers(name: str) -> list[str]:
    """Return the kinds of which a component of this name may read files that are no code."""
    kinds = [kind for kind in registry.KINDS if name in registry.origins(kind)]
    return [kind for kind in kinds if registry.find(kind, name).data is not Component.data]


def _usual(kind: str, name: str) -> dict[str, Any] | None:
    """Return a component with its defaults, described; None if it has not got enough of them."""
    try:
        return registry.describe(registry.build(kind, name))
    except InvalidParameter:
        return None


def explicit_parameters(method: Method, schema: int) -> dict[str, Any]:
    """Return what a method says outright, by axis, under the names that things have today.

    Args:
        method: as its author wrote it.
        schema: the number under which it was written.
    """
    texts = {registry.kind_of(flag): text for flag, text in method.options.items() if flag != "preset"}
    partial = {kind: _partial(kind, registry.parse(text), schema) for kind, text in texts.items()}
    return modern(partial, schema, whole=False)


def _partial(kind: str, spec: registry.Spec, schema: int) -> dict[str, Any]:
    """Return a component as data: its name and the parameters that were written."""
    today = modern({kind: {"name": spec.name, "parameters": {}}}, schema, whole=False)[kind]["name"]
    cls = registry.find(kind, today)
    inner = registry.nested_kinds(cls)
    given = dict(zip(registry.positional(cls), spec.inner, strict=False)) | spec.parameters

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, registry.Spec):
            nested = name in inner or value.inner or value.parameters
            return _partial(inner.get(name, kind), value, schema) if nested else value.name
        return list(value) if isinstance(value, tuple) else value

    return {"name": spec.name, "parameters": {name: plain(name, value) for name, value in given.items()}}


def _contains(whole: Any, part: Any) -> bool:
    """Return whether a described component has the name and the values of another that leaves some out."""
    if isinstance(whole, dict) and isinstance(part, dict):
        values = whole["parameters"]
        return whole["name"] == part["name"] and all(
            name in values and _contains(values[name], value) for name, value in part["parameters"].items()
        )
    if isinstance(whole, dict):
        return bool(whole["name"] == part)
    return bool(whole == part)


def resolved_differences(then: Resolved, now: Resolved) -> list[str]:
    """Return the parameters in which two resolved methods differ, one plain line each."""
    lines = []
    for stratum, axes in then.items():
        for axis, described in axes.items():
            lines += [f"{axis} {line}" for line in _differences(described, now.get(stratum, {}).get(axis))]
    return list(dict.fromkeys(lines))


def _differences(then: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict) and then["name"] == now["name"]:
        for name, value in then["parameters"].items():
            yield from _differences(value, now["parameters"].get(name), f"{path}{'.' if path else ''}{name}")
    elif then != now:
        shown = [str(value["name"] if isinstance(value, dict) else value) for value in (then, now)]
        yield f"{path} is {shown[0]}, not {shown[1]}".lstrip()


def methods(submission: Submission) -> Resolved:
    """Return the resolved methods of a submission, without an attack, as they would be written today."""
    found = {name: modern(described, submission.version) for name, described in submission.resolved.items()}
    return {name: {axis: value for axis, value in own.items() if axis != "attack"} for name, own in found.items()}


def algorithm_of(method: Method, resolved: Mapping[str, Any], schema: int) -> str:
    """Return the name that the algorithm of an entry has today."""
    for described in resolved.values():
        if isinstance(algorithm := modern(described, schema).get("algorithm"), dict):
            return str(algorithm["name"])
    return registry.parse(str(method.algo)).name


def text_of(described: Mapping[str, Any]) -> str:
    """Return a described component as users write it, every parameter included.

    Example:
        >>> text_of({"name": "sleeper", "parameters": {"inner": {"name": "zero", "parameters": {}}, "start": 0.5}})
        'sleeper(inner=zero, start=0.5)'
    """

    def plain(value: Any) -> str:
        if isinstance(value, dict):
            return text_of(value)
        return value if isinstance(value, str) and value.isidentifier() else repr(value)

    values = ", ".join(f"{name}={plain(value)}" for name, value in described["parameters"].items())
    return f"{described['name']}({values})" if values else str(described["name"])
