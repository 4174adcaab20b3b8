"""Tuning: the objective, pruning, what resumes, what is kept apart, and what the result's file may be used for."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from byzbench import cli, registry
from byzbench.cli.tune import trial_line
from byzbench.core import Categorical, FloatRange
from byzbench.errors import InvalidParameter, RepairedStudy, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.records.tuned import TunedParameters
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor, make_executor
from byzbench.tuning import search
from byzbench.tuning.problem import FIRST_SEED, TuningProblem, tuning_problem
from byzbench.tuning.search import best, finished, open_study, run_study, study_digest

ROOT = Path(__file__).resolve().parent.parent
POINT: dict[str, Any] = {
    "algo": "decbyzpg",
    "preset": "paper",
    "topology": "complete",
    "agents": 5,
    "byzantine": 1,
    "trajectories": 12,
}


class Imagined(Executor):
    """Answers at once with what a function says of the experiment, and remembers what it was asked."""

    def __init__(self, out: Path, score: Any, width: int = 1) -> None:
        super().__init__(out)
        self.score, self.width, self.evaluated, self.waited = score, width, [], []

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        self.evaluated.append(experiment)
        self.waited.append(wait)
        future: Future[Any] = Future()
        value = self.score(experiment)
        if isinstance(value, str):
            value = CellOutcome("failed", error=value)
        if not isinstance(value, CellOutcome):
            value = CellOutcome("finished", {"evaluation": {"evaluation_auc": value}})
        future.set_result(value)
        return future


def problem_of(**changes: Any) -> TuningProblem:
    options: dict[str, Any] = {"side": "algorithm", "point": POINT, "rivals": ["ipm", "sign_flip"], **changes}
    return tuning_problem(**options)


def hill(cell: Any) -> float:
    """Best at lr = 1e-3 and p = 0.3; sign_flip costs 10; seeds differ a little."""
    import math

    slope = 40 * abs(math.log10(cell.algorithm.lr) + 3) + 100 * abs(cell.algorithm.p - 0.3)
    return 300 - slope - 10 * (registry.name_of(cell.attack) == "sign_flip") + cell.seed % 7


def test_ranges_come_from_the_fields() -> None:
    space = problem_of().space
    assert space["algorithm.lr"] == FloatRange(1e-4, 3e-2, log=True)
    assert set(space) == {"algorithm.lr", "algorithm.N", "algorithm.B", "algorithm.p", "aggregator.nu"}
    assert set(problem_of(fixed={"algo": {"lr": 0.1}}).space) == set(space) - {"algorithm.lr"}
    assert set(problem_of(point={**POINT, "aggregator": "bucketing+rfa"}).space) >= {"aggregator.s"}
    attack = tuning_problem(
        "attack", {**POINT, "attack": "min_max"} | {"algo": "decbyzpg"}, ["decbyzpg", "dec_page_pg"]
    )
    assert attack.space["attack.direction"] == Categorical("std", "unit", "sign")


def test_every_range_of_every_component_lies_within_its_bounds() -> None:
    """At both ends, the component accepts the value, and the type is the field's."""
    num_ranges = 0
    for kind in registry.KINDS:
        for name in registry.origins(kind):
            cls = registry.find(kind, name)
            if any(
                f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
                for f in dataclasses.fields(cls)
            ):
                continue
            for field, where in cls.search_space().items():
                ends = where if isinstance(where, Categorical) else (where.low, where.high)
                for value in ends:
                    number = int(value) if type(getattr(cls(), field)) is int else value
                    assert getattr(dataclasses.replace(cls(), **{field: number}), field) == number
                num_ranges += 1
    assert num_ranges > 20


def test_the_value_is_the_worst_attack_of_the_means_over_seeds(tmp_path: Path) -> None:
    todo = problem_of()
    returns = {("ipm", s): 100.0 + i for i, s in enumerate(todo.seeds)}
    returns |= {("sign_flip", s): 90.0 + 3 * i for i, s in enumerate(todo.seeds)}
    assert todo.value(returns) == 93.0
    other = TuningProblem("attack", POINT, ["decbyzpg", "solo"], todo.seeds, {})
    assert other.value({(a, s): float(v) for a, v in (("decbyzpg", 10), ("solo", 30)) for s in todo.seeds}) == 20.0
    assert other.direction == "minimize"


