"""What an entry has to run: every cell of its suite as an experiment, and the code that decides about all of them.

Only components that are registered are built: those of byzbench, and those of entry points of distributions that the
reader has installed. No file and no module that a submission names is ever read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import byzbench
from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.contracts import Algorithm
from byzbench.errors import InvalidParameter, Undefined, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.provenance import commit, provenance, source_digest
from byzbench.identity import ENGINE, ComponentIdentity, RunIdentity, identity_of, parts
from byzbench.leaderboard.frozen import Frozen, frozen
from byzbench.leaderboard.resolved import Resolved, algorithm_of, check_resolved, file_readers, resolve
from byzbench.leaderboard.schema import Code, ComponentVersion, Division, Environment, Method, Plugin, Track
from byzbench.leaderboard.suites import Place, Suite


@dataclass(frozen=True)
class Lot:
    """An entry's cells, by the code that is here.

    Attributes:
        division: of the method; None in the track of attacks.
        resolved: the method of every stratum, described as it would be written today.
        code, environment: what will be on record.
        cells: the experiments, in the order of the suite.
    """

    suite: Suite
    track: Track
    method: Method
    division: Division | None
    resolved: Resolved
    code: Code
    environment: Environment
    cells: Mapping[Place, Experiment]

    @property
    def identity(self) -> RunIdentity:
        """What decides about the numbers of all cells, but for the experiments."""
        return _identity(self.cells)


def lot(
    suite: Suite,
    track: Track,
    method: Method,
    resolved: Mapping[str, Any] | None = None,
    schema: int = SCHEMA,
) -> Lot:
    """Return everything that an entry of a track has to run.

    Args:
        suite: the suite.
        track: of the entry.
        method: what its author wrote.
        resolved: what that came to, by stratum; if not given, what it comes to by the defaults that are here.
        schema: the number under which `method` and `resolved` were written.

    Raises:
        UserError: the method is none, or is not defined somewhere in the suite: it cannot enter then.
    """
    _check_track(track, method)
    texts = frozen(suite)
    division = None if track == "attack" else division_of(algorithm_of(method, resolved or {}, schema))
    places = list(suite.places(track, method, division))
    strata = tuple(dict.fromkeys(place.stratum for place in places))
    if resolved is None:
        for kind, text in _written(method):
            vet(kind, text)
        resolved = resolve(strata, texts, track, method)
    method_here = check_resolved(resolved, strata, texts, track, method, schema)
    seeds = suite.seed_values
    cells = {place: _experiment(place, texts, method_here, method.attack, seeds[place.seed]) for place in places}
    return Lot(suite, track, method, division, method_here, _code(cells), _environment(cells), cells)


def _check_track(track: Track, method: Method) -> None:
    wanted = {
        "defence": {"algo"},
        "reported": {"algo"},
        "attack": {"attack"},
        "adaptive": {"algo", "attack", "against"},
    }
    given = {name for name in ("algo", "attack", "against") if getattr(method, name) is not None}
    if given != wanted[track]:
        raise InvalidParameter(f"an entry of the track {track} names {' and '.join(sorted(wanted[track]))}")
    if track == "attack" and (more := {"preset", "aggregator", "agreement"} & set(method.options)):
        raise InvalidParameter(f"the defences of the track attack are the suite's; leave out {', '.join(sorted(more))}")


def _written(method: Method) -> Iterator[tuple[str, str]]:
    for flag, text in method.options.items():
        if flag != "preset":
            yield registry.kind_of(flag), text


def canonical(text: str | registry.Spec) -> str:
    """A component as submissions write it: name(value, key=value)."""
    spec = registry.parse(text) if isinstance(text, str) else text

    def plain(value: object) -> str:
        return (
            canonical(value) if isinstance(value, registry.Spec) else value if isinstance(value, str) else repr(value)
        )

    values = [plain(v) for v in spec.inner] + [f"{k}={plain(v)}" for k, v in spec.parameters.items()]
    return f"{spec.name}({', '.join(values)})" if values else spec.name


def vet(kind: str, text: str) -> None:
    """Refuse a component that is not registered, or that would read a file of its own choosing.

    Raises:
        UserError: with the reason.
    """
    spec = registry.parse(text)
    registry.find(kind, spec.name)
    stack: list[object] = [spec]
    while stack:
        one = stack.pop()
        if not isinstance(one, registry.Spec):
            continue
        stack += [*one.inner, *one.parameters.values()]
        if (one.inner or one.parameters) and file_readers(one.name):
            raise InvalidParameter(f"{one.name} reads a file; in a submission it takes no parameters")


def division_of(algorithm: str) -> Division:
    """Return the division in which an algorithm competes.

    Args:
        algorithm: its name.

    Raises:
        Undefined: there is none: it is of one agent.
    """
    cls = registry.find("algorithm", algorithm)
    assert issubclass(cls, Algorithm)
    if cls.needs == "solo":
        raise Undefined(
            f"{registry.name_of(cls)} is a method of one agent, and suites have many; enter solo(...) instead"
        )
    return "server" if cls.needs == "server" else "decentralised"


def listens(experiment: Experiment) -> bool:
    """Return whether agents receive messages. Where they do not, no attack and no graph changes a run."""
    return experiment.algorithm.needs not in ("solo", "nobody")


def _experiment(place: Place, texts: Frozen, resolved: Resolved, attack: str | None, seed: int) -> Experiment:
    """Return the experiment of a cell, of which nothing is left to today's defaults."""
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


