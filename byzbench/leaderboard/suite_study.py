"""Studies of a suite: its rows are tuned alike, on attacks and seeds that no score depends on.

A study searches the parameters of a method and of its rules. A trial runs every stratum of the method's division under
every held-out attack of the suite, on tuning seeds that follow from the suite's sha256; its value is

    mean over strata of min over held-out attacks of mean over seeds of auc,

which is what the score is made of, on other attacks and seeds. The suite fixes the budget: so many episodes, summed
over all agents of all runs. The winner is run again on fresh seeds before it enters, beside the method as written.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from optuna.study import Study
from optuna.trial import TrialState

from byzbench import registry
from byzbench.canonical import first_parameter
from byzbench.contracts import Choice, Range
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.cells import Outcome
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.question import OBJECTIVE, first_names
from byzbench.experiments.tuned import Tuned, TunedOn
from byzbench.experiments.tuning import COUNTED, area_of, digest
from byzbench.leaderboard.frozen import experiment_options, frozen
from byzbench.leaderboard.plan import canonical, division_of
from byzbench.leaderboard.schema import Method, Search, Tuning
from byzbench.leaderboard.suites import Stratum, Suite, seed_of

Run = tuple[str, str, int]
"""A run of a trial: the stratum's name, the attack, the seed."""

TUNED = ("algorithm", "aggregator", "agreement")
"""The kinds whose parameters are searched."""


def tuning_seeds(suite: Suite, word: Literal["tuning", "fresh"] = "tuning") -> tuple[int, ...]:
    """Return the seeds of a suite's studies, or those on which winners are run again. None is one of its own.

    Raises:
        InvalidParameter: the suite has no tuning.
    """
    if suite.tuning is None:
        raise InvalidParameter(f"suite {suite.name} says nothing of tuning, so no row of it can be tuned")
    return tuple(seed_of(suite.sha256, word, index) for index in range(suite.tuning.seeds))


@dataclass(frozen=True)
class SuiteStudy:
    """The search of a method's parameters that a suite allows. It is a problem for `byzbench.experiments.tuning.tune`.

    Attributes:
        suite: the suite.
        method: what is tuned. Parameters that it sets outright are not searched.
        strata: of its division.
        space: `kind.field` to where the search looks.
        sampler_seed: of the search itself.
    """

    suite: Suite
    method: Method
    strata: tuple[Stratum, ...]
    space: Mapping[str, Range | Choice]
    sampler_seed: int = 0
    side: Literal["algorithm", "attack"] = "algorithm"
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every trial."""
        return tuning_seeds(self.suite)

    @property
    def pairs(self) -> list[Run]:
        """The runs of a trial, seeds outermost."""
        names = [stratum.name for stratum in self.strata]
        return [(name, attack, seed) for seed in self.seeds for name in names for attack in self.suite.held_out]

    @property
    def trials(self) -> int:
        """The number of trials that the budget allows. A pruned one counts as a whole one."""
        assert self.suite.tuning is not None
        cost = sum(s.agents * s.trajectories for s in self.strata) * len(self.suite.held_out) * len(self.seeds)
        return self.suite.tuning.episodes // cost

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that name the study."""
        return study_hash(self.suite.sha256, self.method, search_ranges(self.space, self.keys), self.sampler_seed)

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return f"{registry.parse(str(self.method.algo)).name}-{self.suite.name}-{self.hash}"

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Return, by searched `kind.field`, the name under which it was first hashed, which storages use."""
        return first_names(self.space, self.experiment({}, *self.pairs[0]))

    def experiment(self, parameters: Mapping[str, Any], stratum: str, attack: str, seed: int) -> Experiment:
        """Return a run under a trial's parameters, which are named `kind.field`."""
        by_kind: dict[str, dict[str, Any]] = {}
        for key, value in parameters.items():
            kind, _, name = key.partition(".")
            by_kind.setdefault(kind, {})[name] = value
        texts = frozen(self.suite)
        own = experiment_options({**texts.strata[stratum], **texts.attacks[attack]})
        return Experiment.create(**{**own, **self.method.options}, seed=seed, parameters=by_kind)

    def value(self, areas: Mapping[Run, float]) -> float:
        """Return a trial's value from the area of each of its runs."""
        return statistics.fmean(
            min(statistics.fmean(areas[s.name, attack, seed] for seed in self.seeds) for attack in self.suite.held_out)
            for s in self.strata
        )

    def standing(self) -> dict[str, Any]:
        """Return the values that the searched parameters have without a search."""
        cell = self.experiment({}, *self.pairs[0])
        return {key: getattr(getattr(cell, key.partition(".")[0]), key.partition(".")[2]) for key in self.space}

    def again(self, parameters: Mapping[str, Any]) -> dict[Run, Experiment]:
        """Return the runs of a set of parameters on fresh seeds, which neither the search nor the suite has seen."""
        fresh = dict(zip(self.seeds, tuning_seeds(self.suite, "fresh"), strict=True))
        return {(s, a, seed): self.experiment(parameters, s, a, fresh[seed]) for s, a, seed in self.pairs}