def test_a_search_finds_the_hill_and_says_so(tmp_path: Path) -> None:
    todo = problem_of(search={"algorithm.lr": FloatRange(1e-4, 3e-2, log=True), "algorithm.p": FloatRange(0.05, 0.5)})
    study = open_study(todo, tmp_path / "study.journal")
    workers = Imagined(tmp_path, hill)
    run_study(todo, study, workers, 40)
    assert finished(study) == 40
    assert study.trials[0].params == {"algorithm.lr": 5e-4, "algorithm.p": 0.2}
    result = best(todo, study)
    assert result.objective["value"] > study.trials[0].value + 10
    assert abs(result.parameters["algorithm"]["p"] - 0.3) < 0.08
    assert result.study == todo.hash
    assert result.trials == study_digest(study)


def test_the_first_trial_has_the_standing_values_that_ranges_hold(tmp_path: Path) -> None:
    todo = problem_of(search={"algorithm.lr": FloatRange(1e-4, 3e-2, log=True), "algorithm.p": FloatRange(0.3, 0.5)})
    study = open_study(todo, tmp_path / "study.journal")
    run_study(todo, study, Imagined(tmp_path, hill), 2)
    assert study.trials[0].params["algorithm.lr"] == 5e-4
    assert 0.3 <= study.trials[0].params["algorithm.p"] <= 0.5


def test_hopeless_trials_are_pruned_pair_by_pair(tmp_path: Path) -> None:
    todo = problem_of(
        search={"algorithm.lr": FloatRange(1e-4, 3e-2, log=True), "algorithm.p": FloatRange(0.05, 0.5)}, seeds=4
    )
    assert len(todo.pairs) == 8
    study = open_study(todo, tmp_path / "study.journal")
    workers = Imagined(tmp_path, hill)
    run_study(todo, study, workers, 20)
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert all(4 <= len(t.intermediate_values) < 8 for t in pruned)
    assert len(workers.evaluated) < 20 * 8
    reported = study.trials[0].intermediate_values
    assert [reported[i] for i in range(8)] == [hill(todo.experiment({}, *pair)) for pair in todo.pairs]


def test_fewer_than_six_pairs_are_never_pruned(tmp_path: Path) -> None:
    todo = problem_of(rivals=["ipm"], search={"algorithm.lr": FloatRange(1e-4, 3e-2, log=True)})
    study = open_study(todo, tmp_path / "study.journal")
    run_study(todo, study, Imagined(tmp_path, hill), 12)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_the_resolved_experiment_of_a_trial_has_its_parameters(tmp_path: Path) -> None:
    """All of them, the first included."""
    todo = problem_of()
    study = open_study(todo, tmp_path / "study.journal")
    workers = Imagined(tmp_path, hill)
    run_study(todo, study, workers, 3)
    for trial in study.trials:
        cell = todo.experiment(trial.params, *todo.pairs[0])
        values_of_cell = {k: getattr(getattr(cell, k.partition(".")[0]), k.partition(".")[2]) for k in todo.space}
        assert values_of_cell == trial.params
        assert cell in workers.evaluated


def test_failed_and_diverged_runs_count_as_random_play(tmp_path: Path) -> None:
    todo = problem_of(search={"algorithm.lr": FloatRange(1e-4, 3e-2, log=True)})
    study = open_study(todo, tmp_path / "study.journal")
    run_study(todo, study, Imagined(tmp_path, lambda cell: "it broke" if cell.algorithm.lr == 5e-4 else None), 2)
    assert [t.value for t in study.trials] == [todo.experiment({}, *todo.pairs[0]).task.reference["random"]] * 2


