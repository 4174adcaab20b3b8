"""Studies of attacks: the search for the attack that hurts a row most, with the tuning budget of its suite.

A trial is one attack, with its parameters, in all strata of the row's division on the tuning seeds of the suite. Its
value, which is minimised, is

    mean over strata of mean over seeds of the score under the attack.

The first choice of a trial is the attack. Only its own parameters are searched then, and what wraps it, for example
`split_brain`. The first trials are all candidates with their defaults, so that a small budget tries each idea once. The
best trials are run again on fresh seeds, and the attack with the lowest value there is the result: among many noisy
values the lowest is too low.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from byzbench import registry
from byzbench.canonical import SCHEMA, first_parameter
from byzbench.core import Attack, Categorical, FloatRange
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.identity import ENGINE
from byzbench.leaderboard.plan import (
    SubmissionPlan,
    canonical_spec,
    check_component,
    plan_submission,
    receives_messages,
)
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.resolved import explicit_parameters
from byzbench.leaderboard.schema import Method, Submission
from byzbench.leaderboard.suite_study import (
    Run,
    SuiteStudy,
    budget_problems,
    check_budget,
    check_seeds,
    is_inside,
)
from byzbench.leaderboard.suites import CLEAN, Suite
from byzbench.records.tuned import TunedSide
from byzbench.reports.scoring import cell_scores
from byzbench.tuning.problem import Direction

CANDIDATES = (
    "rop",
    "ipm",
    "avg_zero",
    "alie",
    "min_max",
    "fang",
    "sign_flip",
    "hidden_coordinate",
    "mimic",
    "agr_tailored",
    "optimal_ipm",
    "freeze",
    "dissensus",
)
"""The attacks that a study tries, one or two for each idea of the zoo.

