"""Resolved methods: the method of an entry with the value of every parameter, in every stratum.

Defaults of components and suggestions of tasks may change. A submission therefore has both the method as its author
wrote it, `method`, and the value of every parameter when it was run, `resolved`. Replays are built from `resolved`, and
the checks compare it with `method`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from byzbench import registry
from byzbench.canonical import SCHEMA, to_current
from byzbench.core import Component
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment, experiment_options
from byzbench.leaderboard.frozen import METHOD, Frozen
from byzbench.leaderboard.schema import Method, Submission, TaskMethod, Track
from byzbench.leaderboard.suites import CLEAN, Stratum

AXES: Mapping[Track, tuple[str, ...]] = {
    "defence": METHOD,
    "reported": METHOD,
    "attack": ("attack",),
    "adaptive": (*METHOD, "attack"),
}
"""The axes that the entrant sets, by track."""

Resolved = dict[str, dict[str, Any]]
"""Descriptions of components by stratum and axis."""


def resolve(strata: tuple[Stratum, ...], texts: Frozen, track: Track, method: Method) -> Resolved:
    """Return a method in every stratum, with the defaults that are installed.

    Args:
        strata: The strata that the entry has to run.
        texts: The descriptions of the suite.
        track: The track of the entry.
        method: The method as its author wrote it.

    Raises:
        UserError: The method is not defined in a stratum; the message starts with its name.
    """
    resolved = {}
    for stratum in strata:
        defaults: dict[str, Any] = {"attack": CLEAN}
        if track == "attack":
            defaults |= experiment_options(next(iter(texts.algorithms[stratum.name].values())))
        try:
            own = method.in_task(stratum.learner).options
            experiment = Experiment.create(**{**defaults, **experiment_options(texts.strata[stratum.name]), **own})
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
    """Check the resolved method of an entry, and return it as it would be written today.

    Args:
        resolved: The resolved method as it was written.
        strata: The strata that the entry has to run.
        texts: The descriptions of the suite.
        track: The track of the entry.
        method: The method as its author wrote it.
        schema: The schema number under which both were written.

    Raises:
        UserError: A stratum, an axis or a parameter is missing, is invalid, or differs from `method`.
    """
    if (resolved_names := set(resolved)) != (names := {stratum.name for stratum in strata}):
        listed = ", ".join(sorted(resolved_names))
        raise InvalidParameter(f"has the strata {listed}, and must have those of the entry, {', '.join(sorted(names))}")
    today = {stratum.name: to_current(resolved[stratum.name], schema) for stratum in strata}
    for stratum in strata:
        name, described = stratum.name, today[stratum.name]
        try:
            _check_axes(described, texts.strata[name], track)
            for axis, component in explicit_parameters(method.in_task(stratum.learner), schema).items():
                if not _contains(described.get(axis), component):
                    raise InvalidParameter(f"{axis} is not the one of `method`")
        except UserError as error:
            raise type(error)(f"{name}: {error}") from None
    for stratum in strata:
        first = next(s for s in strata if s.learner == stratum.learner)
        if today[first.name] != today[stratum.name]:
            raise InvalidParameter(f"{stratum.name} differs from {first.name}, and both are of {stratum.env}")
    _check_tasks(today, strata, method)
    return today


def _check_tasks(resolved: Resolved, strata: tuple[Stratum, ...], method: Method) -> None:
    """Refuse a method with other components in some task, or with parameters for a task that no stratum has."""
    first = resolved[strata[0].name]
    for stratum in strata:
        for axis, described in resolved[stratum.name].items():
            if axis in METHOD and _names(described) != _names(first[axis]):
                raise InvalidParameter(f"{axis} of {stratum.name} is another one than that of {strata[0].name}")
    tasks = dict.fromkeys(stratum.learner for stratum in strata)
    if unknown := [part.task for part in method.tasks or () if part.task not in tasks]:
        raise InvalidParameter(f"no stratum of the entry has the task {unknown[0]!r}; tasks: {'; '.join(tasks)}")


def _names(described: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a described component and, by parameter, the names of the components in it."""
    inner = {name: _names(value) for name, value in described["parameters"].items() if isinstance(value, dict)}
    return described["name"], inner


def _check_axes(described: Mapping[str, Any], suite_axes: Mapping[str, Any], track: Track) -> None:
    """Refuse a description that lacks an axis of the track, or has another value than the suite for one of its axes."""
    if missing := set(AXES[track]) - set(described):
        raise InvalidParameter(f"{', '.join(sorted(missing))} is missing")
    for axis, value in described.items():
        if axis in suite_axes or axis in {*METHOD, "attack"} - set(AXES[track]):
            if value != suite_axes.get(axis):
                raise InvalidParameter(f"{axis} is set by the suite, and must have its value")
        elif isinstance(value, dict):
            vet_description(axis, value)


def vet_description(kind: str, described: Mapping[str, Any]) -> None:
    """Refuse a described component that is not registered, lacks parameters, or reads a file that it names.

    Args:
        kind: The kind of the component.
        described: The description, as from `byzbench.registry.describe`.

    Raises:
        UserError: The component is refused.
    """
    if kind not in registry.KINDS:
        raise InvalidParameter(f"{kind!r} is not a kind of component")
    stack: list[Any] = [described]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack += part["parameters"].values()
            if any(part != _default(reader, part["name"]) for reader in file_readers(part["name"])):
                raise InvalidParameter(f"{part['name']} reads a file; in a submission its parameters are the defaults")
    if registry.describe(registry.from_description(kind, dict(described))) != described:
        raise InvalidParameter(f"{kind} {described['name']!r} does not have the value of every parameter")


