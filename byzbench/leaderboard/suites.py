"""Frozen suites: the cells that every entry of a board must run, and the constants that scale its returns.

A suite is a TOML file whose sha256 is its id. It is never edited; another suite replaces it. Scores can be compared
only within a suite, since a further attack lowers the minimum over attacks of every method.

A suite fixes the dates of evaluations and their number of episodes, so that no version of the code changes a score by
evaluating more often. Its attacks have roles: `worst_case`, for the score; `sanity`, which only a broken method fails;
and `held_out`, for tuning, under which no cell is run.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from byzbench.errors import InvalidParameter, UnknownName, UserError, suggest
from byzbench.leaderboard.documents import Refused
from byzbench.leaderboard.schema import (
    Division,
    Document,
    Knowledge,
    Line,
    Method,
    Positive,
    Slug,
    Spec,
    TaskSpec,
    Track,
    validate,
)

CLEAN = "none"
"""The attack of runs without an attack."""

LEVELS: tuple[Knowledge, ...] = get_args(Knowledge)
"""Knowledge of adversaries, the least first."""

Real = Annotated[float, Field(allow_inf_nan=False)]

CLOSED = ("smoke-v1",)
"""Suites that take no more entries and have no boards. Their rows can still be verified."""


class SuiteAttack(Document):
    """An attack of a suite.

    Attributes:
        spec: The attack as users write it.
        knows: The knowledge that it needs; None of `none`.
        role: `worst_case`: the score is the minimum over these attacks. `sanity`: it is run and shown, and no score
            depends on it. `held_out`: parameters are tuned against it, and no cell is run under it.
        strata: Names of the strata where it is run; empty for all strata.
    """

    spec: Spec
    knows: Knowledge | None = None
    role: Literal["worst_case", "sanity", "held_out"] = "worst_case"
    strata: tuple[Slug, ...] = ()

    def applies(self, stratum: Stratum) -> bool:
        """Return whether the attack is run in a stratum."""
        return not self.strata or stratum.name in self.strata


class SuiteAlgorithm(Document):
    """An algorithm of a suite, which the entries of the track attack attack.

    Attributes:
        spec: The algorithm as users write it.
        division: The division in whose strata it is run.
    """

    spec: Spec
    division: Division


class SuiteReference(Document):
    """The method whose clean AUC has score 1 in a division (`byzbench.leaderboard.references`).

    Attributes:
        division: The division.
        algo, aggregator, agreement: The components as users write them; None: the default of the algorithm.
    """

    division: Division
    algo: Spec
    aggregator: Spec | None = None
    agreement: Spec | None = None

    @property
    def options(self) -> dict[str, str]:
        """The options of `Experiment.create` that the reference sets."""
        return self.model_dump(exclude_none=True, exclude={"division"})


class SuiteTuning(Document):
    """The search by which the rows of a suite may be tuned.

    Attributes:
        episodes: The budget of a search in episodes, summed over the agents and the server of all its runs, for each
            task (`Stratum.learner`): the search of a task's parameters has it once, and that of an attack on a row once
            for each task of the row.
        trials: The largest number of trials of a search; None: as many as `episodes` allows. Episodes of tasks differ
            in cost, and without it a search in a task with short budgets would take most of the time.
        seeds: Number of seeds of every trial; they are not seeds of the suite.
    """

    episodes: Positive
    trials: Positive | None = None
    seeds: Annotated[int, Field(strict=True, ge=3)]


class Stratum(Document):
    """A setting of a suite: a task, a graph, numbers of agents and a budget. All attacks that apply are run in it.

    Attributes:
        name: The name, which cells refer to.
        division: The methods that are run in it: those with a trusted server, or those without.
        env: The task.
        policy: The policy family; None: that of the task.
        scenario: What differs from the task; None: nothing.
        schedule: How the time of agents and messages passes; None: without a clock.
        topology: The graph.
        agents, byzantine: Numbers of agents and of Byzantine agents.
        trajectories: The budget, in trajectories of each agent.
        low, high: The smallest and the largest possible evaluation return.
        random: The return of a uniformly random policy, with which every learning curve starts.
        reference: The return that has score 1; None where the suite names a reference method for the division.
    """

    name: Slug
    division: Division
    env: TaskSpec
    policy: Spec | None = None
    scenario: Spec | None = None
    schedule: Spec | None = None
    topology: Spec
    agents: Positive
    byzantine: Annotated[int, Field(strict=True, ge=0)]
    trajectories: Positive
    low: Real
    high: Real
    random: Real
    reference: Real | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Stratum:
        top = self.high if self.reference is None else self.reference
        if not (self.low <= self.random < top <= self.high and self.byzantine < self.agents):
            raise ValueError("low <= random < reference <= high and byzantine < agents must hold")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options of `Experiment.create` that the stratum sets."""
        axes = {"env", "policy", "scenario", "schedule", "topology", "agents", "byzantine", "trajectories"}
        return self.model_dump(include=axes, exclude_none=True)

    @property
    def learner(self) -> str:
        """The task with the policy family that the stratum sets, for which a method has one parameter set."""
        return ", ".join(filter(None, (self.env, self.policy)))

    @property
    def task(self) -> str:
        """The task with the policy, the scenario and the schedule that the stratum sets, for tables."""
        return ", ".join(filter(None, (self.env, self.policy, self.scenario, self.schedule)))


