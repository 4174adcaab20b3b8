"""The experiments of an entry: every cell of its suite, with the code and the environment that run them.

Only registered components are built: those of byzbench, and those of entry points of installed distributions. No file
and no module that a submission names is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import byzbench
from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.core import Algorithm, Communication
from byzbench.errors import InvalidParameter, Undefined, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.provenance import commit, provenance, source_digest
from byzbench.identity import ENGINE, ComponentIdentity, RunIdentity, identity_of, parts
from byzbench.leaderboard.frozen import Frozen, frozen
from byzbench.leaderboard.resolved import Resolved, algorithm_of, check_resolved, file_readers, resolve
from byzbench.leaderboard.schema import Code, ComponentVersion, Division, Environment, Method, Plugin, Track
from byzbench.leaderboard.suites import CellKey, Suite


@dataclass(frozen=True)
class SubmissionPlan:
    """The cells of an entry, as the installed code builds them.

    Attributes:
        suite: The suite.
        track: The track of the entry.
        method: The method as its author wrote it.
        division: The division of the method; None in the track attack.
        resolved: The method in every stratum, described as it would be written today.
        code: The installed code.
        environment: The installed libraries and the CPU.
        cells: The experiments by place, in the order of the suite.
    """

    suite: Suite
    track: Track
    method: Method
    division: Division | None
    resolved: Resolved
    code: Code
    environment: Environment
    cells: Mapping[CellKey, Experiment]

    @property
    def identity(self) -> RunIdentity:
        """The engine and the components that determine the numbers of all cells."""
        return _identity(self.cells)


def plan_submission(
    suite: Suite,
    track: Track,
    method: Method,
    resolved: Mapping[str, Any] | None = None,
    schema: int = SCHEMA,
) -> SubmissionPlan:
    """Return the cells of an entry.

    Args:
        suite: The suite.
        track: The track of the entry.
        method: The method as its author wrote it.
        resolved: By stratum, the value of every parameter of the method; None: the defaults that are installed.
        schema: The schema number under which `method` and `resolved` were written.

    Returns:
        The cells, with the installed code and environment.

    Raises:
        UserError: The method does not fit the track, does not exist, or is not defined in a stratum of the suite.

    Example:
        >>> from byzbench.leaderboard.suites import suite
        >>> plan = plan_submission(suite("smoke-v1"), "defence", Method(algo="decbyzpg"))
        >>> plan.division, len(plan.cells)
        ('decentralised', 16)
    """
    check_track(track, method)
    texts = frozen(suite)
    division = None if track == "attack" else division_of(algorithm_of(method, resolved or {}, schema))
    places = list(suite.places(track, method, division))
    strata = tuple(dict.fromkeys(place.stratum for place in places))
    if resolved is None:
        for kind, text in _components(method):
            check_component(kind, text)
        resolved = resolve(strata, texts, track, method)
    checked = check_resolved(resolved, strata, texts, track, method, schema)
    seeds = suite.seed_values
    cells = {place: _experiment(place, texts, checked, method.attack, seeds[place.seed]) for place in places}
    return SubmissionPlan(suite, track, method, division, checked, _code(cells), _environment(cells), cells)


def check_track(track: Track, method: Method) -> None:
    """Refuse a method that lacks a field of its track, or has one of another track.

    Raises:
        InvalidParameter: The method is refused.
    """
    required = {
        "defence": {"algo"},
        "reported": {"algo"},
        "attack": {"attack"},
        "adaptive": {"algo", "attack", "against"},
    }
    present = {name for name in ("algo", "attack", "against") if getattr(method, name) is not None}
    if present != required[track]:
        raise InvalidParameter(f"an entry of the track {track} names {' and '.join(sorted(required[track]))}")
    if track == "attack" and (more := method.model_dump(exclude_none=True).keys() - {"attack"}):
        raise InvalidParameter(f"the suite sets the defences of the track attack; leave out {', '.join(sorted(more))}")


def _components(method: Method) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each component of a method, in all tasks."""
    for options in (method.options, *(part.options for part in method.tasks or ())):
        for flag, text in options.items():
            if flag != "preset":
                yield registry.kind_of(flag), text


def canonical_spec(text: str | registry.Spec) -> str:
    """Return a component in the form of submissions, name(value, key=value).

    Example:
        >>> canonical_spec("bucketing( krum,s=2 )")
        'bucketing(krum, s=2)'
    """
    spec = registry.parse_spec(text) if isinstance(text, str) else text

    def plain(value: object) -> str:
        return (
            canonical_spec(value)
            if isinstance(value, registry.Spec)
            else value
            if isinstance(value, str)
            else repr(value)
        )

    values = [plain(v) for v in spec.inner] + [f"{k}={plain(v)}" for k, v in spec.parameters.items()]
    return f"{spec.name}({', '.join(values)})" if values else spec.name


