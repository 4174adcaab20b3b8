"""Components that raise anything or break their contract: the run ends in one line, and a sweep goes on."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch

from byzbench import registry, run
from byzbench.aggregators.median import Median
from byzbench.cli import main
from byzbench.core import RuleContext, RuleOutput
from byzbench.errors import BrokenPlugin, Busy, CorruptRecord, InvalidParameter, StorageError, error_text
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.plugin_errors import recorded_interrupts
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor, SerialExecutor, make_executor
from byzbench.sweeps.grid import SweepGrid, plan_sweep
from byzbench.sweeps.sweep import SweepSummary, run_sweep

TINY: dict[str, Any] = {"agents": 5, "byzantine": 1, "trajectories": 2, "env": "cartpole", "policy": "linear"}
TINY |= {"algo": "learn(N=1)", "aggregator": "median", "agreement": "none", "attack": "zero"}


class EvilError(Exception):
    """An error whose message cannot be had."""

    def __str__(self) -> str:
        raise SystemExit(0)


class EvilExit(BaseException):
    """An error that is neither an `Exception` nor known."""


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


ERRORS: dict[str, Callable[[], Any]] = {
    "SystemExit": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "EvilExit": EvilExit,
    "EvilError": EvilError,
    "MemoryError": MemoryError,
    "BrokenPipeError": BrokenPipeError,
    "Busy": lambda: Busy("later"),
    "StorageError": lambda: StorageError("full"),
    "CorruptRecord": lambda: CorruptRecord("damaged"),
    "ValueError": lambda: ValueError("a\nb \ud800\x1b[0m" + "x" * 10**6),
}


def broken(component: Any, method: str, act: Callable[[], Any]) -> Any:
    """Return a component that is one of a plug-in, and whose method calls `act`."""

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        return act()

    async def fail_later(self: Any, *args: Any, **kwargs: Any) -> Any:
        return act()

    cls = type(component)
    wrapped = fail_later if getattr(cls, method).__code__.co_flags & 0x80 else fail
    plugin = dataclass(frozen=True)(type("Broken", (cls,), {method: wrapped, "__module__": __name__}))
    return plugin(**{name: getattr(component, name) for name in [f.name for f in fields(component)]})


def raising(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def act() -> Any:
        raise error()

    return act


METHODS = [
    ("attack", "craft_messages"),
    ("attack", "start"),
    ("attack", "targets"),
    ("aggregator", "aggregate"),
    ("aggregator", "defined"),
    ("algorithm", "round"),
    ("algorithm", "start"),
    ("task", "make"),
    ("policy", "build"),
    ("scenario", "check"),
    ("agreement", "agree"),
    ("channel", "encode"),
    ("topology", "__call__"),
    ("placement", "__call__"),
]


def prepared(kind: str, method: str, act: Callable[[], Any]) -> Experiment:
    """Return an experiment in which a method of the component of a kind acts."""
    todo = Experiment.create(**TINY)
    object.__setattr__(todo, kind, broken(getattr(todo, kind), method, act))
    for name in ("members", "setting", "trained_policy", "hash"):
        todo.__dict__.pop(name, None)
    return todo


@pytest.mark.parametrize("kind, method", [("attack", "craft_messages"), ("aggregator", "aggregate")])
@pytest.mark.parametrize("error", ERRORS)
def test_any_error_of_a_component_is_one_line(kind: str, method: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenPlugin) as failure:
        run(prepared(kind, method, raising(ERRORS[error])), out=tmp_path)
    line = str(failure.value)
    assert line.startswith(f"{kind} test_component_failures: {error}"), line
    assert line.isprintable()
    assert len(line) < 1000
    assert not list(tmp_path.glob("*/result.json"))


def failure_of(todo: Experiment, out: Path) -> str | None:
    """Check and run an experiment; return the line with which a plug-in fails, or None."""
    try:
        todo.check()
        run(todo, out=out)
    except BrokenPlugin as failure:
        return str(failure)
    return None


@pytest.mark.parametrize("kind, method", METHODS)
def test_no_component_ends_the_process(kind: str, method: str, tmp_path: Path) -> None:
    line = failure_of(prepared(kind, method, raising(lambda: SystemExit(0))), tmp_path)
    assert re.match(rf"{kind} test_component_failures: SystemExit: 0 \(.*, in act\)", str(line)), line


@pytest.mark.parametrize(
    "kind, method, returned",
    [
        ("attack", "craft_messages", None),
        ("attack", "craft_messages", (1, 2, 3)),
        ("aggregator", "aggregate", torch.zeros(3)),
        ("algorithm", "round", ([], {})),
        ("algorithm", "round", ({}, {})),
        ("algorithm", "start", None),
        ("algorithm", "start", {"theta": torch.zeros(5, 10).to_sparse()}),
        ("task", "make", None),
        ("agreement", "agree", None),
    ],
)
def test_a_broken_contract_is_one_line(kind: str, method: str, returned: Any, tmp_path: Path) -> None:
    todo = prepared(kind, method, lambda: returned)
    if kind == "agreement":
        todo = replace(todo, algorithm=registry.make("algorithm", "decbyzpg(N=1, B=1)"))  # type: ignore[arg-type]
    line = failure_of(todo, tmp_path)
    assert line is not None
    assert "\n" not in line
    assert "test_component_failures" in line


def test_recursion_without_end_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BrokenPlugin, match="attack test_component_failures: RecursionError: maximum recursion depth"):
        run(prepared("attack", "craft_messages", recurse), out=tmp_path)


@pytest.fixture
def _python_handles_sigint() -> Iterator[None]:
    """Install the handler of Python, which a process that a shell starts in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_python_handles_sigint")
