"""What an entry has to run: every cell of its suite as an experiment, and the code that decides about all of them.

Only components that are registered are built: those of byzbench, and those of entry points of distributions that the
reader has installed. No file and no module that a submission names is ever read.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import byzbench
from byzbench import registry
from byzbench.contracts import Algorithm, Component
from byzbench.errors import InvalidParameter, Undefined, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.provenance import harness_digest, parts, plugin_digest, provenance, versions
from byzbench.leaderboard.schema import Code, Division, Environment, Method, Plugin, Track
from byzbench.leaderboard.suites import Place, Suite, seed_of


@dataclass(frozen=True)
class Lot:
    """An entry's cells, by the code that is here.

    Attributes:
        division: of the method; None in the track of attacks.
        code, environment: what will be on record.
        cells: the experiments, in the order of the suite.
    """

    suite: Suite
    track: Track
    method: Method
    division: Division | None
    code: Code
    environment: Environment
    cells: Mapping[Place, Experiment]


def lot(suite: Suite, track: Track, method: Method) -> Lot:
    """Everything that an entry of a track has to run.

    Raises:
        UserError: the method is none, or is not defined somewhere in the suite: it cannot enter then.
    """
    _check_track(track, method)
    for kind, text in _written(method):
        vet(kind, text)
    division = None if track == "attack" else division_of(str(method.algo))
    places = list(suite.places(track, method, division))
    first = {place: _experiment(place, method, 0) for place in places if place.seed == 0}
    code, environment = _code(first), _environment(first)
    seeds = [seed_of(suite.sha256, code.sha256, method, index) for index in range(suite.seeds)]
    cells = {place: _experiment(place, method, seeds[place.seed]) for place in places}
    return Lot(suite, track, method, division, code, environment, cells)


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
        zoos = [kind for kind in registry.KINDS if one.name in registry.origins(kind)]
        reads = any(registry.find(kind, one.name).data is not Component.data for kind in zoos)
        if reads and (one.inner or one.parameters):
            raise InvalidParameter(f"{one.name} reads a file; in a submission it takes no parameters")


def division_of(algo: str) -> Division:
    """Where an algorithm competes.

    Raises:
        Undefined: nowhere: it is of one agent.
    """
    cls = _algorithm(algo)
    if cls.needs == "solo":
        raise Undefined(
            f"{registry.name_of(cls)} is a method of one agent, and suites have many; enter solo(...) instead"
        )
    return "server" if cls.needs == "server" else "decentralised"


def listens(algo: str) -> bool:
    """Whether an algorithm's agents hear each other. Where they do not, no attack and no graph changes a run."""
    return _algorithm(algo).needs not in ("solo", "nobody")


def _algorithm(text: str) -> type[Algorithm]:
    cls = registry.find("algorithm", registry.parse(text).name)
    assert issubclass(cls, Algorithm)
    return cls


def _experiment(place: Place, method: Method, seed: int) -> Experiment:
    options = {**method.options, **place.stratum.options, "attack": place.attack}
    if place.algo is not None:
        options["algo"] = place.algo
    try:
        return Experiment.create(**options, seed=seed)
    except UserError as error:
        raise type(error)(f"{place.stratum.name} · {place.attack}: {error}") from None


def _code(cells: Mapping[Place, Experiment]) -> Code:
    digests = sorted({str(provenance(cell)["digest"]) for cell in cells.values()})
    plugins = {plugin.name: plugin for cell in cells.values() for plugin in _plugins(cell)}
    return Code(
        byzbench=byzbench.__version__,
        sha256=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        harness=harness_digest(),
        plugins=tuple(plugins[name] for name in sorted(plugins)),
        commit=_commit(),
    )


def _plugins(cell: Experiment) -> Iterator[Plugin]:
    for part in parts(cell):
        if (sha256 := plugin_digest(type(part))) is not None:
            kind, name = part.kind, registry.name_of(part)
            origin = registry.origins(kind).get(name)
            if origin is None:
                raise UserError(f"{kind} {name!r} is of no installed distribution, so nobody else can run it")
            distribution, _, number = origin.distribution.partition(" ")
            yield Plugin(kind=kind, name=name, distribution=distribution, version=number, sha256=sha256)


def _environment(cells: Mapping[Place, Experiment]) -> Environment:
    found = dict(versions())
    machine = {}
    for cell in cells.values():
        machine = provenance(cell)
        found |= machine["versions"]
    return Environment(versions=found, cpu=machine["cpu"].replace(" ", "-"), threads=machine["threads"])


def _commit() -> str | None:
    """The commit of the checkout that byzbench is imported from, if its code is as committed."""
    folder = Path(str(byzbench.__file__)).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve() or git(
            "status", "--porcelain", "*.py"
        ):
            return None
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