KILLED_RUN = CellOutcome("failed", error="it ran longer than 5 s", cause="process")


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"algorithm.lr": FloatRange(1e-4, 3e-2, log=True)}},
        {"side": "attack", "point": {**POINT, "attack": "ipm"} | {"algo": "decbyzpg"}, "rivals": ["decbyzpg", "solo"]},
    ],
)
def test_a_trial_with_a_killed_run_is_pruned_with_a_line_and_is_never_the_best(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """Also of an attack, for which the return of the random policy would be a good value."""
    todo = problem_of(**changes)
    study = open_study(todo, tmp_path / "study.journal")

    def score(cell: Experiment) -> Any:
        is_killed = len(study.trials) == 2 and cell.seed == todo.seeds[1]
        return KILLED_RUN if is_killed else 300.0

    run_study(todo, study, Imagined(tmp_path, score), 4)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    assert best(todo, study).objective["value"] == 300.0
    line = trial_line(study.trials[1], 2, 4, len(todo.pairs))
    assert ": pruned after 2 of 6 runs, as one failed: seed 1000000001: it ran longer than 5 s  " in line


def test_a_time_limit_counts_for_runs_that_no_other_study_runs(tmp_path: Path) -> None:
    todo = problem_of(search={"algorithm.lr": FloatRange(1e-4, 3e-2, log=True)})
    workers = Imagined(tmp_path, lambda cell: CellOutcome("busy") if len(workers.evaluated) == 2 else 300.0)
    run_study(todo, open_study(todo, tmp_path / "study.journal"), workers, 1)
    assert workers.waited == [False, False, True, False, False, False, False]


def test_a_study_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    todo = problem_of()
    whole = open_study(todo, tmp_path / "whole.journal")
    run_study(todo, whole, Imagined(tmp_path, hill), 15)
    for trials in (4, 9, 15):
        parts = open_study(todo, tmp_path / "parts.journal")
        run_study(todo, parts, Imagined(tmp_path, hill), trials)
    assert study_digest(parts) == study_digest(whole)
    run_study(todo, parts, Imagined(tmp_path, hill), 15)
    assert len(parts.trials) == 15


def test_a_trial_that_died_is_asked_again_and_finished_ones_are_kept(tmp_path: Path) -> None:
    todo = problem_of()
    study = open_study(todo, tmp_path / "study.journal")

    def dies(cell: Experiment) -> float:
        if study.trials[-1].number == 3:
            raise KeyboardInterrupt
        return hill(cell)

    with pytest.raises(KeyboardInterrupt):
        run_study(todo, study, Imagined(tmp_path, dies), 8)
    lost = study.trials[3]
    assert lost.state == TrialState.RUNNING
    finished_trials = [t.value for t in study.trials[:3]]
    again = open_study(todo, tmp_path / "study.journal")
    run_study(todo, again, Imagined(tmp_path, hill), 8)
    assert finished(again) == 8
    assert [t.value for t in again.trials[:3]] == finished_trials
    assert again.trials[3].state == TrialState.FAIL
    assert again.trials[4].params == lost.params


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in a block that hangs."""

    def end(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_study_survives_the_lock_of_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a relative path the lock of the killed process seemed to be gone, and was waited for with a busy core."""
    todo, path = problem_of(), Path("studies/study.journal")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "GRACE_PERIOD", 3)
    run_study(todo, open_study(todo, path), Imagined(tmp_path, hill), 1)
    for trials, target in ((2, path), (3, path.absolute())):
        Path(f"{path}.lock").symlink_to(target)
        with limited(25):
            study = open_study(todo, path)
            run_study(todo, study, Imagined(tmp_path, hill), trials)
        assert finished(study) == trials
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_study_survives_a_cut_journal(tmp_path: Path) -> None:
    todo = problem_of()
    path = tmp_path / "study.journal"
    run_study(todo, open_study(todo, path), Imagined(tmp_path, hill), 3)
    first = open_study(todo, path).trials[0]
    content = path.read_bytes()
    for cut in (1, 40, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:-cut])
        with pytest.warns(RepairedStudy, match=r"study\.journal was incomplete"):
            study = open_study(todo, path)
        run_study(todo, study, Imagined(tmp_path, hill), 3)
        again = open_study(todo, path)
        assert finished(again) == 3
        assert again.trials[0].value == first.value


def test_stopped_in_the_middle_of_a_trial_it_goes_on_there(tmp_path: Path) -> None:
    todo = problem_of()
    study = open_study(todo, tmp_path / "study.journal")
    workers = Imagined(tmp_path, hill)
    run_study(todo, study, workers, 5, stopped=lambda: len(workers.evaluated) >= 15)
    assert len(workers.evaluated) == 15
    left = study.trials[-1]
    assert left.state == TrialState.RUNNING
    run_study(todo, open_study(todo, tmp_path / "study.journal"), Imagined(tmp_path, hill), 5)
    final = open_study(todo, tmp_path / "study.journal").trials
    assert [t.params for t in final if t.state in search.COUNTED][left.number] == left.params


def test_several_trials_at_a_time(tmp_path: Path) -> None:
    todo = problem_of()
    study = open_study(todo, tmp_path / "study.journal")
    run_study(todo, study, Imagined(tmp_path, hill, width=4), 14)
    assert finished(study) == 14
    assert all(t.state.is_finished() for t in study.trials)