def test_the_users_interrupt_is_none_of_a_plug_in(tmp_path: Path) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(prepared("attack", "craft_messages", interrupt), out=tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with recorded_interrupts() as interrupted:
        assert not interrupted()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        assert interrupted()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("kind", ["aggregator", "agreement"])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_a_rule_without_finite_outputs_has_a_verdict_with_its_name(kind: str, share: float, tmp_path: Path) -> None:
    todo = Experiment.create(**{**TINY, "trajectories": 5, "agreement": "gossip+median"})
    rounds = iter(range(100))

    @dataclass(frozen=True)
    class Undecided(Median):
        def aggregate(self, x: torch.Tensor, f: torch.Tensor, context: RuleContext) -> RuleOutput:
            value, *further = super().aggregate(x, f, context)
            return RuleOutput(value * (torch.nan if next(rounds) >= 5 - 5 * share else 1.0), *further)

    if kind == "aggregator":
        todo = replace(todo, aggregator=Undecided())
    else:
        todo = replace(todo, agreement=replace(todo.agreement, rule=Undecided()))  # type: ignore[call-arg]
    verdict = run(todo, out=tmp_path).verdict
    if share == 1.0:
        assert (verdict.name, verdict.number, verdict.threshold) == ("not_finite", 1.0, 0.5)
        name = {"aggregator": "test_component_failures", "agreement": "gossip"}[kind]
        assert verdict.meaning.startswith(f"{kind} {name}")
    else:
        assert verdict.name == {"aggregator": "not_learning", "agreement": "diverged"}[kind]


class Quits(gymnasium.Env[Any, Any]):
    """An environment that ends the process in its third step."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, error: str = "SystemExit") -> None:
        self._error, self._steps = error, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample() * 0, {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        if self._steps == 3:
            raise {"SystemExit": SystemExit(0), "ValueError": ValueError("no\nmore")}[self._error]
        return self.observation_space.sample() * 0, 0.0, False, False, {}


@pytest.mark.parametrize("error", ["SystemExit", "ValueError"])
def test_an_environment_that_fails_is_one_line(error: str, tmp_path: Path) -> None:
    gymnasium.register(f"Quits-{error}-v0", entry_point=Quits, max_episode_steps=9, kwargs={"error": error})
    try:
        with pytest.raises(BrokenPlugin) as failure:
            run(out=tmp_path, **{**TINY, "env": f"gymnasium(Quits-{error}-v0)"})
    finally:
        del gymnasium.registry[f"Quits-{error}-v0"]
    place = r"\(.*test_component_failures\.py, line \d+, in step\)"
    assert re.fullmatch(rf"env gymnasium\(.*\): {error}: (0|no more) {place}", str(failure.value))


PLUGIN = """
from dataclasses import dataclass
import sys
from byzbench.core import MessageAttack, ThreatModel

@dataclass(frozen=True)
class Quits(MessageAttack):
    '''Ends the process.'''
    error: str = "exit"

    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(self, context, memory, rng):
        if self.error == "exit":
            sys.exit(0)
        raise KeyboardInterrupt
"""


@pytest.fixture
def quits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plug-in whose attack ends the process."""
    home = tmp_path / "plugin"
    info = home / "quits-1.0.dist-info"
    info.mkdir(parents=True)
    (home / "quits_attack.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[byzbench.attacks]\nquits = quits_attack:Quits\n")
    monkeypatch.syspath_prepend(home)
    registry.origins.cache_clear()
    yield
    registry.origins.cache_clear()


@pytest.mark.parametrize("name", ["serial", "process"])
def test_a_component_that_exits_fails_its_cell_and_not_the_sweep(quits: None, name: str, tmp_path: Path) -> None:
    attacks = ["quits", "quits(error=interrupt)", "zero"]
    plan = plan_sweep(SweepGrid.of({**TINY, "attack": attacks, "algo": ["learn(N=1)"]}))
    with make_executor(name, tmp_path / "runs", jobs=1) as executor:
        summary = run_sweep(plan, tmp_path / "runs", executor)
    errors = sorted(outcome.error for outcome in summary.failed.values())
    place = r"\(.*quits_attack\.py, line \d+, in craft_messages\)"
    assert len(errors) == 2
    assert re.fullmatch(rf"attack quits: KeyboardInterrupt {place}", errors[0])
    assert re.fullmatch(rf"attack quits: SystemExit: 0 {place}", errors[1])
    assert len(summary.outcomes) == 3
    assert not summary.remaining
    for label in summary.failed:
        folder = tmp_path / "runs" / plan.cells[label].hash
        assert json.loads((folder / "failure.json").read_text())["error"] == summary.failed[label].error


def test_the_command_prints_one_line_and_exits_with_2(
    quits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--{name}={value}" for name, value in {**TINY, "attack": "quits"}.items()]
    for further in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["byzbench", "run", *options, *further, "--out", str(tmp_path / "runs")])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        printed = capsys.readouterr()
        assert "byzbench: error: attack quits: SystemExit: 0 (" in printed.err
        assert not printed.out


def test_the_text_of_an_error_is_short_and_printable() -> None:
    assert error_text(EvilError()) == "EvilError"
    assert error_text(ValueError("\ud800\x1b\n")) == "ValueError: ??"
    assert len(error_text(ValueError("x" * 10**7))) == 500


SLOW = """
from dataclasses import dataclass
import os
import time
from byzbench.core import ByzantineMessages, MessageAttack, ThreatModel

@dataclass(frozen=True)
class Hangs(MessageAttack):
    '''Hangs in its second round, and cannot be interrupted, unless a file is there.'''
    unless: str = ""
    exits: bool = False

    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(self, context, memory, rng):
        while context.round == 1 and not os.path.exists(self.unless):
            try:
                time.sleep(60)
            except BaseException:
                pass
        return ByzantineMessages(context.own), memory
"""


@pytest.mark.slow
def test_a_cell_that_hangs_is_ended_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, flag, out = tmp_path / "plugin", tmp_path / "mended", tmp_path / "runs"
    info = home / "hangs-1.0.dist-info"
    info.mkdir(parents=True)
    (home / "hangs_attack.py").write_text(SLOW)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[byzbench.attacks]\nhangs = hangs_attack:Hangs\n")
    monkeypatch.syspath_prepend(home)
    registry.origins.cache_clear()
    attacks = [f"hangs(unless={str(flag)!r})", "zero"]
    plan = plan_sweep(SweepGrid.of({**TINY, "attack": attacks, "algo": ["learn(N=1)"]}))

    def swept(seconds: float) -> SweepSummary:
        with make_executor("process", out, jobs=1, cell_timeout=seconds) as executor:
            return run_sweep(plan, out, executor)

    for _ in range(2):  # it is never reused
        summary = swept(15)
        ((label, outcome),) = summary.failed.items()
        assert "hangs" in label
        assert outcome.error == "it ran longer than 15 s"
        assert not outcome.reused
        assert len(summary.outcomes) == 2
        failure = json.loads((out / plan.cells[label].hash / "failure.json").read_text())
        assert failure["timeout"] == 15
        assert not (out / plan.cells[label].hash / "result.json").exists()
    flag.touch()
    assert not swept(300).failed
    registry.origins.cache_clear()


OUTCOMES = {
    "timeout": (CellOutcome("failed", error="it ran longer than 5 s", cause="process"), 1),
    "lost": (CellOutcome("failed", error="cell 0: its process was lost 4 times", cause="process"), 1),
    "error": (CellOutcome("failed", error="attack quits: SystemExit: 0"), 2),
}


@pytest.mark.parametrize("further", [[], ["--compare"]])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_limited_run_that_fails_is_one_line(
    outcome: str,
    further: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [f"--{name}={value}" for name, value in TINY.items()]
    limits = []

    class Fails(SerialExecutor):
        def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(OUTCOMES[outcome][0])
            return future

    @contextmanager
    def make(name: str, out: Path, *_: Any, cell_timeout: float, **__: Any) -> Iterator[Executor]:
        limits.append((name, cell_timeout))
        yield Fails(out)

    monkeypatch.setattr("byzbench.sweeps.executors.make_executor", make)
    words = ["run", *options, *further, "--cell-timeout", "5", "--json", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["byzbench", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == OUTCOMES[outcome][1]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"byzbench: error: seed 0: {OUTCOMES[outcome][0].error}\n")
    assert limits == [("process", 5.0)]


@pytest.mark.slow
def test_a_limited_run_is_killed_and_resumed_and_cannot_end_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, flag, out = tmp_path / "plugin", tmp_path / "mended", tmp_path / "runs"
    info = home / "hangs-1.0.dist-info"
    info.mkdir(parents=True)
    act = "os._exit(0) if self.exits else time.sleep(60)"
    (home / "hangs_attack.py").write_text(SLOW.replace("time.sleep(60)", act))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[byzbench.attacks]\nhangs = hangs_attack:Hangs\n")
    monkeypatch.syspath_prepend(home)
    registry.origins.cache_clear()

    def called(seconds: int, **parameters: Any) -> tuple[int, str, str]:
        attack = f"hangs({', '.join(f'{k}={v!r}' for k, v in {'unless': str(flag), **parameters}.items())})"
        options = [f"--{name}={value}" for name, value in {**TINY, "attack": attack}.items()]
        limit = ["--cell-timeout", str(seconds), "--json", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["byzbench", "run", *options, *limit])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    for _ in range(2):  # it is never reused
        assert called(15) == (1, "", "byzbench: error: seed 0: it ran longer than 15 s\n")
    code, printed, error = called(300, exits=True)
    assert (code, printed) == (1, "")
    assert re.fullmatch("byzbench: error: seed 0: cell [0-9a-f]{16}: its process was lost 4 times\n", error)
    flag.touch()
    code, printed, error = called(300)
    assert (code, error) == (0, "")
    assert json.loads(printed)["trajectories"] == 2
    assert called(300)[0] == 0
    registry.origins.cache_clear()


@pytest.mark.parametrize(
    "name, seconds", [("serial", 5.0), *(("process", x) for x in (0.0, -1.0, math.nan, math.inf, 1e300))]
)
def test_a_time_limit_needs_processes(name: str, seconds: float, tmp_path: Path) -> None:
    message = "a cell timeout must be above 0 seconds, and needs the executor process"
    with pytest.raises(InvalidParameter, match=message), make_executor(name, tmp_path, cell_timeout=seconds):
        pass
