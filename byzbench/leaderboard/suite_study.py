"""Studies of a suite: the same search for all tuned rows, on attacks and seeds that no score depends on.

A study searches the parameters of a method and of its rules in one task. A trial runs every stratum of the task in the
method's division under every held-out attack of the suite, on tuning seeds that are derived from the suite's sha256;
its value is

    mean over strata of min over held-out attacks of mean over seeds of auc,

which is the form of the score, on other attacks and seeds. The suite fixes the budget for each task, in episodes summed
over all agents of all runs. The best parameters and the method as written are run again on fresh seeds.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from optuna.study import Study
from optuna.trial import TrialState

from byzbench import registry
from byzbench.canonical import first_parameter
from byzbench.core import Categorical, FloatRange
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment, experiment_options
from byzbench.leaderboard.frozen import METHOD, frozen
from byzbench.leaderboard.plan import canonical_spec, division_of
from byzbench.leaderboard.schema import Method, Search, Submission, Tuning
from byzbench.leaderboard.suites import Stratum, Suite, seed_of
from byzbench.records.tuned import TunedOn, TunedParameters, TunedSide
from byzbench.sweeps.cells import CellOutcome
from byzbench.tuning.problem import OBJECTIVE, Direction, first_names
from byzbench.tuning.search import COUNTED, area_of, study_digest

Run = tuple[Any, ...]
"""A run of a trial: the stratum's name is first, the seed is last."""


def tuning_seeds(suite: Suite, word: Literal["tuning", "fresh"] = "tuning") -> tuple[int, ...]:
    """Return the seeds of a suite's studies. They differ from the seeds of the suite.

    Args:
        suite: The suite.
        word: `tuning` for the seeds of trials, `fresh` for those on which the best parameters are run again.

    Raises:
        InvalidParameter: The suite has no table `tuning`.
    """
    if suite.tuning is None:
        raise InvalidParameter(f"suite {suite.name} has no table `tuning`, so its rows cannot be tuned")
    return tuple(seed_of(suite.sha256, word, index) for index in range(suite.tuning.seeds))