They follow the history of aggregates, reverse or cancel the honest mean, stay within the spread of honest vectors,
exploit single coordinates or agents, try the rule of the receiver, or stop and divide gossip. Attacks that only add
noise, fail visibly, or differ from these in a constant are left out: a few dozen trials find more among few attacks.
"""

NAME, WRAPPER = "attack.name", "attack.wrapper"
"""Keys of the search space: the attack, and the attack that wraps it."""

UNWRAPPED = "none"
"""The value of `WRAPPER` for the attack itself."""

GOSSIP_WRAPPERS, TIMING_WRAPPERS = ("split_brain",), ("rush", "slowdown")
"""The wrappers that have an effect where agents send to each other, and where each runs on its own."""


@dataclass(frozen=True)
class AttackStudy(SuiteStudy):
    """The search for an attack on a row of a suite.

    Attributes:
        cells: By stratum, an experiment of the row without an attack.
        references: By stratum, the return that has score 1.
    """

    side: TunedSide = "attack"
    direction: Direction = "minimize"
    num_finalists: int = 3
    cells: Mapping[str, Experiment] = field(default_factory=dict)
    references: Mapping[str, float] = field(default_factory=dict)

    @property
    def pairs(self) -> list[Run]:
        """The runs of a trial: a stratum and a seed."""
        return [(stratum.name, seed) for seed in self.seeds for stratum in self.strata]

    @property
    def candidates(self) -> tuple[str, ...]:
        """The names of the attacks that are tried."""
        names = self.space[NAME]
        assert isinstance(names, Categorical)
        return tuple(names)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks that are tried, with their default parameters."""
        return tuple(attack_text(name) for name in self.candidates)

    @cached_property
    def owners(self) -> Mapping[str, tuple[str, str]]:
        """The attack and the parameter of each key of the space but the first two."""
        return {_key(name, parameter): (name, parameter) for name in self.candidates for parameter in _searched(name)}

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """The first name of each key of the space."""
        first = {key: first_parameter("attack", *owner) for key, owner in self.owners.items()}
        return {key: _key(self.owners[key][0], first[key]) if key in first else key for key in self.space}

    def attack(self, parameters: Mapping[str, Any]) -> str:
        """Return the attack of a trial as users write it; without parameters `none`.

        Args:
            parameters: The values of the active keys.
        """
        if not parameters:
            return CLEAN
        values = {self.owners[key][1]: value for key, value in parameters.items() if key in self.owners}
        return attack_text(parameters[NAME], parameters.get(WRAPPER, UNWRAPPED), values)

    def experiment(self, parameters: Mapping[str, Any], *run: Any) -> Experiment:
        """Return a run of the row under the attack of a trial.

        Args:
            parameters: The values of the active keys; none for the row without an attack.
            run: The name of the stratum and the seed.

        Raises:
            UserError: The attack is not defined in the stratum.
        """
        stratum, seed = run
        attack = registry.make("attack", self.attack(parameters))
        cell = replace(self.cells[stratum], attack=attack, seed=seed)
        cell.check()
        return cell

    def value(self, areas: Mapping[Run, float]) -> float:
        """Return the value of a trial: mean over strata of mean over seeds of scores.

        Args:
            areas: The area under the evaluation curve of each run.
        """
        means = []
        for s in self.strata:
            values = [areas[s.name, seed] for seed in self.seeds]
            means.append(float(np.mean(cell_scores(values, s.random, self.references[s.name]))))
        return statistics.fmean(means)

    def defaults(self) -> dict[str, Any]:
        """Return the default values of all parameters, with the first candidate."""
        first = {NAME: self.candidates[0], WRAPPER: UNWRAPPED}
        values = {key: getattr(registry.make("attack", name), field) for key, (name, field) in self.owners.items()}
        return {key: (first | values)[key] for key in self.space}

    def starts(self) -> list[dict[str, Any]]:
        """Return every candidate with its defaults, as far as they are in the ranges."""
        whole = [self.defaults() | {NAME: name} for name in self.candidates]
        return [{key: value for key, value in values.items() if self.is_active(key, values)} for values in whole]

    def is_active(self, key: str, parameters: Mapping[str, Any]) -> bool:
        """Return whether a key is the attack, its wrapper, or one of its parameters."""
        return key not in self.owners or self.owners[key][0] == parameters[NAME]

    def described(self, parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the attack of a trial, described with the parameters of the trial alone."""
        return explicit_parameters(Method(attack=self.attack(parameters)), SCHEMA)


def attack_text(name: str, wrapper: str = UNWRAPPED, parameters: Mapping[str, Any] | None = None) -> str:
    """Return an attack of a search space as users write it, on gradients and parameters where it has the choice.

    Args:
        name: The name of the attack.
        wrapper: The name of the attack that wraps it, or `none`.
        parameters: Values of its parameters.

    Example:
        >>> attack_text("ipm", "split_brain", {"scale": 2.0})
        'split_brain(ipm(on=both, scale=2.0))'
    """
    both = {"on": "both"} if "on" in registry.find("attack", name).__dataclass_fields__ else {}
    attack = registry.Spec(name, (), {**both, **(parameters or {})})
    return canonical_spec(attack if wrapper == UNWRAPPED else registry.Spec(wrapper, (attack,)))


def _searched(name: str) -> dict[str, FloatRange | Categorical]:
    """Return the search space of an attack, without the topics of its messages, which are both."""
    return {key: where for key, where in registry.find("attack", name).search_space().items() if key != "on"}


def _key(name: str, parameter: str) -> str:
    return f"attack.{name}_{parameter}"


def attack_study(row: SubmissionPlan, method: Method, candidates: Sequence[str] = CANDIDATES) -> AttackStudy:
    """Return the study of attacks on a row.

    Candidates that are not defined in a stratum, or that have no effect in the division, are left out.

    Args:
        row: The cells of the row, as from its submission.
        method: Its method as it would be written today, with the name of its folder as `against`.
        candidates: Names of attacks.

    Raises:
        UserError: The suite has no tuning, a budget below one trial or no reference at this engine; the row exchanges
            no messages; or a candidate does not exist, may not be entered, or none is defined.
    """
    suite = row.suite
    check_seeds(suite)
    cells = {place.stratum.name: cell for place, cell in row.cells.items() if (place.attack, place.seed) == (CLEAN, 0)}
    if not all(map(receives_messages, cells.values())):
        raise UserError(f"agents of {method.algo} receive no messages, so that no attack can reach them")
    strata = tuple(stratum for stratum in suite.strata if stratum.name in cells)
    whole = AttackStudy(
        suite=suite,
        method=method,
        strata=strata,
        space={},
        cells=cells,
        references={stratum.name: unit(suite, stratum, ENGINE) for stratum in strata},
    )
    names = _defined(whole, candidates)
    wrappers = [*_effective_wrappers(whole, names[0])]
    space: dict[str, FloatRange | Categorical] = {NAME: Categorical(*names)}
    if wrappers:
        space[WRAPPER] = Categorical(UNWRAPPED, *wrappers)
    space |= {_key(name, key): where for name in names for key, where in _searched(name).items()}
    study = replace(whole, space=space)
    check_budget(study)
    return study


def _defined(study: AttackStudy, candidates: Sequence[str]) -> list[str]:
    """Return the candidates that are defined and can have an effect.

    Raises:
        UserError: None of them is left, or one may not be entered.
    """
    names, problem = [], UserError("an attack needs at least one candidate")
    for name in dict.fromkeys(candidates):
        cls = registry.find("attack", name)
        if registry.nested_kinds(cls):
            raise InvalidParameter(f"candidate {name}: give the attack that it wraps")
        check_component("attack", attack_text(name))
        try:
            attack = registry.make("attack", attack_text(name))
            _check_in_all_strata(study, attack)
        except UserError as error:
            problem = error
        else:
            names.append(name)
    if not names:
        raise problem
    return names


def _check_in_all_strata(study: AttackStudy, attack: Attack) -> None:
    """Refuse an attack that is not defined in a stratum or has no effect there.

    Raises:
        UserError: The attack is refused.
    """
    name = registry.name_of(attack)
    if "messages" not in attack.threat.surface:
        raise InvalidParameter(f"candidate {name} crafts no messages")
    for stratum in study.strata:
        if stratum.division == "server" and attack.threat.equivocates:
            raise InvalidParameter(f"candidate {name} sends different messages to agents, and a server is one receiver")
        replace(study.cells[stratum.name], attack=attack).check()


def _effective_wrappers(study: AttackStudy, name: str) -> Iterator[str]:
    """Yield the wrappers that have an effect in a stratum and are defined in all."""
    gossip = any(stratum.division == "decentralised" for stratum in study.strata)
    alone = any(cell.schedule.asynchronous for cell in study.cells.values())
    for wrapper in (*(GOSSIP_WRAPPERS if gossip else ()), *(TIMING_WRAPPERS if alone else ())):
        try:
            for cell in study.cells.values():
                replace(cell, attack=registry.make("attack", attack_text(name, wrapper))).check()
        except UserError:
            continue
        yield wrapper


def plan_attack(row: SubmissionPlan, method: Method, attack: str) -> SubmissionPlan:
    """Return the cells of an attack on a row, which runs with the parameters that its submission has.

    Args:
        row: The cells of the row, as from its submission.
        method: Its method as it would be written today, with the name of its folder as `against`.
        attack: The attack as users write it.
    """
    described = registry.describe(registry.make("attack", attack))
    resolved = {stratum: axes | {"attack": described} for stratum, axes in row.resolved.items()}
    return plan_submission(row.suite, "adaptive", method.model_copy(update={"attack": attack}), resolved)


def attack_search_problems(
    suite: Suite, submission: Submission, attacks: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the differences between an entered attack and the study that its submission names, one line each.

    Args:
        suite: The suite of the submission.
        submission: The submission.
        attacks: By stratum, the described attack, as it would be written today.
    """
    tuning = submission.tuning
    if tuning is None or tuning.task:
        yield "an attack is tuned for all strata in one study"
        return
    search = tuning.search
    if search is None:
        return
    yield from budget_problems(suite, tuning, search, [s for s in suite.strata if s.name in attacks])
    if search.method != submission.method.model_copy(update={"attack": None}):
        yield "the study attacked another method, or another row"
    candidates = [name for name in search.ranges.get(NAME, ()) if name in registry.origins("attack")]
    if set(tuning.attacks) != {attack_text(str(name)) for name in candidates}:
        yield "the attacks are not those of the search space"
    for described in attacks.values():
        yield from _outside(described, search.ranges)


def _outside(described: Mapping[str, Any], ranges: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield the values of an attack that are not in a search space."""
    wrapper, inner = UNWRAPPED, described
    if described["name"] in (*GOSSIP_WRAPPERS, *TIMING_WRAPPERS):
        wrapper, inner = described["name"], described["parameters"]["inner"]
    name, parameters = inner["name"], inner["parameters"]
    searched = {p: key for p in parameters if (key := _key(name, first_parameter("attack", name, p))) in ranges}
    values = {NAME: name, WRAPPER: wrapper} | {key: parameters[p] for p, key in searched.items()}
    for key, value in values.items():
        if not is_inside(value, ranges.get(key, (UNWRAPPED,))):
            yield f"{key} is {value}, and the search space is {', '.join(map(str, ranges.get(key, (UNWRAPPED,))))}"
    rebuilt = registry.make("attack", attack_text(name, wrapper, {p: parameters[p] for p in searched}))
    if registry.describe(rebuilt) != described:
        yield f"{name} has parameters that were not searched"
