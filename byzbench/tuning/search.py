"""Tuning of parameters with Optuna: of an algorithm (with its rules) against several attacks, or of an attack.

A trial is a set of parameters. It is evaluated by runs of pairs (opponent, seed), which are ordinary cells of a store.
The value of a run is the area under its evaluation curve, which leaderboards score. The value of a trial of an
algorithm is the minimum over attacks of the mean over seeds. The value of a trial of an attack is the mean over
algorithms and seeds, which is minimised. Pairs are reported to Optuna one by one, so that a pruner that compares trials
pair by pair can end a trial early.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.core import Categorical, FloatRange
from byzbench.errors import ByzbenchError, RepairedStudy, StorageError, UnfinishedRun, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.records.locks import is_running
from byzbench.records.migrations import migrate
from byzbench.records.tuned import TunedOn, TunedParameters
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor
from byzbench.tuning.problem import OBJECTIVE, Direction, TuningProblem

PAIRS_TO_PRUNE = 6
"""The smallest number of pairs in a trial for which trials are pruned: Wilcoxon's signed-rank test needs four pairs for
a p-value below 0.1, and with fewer than six the end of a trial saves little."""

GRACE_PERIOD = 30
"""The seconds after which the lock on a journal that nobody writes is taken for that of a killed process."""

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
"""The states of finished trials."""


class SteadySampler(BaseSampler):
    """A TPE sampler whose seed depends on the number of the trial, so that interruptions do not change a study."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def _tpe(self, trial: FrozenTrial) -> TPESampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}".encode()).digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=int.from_bytes(digest[:4], "big"), multivariate=True, constant_liar=True)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the relative search space of TPE."""
        return self._tpe(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample the relative search space by TPE."""
        return self._tpe(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample a single parameter by TPE, with its name in the seed, as every parameter has its own sampler."""
        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{trial.number}/{param_name}".encode()).digest()[:4], "big")
        return TPESampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)


class SearchProblem(Protocol):
    """A problem that `run_study` searches: a `TuningProblem`, or the study of a leaderboard's suite."""

    @property
    def name(self) -> str:
        """The study's name in its storage."""

    @property
    def direction(self) -> Direction:
        """The direction of the objective: `maximize` or `minimize`."""

    @property
    def sampler_seed(self) -> int:
        """The seed of the sampler of trials."""

    @property
    def pairs(self) -> Sequence[tuple[Any, ...]]:
        """The runs of a trial, in the order in which they are reported."""

    @property
    def space(self) -> Mapping[str, FloatRange | Categorical]:
        """The search space: a range or choice for each `kind.field`."""

    @property
    def keys(self) -> Mapping[str, str]:
        """The name in storages of each `kind.field`."""

    def experiment(self, parameters: Mapping[str, Any], *pair: Any) -> Experiment:
        """Return the experiment of one run of a trial."""

    def value(self, areas: Mapping[Any, float]) -> float:
        """Return the value of a trial from the areas of its runs."""

    def defaults(self) -> Mapping[str, Any]:
        """Return the default values of the searched parameters."""

    def starts(self) -> Sequence[Mapping[str, Any]]:
        """Return the parameters of the first trials."""

    def is_active(self, key: str, parameters: Mapping[str, Any]) -> bool:
        """Return whether a parameter is part of a trial that has some parameters already."""


def open_study(problem: SearchProblem, storage: str | Path) -> Study:
    """Create the study of a problem, or load it from its storage.

    Args:
        problem: The problem.
        storage: The path of an Optuna journal, which several processes can use, or the URL of an Optuna storage.

    Raises:
        StorageError: The storage cannot be used.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if "://" in str(storage):
            backend: Any = str(storage)
        else:
            # The lock is a link to the journal, and is followed from its folder, so that the path has to be absolute.
            journal = Path(storage).absolute()
            journal.parent.mkdir(parents=True, exist_ok=True)
            lock = JournalFileSymlinkLock(str(journal), GRACE_PERIOD)
            _remove_dangling_lock(Path(f"{journal}.lock"))
            _remove_incomplete_line(journal, lock)
            backend = JournalStorage(JournalFileBackend(str(journal), lock))
        pruner: Any = optuna.pruners.NopPruner()
        if len(problem.pairs) >= PAIRS_TO_PRUNE:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=4)
        study = optuna.create_study(
            storage=backend,
            study_name=problem.name,
            direction=problem.direction,
            sampler=SteadySampler(problem.sampler_seed),
            pruner=pruner,
            load_if_exists=True,
        )
    except Exception as error:  # every storage raises its own types of errors
        reason = " ".join(str(error).split())
        raise StorageError(f"the storage {storage} cannot be used: {type(error).__name__}: {reason}") from None
    schema = study.user_attrs.get("schema")
    if schema is None:
        study.set_user_attr("schema", SCHEMA)
    migrate("study", {"schema": 1 if schema is None else schema}, f"study {problem.name} in {storage}")
    return study


def _remove_dangling_lock(link: Path) -> None:
    """Remove the lock of a killed process that leads nowhere, for which Optuna would wait for ever with a busy core.

    Earlier versions linked relative paths; a journal that was moved away has such a lock, too.
    """
    with suppress(FileNotFoundError):
        while link.is_symlink() and not link.exists():
            if time.time() - link.lstat().st_mtime > GRACE_PERIOD:
                link.unlink()
            else:
                time.sleep(0.5)


def _remove_incomplete_line(journal: Path, lock: JournalFileSymlinkLock) -> None:
    """Remove what follows the last complete line of a journal, since Optuna would append the next line to it.

    It is left of a process that was killed or of a full disk. What it said of a trial is in the store of runs.
    """

    def length() -> int | None:
        content = journal.read_bytes() if journal.exists() else b""
        return None if content.endswith(b"\n") or not content else content.rfind(b"\n") + 1

    if length() is None:
        return
    lock.acquire()  # another process may be writing the line
    try:
        if (complete := length()) is not None:
            os.truncate(journal, complete)
            warnings.warn(RepairedStudy(f"the last line of {journal} was incomplete, and is removed"), stacklevel=3)
    finally:
        lock.release()


@dataclass
class _Running:
    """A running trial, whose pairs run one after the other.

    Attributes:
        trial: The trial of Optuna.
        parameters: Its parameters by `kind.field`.
        returns: The areas of the finished runs, by pair.
        steps: The environment steps of all agents in these runs.
        failure: Why a run has no area; empty if all have one.
    """

    trial: Trial
    parameters: dict[str, Any]
    returns: dict[tuple[Any, ...], float] = field(default_factory=dict)
    steps: int = 0
    failure: str = ""


def run_study(
    problem: SearchProblem,
    study: Study,
    executor: Executor,
    trials: int,
    *,
    callback: Callable[[FrozenTrial], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run trials until the study has `trials` finished ones.

    The first trials of a study are the problem's, for example with the default values. A trial whose process died
    is enqueued again; its finished runs are in the store, and do not run again. The pairs of a trial run one after the
    other, as pruning needs. The number of concurrent trials is the executor's width. With a width of 1, two studies of
    a problem have equal trials for every storage. A trial is pruned if the process of one of its runs was killed after
    a time limit or died.

    Args:
        problem: The problem.
        study: The study, as `open_study` returns it.
        executor: The executor of the runs.
        trials: The number of finished trials to reach.
        callback: A function that is called with every finished trial.
        stopped: A function that is called before a run is started. Once it returns True no further run is started.

    Raises:
        CorruptRecord: The records of a run are damaged; the message names the file.
        StorageError: The records of a run could not be written.
    """
    _requeue_stale_trials(study)
    trials_of_study = _Trials(problem, study, executor)
    trials_of_study.enqueue_starts()

    def report(state: _Running) -> None:
        if callback:
            callback(study.trials[state.trial.number])

    while True:
        while executor.num_in_flight < executor.width and not stopped():
            if finished(study) + trials_of_study.num_running >= trials:
                break
            state = trials_of_study.ask()
            if not trials_of_study.start_next_pair(state):
                report(state)
        if not executor.num_in_flight:
            return
        state = trials_of_study.finish_pair()
        if not trials_of_study.end(state) and (stopped() or trials_of_study.start_next_pair(state)):
            continue  # a stopped trial stays open: the next call enqueues it again, and its runs are in the store
        report(state)


class _Trials:
    """The running trials of a study, each with one run in an executor.

    Args:
        problem: The problem.
        study: The study.
        executor: The executor of the runs.
    """

    def __init__(self, problem: SearchProblem, study: Study, executor: Executor) -> None:
        self._problem, self._study, self._executor = problem, study, executor
        self._defaults = problem.defaults()
        # By identity of the experiment, as two trials may have equal ones.
        self._running: dict[int, tuple[Experiment, _Running]] = {}

    @property
    def num_running(self) -> int:
        """Return the number of trials with a run in the executor."""
        return len(self._running)

    def enqueue_starts(self) -> None:
        """Enqueue the first trials of a new study, with the values that their ranges include."""
        keys, space = self._problem.keys, self._problem.space
        for start in self._problem.starts() if not self._study.get_trials(deepcopy=False) else ():
            if in_range := {keys[key]: value for key, value in start.items() if _includes(space[key], value)}:
                self._study.enqueue_trial(in_range)  # Optuna samples the values that are left out

    def ask(self) -> _Running:
        """Return a new trial with its parameters."""
        trial = self._study.ask()
        trial.set_user_attr("owner", _owner())
        keys, parameters = self._problem.keys, dict[str, Any]()
        for key, where in self._problem.space.items():
            if self._problem.is_active(key, parameters):
                parameters[key] = _suggest(trial, keys[key], where, self._defaults[key])
        return _Running(trial, parameters)

    def start_next_pair(self, state: _Running) -> bool:
        """Start the trial's next pair; return False if its parameters are invalid, which ends the trial."""
        try:
            cell = self._problem.experiment(state.parameters, *self._problem.pairs[len(state.returns)])
        except ByzbenchError as error:
            state.trial.set_user_attr("refused", str(error))
            self._study.tell(state.trial, state=TrialState.FAIL)
            return False
        self._running[id(cell)] = cell, state
        self._executor.submit(cell)
        return True

    def finish_pair(self) -> _Running:
        """Wait for a run, report its area to Optuna, and return its trial, which stays open if there is an error."""
        cell, outcome = self._executor.next()
        while outcome.status == "busy":  # another study runs it
            self._executor.submit(cell, wait=True)
            cell, outcome = self._executor.next()
        _, state = self._running.pop(id(cell))
        try:
            area = state.returns[self._problem.pairs[len(state.returns)]] = area_of(outcome, cell)
        except UnfinishedRun as error:
            state.failure = str(error)
            return state
        state.steps += int(outcome.result.get("steps", 0))
        state.trial.report(area, step=len(state.returns) - 1)
        return state

    def end(self, state: _Running) -> bool:
        """End a trial that is complete, is pruned or has a run without an area; return False for any other."""
        complete = len(state.returns) == len(self._problem.pairs)
        if not complete and not state.failure and not state.trial.should_prune():
            return False
        if state.failure:
            state.trial.set_user_attr("failure", state.failure)
        state.trial.set_user_attr("steps", state.steps)
        if complete:
            self._study.tell(state.trial, self._problem.value(state.returns))
        else:
            self._study.tell(state.trial, state=TrialState.PRUNED)
        return True


def finished(study: Study) -> int:
    """Return the number of finished trials: complete, pruned or invalid, but not those whose process died."""
    trials = study.get_trials(deepcopy=False)
    return sum(t.state in COUNTED or "refused" in t.user_attrs for t in trials)


def best(problem: TuningProblem, study: Study) -> TunedParameters:
    """Return the parameters of the study's best trial, as a file of tuned parameters.

    Raises:
        UserError: The study has no complete trial.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise UserError(f"study {problem.name} has no complete trial")
    best_trial = study.best_trial
    cell = problem.experiment({}, *problem.pairs[0])
    parameters: dict[str, dict[str, Any]] = {kind: dict(values) for kind, values in problem.fixed.items()}
    keys = {storage_name: key for key, storage_name in problem.keys.items()}
    for key, value in ((keys[storage_name], value) for storage_name, value in best_trial.params.items()):
        kind, _, name = key.partition(".")
        parameters.setdefault(kind, {})[name] = value
    algorithm, topology, task = map(registry.name_of, (cell.algorithm, cell.topology, cell.task))
    attack_side = problem.side == "attack"
    return TunedParameters(
        kind=problem.side,
        components={kind: registry.name_of(getattr(cell, kind)) for kind in {*parameters, problem.side}},
        parameters=parameters,
        study=problem.hash,
        trials=study_digest(study),
        objective={"value": study.best_value, "trial": best_trial.number, "trials": finished(study)},
        on=TunedOn(
            env=task,
            attacks=[registry.name_of(cell.attack)]
            if attack_side
            else [registry.parse_spec(r).name for r in problem.opponents],
            algorithms=list(problem.opponents) if attack_side else [algorithm],
            seeds=list(problem.seeds),
            trajectories=cell.trajectories,
            agents=cell.agents,
            byzantine=cell.byzantine,
            topology=topology,
        ),
    )


def study_digest(study: Study) -> str:
    """Return the sha256 of all finished trials: number, state, parameters, value and reported areas."""
    lines = [
        (t.number, t.state.name, sorted(t.params.items()), t.value, sorted(t.intermediate_values.items()))
        for t in study.get_trials(deepcopy=False)
        if t.state in COUNTED
    ]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def area_of(outcome: CellOutcome, cell: Experiment) -> float:
    """Return the area under the evaluation curve of a run, or a random policy's return if it failed or has none.

    Raises:
        UnfinishedRun: The process of the run was killed after a time limit, or died.
        CorruptRecord: The records of the run are damaged; the message names the file.
        StorageError: The records of the run could not be written.
    """
    if outcome.cause != "experiment":
        raise outcome.exception(f"seed {cell.seed}")
    value = outcome.result["evaluation"].get(OBJECTIVE) if outcome.status == "finished" else None
    return cell.task.reference_score("random") if value is None else float(value)


def _suggest(trial: Trial, key: str, where: FloatRange | Categorical, default: Any) -> Any:
    if isinstance(where, Categorical):
        return trial.suggest_categorical(key, list(where))
    if type(default) is int:
        return trial.suggest_int(key, int(where.low), int(where.high), log=where.log)
    return trial.suggest_float(key, where.low, where.high, log=where.log)


def _includes(where: FloatRange | Categorical, value: Any) -> bool:
    if isinstance(where, Categorical):
        return value in where
    return type(value) in (int, float) and where.low <= value <= where.high


def _owner() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _requeue_stale_trials(study: Study) -> None:
    """Mark running trials of this machine's dead processes as failed, and enqueue their parameters again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("owner")
        if owner is not None and owner["host"] == socket.gethostname() and not _is_other_running(owner["pid"]):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
                continue  # another process that starts now has marked it, and enqueues its parameters
            if trial.params:
                study.enqueue_trial(trial.params)


def _is_other_running(pid: int) -> bool:
    """Return whether another process has that number; a trial of this process's number is of one that has ended."""
    return pid != os.getpid() and is_running(pid)
