"""From an experiment to its records: runs the rounds, counts, saves, resumes."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from byzbench.canonical import hash_of
from byzbench.contracts import State
from byzbench.errors import ArchivedRun, BrokenPlugin, CorruptRecord, OtherLibraries, Undefined
from byzbench.experiments.assumptions import assumptions
from byzbench.experiments.evaluation import evaluate, evaluation_due
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.files import read_bytes
from byzbench.experiments.metrics import aggregation, evaluation_area, final_return, judge, measure
from byzbench.experiments.provenance import code_difference, differences, origin
from byzbench.experiments.records import LOGS, REMEDY, Result, RunFolder, finite
from byzbench.experiments.trace import trace_line
from byzbench.federation.adversary import Adversary
from byzbench.federation.federation import Federation
from byzbench.federation.settling import settle
from byzbench.randomness import Streams

SAVE_EVERY = 2.0
"""Seconds between checkpoints: what a kill can cost. Nothing of it enters a result."""

Existing = Literal["reuse", "rerun"]
Watcher = Callable[[Mapping[str, Any]], None]
_T = TypeVar("_T")


def run(
    experiment: Experiment | None = None,
    *,
    out: str | Path = "runs",
    on_existing: Existing = "reuse",
    watch: Watcher | None = None,
    wait: bool = False,
    **options: Any,
) -> Result:
    """Train, and return what came of it; or return at once what an earlier run of the same experiment found.

        byzbench.run(algo="decbyzpg", attack="alie", topology="ring", seed=0)

    A run that was interrupted is resumed from its checkpoint and ends with the same bytes as one that was not. A
    folder that was written by another behaviour (`byzbench.identity`) is moved to a name beside it, with the reasons in
    a warning and in its `archived.json`, and never overwritten.

    Args:
        experiment: what to run; or give the options of `Experiment.create` instead.
        out: the folder of run folders.
        on_existing: `reuse` what is there, or `rerun` from the start.
        watch: called with every line of metrics.
        wait: where another process writes the folder, wait until it has done so.
        options: see `Experiment.create`.

    Raises:
        UserError: one line that says what is wrong with the request or the folder.
        Busy: another process is writing the folder.
        StorageError: the disk refused; the same call resumes.
    """
    todo = experiment or Experiment.create(**options)
    folder = RunFolder(Path(out) / todo.hash)
    written = origin(todo)
    training = Training(todo)  # before anything is written: what it refuses leaves no trace
    with folder.locked(wait):
        if on_existing == "rerun":
            folder.clear()
        else:
            where = folder.path / "experiment.json"
            found = folder.record()
            if found is not None and hash_of(found["experiment"]) != todo.hash:
                raise CorruptRecord(f"{where} describes another experiment than its folder")
            if found is not None and (why := differences(found, todo, where)):
                target = folder.archive(why)
                warnings.warn(ArchivedRun(f"{folder.path} is now {target}: {'; '.join(why)}"), stacklevel=2)
                return run(todo, out=out, watch=watch, wait=wait)
            done = folder.read("result.json")
            if found is not None and (other := code_difference(found.get("code"), written["code"])):
                begun = "computed" if done is not None else "begun"
                warnings.warn(
                    OtherLibraries(f"{folder.path} was {begun} with others: {'; '.join(other)}"), stacklevel=2
                )
            if done is not None:
                return _load(folder, done)
            if not (folder.path / "trace.jsonl").exists():
                folder.clear()  # begun before there were traces, which cannot be made up for rounds that are over
        if folder.read("experiment.json") is None:
            folder.clear()
            folder.write("experiment.json", written)
        with one_thread():
            return _train(training, folder, written["code"]["versions"], watch)


def _load(folder: RunFolder, data: dict[str, Any]) -> Result:
    try:
        return replace(Result.from_json(data), run=str(folder.path))
    except ValueError:
        raise CorruptRecord(f"{folder.path / 'result.json'} is not a result of byzbench; {REMEDY}") from None


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in parallel depend on the number of threads; small batches are faster without them too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def federate(todo: Experiment) -> tuple[Federation, Adversary]:
    """The federation of an experiment, and the adversary inside it."""
    streams = Streams(todo.seed, todo.algorithm.fixed_streams)
    adversary = Adversary(todo.attack, todo.members, todo.task, streams, todo.defences)
    federation = Federation(
        members=todo.members,
        streams=streams,
        task=todo.task,
        aggregator=todo.aggregator,
        agreement=todo.agreement,
        coin=todo.coin,
        channel=todo.channel,
        adversary=adversary,
        policy=todo.task.policy(todo.algorithm.squashed),
        device=torch.device(todo.device),
        seats=partial(todo.members.at, todo.topology, todo.placement, streams=streams)
        if todo.topology.varies
        else None,
    )
    return federation, adversary


def lockstep(round: Coroutine[Any, Any, _T]) -> _T:
    """Run a round to its end. In lock step nothing ever waits, so its first step is its last."""
    with closing(round):
        try:
            round.send(None)
        except StopIteration as stop:
            return stop.value
    raise BrokenPlugin("a round waited for something that is not the federation")


class Training:
    """An experiment under way, as yet without records.

    Attributes:
        todo: the experiment.
        federation, adversary: see `federate`.
        state: the algorithm's.
        round: how many rounds are done.
    """

    def __init__(self, todo: Experiment) -> None:
        self.todo, self.round = todo, 0
        self.federation, self.adversary = federate(todo)
        self.state: State = todo.algorithm.start(self.federation)
        self._honest, self._bound = ~todo.members.byzantine, todo.contraction_bound
        for _, start, end in todo.task.absences:
            if not any(self.there(at).any() for at in (start, end)):
                raise Undefined(f"env.absent={todo.task.absent!r}: nobody honest is there at some point of the budget")

    @property
    def spent(self) -> int:
        """Episodes of the honest agent, or the server, that has sampled most of them."""
        return self.federation.ledger.spent(self._honest)

    @property
    def progress(self) -> float:
        """The share of the budget that is spent."""
        return self.spent / self.todo.trajectories

    def there(self, progress: float) -> Tensor:
        """The honest agents who take part at a point of the budget: bool [K]."""
        there = self._honest.clone()
        there[list(self.federation.worlds.away(progress))] = False
        return there

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.spent >= self.todo.trajectories

    @property
    def returned(self) -> float:
        """The honest agents' mean return in the last batch."""
        returns = self.federation.ledger.returns
        return math.nan if returns is None else float(returns[self._honest].nanmean())

    def trace(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """The line of trace of the round that is done, whose metrics are `line`."""
        return trace_line(line["round"], line, self.state, self._honest)

    async def advance(self) -> dict[str, Any]:
        """One round: its line of metrics, without an evaluation."""
        todo, ledger, before = self.todo, self.federation.ledger, self.state
        there, away = self.there(self.progress), self.federation.worlds.away(self.progress)
        self.federation.begin(self.round, self.progress)
        if self.round == 0 and todo.task.normalize:
            kept = self.adversary.memory  # what liars learn of statistics is of no use for gradients
            await settle(self.federation, todo.algorithm.needs, todo.task.normalize)
            self.adversary.memory = kept
        self.state, extra = await todo.algorithm.round(self.federation, self.state)
        if away and todo.algorithm.needs != "server":
            self.state = {name: _kept(part, before.get(name), sorted(away)) for name, part in self.state.items()}
        found = measure(self.state["theta"], ~there, ledger, extra, todo.agreement, self._bound)
        self.round += 1
        return {"round": self.round - 1, **found, "trajectories": self.spent}

    def evaluate(self, number: int) -> dict[str, float | None]:
        """The `number`-th evaluation of the honest agents' policies."""
        todo, worlds = self.todo, self.federation.worlds
        there = self.there(self.progress)
        present = there | todo.task.shared  # who shares a world with liars meets them there
        theta, who = self.state["theta"][present], present.nonzero().squeeze(1).tolist()
        physics, shown = worlds.physics(who, self.progress), partial(worlds.shown, who=who)
        actor, counted = todo.algorithm.deployed(self.federation.policy), there[present]
        return evaluate(todo.task, actor, theta, todo.seed, number, todo.evaluation_episodes, physics, counted, shown)


def _kept(after: Tensor, before: Tensor | None, rows: list[int]) -> Tensor:
    """State [K, ...] after a round, but for the rows of agents who were not there."""
    kept = after.clone()
    kept[rows] = torch.zeros_like(after[rows]) if before is None else before[rows]
    return kept


def _train(training: Training, folder: RunFolder, versions: dict[str, str], watch: Watcher | None) -> Result:
    budget = training.todo.trajectories
    sizes = dict.fromkeys(LOGS, 0)
    if saved := folder.restore():
        sizes = _restore(saved, training, folder)
    for name in LOGS:
        folder.open_log(name, sizes[name])

    def save() -> None:
        folder.save(_tensors(training), {"round": training.round, **_counters(training.federation)})

    saved_at = time.monotonic()
    while not training.over:
        start, before = time.perf_counter(), training.spent
        line = lockstep(training.advance())
        seconds = time.perf_counter() - start
        if due := evaluation_due(before, line["trajectories"], budget, training.todo.evaluations):
            line |= training.evaluate(due)
        folder.append("trace.jsonl", training.trace(line))
        folder.append("metrics.jsonl", line)
        folder.append("timing.jsonl", {"round": line["round"], "seconds": seconds})
        if watch:
            watch(line)
        if time.monotonic() - saved_at > SAVE_EVERY:
            save()
            saved_at = time.monotonic()
    save()
    return _conclude(training, folder, versions)


def _counters(federation: Federation) -> dict[str, int]:
    ledger = federation.ledger
    return {name: getattr(ledger, name) for name in ("screened", "silent", "kept")}


def _tensors(training: Training) -> dict[str, Tensor]:
    found = training.federation.ledger
    ledger = {"trajectories": found.trajectories, "steps": found.steps, "served": found.served}
    seen = training.federation.worlds.scales
    parts = {
        "state": training.state,
        "memory": training.adversary.memory,
        "mail": training.federation.mail,
        "ledger": ledger,
        "traffic": found.traffic,
        "worlds": {} if seen is None else {"scales": seen},
    }
    flat = {f"{part}/{name}": t for part, tensors in parts.items() for name, t in tensors.items()}
    for name, value in flat.items():
        if not isinstance(value, Tensor):
            raise BrokenPlugin(f"{name}: state and memory are flat dicts of tensors, got {type(value).__name__}")
    return flat


def _restore(saved: tuple[dict[str, Tensor], dict[str, Any]], training: Training, folder: RunFolder) -> dict[str, int]:
    """Take up a fresh training where a checkpoint is, which must hold what it holds; the sizes of the logs there."""
    tensors, progress = saved
    federation, fresh = training.federation, _tensors(training)
    wanted = {name: t for name, t in fresh.items() if name.startswith(("state/", "ledger/", "worlds/"))}
    fits = all(name in tensors and _form(tensors[name]) == _form(t) for name, t in wanted.items())
    counts = {name: progress.get(name) for name in ("round", *_counters(federation))}
    for name, size in progress["sizes"].items():
        fits = fits and len(folder.metrics(name, size)) == counts["round"]
    sent = (torch.Size([training.todo.agents + 1, 2]), torch.int64)
    fits = fits and all(_form(t) == sent for name, t in tensors.items() if name.startswith("traffic/"))
    foreign = CorruptRecord(f"{folder.path / 'checkpoint.safetensors'} is not of this experiment; {REMEDY}")
    if not fits or not all(type(n) is int and n >= 0 for n in counts.values()):
        raise foreign

    def part(name: str) -> dict[str, Tensor]:
        return {k.partition("/")[2]: t for k, t in tensors.items() if k.startswith(f"{name}/")}

    for name in _counters(federation):
        setattr(federation.ledger, name, counts[name])
    for name in ("trajectories", "steps", "served"):
        setattr(federation.ledger, name, tensors[f"ledger/{name}"])
    federation.worlds.scales = tensors.get("worlds/scales")
    federation.ledger.traffic = part("traffic")
    try:
        federation.mail = part("mail")
    except ValueError:
        raise foreign from None
    training.adversary.memory, training.round = part("memory"), progress["round"]
    device = training.state["theta"].device
    training.state = {name: t.to(device) for name, t in part("state").items()}
    return progress["sizes"]


def _form(t: Tensor) -> tuple[torch.Size, torch.dtype]:
    return t.shape, t.dtype


def _conclude(training: Training, folder: RunFolder, versions: dict[str, str]) -> Result:
    todo, theta = training.todo, training.state["theta"].cpu()
    lines = folder.metrics()
    seconds = sum(line["seconds"] for line in folder.metrics("timing.jsonl"))
    last, final = lines[-1], final_return(lines, todo.trajectories)
    result = Result(
        run=str(folder.path),
        verdict=judge(final, theta, training.there(1.0), todo.task),
        final={"mean": finite(final), "low": None, "high": None, "n": 1},
        trajectories=last["trajectories"],
        steps=last["steps"],
        steps_per_second=last["steps"] / seconds,
        disagreement=last["disagreement"],
        messages=last["messages"],
        bytes=last["bytes"],
        screened=last["screened"],
        evaluation={k: v for k, v in last.items() if k.startswith("evaluation")}
        | {"evaluation_auc": evaluation_area(lines, todo.task, todo.trajectories)},
        versions=versions,
        trace=hashlib.sha256(read_bytes(folder.path / "trace.jsonl")).hexdigest(),
        diagnostics=todo.diagnostics,
        notes=todo.notes(),
        aggregation=aggregation(lines),
        assumptions=assumptions(lines),
        traffic=training.federation.ledger.by_topic(),
    )
    folder.write("result.json", result.to_json())
    folder.forget("failure.json")
    return result