def check_component(kind: str, text: str) -> None:
    """Refuse a component that is not registered, or that would read a file which its parameters name.

    Args:
        kind: The kind of the component.
        text: The component as users write it.

    Raises:
        UserError: The component is refused.
    """
    spec = registry.parse_spec(text)
    registry.find(kind, spec.name)
    stack: list[object] = [spec]
    while stack:
        part = stack.pop()
        if not isinstance(part, registry.Spec):
            continue
        stack += [*part.inner, *part.parameters.values()]
        if (part.inner or part.parameters) and file_readers(part.name):
            raise InvalidParameter(f"{part.name} reads a file; in a submission it takes no parameters")


def division_of(algorithm: str) -> Division:
    """Return the division in which an algorithm competes.

    Args:
        algorithm: The name of the algorithm.

    Raises:
        Undefined: The algorithm is for one agent, so that it has no division.

    Example:
        >>> division_of("decbyzpg"), division_of("byzpg")
        ('decentralised', 'server')
    """
    cls = registry.find("algorithm", algorithm)
    assert issubclass(cls, Algorithm)
    if cls.communication == Communication.SINGLE_AGENT:
        raise Undefined(
            f"{registry.name_of(cls)} is a method of one agent, and suites have many; enter solo(...) instead"
        )
    return "server" if cls.communication == Communication.SERVER else "decentralised"


def receives_messages(experiment: Experiment) -> bool:
    """Return whether agents receive messages. If they do not, attack and graph have no effect on a run."""
    return experiment.algorithm.communication.sends_messages


def _experiment(place: CellKey, texts: Frozen, resolved: Resolved, attack: str | None, seed: int) -> Experiment:
    """Return the experiment of a cell, in which no value comes from today's defaults.

    Args:
        place: The cell.
        texts: The descriptions of the suite.
        resolved: By stratum, the resolved method of the entry.
        attack: The attack of the entry; None if it has none.
        seed: The seed.
    """
    name = place.stratum.name
    described = {
        **(texts.algorithms[name][place.algo] if place.algo is not None else {}),
        **resolved[name],
        **({} if place.attack == attack else texts.attacks[place.attack]),
        **texts.strata[name],
        "seed": seed,
    }
    try:
        return Experiment.from_description(described)
    except UserError as error:
        raise type(error)(f"{place.stratum.name} · {place.attack}: {error}") from None


def _first_seed(cells: Mapping[CellKey, Experiment]) -> list[Experiment]:
    """Return the cells of the first seed, which have all components of all cells."""
    return [cell for place, cell in cells.items() if place.seed == 0]


def _identity(cells: Mapping[CellKey, Experiment]) -> RunIdentity:
    components: dict[str, ComponentIdentity] = {}
    for cell in _first_seed(cells):
        components |= identity_of(cell).components
    return RunIdentity("", ENGINE, components)


def _code(cells: Mapping[CellKey, Experiment]) -> Code:
    components = _identity(cells).components
    plugins = {plugin.name: plugin for cell in _first_seed(cells) for plugin in _plugins(cell)}
    return Code(
        byzbench=byzbench.__version__,
        engine=ENGINE,
        components={
            name: ComponentVersion(version=part.version, digest=part.digest, data=part.data or None)
            for name, part in sorted(components.items())
        },
        plugins=tuple(plugins[name] for name in sorted(plugins)),
        source=source_digest(),
        commit=commit(),
    )


def _plugins(cell: Experiment) -> Iterator[Plugin]:
    """Yield the components of an experiment that are not part of byzbench."""
    for part in parts(cell):
        if not type(part).__module__.startswith("byzbench."):
            kind, name = part.kind, registry.name_of(part)
            origin = registry.origins(kind).get(name)
            if origin is None:
                raise UserError(f"{kind} {name!r} must be part of an installed distribution, so that others can run it")
            distribution, _, version = origin.distribution.partition(" ")
            yield Plugin(kind=kind, name=name, distribution=distribution, version=version)


def _environment(cells: Mapping[CellKey, Experiment]) -> Environment:
    """Return the installed environment, with the library versions of all cells."""
    environments = [environment_of(provenance(cell)) for cell in _first_seed(cells)]
    versions = {name: version for environment in environments for name, version in environment.versions.items()}
    return environments[0].model_copy(update={"versions": versions})


def environment_of(code: Mapping[str, Any]) -> Environment:
    """Return the environment in the form of submissions.

    Args:
        code: The value of `code` in the record of a run; a missing value is `unknown`.

    Example:
        >>> environment_of({"versions": {"torch": "2.5.1"}, "cpu": "AVX 512"}).cpu
        'AVX-512'
    """

    def word(text: object) -> str:
        return re.sub(r"[^A-Za-z0-9.+_-]", "-", str(text))[:40]

    versions = code.get("versions", {})
    return Environment(
        versions={word(name): word(version) for name, version in versions.items()}
        if isinstance(versions, dict)
        else {},
        cpu=word(code.get("cpu", "unknown")),
        processor=word(code.get("processor", "unknown")),
        threads=1,
    )
