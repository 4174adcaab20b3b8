"""Runs of experiments: training rounds, records, checkpoints and resumption."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Coroutine, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

from byzbench.canonical import hash_of
from byzbench.core import Communication, State
from byzbench.core.messages import plain_state
from byzbench.errors import ArchivedRun, BrokenPlugin, CorruptRecord, InvalidParameter, OtherLibraries
from byzbench.experiments.assumptions import assumptions
from byzbench.experiments.environment_check import check_environment
from byzbench.experiments.evaluation import evaluate_policy, evaluation_due
from byzbench.experiments.exact_metrics import ExactMetrics
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.metrics import (
    aggregation,
    classify_rules,
    classify_run,
    clock_summary,
    evaluation_area,
    final_return,
    majority_notes,
    measure,
)
from byzbench.experiments.plugin_errors import translate_plugin_errors
from byzbench.experiments.provenance import code_difference, code_origin, recorded_differences
from byzbench.experiments.result import Result
from byzbench.experiments.termination import deferred_termination
from byzbench.experiments.trace import trace_line
from byzbench.federation.adversary import Adversary
from byzbench.federation.clock import LockstepClock
from byzbench.federation.event_loop import EventLoop
from byzbench.federation.federation import SimulatedFederation
from byzbench.federation.normalization import settle
from byzbench.randomness import Streams
from byzbench.records.files import REMEDY
from byzbench.records.run_folder import LOGS, RunFolder, finite
from byzbench.records.seals import BLANK
from byzbench.records.store import OnExistingRun
from byzbench.registry import name_of, written_form
from byzbench.threads import one_thread

SAVE_EVERY = 2.0
"""The seconds between checkpoints, and so the largest loss by a kill; results do not depend on it."""

RoundCallback = Callable[[Mapping[str, Any]], None]
_T = TypeVar("_T")


def run_experiment(
    experiment: Experiment,
    *,
    out: str | Path = "runs",
    on_existing: OnExistingRun = "reuse",
    callback: RoundCallback | None = None,
    wait: bool = False,
) -> Result:
    """Train, or return the result of a finished run of the same experiment.

    An interrupted run is resumed from its checkpoint, and ends with the same bytes as an uninterrupted one. If other
    libraries or another processor began it, a warning and a note in the result say so. A folder of
    another numerical behaviour (`byzbench.identity`) is never overwritten: it is renamed, with the reasons in a warning
    and in its `archived.json`.

    Args:
        experiment: The experiment.
        out: The store, a folder of run folders.
        on_existing: `reuse` an existing run, or `rerun` from the start.
        callback: A function that is called with every line of metrics.
        wait: Whether to wait for another process that writes the folder.

    Returns:
        The result.

    Raises:
        UserError: The folder is invalid; the message is one line.
        Busy: Another process is writing the folder.
        StorageError: The disk cannot be written; the same call resumes the run.
    """
    _check_arguments(experiment, out, on_existing, callback)
    folder = RunFolder(Path(out) / experiment.hash)
    new_record = code_origin(experiment)
    with translate_plugin_errors(experiment.components), one_thread():
        training = Training(experiment)  # created first, as it may raise errors, which must leave no files
        if on_existing == "rerun" or not (folder.path / "result.json").exists():
            check_environment(experiment.task, experiment.agents)
    changes: list[str] = []
    with folder.locked(wait), one_thread():
        if on_existing == "rerun":
            folder.clear()
        else:
            path = folder.path / "experiment.json"
            record = folder.record()
            if record is not None and hash_of(record["experiment"]) != experiment.hash:
                raise CorruptRecord(f"{path} describes another experiment than its folder")
            if record is not None and (reasons := recorded_differences(record, experiment, path)):
                target = folder.archive(reasons)
                warnings.warn(ArchivedRun(f"{folder.path} is now {target}: {'; '.join(reasons)}"), stacklevel=2)
                return run_experiment(experiment, out=out, callback=callback, wait=wait)
            failure = folder.path / "failure.json"
            if failure.exists() and not failure.is_file():
                raise CorruptRecord(f"{failure} is not a regular file; {REMEDY}")
            result, is_begun = folder.result(), os.path.lexists(folder.path / "checkpoint.safetensors")
            if result is None and not is_begun:
                folder.clear()  # no round is left of whoever began it
            elif record is None:
                raise CorruptRecord(f"{path} is missing; {REMEDY}")
            else:
                changes = code_difference(record.get("code"), new_record["code"])
            if changes:
                verb = "computed" if result is not None else "begun"
                warnings.warn(
                    OtherLibraries(f"{folder.path} was {verb} with others: {'; '.join(changes)}"), stacklevel=2
                )
            if result is not None:
                folder.check_logs()
                return _load(folder, result)
        if folder.read("experiment.json") is None:
            folder.write("experiment.json", new_record)
        return _train(training, folder, new_record["code"]["versions"], changes, callback)


def _check_arguments(experiment: object, out: object, on_existing: str, callback: object) -> None:
    """Check the arguments of `run_experiment` that Python does not check before the first round.

    Raises:
        InvalidParameter: One is of another type or value than allowed.
    """
    if not isinstance(experiment, Experiment):
        raise InvalidParameter(f"experiment must be an Experiment, got {experiment!r}; axes are given by keyword")
    if not isinstance(out, str | os.PathLike):
        raise InvalidParameter(f"out must be the path of a folder, got {out!r}")
    if on_existing not in get_args(OnExistingRun):
        raise InvalidParameter(f"on_existing must be one of {', '.join(get_args(OnExistingRun))}; got {on_existing!r}")
    if callback is not None and not callable(callback):
        raise InvalidParameter(f"callback must be a function of one argument, got {callback!r}")


def _load(folder: RunFolder, data: dict[str, Any]) -> Result:
    try:
        return replace(Result.from_json(data), run=str(folder.path))
    except ValueError:
        raise CorruptRecord(f"{folder.path / 'result.json'} is not a result of byzbench; {REMEDY}") from None


def federate(todo: Experiment) -> tuple[SimulatedFederation, Adversary]:
    """Create the federation of an experiment and the adversary in it."""
    streams = Streams(todo.seed, todo.algorithm.fixed_streams)
    adversary = Adversary(todo.attack, todo.members, todo.task, todo.trained_policy, streams, todo.defences)
    schedule = todo.schedule
    has_lockstep_clock = schedule.has_clock and not schedule.asynchronous
    federation = SimulatedFederation(
        members=todo.members,
        streams=streams,
        task=todo.task,
        scenario=todo.scenario,
        aggregator=todo.aggregator,
        agreement=todo.agreement,
        coin=todo.coin,
        channel=todo.channel,
        adversary=adversary,
        policy=todo.trained_policy,
        device=torch.device(todo.device),
        graph_of_round=partial(todo.members.at_round, todo.topology, todo.placement, streams=streams)
        if todo.topology.varies
        else None,
        clock=LockstepClock(schedule, streams, todo.agents) if has_lockstep_clock else None,
    )
    return federation, adversary


def lockstep(round: Coroutine[Any, Any, _T]) -> _T:
    """Run the coroutine of a synchronous round, which never suspends, and return its result.

    Raises:
        BrokenPlugin: The coroutine awaited something other than the federation.
    """
    with closing(round):
        try:
            round.send(None)
        except StopIteration as stop:
            return stop.value
    raise BrokenPlugin("a round waited for something that is not the federation")


class Training:
    """The training of an experiment, without records.

    Attributes:
        todo: The experiment.
        federation: The federation.
        adversary: The adversary in the federation.
        state: The algorithm's state.
        round: The number of finished rounds.
    """

    def __init__(self, todo: Experiment) -> None:
        self.todo, self.round = todo, 0
        self.federation, self.adversary = federate(todo)
        self.loop = self._make_loop() if todo.schedule.asynchronous else None
        self.state: State = todo.algorithm.start(self.federation) if self.loop is None else self.loop.state
        self._honest, self._bound = ~todo.members.byzantine, todo.contraction_bound
        self._exact = ExactMetrics(todo.task, todo.algorithm, self.federation.policy, self.federation.scenarios)

    def _make_loop(self) -> EventLoop:
        """Return the event loop of asynchronous agents."""
        todo = self.todo
        return EventLoop(
            algorithm=todo.algorithm,
            federation=self.federation,
            adversary=self.adversary,
            schedule=todo.schedule,
            channel=todo.channel,
            streams=Streams(todo.seed, todo.algorithm.fixed_streams),
            members=todo.members,
            budget=todo.trajectories,
        )

    @property
    def spent(self) -> int:
        """Return the largest number of episodes that an honest agent or the server has sampled."""
        return self.federation.counters.trajectories_spent(self._honest)

    @property
    def progress(self) -> float:
        """Return the share of the budget that is spent."""
        return self.spent / self.todo.trajectories

    def present_agents(self, progress: float) -> Tensor:
        """Return the honest agents that are present at a share of the budget: bool [K]."""
        present = self._honest.clone()
        present[list(self.federation.scenarios.stopped_agents(progress))] = False
        return present

    @property
    def is_finished(self) -> bool:
        """Return whether the budget is spent."""
        return self.spent >= self.todo.trajectories

    @property
    def returned(self) -> float:
        """Return the honest agents' mean return in the last batch; NaN before the first."""
        returns = self.federation.statistics.returns
        return math.nan if returns is None else float(returns[self._honest].nanmean())

    def trace(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Return the line of trace of the last round, whose metrics are `line`."""
        time = line.get("seconds", line["round"])
        return trace_line(line["round"], time, line, self.state, self._honest)

    async def advance(self) -> dict[str, Any]:
        """Run one round, and return its line of metrics without an evaluation."""
        todo, old_state = self.todo, self.state
        present, absent = self.present_agents(self.progress), self.federation.scenarios.stopped_agents(self.progress)
        self.federation.begin(self.round, self.progress)
        if self.round == 0 and (episodes := self.federation.scenarios.normalization_episodes):
            memory = self.adversary.state_dict()  # restored: what an attack saw of statistics must not affect gradients
            await settle(self.federation, todo.algorithm.communication, episodes)
            self.adversary.load_state_dict(memory)
        if self.loop is not None:
            extra: Mapping[str, float] = self.loop.advance()
            self.state = self.loop.state
        else:
            self.state, extra = await todo.algorithm.round(self.federation, self.state)
        if absent and todo.algorithm.communication != Communication.SERVER:
            rows = sorted(absent)
            self.state = {name: _restore_rows(x, old_state.get(name), rows) for name, x in self.state.items()}
        measured = self.federation.finish()
        counters, theta = self.federation.counters, self.state["theta"]
        metrics = measure(theta, ~present, counters, measured, extra, todo.agreement, self._bound)
        metrics |= self._exact.measure(old_state["theta"], present, measured, self.federation.progress)
        if (clock := self.federation.clock) is not None:
            honest = self._honest.numpy()
            metrics |= {"seconds": clock.now(honest), "idle_share": finite(clock.idle_share(honest))}
        self.round += 1
        return {"round": self.round - 1, **metrics, "trajectories": self.spent}

    def evaluate(self, number: int) -> dict[str, float | None]:
        """Run the `number`-th evaluation of the honest agents' policies, and return its metrics."""
        todo, scenarios = self.todo, self.federation.scenarios
        present = self.present_agents(self.progress)
        playing = present | todo.task.shared  # in a shared game Byzantine agents are players too
        theta, who = self.state["theta"][playing], playing.nonzero().squeeze(1).tolist()
        physics, shown = scenarios.physics(who, self.progress), partial(scenarios.wrap_observations, who=who)
        actor, counted = todo.algorithm.deployed_policy(self.federation.policy), present[playing]
        episodes = todo.evaluation_episodes
        starts = partial(scenarios.start_generators, who=who, count=episodes, name="/evaluation", round=number)
        return evaluate_policy(todo.task, actor, theta, todo.seed, number, episodes, physics, counted, shown, starts)


def _restore_rows(after: Tensor, before: Tensor | None, rows: list[int]) -> Tensor:
    """Return the state [K, ...] after a round with the given rows, of absent agents, as before it."""
    restored = after.clone()
    restored[rows] = torch.zeros_like(after[rows]) if before is None else before[rows]
    return restored


def _train(
    training: Training,
    folder: RunFolder,
    versions: dict[str, str],
    changes: list[str],
    callback: RoundCallback | None,
) -> Result:
    """Train to the end of the budget, and write the result.

    Args:
        training: The training, at its start.
        folder: The run folder, which is locked.
        versions: The versions of the code that runs.
        changes: The libraries and processors in which this process differs from the one that began the run.
        callback: A function that is called with every line of metrics.
    """
    budget = training.todo.trajectories
    sizes, others = dict.fromkeys(LOGS, 0), list[str]()
    if checkpoint := folder.restore():
        sizes = _restore(checkpoint, training, folder)
        others = list(dict.fromkeys([*checkpoint[1].get("others", []), *changes]))
    for name in LOGS:
        folder.open_log(name, sizes[name])

    def save() -> None:
        with translate_plugin_errors(training.todo.components):
            tensors = _tensors(training)
        extra = {"others": others} if others else {}
        folder.save(tensors, {"round": training.round, **_counters(training.federation), **extra})

    saved_at = time.monotonic()
    with deferred_termination() as is_terminated:
        while not (training.is_finished or is_terminated()):
            watch, before = _Stopwatch(), training.spent
            with translate_plugin_errors(training.todo.components):
                line = lockstep(training.advance())
                watch.lap("seconds")
                if due := evaluation_due(before, line["trajectories"], budget, training.todo.evaluations):
                    line |= training.evaluate(due)
                    watch.lap("evaluation_seconds")
                trace = training.trace(line)
            folder.append("trace.jsonl", trace)
            folder.append("metrics.jsonl", line)
            folder.append("timing.jsonl", {"round": line["round"], **watch.laps})
            if callback:
                callback(line)
            if time.monotonic() - saved_at > SAVE_EVERY:
                save()
                saved_at = time.monotonic()
        save()
    return _conclude(training, folder, versions, others)


class _Stopwatch:
    """Seconds of the parts of a round, without those of compilation, which have a part of their own.

    Attributes:
        laps: The seconds by part.
    """

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._at, self._compiled = time.perf_counter(), _seconds_compiled()

    def lap(self, part: str) -> None:
        """Measure the time since the last call as that of a part."""
        now, compiled = time.perf_counter(), _seconds_compiled()
        if compiled > self._compiled:
            self.laps["compilation_seconds"] = self.laps.get("compilation_seconds", 0.0) + compiled - self._compiled
        self.laps[part] = now - self._at - (compiled - self._compiled)
        self._at, self._compiled = now, compiled


def _seconds_compiled() -> float:
    """Return `compilation.seconds_compiled()`, without loading Numba, which not every run needs."""
    compilation = sys.modules.get("byzbench.compilation")
    return 0.0 if compilation is None else float(compilation.seconds_compiled())


_COUNTERS = {"screened": "num_malformed", "silent": "num_silent", "kept": "num_undefined"}
"""Attributes of `Counters` by their names in a checkpoint."""


def _counters(federation: SimulatedFederation) -> dict[str, int]:
    return {name: getattr(federation.counters, counter) for name, counter in _COUNTERS.items()}


def _tensors(training: Training) -> dict[str, Tensor]:
    federation = training.federation
    groups = {
        "state": training.state,
        "memory": training.adversary.state_dict(),
        "mail": federation.network.state_dict(),
        "ledger": federation.counters.state_dict(),
        "traffic": federation.counters.traffic,
        "worlds": federation.scenarios.state_dict(),
        "clock": {} if federation.clock is None else federation.clock.state_dict(),
        "events": {} if training.loop is None else training.loop.state_dict(),
    }
    try:
        return {f"{group}/{name}": t for group, tensors in groups.items() for name, t in plain_state(tensors).items()}
    except TypeError as error:
        raise BrokenPlugin(f"state of {name_of(training.todo.algorithm)}, its rules and channel: it {error}") from None


def _restore(
    checkpoint: tuple[dict[str, Tensor], dict[str, Any]], training: Training, folder: RunFolder
) -> dict[str, int]:
    """Load a checkpoint into a new training, and return the sizes of the logs at the checkpoint.

    Raises:
        CorruptRecord: The checkpoint has other tensors or logs than the training.
    """
    tensors, progress = checkpoint
    federation, initial = training.federation, _tensors(training)
    required = {name: t for name, t in initial.items() if name.startswith(("state/", "ledger/", "worlds/"))}
    fits = all(name in tensors and _form(tensors[name]) == _form(t) for name, t in required.items())
    counts = {name: progress.get(name) for name in ("round", *_counters(federation))}
    for name, size in progress["sizes"].items():
        fits = fits and len(folder.metrics(name, size, progress["digests"].get(name))) == counts["round"]
    traffic_form = (torch.Size([training.todo.agents + 1, 2]), torch.int64)
    fits = fits and all(_form(t) == traffic_form for name, t in tensors.items() if name.startswith("traffic/"))
    mismatch = CorruptRecord(f"{folder.path / 'checkpoint.safetensors'} is not of this experiment; {REMEDY}")
    if not fits or not all(type(n) is int and n >= 0 for n in counts.values()):
        raise mismatch

    def group(name: str) -> dict[str, Tensor]:
        return {k.partition("/")[2]: t for k, t in tensors.items() if k.startswith(f"{name}/")}

    training.round = progress["round"]
    device = training.state["theta"].device
    training.state = {name: t.to(device) for name, t in group("state").items()}
    try:
        if training.loop is not None:
            training.loop.load_state_dict(group("events"), training.state)
        if federation.clock is not None:
            federation.clock.load_state_dict(group("clock"))
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, StopIteration):
        raise mismatch from None
    for name, counter in _COUNTERS.items():
        setattr(federation.counters, counter, counts[name])
    federation.counters.load_state_dict(group("ledger"))
    federation.scenarios.load_state_dict(group("worlds"))
    federation.counters.traffic = group("traffic")
    try:
        federation.network.load_state_dict(group("mail"))
    except ValueError:
        raise mismatch from None
    training.adversary.load_state_dict(group("memory"))
    return progress["sizes"]