@dataclass(frozen=True)
class SuiteStudy(ABC):
    """A search with the tuning budget of a suite, a problem for `byzbench.tuning.search.run_study`.

    Attributes:
        suite: The suite.
        method: The method that is tuned, or attacked.
        strata: The strata of its division, or those of a task.
        space: The search space by `kind.field`.
        sampler_seed: The seed of the search.
        side: What is tuned.
        direction: The direction of the objective.
        num_finalists: Number of best trials that are run again on fresh seeds, of which the best one is chosen.
        task: The task of the strata, if the division has several.
    """

    suite: Suite
    method: Method
    strata: tuple[Stratum, ...]
    space: Mapping[str, FloatRange | Categorical]
    sampler_seed: int = 0
    side: TunedSide = "algorithm"
    direction: Direction = "maximize"
    num_finalists: int = 1
    task: str | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every trial."""
        return tuning_seeds(self.suite)

    @property
    @abstractmethod
    def pairs(self) -> list[Run]:
        """The runs of a trial, with seeds in the outermost loop."""

    @property
    @abstractmethod
    def attacks(self) -> tuple[str, ...]:
        """The attacks of all runs; of the search for an attack, its candidates."""

    @property
    @abstractmethod
    def keys(self) -> Mapping[str, str]:
        """The first name of each searched `kind.field`, which hashes and storages use."""

    @abstractmethod
    def experiment(self, parameters: Mapping[str, Any], *run: Any) -> Experiment:
        """Return a run of a trial; without parameters, of the method as written and without a searched attack."""

    @abstractmethod
    def value(self, areas: Mapping[Run, float]) -> float:
        """Return the value of a trial from the area under the evaluation curve of each run."""

    @abstractmethod
    def defaults(self) -> dict[str, Any]:
        """Return the values of the searched parameters before tuning, by `kind.field`."""

    @abstractmethod
    def described(self, parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the tuned components by kind, each described with the parameters of a trial alone."""

    def starts(self) -> list[dict[str, Any]]:
        """Return the parameters of the first trials."""
        return [self.defaults()]

    def is_active(self, key: str, parameters: Mapping[str, Any]) -> bool:
        """Return whether a parameter is part of a trial that has some parameters already."""
        return True

    @property
    def trials(self) -> int:
        """The number of trials that the budget allows; a pruned trial counts like a complete one."""
        assert self.suite.tuning is not None
        allowed = search_budget(self.suite, self.strata) // self.episodes(self.pairs)
        return min(allowed, self.suite.tuning.trials or allowed)

    @cached_property
    def hash(self) -> str:
        """The hash of the study, 16 hexadecimal digits."""
        ranges = search_ranges(self.space, self.keys)
        return study_hash(self.suite.sha256, self.method, ranges, self.sampler_seed, self.task)

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return f"{self.method.against or registry.parse_spec(str(self.method.algo)).name}-{self.suite.name}-{self.hash}"

    def episodes(self, runs: Sequence[Run]) -> int:
        """Return the number of episodes of some runs of a trial, summed over agents."""
        budgets = {s.name: s.agents * s.trajectories for s in self.strata}
        return sum(budgets[run[0]] for run in runs)

    def fresh_experiments(self, parameters: Mapping[str, Any]) -> dict[Run, Experiment]:
        """Return the runs of a trial on fresh seeds, which neither the search nor the suite uses.

        Args:
            parameters: Values by `kind.field`.

        Returns:
            The experiments by the run of the trial with the same position among seeds.
        """
        fresh = dict(zip(self.seeds, tuning_seeds(self.suite, "fresh"), strict=True))
        return {run: self.experiment(parameters, *run[:-1], fresh[run[-1]]) for run in self.pairs}

    def finalists(self, trials: Study) -> list[dict[str, Any]]:
        """Return the parameters that are run on fresh seeds: none, then those of the best trials.

        Args:
            trials: The Optuna study that holds the trials.

        Raises:
            UserError: No trial is complete.
        """
        complete = trials.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise UserError(f"study {self.name} has no complete trial")
        today = {first: key for key, first in self.keys.items()}
        sign = -1 if self.direction == "maximize" else 1
        best: list[dict[str, Any]] = []
        for trial in sorted(complete, key=lambda trial: sign * (trial.value or 0.0)):
            parameters = {today[first]: value for first, value in trial.params.items()}
            if parameters not in best:
                best.append(parameters)
        return [{}, *best[: self.num_finalists]]


@dataclass(frozen=True)
class MethodStudy(SuiteStudy):
    """The search for a method's parameters; those that the method sets are not searched."""

    @property
    def pairs(self) -> list[Run]:
        """The runs of a trial: a stratum, an attack that is held out there, and a seed."""
        return [(s.name, attack, seed) for seed in self.seeds for s in self.strata for attack in self.suite.held_out(s)]

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks of all runs."""
        return tuple(dict.fromkeys(attack for _, attack, _ in self.pairs))

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """The first name of each searched `kind.field`."""
        return first_names(self.space, self.experiment({}, *self.pairs[0]))

    def experiment(self, parameters: Mapping[str, Any], *run: Any) -> Experiment:
        """Return a run with the parameters of a trial.

        Args:
            parameters: Values by `kind.field`.
            run: The name of the stratum, the attack and the seed.
        """
        stratum, attack, seed = run
        texts = frozen(self.suite)
        suite_options = experiment_options({**texts.strata[stratum], **texts.attacks[attack]})
        return Experiment.create(
            **{**suite_options, **self.method.options}, seed=seed, parameters=_parameters_by_kind(parameters)
        )

    def value(self, areas: Mapping[Run, float]) -> float:
        """Return the value of a trial: mean over strata of min over attacks of mean over seeds.

        Args:
            areas: The area under the evaluation curve of each run.
        """
        return statistics.fmean(
            min(
                statistics.fmean(areas[s.name, attack, seed] for seed in self.seeds)
                for attack in self.suite.held_out(s)
            )
            for s in self.strata
        )

    def defaults(self) -> dict[str, Any]:
        """Return the values of the searched parameters in the method as written."""
        cell = self.experiment({}, *self.pairs[0])
        return {key: getattr(getattr(cell, key.partition(".")[0]), key.partition(".")[2]) for key in self.space}

    def described(self, parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the algorithm and the tuned rules, each described with the parameters of a trial alone."""
        cell, by_kind = self.experiment({}, *self.pairs[0]), _parameters_by_kind(parameters)
        return {
            kind: {"name": registry.name_of(getattr(cell, kind)), "parameters": by_kind.get(kind, {})}
            for kind in {*by_kind, "algorithm"}
        }