def suite_study(suite: Suite, method: Method, sampler_seed: int = 0) -> SuiteStudy:
    """Return the study of a method, checked: each of its runs can be made as the method stands.

    Args:
        suite: a frozen suite with a table `tuning`.
        method: what is tuned.
        sampler_seed: of the search.

    Raises:
        UserError: one line that says what cannot be.
    """
    taken = {*suite.seed_values} & {*tuning_seeds(suite), *tuning_seeds(suite, "fresh")}
    if taken:
        raise InvalidParameter(f"suite {suite.name} has {len(taken)} of its own seeds among those of tuning")
    strata = suite.division(division_of(registry.parse(str(method.algo)).name))
    if len({stratum.env for stratum in strata}) > 1:
        raise InvalidParameter(f"{suite.name} has several tasks, and a study tunes one parameter set for one task")
    bare = SuiteStudy(suite, method, strata, {}, sampler_seed)
    cells = [bare.experiment({}, stratum.name, attack, 0) for stratum in strata for attack in suite.held_out]
    written = {kind: registry.parse(method.options.get(registry.FLAGS[kind], "none")).parameters for kind in TUNED}
    used = ("algorithm", *(kind for kind, _ in cells[0].rules))
    space = {
        f"{kind}.{name}": where
        for kind in TUNED
        if kind in used
        for name, where in getattr(cells[0], kind).searched().items()
        if name not in written[kind]
    }
    if not space:
        raise UserError(f"{method.algo} has no parameter with a range to search that it does not set itself")
    study = SuiteStudy(suite, method, strata, space, sampler_seed)
    if study.trials < 1:
        raise InvalidParameter(f"suite {suite.name}: its budget of tuning does not allow one trial")
    return study


def winner(study: SuiteStudy, found: Study, outcomes: Mapping[str, Outcome]) -> Tuned:
    """Return the best parameters of a study, with its summary.

    Args:
        study: what was searched.
        found: its trials.
        outcomes: by hash of the experiment, the runs of the winner and of the method as written on fresh seeds.

    Raises:
        UserError: no trial is complete.
    """
    parameters = best_parameters(study, found)
    complete = found.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    running_best = np.maximum.accumulate([trial.value for trial in complete if trial.value is not None])
    counted = [trial for trial in found.get_trials(deepcopy=False) if trial.state in COUNTED]
    runs = sum(len(trial.intermediate_values) for trial in counted)
    stratum = study.strata[0]
    cell = study.experiment({}, *study.pairs[0])
    by_kind: dict[str, dict[str, Any]] = {}
    for key, value in parameters.items():
        by_kind.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = value

    def on_fresh_seeds(values: Mapping[str, Any]) -> str:
        areas = {run: area_of(outcomes[cell.hash], cell) for run, cell in study.again(values).items()}
        return repr(study.value(areas))

    search = Search(
        method=study.method,
        ranges={key: tuple(where) for key, where in search_ranges(study.space, study.keys).items()},
        sampler_seed=study.sampler_seed,
        episodes=round(runs * statistics.fmean(s.agents * s.trajectories for s in study.strata)),
        steps=sum(trial.user_attrs.get("steps", 0) for trial in counted),
        best=tuple(repr(float(value)) for value in running_best),
        again=on_fresh_seeds(parameters),
        default=on_fresh_seeds({}),
    )
    return Tuned(
        kind="algorithm",
        components={kind: registry.name_of(getattr(cell, kind)) for kind in {*by_kind, "algorithm"}},
        parameters=by_kind,
        study=study.hash,
        trials=digest(found),
        objective={"value": float(running_best[-1]), "trials": len(counted)},
        on=TunedOn(
            env=stratum.env,
            attacks=list(study.suite.held_out),
            algorithms=[registry.name_of(cell.algorithm)],
            seeds=list(study.seeds),
            trajectories=stratum.trajectories,
            agents=stratum.agents,
            byzantine=stratum.byzantine,
            topology=", ".join(dict.fromkeys(s.topology for s in study.strata)),
        ),
        search=search.model_dump(mode="json", exclude_none=True),
    )