@dataclass(frozen=True)
class CellKey:
    """The place of a cell in a suite.

    Attributes:
        stratum: The stratum.
        attack: The attack.
        algo: The attacked algorithm of the suite, in the track attack; None in the other tracks.
        seed: The index of the seed.
    """

    stratum: Stratum
    attack: str
    algo: str | None
    seed: int

    @property
    def key(self) -> tuple[str, str, str | None, int]:
        """The place as in `Cell.place`."""
        return self.stratum.name, self.attack, self.algo, self.seed

    def __str__(self) -> str:
        return " · ".join(filter(None, (self.stratum.name, self.algo, self.attack, f"seed {self.seed}")))


class Suite(Document):
    """A suite.

    Attributes:
        name: The name, which is that of the file.
        title: A description, one line.
        seeds: Number of seeds of every cell.
        evaluations, evaluation_episodes: Numbers of evaluations of a run and of episodes of each, as in
            `byzbench.experiments.experiment.Experiment`.
        references: The reference method of each division; empty where strata have a reference return instead.
        tuning: The search for tuned rows; None: rows cannot be tuned.
        algorithms: The algorithms that are attacked in the track attack, each in its division.
        attacks: The attacks, `none` included.
        strata: The strata.
        sha256: The sha256 of the file.
    """

    name: Slug
    title: Line
    seeds: Positive
    evaluations: Positive = 20
    evaluation_episodes: Positive = 10
    references: Annotated[tuple[SuiteReference, ...], Field(alias="reference", max_length=2)] = ()
    tuning: SuiteTuning | None = None
    algorithms: Annotated[tuple[SuiteAlgorithm, ...], Field(alias="algorithm")] = ()
    attacks: Annotated[tuple[SuiteAttack, ...], Field(alias="attack", min_length=2)]
    strata: Annotated[tuple[Stratum, ...], Field(alias="stratum", min_length=1)]
    sha256: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Suite:
        for what, names in (("attack", [a.spec for a in self.attacks]), ("stratum", [s.name for s in self.strata])):
            if len(set(names)) < len(names):
                raise ValueError(f"every {what} must occur once")
        if [a.spec for a in self.attacks if a.knows is None] != [CLEAN]:
            raise ValueError(f"the attack {CLEAN!r} must be present, and must be the only one without `knows`")
        stratum_names = {stratum.name for stratum in self.strata}
        if unknown := sorted({name for attack in self.attacks for name in attack.strata} - stratum_names):
            raise ValueError(f"an attack is for the stratum {unknown[0]!r}, which does not exist")
        with_method = {reference.division for reference in self.references}
        for stratum in self.strata:
            if (stratum.reference is None) != (stratum.division in with_method):
                raise ValueError(
                    f"{stratum.name} must have a reference return, or its division a reference method, and not both"
                )
            if not self.worst_case(stratum):
                raise ValueError(f"{stratum.name} must have an attack with the role worst_case")
            if self.tuning and not self.held_out(stratum):
                raise ValueError(f"{stratum.name} must have an attack with the role held_out, as the suite has tuning")
        return self

    @classmethod
    def of(cls, content: bytes, name: str) -> Suite:
        """Parse the content of a suite file.

        Args:
            content: The bytes of the file.
            name: The name of the suite in error messages.

        Raises:
            InvalidParameter: The content is not a suite.
        """
        try:
            data = tomllib.loads(content.decode())
            return validate(cls, {**data, "sha256": hashlib.sha256(content).hexdigest()}, f"{name}.toml")
        except (ValueError, RecursionError, Refused) as error:
            raise InvalidParameter(f"suite {name}: {error}") from None

    @property
    def seed_values(self) -> tuple[int, ...]:
        """The seeds by index, the same for all strata, attacks and entries, so that runs are paired."""
        return tuple(seed_of(self.sha256, index) for index in range(self.seeds))

    def division(self, name: Division) -> tuple[Stratum, ...]:
        """Return the strata of a division.

        Raises:
            InvalidParameter: The suite has no stratum of the division.
        """
        if not (strata := tuple(s for s in self.strata if s.division == name)):
            raise InvalidParameter(f"suite {self.name} has no {name} division")
        return strata

    def attacks_of(self, stratum: Stratum) -> tuple[str, ...]:
        """Return the attacks that are run in a stratum, `none` included."""
        return tuple(a.spec for a in self.attacks if a.role != "held_out" and a.applies(stratum))

    def worst_case(self, stratum: Stratum, level: Knowledge = LEVELS[-1]) -> tuple[str, ...]:
        """Return the attacks over which the score in a stratum is the minimum.

        Args:
            stratum: The stratum.
            level: The knowledge of the adversary; attacks that need more are left out.

        Example:
            >>> smoke = suite("smoke-v2")
            >>> set(smoke.worst_case(smoke.strata[0])) < set(smoke.attacks_of(smoke.strata[0]))
            True
        """
        return tuple(
            a.spec
            for a in self.attacks
            if a.role == "worst_case" and a.knows and LEVELS.index(a.knows) <= LEVELS.index(level)
            if a.applies(stratum)
        )

    def held_out(self, stratum: Stratum) -> tuple[str, ...]:
        """Return the attacks against which parameters are tuned in a stratum."""
        return tuple(a.spec for a in self.attacks if a.role == "held_out" and a.applies(stratum))

    def options(self, stratum: Stratum) -> dict[str, Any]:
        """Return the options of `Experiment.create` that the suite sets in a stratum."""
        dates = {"evaluations": self.evaluations, "evaluation_episodes": self.evaluation_episodes}
        return stratum.options | dates

    def places(self, track: Track, method: Method, division: Division | None) -> Iterator[CellKey]:
        """Yield the places of the cells that an entry of a track must run, in order.

        Args:
            track: The track.
            method: The method of the entry.
            division: The division of the method; None in the track attack, which has all strata.
        """
        for stratum in self.strata if division is None else self.division(division):
            attacks = self.attacks_of(stratum)
            if track in ("attack", "adaptive"):
                assert method.attack is not None
                attacks = (CLEAN, method.attack)
            algorithms: tuple[str | None, ...] = (None,)
            if track == "attack":
                algorithms = tuple(a.spec for a in self.algorithms if a.division == stratum.division)
            for algo in algorithms:
                for attack in attacks:
                    for seed in range(self.seeds):
                        yield CellKey(stratum, attack, algo, seed)