def _parameters_by_kind(parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return values by kind and field, from values by `kind.field`."""
    by_kind: dict[str, dict[str, Any]] = {}
    for key, value in parameters.items():
        kind, _, name = key.partition(".")
        by_kind.setdefault(kind, {})[name] = value
    return by_kind


def method_studies(suite: Suite, method: Method, sampler_seed: int = 0) -> tuple[MethodStudy, ...]:
    """Return the studies of a method, one for each task, after checking that runs are defined with it as written.

    Args:
        suite: A frozen suite with a table `tuning`.
        method: The method.
        sampler_seed: The seed of the searches.

    Raises:
        UserError: The suite has no tuning or a budget below one trial, or the method has no parameter to search or is
            not defined in a stratum.
    """
    check_seeds(suite)
    strata = suite.division(division_of(registry.parse_spec(str(method.algo)).name))
    by_task: dict[str, tuple[Stratum, ...]] = {}
    for stratum in strata:
        by_task[stratum.learner] = (*by_task.get(stratum.learner, ()), stratum)
    if len(by_task) == 1:
        return (_task_study(suite, method, strata, sampler_seed, None),)
    return tuple(_task_study(suite, method, own, sampler_seed, task) for task, own in by_task.items())


def _task_study(
    suite: Suite, method: Method, strata: tuple[Stratum, ...], sampler_seed: int, task: str | None
) -> MethodStudy:
    """Return the study of a method in the strata of one task; `task` is None if the division has no other."""
    without_space = MethodStudy(suite, method, strata, {}, sampler_seed, task=task)
    cells = [without_space.experiment({}, s.name, attack, 0) for s in strata for attack in suite.held_out(s)]
    written = {
        kind: registry.with_parameters(kind, method.options.get(registry.FLAGS[kind], "none"), {}).parameters
        for kind in METHOD
    }
    used = ("algorithm", *(kind for kind, _ in cells[0].rules))
    space = {
        f"{kind}.{name}": values
        for kind in METHOD
        if kind in used
        for name, values in getattr(cells[0], kind).search_space().items()
        if name not in written[kind]
    }
    if not space:
        raise UserError(f"{method.algo} has no parameter with a tuning range that the method leaves at its default")
    study = replace(without_space, space=space)
    check_budget(study)
    return study


def check_seeds(suite: Suite) -> None:
    """Refuse a suite that has seeds of its own among those of its studies, or no studies.

    Raises:
        InvalidParameter: The suite is refused.
    """
    shared = {*suite.seed_values} & {*tuning_seeds(suite), *tuning_seeds(suite, "fresh")}
    if shared:
        raise InvalidParameter(f"suite {suite.name} has {len(shared)} of its own seeds among those of tuning")


def check_budget(study: SuiteStudy) -> None:
    """Refuse a study whose budget is below one trial.

    Raises:
        InvalidParameter: The study is refused.
    """
    if study.trials < 1:
        raise InvalidParameter(f"suite {study.suite.name}: the tuning budget does not allow one trial")


def winner(study: SuiteStudy, trials: Study, outcomes: Mapping[str, CellOutcome]) -> TunedParameters:
    """Return the best parameters of a study on fresh seeds, with a summary of the study.

    Args:
        study: The study.
        trials: The Optuna study that holds its trials.
        outcomes: By hash of the experiment, the runs of the finalists on fresh seeds.

    Raises:
        UserError: No trial is complete.
        UnfinishedRun: The process of a run was killed after a time limit, or died.
        CorruptRecord: The records of a run are damaged.
        StorageError: The records of a run could not be written.
    """

    def on_fresh_seeds(parameters: Mapping[str, Any]) -> float:
        cells = study.fresh_experiments(parameters)
        return study.value({run: area_of(outcomes[cell.hash], cell) for run, cell in cells.items()})

    before, *finalists = study.finalists(trials)
    is_maximum = study.direction == "maximize"
    again = [on_fresh_seeds(parameters) for parameters in finalists]
    best = (max if is_maximum else min)(range(len(again)), key=again.__getitem__)
    values = [t.value for t in trials.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.value is not None]
    running_best = (np.maximum if is_maximum else np.minimum).accumulate(values)
    counted = [trial for trial in trials.get_trials(deepcopy=False) if trial.state in COUNTED]
    search = Search(
        method=study.method,
        ranges={key: tuple(values) for key, values in search_ranges(study.space, study.keys).items()},
        sampler_seed=study.sampler_seed,
        episodes=sum(study.episodes(study.pairs[: len(trial.intermediate_values)]) for trial in counted),
        steps=sum(trial.user_attrs.get("steps", 0) for trial in counted),
        best=tuple(repr(float(value)) for value in running_best),
        again=repr(again[best]),
        default=repr(on_fresh_seeds(before)),
    )
    components, stratum = study.described(finalists[best]), study.strata[0]
    return TunedParameters(
        kind=study.side,
        components={kind: component["name"] for kind, component in components.items()},
        parameters={kind: part["parameters"] for kind, part in components.items() if part["parameters"]},
        study=study.hash,
        trials=study_digest(trials),
        objective={"value": float(running_best[-1]), "trials": len(counted)},
        on=TunedOn(
            env=", ".join(dict.fromkeys(s.env for s in study.strata)),
            attacks=list(study.attacks),
            algorithms=[registry.name_of(study.experiment({}, *study.pairs[0]).algorithm)],
            seeds=list(study.seeds),
            trajectories=stratum.trajectories,
            agents=stratum.agents,
            byzantine=stratum.byzantine,
            topology=", ".join(dict.fromkeys(s.topology for s in study.strata)),
        ),
        search=search.model_dump(mode="json", exclude_none=True),
        task=study.task,
    )


def tuned_row_problems(suite: Suite, submission: Submission, resolved: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between an entered method and the studies that its submission names, one line each.

    Args:
        suite: The suite of the submission.
        submission: The submission.
        resolved: The entered method in every stratum, as it would be written today.
    """
    tasks = dict.fromkeys(stratum.learner for stratum in suite.strata if stratum.name in resolved)
    named = [str(tuning.task) for tuning in submission.tunings or ()]
    if named and sorted(named) != sorted(tasks):
        yield f"the tunings are of {'; '.join(named)}, and the tasks of the entry are {'; '.join(tasks)}"
    for tuning in submission.tunings or ():
        if tuning.search is None or tuning.search.method != submission.method.as_written:
            yield f"the tuning of {tuning.task} is no study of the suite, or one of another method"
    if submission.tuning and submission.tuning.search and (submission.tuning.task or len(tasks) > 1):
        yield "a study is of one task, and the entry has several"
    for tuning in submission.studies:
        yield from search_problems(suite, tuning, submission.method, resolved)


def search_problems(suite: Suite, tuning: Tuning, method: Method, resolved: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between an entered method and the study of a tuning, one line each.

    Args:
        suite: The suite of the submission.
        tuning: A tuning of the submission.
        method: The entered method, as written.
        resolved: The entered method in every stratum, as it would be written today.
    """
    search = tuning.search
    if search is None:
        return
    strata = [s for s in suite.strata if s.name in resolved and tuning.task in (None, s.learner)]
    yield from budget_problems(suite, tuning, search, strata)
    if set(tuning.attacks) != {canonical_spec(attack) for stratum in strata for attack in suite.held_out(stratum)}:
        yield "the attacks are not the held-out attacks of the suite"
    for task in dict.fromkeys(stratum.learner for stratum in strata):
        yield from _unsearched(search, method.in_task(task))
    for axes in (resolved[stratum.name] for stratum in strata):
        for key, searched in search.ranges.items():
            kind, _, name = key.partition(".")
            described = axes.get(kind, {"name": "", "parameters": {}})
            names = {first_parameter(kind, described["name"], today): today for today in described["parameters"]}
            value = described["parameters"].get(names.get(name))
            if not is_inside(value, searched):
                yield f"{key} is {value}, and the search space is {', '.join(map(str, searched))}"


def _unsearched(search: Search, method: Method) -> Iterator[str]:
    """Yield the differences between a method in a task and that of a search which the search did not make."""
    if method.preset != search.method.preset:
        yield f"the preset is {method.preset}, and was not searched"
    for kind in METHOD:
        before, after = (_written(kind, part) for part in (search.method, method))
        if (after.name, after.inner) != (before.name, before.inner) and not (
            before.name == "none" and any(key.startswith(f"{kind}.") for key in search.ranges)
        ):
            yield f"{kind} is {canonical_spec(after)}, and was not searched"
        values = _first_parameters(kind, before)
        for name, value in _first_parameters(kind, after).items():
            if f"{kind}.{name}" not in search.ranges and values.get(name) != value:
                yield f"{kind} {name} is {value}, and was not searched"


def search_budget(suite: Suite, strata: Iterable[Stratum]) -> int:
    """Return the episodes that a search in some strata may take: those of the suite for each of their tasks."""
    assert suite.tuning is not None
    return suite.tuning.episodes * len({stratum.learner for stratum in strata})


def budget_problems(suite: Suite, tuning: Tuning, search: Search, strata: Iterable[Stratum]) -> Iterator[str]:
    """Yield the differences between a search and any that a suite allows, one line each.

    Args:
        suite: The suite of the submission.
        tuning: The tuning of the submission.
        search: Its search.
        strata: The strata in which trials were run.
    """
    if tuning.study != study_hash(suite.sha256, search.method, search.ranges, search.sampler_seed, tuning.task):
        yield "the study is of another suite or task, or of another method than `search.method`"
    if suite.tuning is None or tuning.seeds != tuning_seeds(suite):
        yield "the seeds are not those of the suite's studies"
    elif search.episodes > (allowed := search_budget(suite, strata)):
        yield f"the search took {search.episodes:,} episodes, and the suite allows {allowed:,}"
    elif tuning.trials > (allowed := suite.tuning.trials or tuning.trials):
        yield f"the search took {tuning.trials} trials, and the suite allows {allowed}"


def _written(kind: str, method: Method) -> registry.Spec:
    """Return a component in the text of a method, `none` where it writes none."""
    return registry.parse_spec(method.options.get(registry.FLAGS[kind], "none"))


def _first_parameters(kind: str, spec: registry.Spec) -> dict[str, Any]:
    """Return the parameters of a written component by their first names."""
    return {first_parameter(kind, spec.name, name): value for name, value in spec.parameters.items()}


def is_inside(value: Any, searched: Sequence[Any]) -> bool:
    """Return whether a value is in a search space: [low, high, log] of a range, or the values of a choice."""
    is_range = len(searched) == 3 and type(searched[2]) is bool
    if is_range and all(type(end) in (int, float) for end in searched[:2]):
        return type(value) in (int, float) and searched[0] <= value <= searched[1]
    return value in searched


def search_ranges(space: Mapping[str, FloatRange | Categorical], keys: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return a search space as data: [low, high, log] of a range, the values of a choice.

    Args:
        space: The search space by `kind.field`.
        keys: The first name of each `kind.field`, which is the key in the result.
    """
    return {keys[k]: list(v) if isinstance(v, Categorical) else list(asdict(v).values()) for k, v in space.items()}


def study_hash(
    suite_sha256: str,
    method: Method,
    ranges: Mapping[str, Sequence[Any]],
    sampler_seed: int,
    task: str | None = None,
) -> str:
    """Return the hash of a study: 16 hexadecimal digits of everything that determines its trials.

    Args:
        suite_sha256: The sha256 of the suite file, which fixes strata, held-out attacks, seeds and the budget.
        method: The method, as written.
        ranges: The search space, as from `search_ranges`.
        sampler_seed: The seed of the search.
        task: The task, if the division has several.
    """
    content = {
        "suite": suite_sha256,
        "method": method.model_dump(exclude_none=True),
        "space": {key: list(values) for key, values in ranges.items()},
        "sampler_seed": sampler_seed,
        "objective": OBJECTIVE,
        **({"task": task} if task else {}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