def file_readers(name: str) -> list[str]:
    """Return the kinds that have a component of this name which reads data files.

    Example:
        >>> file_readers("learned"), file_readers("alie")
        (['attack'], [])
    """
    kinds = [kind for kind in registry.KINDS if name in registry.origins(kind)]
    return [kind for kind in kinds if registry.find(kind, name).data is not Component.data]


def _default(kind: str, name: str) -> dict[str, Any] | None:
    """Return the description of a component with its defaults; None if a parameter has no default."""
    try:
        return registry.describe(registry.make(kind, name))
    except InvalidParameter:
        return None


def explicit_parameters(method: Method | TaskMethod, schema: int) -> dict[str, Any]:
    """Return the components of a method by axis, with the parameters that are written, under today's names.

    Args:
        method: The method as its author wrote it, or as it is in one task.
        schema: The schema number under which it was written.

    Example:
        >>> from byzbench.canonical import SCHEMA
        >>> explicit_parameters(Method(algo="decbyzpg", aggregator="krum(power=1)"), SCHEMA)["aggregator"]
        {'name': 'krum', 'parameters': {'power': 1}}
    """
    texts = {registry.kind_of(flag): text for flag, text in method.options.items() if flag != "preset"}
    partial = {kind: _partial(kind, registry.parse_spec(text), schema) for kind, text in texts.items()}
    return to_current(partial, schema, whole=False)


def current_method(method: Method, schema: int) -> Method:
    """Return a method with the names that its components and parameters have today.

    Args:
        method: The method as its author wrote it.
        schema: The schema number under which it was written.

    Example:
        >>> current_method(Method(algo="fed_ppo(N=4, trace=0.9)"), 3).algo
        'fed_ppo(N=4, gae_lambda=0.9)'
    """
    if schema == SCHEMA:
        return method

    def texts(part: Method | TaskMethod) -> dict[str, str]:
        return {registry.FLAGS[kind]: text_of(part) for kind, part in explicit_parameters(part, schema).items()}

    tasks = tuple(part.model_copy(update=texts(part)) for part in method.tasks or ())
    return method.model_copy(update={**texts(method), "tasks": tasks or None})


def _partial(kind: str, spec: registry.Spec, schema: int) -> dict[str, Any]:
    """Return the description of a component with only the parameters that are written."""
    today = to_current({kind: {"name": spec.name, "parameters": {}}}, schema, whole=False)[kind]["name"]
    cls = registry.find(kind, today)
    nested_kinds = registry.nested_kinds(cls)
    written = dict(zip(registry.positional(cls), spec.inner, strict=False)) | spec.parameters

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, registry.Spec):
            nested = name in nested_kinds or value.inner or value.parameters
            return _partial(nested_kinds.get(name, kind), value, schema) if nested else value.name
        return list(value) if isinstance(value, tuple) else value

    return {"name": spec.name, "parameters": {name: plain(name, value) for name, value in written.items()}}


def _contains(complete: Any, partial: Any) -> bool:
    """Return whether a described component has the name and all values of a partial description."""
    if isinstance(complete, dict) and isinstance(partial, dict):
        values = complete["parameters"]
        return complete["name"] == partial["name"] and all(
            name in values and _contains(values[name], value) for name, value in partial["parameters"].items()
        )
    if isinstance(complete, dict):
        return bool(complete["name"] == partial)
    return bool(complete == partial)


def resolved_differences(then: Resolved, now: Resolved) -> list[str]:
    """Return the parameters in which two resolved methods differ, on the axes of both, one line each.

    Args:
        then: A resolved method.
        now: Another one; each line has its value last.

    Example:
        >>> then = {"s": {"aggregator": {"name": "krum", "parameters": {"power": 1}}}}
        >>> now = {"s": {"aggregator": {"name": "krum", "parameters": {"power": 2}}}}
        >>> resolved_differences(then, now)
        ['aggregator power is 1, not 2']
    """
    lines = []
    for stratum, axes in then.items():
        others = now.get(stratum, {})
        for axis, described in axes.items():
            if axis in others:  # dates of evaluations are the suite's, and no part of a method
                lines += [f"{axis} {line}" for line in _differences(described, others[axis])]
    return list(dict.fromkeys(lines))


def _differences(then: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each parameter in which two descriptions differ; `path` is the parameter that has them."""
    if isinstance(then, dict) and isinstance(now, dict) and then["name"] == now["name"]:
        for name, value in then["parameters"].items():
            yield from _differences(value, now["parameters"].get(name), f"{path}{'.' if path else ''}{name}")
    elif then != now:
        before, after = (str(value["name"] if isinstance(value, dict) else value) for value in (then, now))
        yield f"{path} is {before}, not {after}".lstrip()


def methods(submission: Submission) -> Resolved:
    """Return the resolved method of a submission without its attack, as it would be written today."""
    today = {name: to_current(described, submission.version) for name, described in submission.resolved.items()}
    return {name: {axis: value for axis, value in axes.items() if axis != "attack"} for name, axes in today.items()}


def algorithm_of(method: Method, resolved: Mapping[str, Any], schema: int) -> str:
    """Return the name that the algorithm of an entry has today.

    Args:
        method: The method as its author wrote it.
        resolved: The resolved method by stratum; where it is empty, the name in `method` is returned.
        schema: The schema number under which both were written.
    """
    for described in resolved.values():
        if isinstance(algorithm := to_current(described, schema).get("algorithm"), dict):
            return str(algorithm["name"])
    return registry.parse_spec(str(method.algo)).name


def text_of(described: Mapping[str, Any]) -> str:
    """Return a described component as users write it, with every parameter.

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