def _form(t: Tensor) -> tuple[torch.Size, torch.dtype]:
    return t.shape, t.dtype


def _conclude(training: Training, folder: RunFolder, versions: dict[str, str], others: list[str]) -> Result:
    todo, theta = training.todo, training.state["theta"].cpu()
    lines = folder.metrics()
    timing = folder.metrics("timing.jsonl")
    parts = {"training": "seconds", "evaluation": "evaluation_seconds", "compilation": "compilation_seconds"}
    seconds = {part: sum(line.get(key, 0.0) for line in timing) for part, key in parts.items()}
    digests = folder.digests()
    last, final = lines[-1], final_return(lines, todo.trajectories)
    with translate_plugin_errors(todo.components):
        diagnostics, notes = todo.diagnostics, todo.notes()
    rules = {kind: written_form(getattr(todo, kind)) for kind in ("aggregator", "agreement")}
    verdict = classify_run(final, theta, training.present_agents(1.0), todo.task)
    resumption = [f"resumed with others: {'; '.join(others)}"] if others else []
    result = Result(
        run=str(folder.path),
        verdict=classify_rules(lines, rules, verdict.name == "diverged") or verdict,
        final={"mean": finite(final), "low": None, "high": None, "n": 1},
        trajectories=last["trajectories"],
        steps=last["steps"],
        steps_per_second=last["steps"] / max(seconds["training"], 1e-9),
        clock=clock_summary(lines),
        seconds=seconds,
        disagreement=last["disagreement"],
        messages=last["messages"],
        bytes=last["bytes"],
        num_malformed=last["num_malformed"],
        evaluation={k: v for k, v in last.items() if k.startswith("evaluation")}
        | {"evaluation_auc": evaluation_area(lines, todo.task, todo.trajectories)},
        versions=versions,
        trace=digests.pop("trace.jsonl"),
        diagnostics=diagnostics,
        notes=notes + majority_notes(lines, rules["aggregator"]) + resumption,
        aggregation=aggregation(lines),
        assumptions=assumptions(lines),
        traffic=training.federation.counters.by_topic(),
        digests=digests,
        seal=BLANK,
    )
    folder.write_sealed("result.json", result.to_json())
    folder.delete_file("failure.json")
    return _load(folder, folder.result() or {})