def test_parameters_that_make_no_experiment_are_a_refused_trial(tmp_path: Path) -> None:
    todo = problem_of(search={"algorithm.p": FloatRange(0.5, 3.0)})
    study = open_study(todo, tmp_path / "study.journal")
    run_study(todo, study, Imagined(tmp_path, hill), 12)
    refused = [t for t in study.trials if t.state == TrialState.FAIL]
    assert refused
    assert all("p=" in t.user_attrs["refused"] for t in refused)
    assert finished(study) == 12


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seeds": 2}, "at least 3 seeds"),
        ({"rivals": []}, "at least one rival"),
        ({"rivals": ["ipm", "ipm"]}, "none of them twice"),
        ({"rivals": ["ipmm"]}, "Did you mean 'ipm'"),
        ({"search": {"algorithm.lrr": FloatRange(0, 1)}}, "no such parameter"),
        ({"search": {"attack.scale": FloatRange(0, 1)}}, "no such parameter"),
        ({"side": "attack", "point": {**POINT, "attack": "zero", "algo": "decbyzpg"}, "rivals": ["decbyzpg"],
          "fixed": {"attack": {"on": "both"}}}, "no parameter with a range"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        problem_of(**changes)


def test_the_hash_is_of_everything_but_the_number_of_trials() -> None:
    base = problem_of()
    others = [
        problem_of(rivals=["ipm", "avg_zero"]),
        problem_of(seeds=4),
        problem_of(sampler_seed=1),
        problem_of(fixed={"algo": {"optimizer": "sgd"}}),
        problem_of(point={**POINT, "trajectories": 13}),
        problem_of(search={"algorithm.lr": FloatRange(1e-4, 1e-2)}),
        problem_of(search={"algorithm.lr": FloatRange(1e-4, 3e-2, log=True)}),
    ]
    assert len({q.hash for q in [base, *others]}) == 8
    assert problem_of().hash == base.hash


class TestFile:
    def tuned(self, tmp_path: Path, **changes: Any) -> TunedParameters:
        todo = problem_of(**changes)
        study = open_study(todo, tmp_path / f"{todo.hash}.journal")
        run_study(todo, study, Imagined(tmp_path, hill), 2)
        return best(todo, study)

    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        result = self.tuned(tmp_path)
        result.write(tmp_path / "tuned.json")
        assert TunedParameters.read(tmp_path / "tuned.json") == result
        assert result.on.seeds == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
        assert result.on.attacks == ["ipm", "sign_flip"]

    def test_it_fills_what_the_user_leaves_open(self, tmp_path: Path) -> None:
        result = self.tuned(tmp_path).parameters
        file = self.tuned(tmp_path)
        own = file.fill({"algo": "decbyzpg(lr=0.5)"}, {"algorithm": {"p": 0.4}})
        assert "lr" not in own["algorithm"]
        assert own["algorithm"]["p"] == 0.4
        assert own["algorithm"]["N"] == result["algorithm"]["N"]
        assert own["aggregator"] == result["aggregator"]
        assert "aggregator" not in file.fill({"algo": "decbyzpg", "aggregator": "krum"}, {})
        assert file.fill({"algo": "solo"}, {}) == {}

    @pytest.mark.parametrize(
        "content",
        ["", "[]", "{", '{"schema": 2}', '{"schema": 1, "kind": "algorithm"}', "[" * 100_000, "NaN", "9" * 5000],
    )
    def test_untrusted_files(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "tuned.json"
        path.write_text(content)
        with pytest.raises(UserError, match="tuned"):
            TunedParameters.read(path)
        path.write_text('{"schema": 1}')
        with pytest.raises(UserError, match=r"tuned\.json is not a file of tuned parameters: kind: is required$"):
            TunedParameters.read(path)
        path.unlink()
        with pytest.raises(UserError, match="there is no file"):
            TunedParameters.read(path)


def byzbench(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["byzbench", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


TINY = "--agents 5 --byzantine 1 --trajectories 12 -p algo.N=4 --executor serial".split()  # noqa: SIM905


@pytest.mark.slow
def test_both_sides_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tune = ["tune", "--algo", "decbyzpg", "--attacks", "ipm", "--trials", "2", *TINY]
    assert byzbench(monkeypatch, *tune) == 0
    printed = capsys.readouterr()
    assert "best of 2 trials" in printed.out
    (file,) = tmp_path.glob("runs/studies/tuned-decbyzpg-*.json")
    for picture in ("history", "slices", "importance"):
        assert f"{picture}.png" in printed.out or picture == "importance"
    assert byzbench(monkeypatch, "run", "--algo", "decbyzpg", "--tuned", str(file), "--json", *TINY[:6]) == 0
    run = json.loads(capsys.readouterr().out)
    described = json.loads(Path(run["run"], "experiment.json").read_text())["experiment"]
    chosen = json.loads(file.read_text())["parameters"]
    assert described["algorithm"]["parameters"]["lr"] == chosen["algorithm"]["lr"]
    assert described["aggregator"]["parameters"]["nu"] == chosen["aggregator"]["nu"]

    tune = ["tune", "--attack", "min_max", "--against", "decbyzpg,dec_page_pg", "--trials", "2", "--json", *TINY]
    assert byzbench(monkeypatch, *tune) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kind"] == "attack"
    assert set(result["parameters"]["attack"]) == {"direction", "on"}


@pytest.mark.parametrize(
    "words, message",
    [
        ("--trials 2", "give --algo NAME --attacks A,B"),
        ("--algo decbyzpg --attack ipm --attacks ipm", "give --algo NAME --attacks A,B"),
        ("--algo decbyzpg", "--algo NAME needs --attacks A,B"),
        ("--attack ipm --attacks ipm", "--attack NAME needs --against A,B"),
        ("--algo decbyzpg --attacks ipm --search lr=1..2", "kind.key=LOW..HIGH"),
        ("--algo decbyzpg --attacks ipm --search algo.lr=2..1", "kind.key=LOW..HIGH"),
        ("--algo decbyzpg --attacks ipm --search algo.lr=0..1:log", "kind.key=LOW..HIGH"),
        ("--algo decbyzpg --attacks ipm --search algo.nonsense=0..1", "no such parameter"),
        ("--algo decbyzpg --attacks ipm --storage nonsense://x", "the storage nonsense://x cannot be used"),
    ],
)
def test_a_tuning_that_cannot_be_is_refused_in_one_line(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = byzbench(monkeypatch, "tune", *words.split())
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert code in (1, 2)


def test_an_evaluation_keeps_its_attacks_and_seeds_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from byzbench.sweeps.grid import SweepGrid
    from byzbench.tuning.evaluation import evaluation_suite, tuning_attacks

    assert tuning_attacks(SweepGrid(attack=["ipm", "alie(z=1)"])) == ["sign_flip", "large_noise"]
    with pytest.raises(InvalidParameter, match="must not be in the suite, which has ipm"):
        tuning_attacks(SweepGrid(attack=["ipm"]), ["ipm(scale=3)", "zero"])
    with pytest.raises(InvalidParameter, match="are for tuning"):
        evaluation_suite(SweepGrid(seeds=[FIRST_SEED]), "decbyzpg")


@pytest.mark.slow
def test_a_tuned_evaluation_in_one_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.toml").write_text(
        'name = "tiny"\nattack = ["sign_flip", "none"]\nagents = 5\nbyzantine = 1\ntrajectories = 12\nseeds = 3\n'
        "[parameters.algo]\nN = 4\n"
    )
    words = ["--algo", "decbyzpg", "--suite", "suite.toml", "--trials", "3", "--executor", "serial", "--json"]
    assert byzbench(monkeypatch, "evaluate", *words) == 0
    report = json.loads(capsys.readouterr().out)
    assert "sign_flip" in json.dumps(report)
    (cells,) = tmp_path.glob("runs/sweep-*.json")
    records = [
        json.loads((tmp_path / "runs" / c / "experiment.json").read_text())
        for c in json.loads(cells.read_text())["cells"]
    ]
    seeds = {f["experiment"]["seed"] for f in records}
    assert seeds == {0, 1, 2}
    assert {f["experiment"]["attack"]["name"] for f in records} == {"sign_flip", "none"}


DASHBOARD = (
    "from optuna_dashboard import run_server; import sys; run_server(sys.argv[1], '127.0.0.1', int(sys.argv[2]))"
)


@pytest.mark.slow
def test_the_dashboard_opens_the_journal(tmp_path: Path) -> None:
    import socket

    todo = problem_of()
    path = tmp_path / "study.journal"
    run_study(todo, open_study(todo, path), Imagined(tmp_path, hill), 5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("optuna-dashboard"), path, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                    listed = json.load(answer)
                break
            except OSError:
                time.sleep(0.3)
        assert todo.name in json.dumps(listed)
    finally:
        server.terminate()
        server.wait()


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_tuning import POINT, tuning_problem
from byzbench.sweeps.executors import make_executor
from byzbench.tuning.search import finished, open_study, run_study
if __name__ == "__main__":
    todo = tuning_problem("algorithm", {{**POINT, "trajectories": 30}}, ["ipm", "sign_flip"])
    study = open_study(todo, "study.journal")
    with make_executor("serial", Path("runs")) as workers:
        run_study(todo, study, workers, int(sys.argv[1]))
    print("finished", finished(study))
"""


@pytest.mark.slow
def test_two_processes_killed_and_resumed_lose_no_finished_trial(tmp_path: Path) -> None:
    (tmp_path / "tune.py").write_text(KILLED.format(tests=str(ROOT / "tests")))
    todo = tuning_problem("algorithm", {**POINT, "trajectories": 30}, ["ipm", "sign_flip"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "tune.py", "24"]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    def known() -> dict[int, float | None]:
        if not (tmp_path / "study.journal").exists():
            return {}
        trials = open_study(todo, tmp_path / "study.journal").trials
        return {t.number: t.value for t in trials if t.state in search.COUNTED}

    draw, num_finished, kills = random.Random(1), 0, 0
    while kills < 4:
        pair = [start(), start()]
        while all(p.poll() is None for p in pair) and len(known()) < num_finished + 3:
            time.sleep(0.1)
        time.sleep(draw.uniform(0, 0.5))
        before = known()
        for process in pair:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        after = known()
        assert before.items() <= after.items()
        num_finished, kills = len(after), kills + 1
    assert num_finished < 24, "the study ended before it could be killed four times"
    pair = [start(), start()]
    assert all("finished" in p.communicate(timeout=600)[0] for p in pair)
    final = known()
    assert after.items() <= final.items()
    assert 24 <= len(final) <= 25  # two that ask at the same moment may both ask for the last


def test_two_processes_that_start_together_queue_a_stale_trial_once(tmp_path: Path, monkeypatch: Any) -> None:
    """Both see the trial of a dead process as running; the second one to mark it leaves it to the first."""
    first, second = (open_study(problem_of(), tmp_path / "study.journal") for _ in range(2))
    stale = first.ask()
    stale.suggest_float("lr", 0.0, 1.0)
    stale.set_user_attr("owner", {"host": socket.gethostname(), "pid": os.getpid()})
    tell = second.tell

    def tell_late(number: int, **state: Any) -> FrozenTrial:
        search._requeue_stale_trials(first)
        return tell(number, **state)

    monkeypatch.setattr(second, "tell", tell_late)
    search._requeue_stale_trials(second)
    assert [t.state for t in second.trials] == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.slow
def test_postgresql_and_a_journal_agree_trial_for_trial(tmp_path: Path, postgresql: str) -> None:
    todo = problem_of()
    studies = [open_study(todo, where) for where in (tmp_path / "study.journal", postgresql)]
    for study in studies:
        with make_executor("serial", tmp_path / "runs") as workers:
            run_study(todo, study, workers, 12)
    first, second = studies
    assert [t.params for t in first.trials] == [t.params for t in second.trials]
    assert study_digest(first) == study_digest(second)
    assert best(todo, first) == best(todo, second)
    storage = second._storage._backend  # type: ignore[attr-defined]  (Optuna leaves its connections open)
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture
def postgresql(tmp_path: Path) -> Any:
    """A server of Debian's package, for as long as the test lasts; its URL."""
    import glob
    import shutil

    if not glob.glob("/usr/lib/postgresql/*/bin/initdb"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qq", "-y", "postgresql"], check=True, stdout=subprocess.DEVNULL)
    programs = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    home = Path(f"/tmp/byzbench-postgresql-{os.getpid()}")
    home.mkdir()
    shutil.chown(home, "postgres")
    as_user = ["runuser", "-u", "postgres", "--"]
    data = str(home / "data")
    subprocess.run([*as_user, programs / "initdb", "-D", data, "-A", "trust"], check=True, stdout=subprocess.DEVNULL)
    options = f"-k {home} -c listen_addresses=''"
    control = [*as_user, str(programs / "pg_ctl"), "-D", data, "-w"]
    subprocess.run([*control, "-o", options, "-l", str(home / "log"), "start"], check=True, stdout=subprocess.DEVNULL)
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={home}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(home)