@cache
def suite(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UnknownName: There is no suite of that name.
        InvalidParameter: The file is not a suite.

    Example:
        >>> [stratum.division for stratum in suite("smoke-v1").strata]
        ['decentralised', 'server']
    """
    if name not in (known := suites()):
        raise UnknownName(f"unknown suite {name!r}. {suggest(name, known)}Suites: {', '.join(known)}.")
    content = folder().joinpath(f"{name}.toml").read_bytes()
    parsed = Suite.of(content, name)
    if parsed.name != name:
        raise UserError(f"the file {name}.toml must have the name {name!r}, and has {parsed.name!r}")
    return parsed


@cache
def suites() -> tuple[str, ...]:
    """Return the names of all suites, sorted."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in folder().iterdir() if path.name.endswith(".toml")))


def folder() -> Traversable:
    """Return the folder of suite files."""
    return files("byzbench.leaderboards").joinpath("suites")


def seed_of(*words: object) -> int:
    """Derive a seed from values: the first 63 bits of the sha256 of their texts, one a line.

    Args:
        words: The values; for a seed of a suite, its sha256 and the index.

    Example:
        >>> seed_of("abc", 0) == seed_of("abc", 0), seed_of("abc", 0) == seed_of("abc", 1)
        (True, False)
    """
    text = "\n".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def short_specs(specs: Sequence[str]) -> list[str]:
    """Return components without their parameters, or as they are where two of them would be the same.

    Args:
        specs: The components as they are written.

    Example:
        >>> short_specs(["split_brain(rop(on=both))", "large_noise(relative=False, on=both)"])
        ['split_brain(rop)', 'large_noise']
        >>> short_specs(["alie(z=1)", "alie(z=2)"])
        ['alie(z=1)', 'alie(z=2)']
    """
    short = [re.sub(r",?\s*\w+=[^,()]+", "", spec).replace("()", "") for spec in specs]
    return [name if short.count(name) == 1 else spec for name, spec in zip(short, specs, strict=True)]
