"""Searching parameters: of an algorithm (with its rules) against the worst of several attacks, or of an attack.

A trial is a set of parameters; it is judged by runs of (rival, seed) pairs, which are cells of a store like any others.
The value of a run is the area under its evaluation curve, which is what leaderboards score. That of a trial, for an
algorithm, is the worst over rivals (attacks) of the mean over seeds; for an attack, the mean over rivals (algorithms)
and seeds, and lower is better. Pairs are reported to Optuna one by one, so that a pruner
that compares trials pair by pair can end one early.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.contracts import Choice, Range
from byzbench.errors import ByzbenchError, StorageError, UserError
from byzbench.experiments.cells import Outcome
from byzbench.experiments.executors import Executor
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.migrations import migrate
from byzbench.experiments.question import OBJECTIVE, Question
from byzbench.experiments.tuned import Tuned, TunedOn

PAIRS_TO_PRUNE = 6
"""With fewer pairs in a trial nothing is pruned: Wilcoxon's signed-rank test needs four to reach a p-value below 0.1,
and ending a trial must save something."""

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


class SteadySampler(BaseSampler):
    """TPE, seeded anew by the number of each trial: a study that was interrupted goes on as if it had not been."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def _tpe(self, trial: FrozenTrial) -> TPESampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}".encode()).digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=int.from_bytes(digest[:4], "big"), multivariate=True, constant_liar=True)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """TPE's."""
        return self._tpe(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """TPE's."""
        return self._tpe(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """TPE's, with the parameter's name in the seed, since each is drawn by a sampler of its own."""
        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{trial.number}/{param_name}".encode()).digest()[:4], "big")
        return TPESampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)


class Problem(Protocol):
    """A problem that `tune` searches: a `Question`, or the study of a leaderboard's suite."""

    @property
    def name(self) -> str:
        """The study's name in its storage."""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """`maximize` if large values are good."""

    @property
    def sampler_seed(self) -> int:
        """The seed of the search itself."""

    @property
    def pairs(self) -> Sequence[tuple[Any, ...]]:
        """The runs of a trial, in the order in which they are reported."""

    @property
    def space(self) -> Mapping[str, Range | Choice]:
        """`kind.field` to where the search looks."""

    @property
    def keys(self) -> Mapping[str, str]:
        """`kind.field` to its name in storages."""

    def experiment(self, parameters: Mapping[str, Any], *pair: Any) -> Experiment:
        """Return a run of a trial."""

    def value(self, areas: Mapping[Any, float]) -> float:
        """Return the value of a trial from what each of its runs came to."""

    def standing(self) -> Mapping[str, Any]:
        """Return the values that the searched parameters have without a search."""


def open_study(asked: Problem, storage: str | Path) -> Study:
    """The study of a question, new or as it was left.

    Args:
        asked: the question.
        storage: a file (Optuna's journal, safe with many processes), or a URL of Optuna's.

    Raises:
        StorageError: the storage cannot be reached.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if "://" in str(storage):
            back: Any = str(storage)
        else:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            back = JournalStorage(JournalFileBackend(str(storage)))
        pruner: Any = optuna.pruners.NopPruner()
        if len(asked.pairs) >= PAIRS_TO_PRUNE:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=4)
        study = optuna.create_study(
            storage=back,
            study_name=asked.name,
            direction=asked.direction,
            sampler=SteadySampler(asked.sampler_seed),
            pruner=pruner,
            load_if_exists=True,
        )
    except Exception as error:  # every storage has errors of its own
        said = " ".join(str(error).split())
        raise StorageError(f"the storage {storage} cannot be used: {type(error).__name__}: {said}") from None
    written = study.user_attrs.get("schema")
    if written is None:
        study.set_user_attr("schema", SCHEMA)
    migrate("study", {"schema": 1 if written is None else written}, f"study {asked.name} in {storage}")
    return study


@dataclass
class _Running:
    """A trial whose pairs are being run, one after the other.

    Attributes:
        returns: what each run so far came to.
        steps: environment steps of all agents in them.
    """

    trial: Trial
    parameters: dict[str, Any]
    returns: dict[tuple[Any, ...], float] = field(default_factory=dict)
    steps: int = 0


def tune(
    asked: Problem,
    study: Study,
    executor: Executor,
    trials: int,
    *,
    watch: Callable[[FrozenTrial], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run trials until the study has as many finished ones as `trials`, a few of them at a time.

    The first trial of a study is what stands without a search. A trial that was running when its process died is
    asked again; its finished runs are in the store, and are not run again. Pairs of a trial run one after the other, as
    pruning needs; as many trials run at once as the executor has room for, and with room for one, two studies of a
    question agree trial for trial, whatever their storage.
    """
    _revive(study)
    standing = asked.standing()
    held = {asked.keys[key]: value for key, value in standing.items() if _holds(asked.space[key], value)}
    if held and not study.get_trials(deepcopy=False):
        study.enqueue_trial(held)  # a value that its range does not hold is sampled
    running: dict[int, tuple[Experiment, _Running]] = {}  # by identity, since two trials may ask for the same run

    def begin(one: _Running) -> bool:
        """Start the trial's next pair; False if the trial is over, because its parameters make no experiment."""
        try:
            cell = asked.experiment(one.parameters, *asked.pairs[len(one.returns)])
        except ByzbenchError as error:
            one.trial.set_user_attr("refused", str(error))
            study.tell(one.trial, state=TrialState.FAIL)
            return False
        running[id(cell)] = cell, one
        executor.submit(cell, wait=True)
        return True

    def over(one: _Running) -> None:
        if watch:
            watch(study.trials[one.trial.number])

    while True:
        while executor.flying < executor.width and not stopped():
            if finished(study) + len(running) >= trials:
                break
            trial = study.ask()
            trial.set_user_attr("owner", _owner())
            one = _Running(trial, {k: _suggest(trial, asked.keys[k], v, standing[k]) for k, v in asked.space.items()})
            if not begin(one):
                over(one)
        if not executor.flying:
            return
        cell, outcome = executor.next()
        _, one = running.pop(id(cell))
        pair = asked.pairs[len(one.returns)]
        one.returns[pair] = area_of(outcome, cell)
        one.steps += int(outcome.result.get("steps", 0))
        one.trial.report(one.returns[pair], step=len(one.returns) - 1)
        complete = len(one.returns) == len(asked.pairs)
        if complete or one.trial.should_prune():
            one.trial.set_user_attr("steps", one.steps)
            if complete:
                study.tell(one.trial, asked.value(one.returns))
            else:
                study.tell(one.trial, state=TrialState.PRUNED)
        elif stopped() or begin(one):
            continue  # stopped, it is left: the next call asks its parameters again, and its runs are in the store
        over(one)


def finished(study: Study) -> int:
    """Trials that count towards the budget: complete, pruned, or refused; not those that died with their process."""
    trials = study.get_trials(deepcopy=False)
    return sum(t.state in COUNTED or "refused" in t.user_attrs for t in trials)


def best(asked: Question, study: Study) -> Tuned:
    """The study's best trial as a file of tuned parameters.

    Raises:
        UserError: no trial is complete.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise UserError(f"study {asked.name} has no complete trial")
    chosen = study.best_trial
    cell = asked.experiment({}, *asked.pairs[0])
    parameters: dict[str, dict[str, Any]] = {kind: dict(values) for kind, values in asked.fixed.items()}
    named = {first: key for key, first in asked.keys.items()}
    for key, value in ((named[first], value) for first, value in chosen.params.items()):
        kind, _, name = key.partition(".")
        parameters.setdefault(kind, {})[name] = value
    parts = (cell.algorithm, cell.topology, cell.task)
    algorithm, topology, task = map(registry.name_of, parts)
    attack_side = asked.side == "attack"
    return Tuned(
        kind=asked.side,
        components={kind: registry.name_of(getattr(cell, kind)) for kind in {*parameters, asked.side}},
        parameters=parameters,
        study=asked.hash,
        trials=digest(study),
        objective={"value": study.best_value, "trial": chosen.number, "trials": finished(study)},
        on=TunedOn(
            env=task,
            attacks=[registry.name_of(cell.attack)] if attack_side else [registry.parse(r).name for r in asked.rivals],
            algorithms=list(asked.rivals) if attack_side else [algorithm],
            seeds=list(asked.seeds),
            trajectories=cell.trajectories,
            agents=cell.agents,
            byzantine=cell.byzantine,
            topology=topology,
        ),
    )


def digest(study: Study) -> str:
    """Of all finished trials, whatever the storage: number, state, parameters, value, and reported returns."""
    lines = [
        (t.number, t.state.name, sorted(t.params.items()), t.value, sorted(t.intermediate_values.items()))
        for t in study.get_trials(deepcopy=False)
        if t.state in COUNTED
    ]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def area_of(outcome: Outcome, cell: Experiment) -> float:
    """Return the area under the evaluation curve; of a run that failed or has none, a random policy's return."""
    value = outcome.result["evaluation"].get(OBJECTIVE) if outcome.status == "finished" else None
    return cell.task.worth("random") if value is None else float(value)


def _suggest(trial: Trial, key: str, where: Range | Choice, default: Any) -> Any:
    if isinstance(where, Choice):
        return trial.suggest_categorical(key, list(where))
    if type(default) is int:
        return trial.suggest_int(key, int(where.low), int(where.high), log=where.log)
    return trial.suggest_float(key, where.low, where.high, log=where.log)


def _holds(where: Range | Choice, value: Any) -> bool:
    if isinstance(where, Choice):
        return value in where
    return type(value) in (int, float) and where.low <= value <= where.high


def _owner() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _revive(study: Study) -> None:
    """Trials of processes of this machine that are no more: given up, and their parameters asked again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("owner")
        if owner is not None and owner["host"] == socket.gethostname() and not _alive(owner["pid"]):
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)


def _alive(pid: int) -> bool:
    if pid == os.getpid():  # this process has only begun
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