def best_parameters(study: SuiteStudy, found: Study) -> dict[str, Any]:
    """Return the parameters of a study's best trial, by `kind.field`.

    Raises:
        UserError: no trial is complete.
    """
    if not found.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise UserError(f"study {study.name} has no complete trial")
    named = {first: key for key, first in study.keys.items()}
    return {named[first]: value for first, value in found.best_trial.params.items()}


def search_problems(suite: Suite, tuning: Tuning, method: Method, resolved: Mapping[str, Any]) -> Iterator[str]:
    """Yield what keeps a submission from being tuned by the study that it names, one line each.

    Args:
        suite: the suite that was entered.
        tuning: what the submission says of its tuning.
        method: what was entered, as written.
        resolved: what that came to in every stratum, as it is written today.
    """
    search = tuning.search
    if search is None:
        return
    if tuning.study != study_hash(suite.sha256, search.method, search.ranges, search.sampler_seed):
        yield "the study is of another suite, or of another method than `search.method`"
    if suite.tuning is None or tuning.seeds != tuning_seeds(suite):
        yield "the seeds are not those of the suite's studies"
    elif search.episodes > suite.tuning.episodes:
        yield f"the search took {search.episodes:,} episodes, and the suite allows {suite.tuning.episodes:,}"
    if set(tuning.attacks) != {canonical(attack) for attack in suite.held_out}:
        yield "the attacks are not those that the suite holds out"
    for kind in TUNED:
        written = registry.parse(method.options.get(registry.FLAGS[kind], "none"))
        before = registry.parse(search.method.options.get(registry.FLAGS[kind], "none"))
        for name, value in written.parameters.items():
            if f"{kind}.{name}" not in search.ranges and before.parameters.get(name) != value:
                yield f"{kind} {name} is {value}, and was not searched"
    for own in resolved.values():
        for key, where in search.ranges.items():
            kind, _, name = key.partition(".")
            described = own.get(kind, {"name": "", "parameters": {}})
            names = {first_parameter(kind, described["name"], today): today for today in described["parameters"]}
            value = described["parameters"].get(names.get(name))
            if not _inside(value, where):
                yield f"{key} is {value}, and the search looked at {', '.join(map(str, where))}"


def _inside(value: Any, where: Sequence[Any]) -> bool:
    """Return whether a value is one that a search could find."""
    if len(where) == 3 and type(where[2]) is bool and all(type(end) in (int, float) for end in where[:2]):
        return type(value) in (int, float) and where[0] <= value <= where[1]
    return value in where


def search_ranges(space: Mapping[str, Range | Choice], keys: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return a search space as data: [low, high, log] of a range, the values of a choice."""
    return {keys[k]: list(v) if isinstance(v, Choice) else list(asdict(v).values()) for k, v in space.items()}


def study_hash(suite_sha256: str, method: Method, ranges: Mapping[str, Sequence[Any]], sampler_seed: int) -> str:
    """Return the hash of a study: 16 hexadecimal digits of everything that decides its trials.

    Args:
        suite_sha256: of the suite file, which fixes strata, held-out attacks, seeds and the budget.
        method: what was tuned, as written.
        ranges: see `search_ranges`.
        sampler_seed: of the search.
    """
    about = {
        "suite": suite_sha256,
        "method": method.model_dump(exclude_none=True),
        "space": {key: list(where) for key, where in ranges.items()},
        "sampler_seed": sampler_seed,
        "objective": OBJECTIVE,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