def _first(cells: Mapping[Place, Experiment]) -> list[Experiment]:
    """Return the cells of the first seed, which have all components of all cells."""
    return [cell for place, cell in cells.items() if place.seed == 0]


def _identity(cells: Mapping[Place, Experiment]) -> RunIdentity:
    components: dict[str, ComponentIdentity] = {}
    for cell in _first(cells):
        components |= identity_of(cell).components
    return RunIdentity("", ENGINE, components)


def _code(cells: Mapping[Place, Experiment]) -> Code:
    found = _identity(cells).components
    plugins = {plugin.name: plugin for cell in _first(cells) for plugin in _plugins(cell)}
    return Code(
        byzbench=byzbench.__version__,
        engine=ENGINE,
        components={
            name: ComponentVersion(version=part.version, digest=part.digest, data=part.data or None)
            for name, part in sorted(found.items())
        },
        plugins=tuple(plugins[name] for name in sorted(plugins)),
        source=source_digest(),
        commit=commit(),
    )


def _plugins(cell: Experiment) -> Iterator[Plugin]:
    for part in parts(cell):
        if not type(part).__module__.startswith("byzbench."):
            kind, name = part.kind, registry.name_of(part)
            origin = registry.origins(kind).get(name)
            if origin is None:
                raise UserError(f"{kind} {name!r} is of no installed distribution, so nobody else can run it")
            distribution, _, number = origin.distribution.partition(" ")
            yield Plugin(kind=kind, name=name, distribution=distribution, version=number)


def _environment(cells: Mapping[Place, Experiment]) -> Environment:
    found = [environment_of(provenance(cell)) for cell in _first(cells)]
    versions = {name: number for one in found for name, number in one.versions.items()}
    return found[0].model_copy(update={"versions": versions})


def environment_of(code: Mapping[str, Any]) -> Environment:
    """Return what a submission says of the `code` of a run's record."""

    def word(text: object) -> str:
        return re.sub(r"[^A-Za-z0-9.+_-]", "-", str(text))[:40]

    versions = code.get("versions", {})
    return Environment(
        versions={word(name): word(number) for name, number in versions.items()} if isinstance(versions, dict) else {},
        cpu=word(code.get("cpu", "unknown")),
        processor=word(code.get("processor", "unknown")),
        threads=1,
    )
