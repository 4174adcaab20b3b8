"""Frozen suites: what every entry of a board must run, and the constants that its returns are measured by.

A suite is a TOML file whose sha256 is its id. It is never edited, only superseded: scores compare inside one suite, and
only there, because a further attack lowers every worst case by selection alone.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, get_args

from pydantic import Field, model_validator

from byzbench.errors import InvalidParameter, UnknownName, UserError, suggest
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.schema import (
    Division,
    Knowledge,
    Line,
    Method,
    Part,
    Positive,
    Slug,
    Spec,
    Track,
    validate,
)

CLEAN = "none"
LEVELS: tuple[Knowledge, ...] = get_args(Knowledge)
Real = Annotated[float, Field(allow_inf_nan=False)]


class SuiteAttack(Part):
    """An attack of a suite, and what it needs to see; nothing, if it is `none`."""

    spec: Spec
    knows: Knowledge | None = None


class SuiteAlgorithm(Part):
    """An algorithm of a suite, on which attacks are tried."""

    spec: Spec
    division: Division


class Stratum(Part):
    """A point of the product that all attacks meet.

    Attributes:
        name: by which cells say where they stand.
        division: the methods that meet it: those with a trusted server, or those without.
        low, high: between which every evaluation return lies.
        random: the return of a uniformly random policy.
        reference: of fed_page_pg on its star without liars, with the same agents, budget and task; or the return at
            which the task counts as solved, where the suite says so.
    """

    name: Slug
    division: Division
    env: Spec
    topology: Spec
    agents: Positive
    byzantine: Annotated[int, Field(strict=True, ge=0)]
    trajectories: Positive
    low: Real
    high: Real
    random: Real
    reference: Real

    @model_validator(mode="after")
    def _ordered(self) -> Stratum:
        if not (self.low <= self.random < self.reference <= self.high and self.byzantine < self.agents):
            raise ValueError("low <= random < reference <= high and byzantine < agents must hold")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options of `Experiment.create` that it sets."""
        return self.model_dump(include={"env", "topology", "agents", "byzantine", "trajectories"})

    def normalised(self, value: float) -> float:
        """A return as a score: 0 at random, 1 at the reference, cut off there."""
        return min(max((value - self.random) / (self.reference - self.random), 0.0), 1.0)


@dataclass(frozen=True)
class Place:
    """A cell of a suite before it is run: the stratum, the attack, the algorithm that is attacked, the seed's index.

    `algo` is the suite's, in the track of attacks; else None: it is the entrant's.
    """

    stratum: Stratum
    attack: str
    algo: str | None
    seed: int

    @property
    def key(self) -> tuple[str, str, str | None, int]:
        """As `Cell.place` has it."""
        return self.stratum.name, self.attack, self.algo, self.seed


class Suite(Part):
    """A suite.

    Attributes:
        seeds: how many every cell is run on.
        algorithms: which an attack is tried on, in the track of attacks; each in its own division.
        attacks, strata: see there.
        sha256: of the file.
    """

    name: Slug
    title: Line
    seeds: Positive
    algorithms: Annotated[tuple[SuiteAlgorithm, ...], Field(alias="algorithm")] = ()
    attacks: Annotated[tuple[SuiteAttack, ...], Field(alias="attack", min_length=2)]
    strata: Annotated[tuple[Stratum, ...], Field(alias="stratum", min_length=1)]
    sha256: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Suite:
        for what, names in (("attack", [a.spec for a in self.attacks]), ("stratum", [s.name for s in self.strata])):
            if len(set(names)) < len(names):
                raise ValueError(f"a {what} is there twice")
        if [a.spec for a in self.attacks if a.knows is None] != [CLEAN]:
            raise ValueError(f"the attack {CLEAN!r} must be there, and it alone knows nothing")
        return self

    @classmethod
    def of(cls, content: bytes, name: str) -> Suite:
        """A suite from the bytes of its file.

        Raises:
            InvalidParameter: they are no suite.
        """
        try:
            data = tomllib.loads(content.decode())
            return validate(cls, {**data, "sha256": hashlib.sha256(content).hexdigest()}, f"{name}.toml")
        except (ValueError, RecursionError, Refused) as error:
            raise InvalidParameter(f"suite {name}: {error}") from None

    @property
    def seed_values(self) -> tuple[int, ...]:
        """The seeds that are run, by index: the same for all strata, attacks and entries, so that runs are paired."""
        return tuple(seed_of(self.sha256, index) for index in range(self.seeds))

    def division(self, name: Division) -> tuple[Stratum, ...]:
        """The strata of a division.

        Raises:
            InvalidParameter: there are none.
        """
        if not (found := tuple(s for s in self.strata if s.division == name)):
            raise InvalidParameter(f"suite {self.name} has no {name} division")
        return found

    def attacks_at(self, level: Knowledge) -> tuple[str, ...]:
        """The attacks of adversaries that see as much as `level`, or less; without `none`."""
        return tuple(a.spec for a in self.attacks if a.knows and LEVELS.index(a.knows) <= LEVELS.index(level))

    def places(self, track: Track, method: Method, division: Division | None) -> Iterator[Place]:
        """Every cell that an entry of a track must run, in order.

        Args:
            track: which.
            method: the entrant's.
            division: of the method; in the track of attacks there is none, and all are met.
        """
        attacks: tuple[str, ...] = tuple(a.spec for a in self.attacks)
        if track in ("attack", "adaptive"):
            assert method.attack is not None
            attacks = (CLEAN, method.attack)
        for stratum in self.strata if division is None else self.division(division):
            algorithms: tuple[str | None, ...] = (None,)
            if track == "attack":
                algorithms = tuple(a.spec for a in self.algorithms if a.division == stratum.division)
            for algo in algorithms:
                for attack in attacks:
                    for seed in range(self.seeds):
                        yield Place(stratum, attack, algo, seed)


@cache
def suite(name: str) -> Suite:
    """A suite by name.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in (known := suites()):
        raise UnknownName(f"unknown suite {name!r}. {suggest(name, known)}Suites: {', '.join(known)}.")
    content = folder().joinpath(f"{name}.toml").read_bytes()
    found = Suite.of(content, name)
    if found.name != name:
        raise UserError(f"suite {name} calls itself {found.name}")
    return found


@cache
def suites() -> tuple[str, ...]:
    """The names of all suites."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in folder().iterdir() if path.name.endswith(".toml")))


def folder() -> Traversable:
    """Return the folder of suite files."""
    return files("byzbench.leaderboards").joinpath("suites")


def seed_of(*words: object) -> int:
    """Return a seed that follows from words: the first 63 bits of the sha256 of their lines.

    The words of a suite's seed are the suite's sha256 and the index.
    """
    text = "\n".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
