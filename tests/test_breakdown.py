"""The breakdown point: bisection, its interval, and what counts as survived."""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byzbench import cli
from byzbench.errors import InvalidParameter, UnfinishedRun
from byzbench.experiments.experiment import Experiment
from byzbench.reports.breakdown import _largest, find_breakdown
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor

POINT: dict[str, Any] = {"algo": "decbyzpg", "attack": "sign_flip", "topology": "complete", "agents": 13}
CLEAN = 422.0
TINY = "breakdown --agents 4 --trajectories 8 --seeds 3 --executor serial -p algo.N=4".split()  # noqa: SIM905


class Imagined(Executor):
    """Runs that keep a share of what is learned, by the number of attackers; with some noise by seed."""

    def __init__(self, out: Path, retained: Any, noise: float = 0.0) -> None:
        super().__init__(out)
        self.retained, self.noise, self.evaluated = retained, noise, []

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        f = experiment.byzantine
        self.evaluated.append(f)
        level = experiment.task.reference["random"]
        shift = self.noise * math.sin(7 * experiment.seed + f)
        value = level + (CLEAN - level) * (1.0 if f == 0 else self.retained(f)) + shift
        future: Future[Any] = Future()
        future.set_result(
            CellOutcome("finished", {"return": {"mean": value}}) if self.retained(f) >= 0 else CellOutcome("failed")
        )
        return future


@pytest.mark.parametrize("threshold", range(8))
def test_bisection_finds_the_largest_that_is_survived(threshold: int) -> None:
    tried_values: list[int] = []

    def survives(f: int) -> bool:
        tried_values.append(f)
        return f <= threshold

    assert _largest(survives, 7) == threshold
    assert len(tried_values) <= 3
    assert 0 not in tried_values


@pytest.mark.parametrize("last", range(1, 7))
def test_the_point_and_what_was_run(last: int, tmp_path: Path) -> None:
    workers = Imagined(tmp_path, lambda f: 0.95 if f <= last else 0.5)
    result = find_breakdown(POINT, range(4), tmp_path, workers, parameters={"aggregator": {"nu": 0.2}})
    assert (result.f, result.low, result.high, result.most) == (last, last, last, 6)
    for f, tried in result.tried.items():
        assert tried.retention == pytest.approx(0.95 if f <= last else 0.5)
    assert len(workers.evaluated) == 4 * (1 + len(result.tried))


def test_the_interval_is_that_of_the_paired_contrast(tmp_path: Path) -> None:
    result = find_breakdown(POINT, range(6), tmp_path, Imagined(tmp_path, lambda f: 0.9 - 0.04 * f, noise=60.0))
    assert result.low <= result.f <= result.high
    assert result.low < result.high
    for tried in result.tried.values():
        assert tried.low < tried.margin < tried.high


def test_undefined_and_failed_numbers_of_attackers_are_not_survived(tmp_path: Path) -> None:
    point = {**POINT, "agents": 3, "aggregator": "krum"}
    result = find_breakdown(point, range(3), tmp_path, Imagined(tmp_path, lambda f: 1.0))
    assert result.f == 0
    assert result.tried[1].retention is None
    assert "krum" in result.tried[1].why
    result = find_breakdown(POINT, range(3), tmp_path, Imagined(tmp_path, lambda f: 1.0 if f < 3 else -1.0))
    assert result.f == 2
    assert result.tried[3].why == "3 of 3 runs failed"


def test_a_killed_run_is_an_error_and_not_a_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = CellOutcome("failed", error="it ran longer than 5 s", cause="process")
    start = Imagined._start

    def limited(self: Imagined, experiment: Experiment, wait: bool) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(killed)
        return future if (experiment.byzantine, experiment.seed) == (3, 1) else start(self, experiment, wait)

    monkeypatch.setattr(Imagined, "_start", limited)
    with pytest.raises(UnfinishedRun, match=r"^f=3, seed 1: it ran longer than 5 s$"):
        find_breakdown(POINT, range(3), tmp_path, Imagined(tmp_path, lambda f: 1.0))


def test_questions_that_cannot_be_answered(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="at least 3 seeds"):
        find_breakdown(POINT, range(2), tmp_path, Imagined(tmp_path, lambda f: 1.0))
    with pytest.raises(InvalidParameter, match="from 1 to 12"):
        find_breakdown(POINT, range(3), tmp_path, Imagined(tmp_path, lambda f: 1.0), most=13)
    with pytest.raises(InvalidParameter, match="runs without Byzantine agents failed"):
        find_breakdown(POINT, range(3), tmp_path, Imagined(tmp_path, lambda f: -1.0))


def test_nothing_learned_is_nothing_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = TINY
    monkeypatch.setattr(sys, "argv", ["byzbench", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "the method did not learn" in capsys.readouterr().err


def test_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from byzbench.reports import breakdown as module

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "LEARNING", -10.0)
    words = [*TINY, "--json"]
    monkeypatch.setattr(sys, "argv", ["byzbench", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    result = json.loads(capsys.readouterr().out)
    assert 0 <= result["low"] <= result["f"] <= result["high"] <= result["most"] == 1
    assert np.isfinite(result["tried"]["1"]["retention"])
