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
from byzbench.errors import InvalidParameter
from byzbench.experiments.experiment import Experiment
from byzbench.reports.breakdown import _largest, find_breakdown
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor

POINT: dict[str, Any] = {"algo": "decbyzpg", "attack": "sign_flip", "topology": "complete", "agents": 13}
CLEAN = 422.0
TINY = "breakdown --agents 4 --trajectories 8 --seeds 3 --executor serial -p algo.N=4".split()  # noqa: SIM905


class Imagined(Executor):
    """Runs that keep a share of what is learned, by the number of attackers; with some noise by seed."""

    def __init__(self, out: Path, kept: Any, noise: float = 0.0) -> None:
        super().__init__(out)
        self.kept, self.noise, self.seen = kept, noise, []

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        f = experiment.byzantine
        self.seen.append(f)
        level = experiment.task.reference["random"]
        shift = self.noise * math.sin(7 * experiment.seed + f)
        value = level + (CLEAN - level) * (1.0 if f == 0 else self.kept(f)) + shift
        future: Future[Any] = Future()
        future.set_result(
            CellOutcome("finished", {"return": {"mean": value}}) if self.kept(f) >= 0 else CellOutcome("failed")
        )
        return future


@pytest.mark.parametrize("threshold", range(8))
def test_bisection_finds_the_largest_that_is_survived(threshold: int) -> None:
    asked: list[int] = []

    def survives(f: int) -> bool:
        asked.append(f)
        return f <= threshold

    assert _largest(survives, 7) == threshold
    assert len(asked) <= 3
    assert 0 not in asked


@pytest.mark.parametrize("last", range(1, 7))
def test_the_point_and_what_was_run(last: int, tmp_path: Path) -> None:
    workers = Imagined(tmp_path, lambda f: 0.95 if f <= last else 0.5)
    found = find_breakdown(POINT, range(4), tmp_path, workers, parameters={"aggregator": {"nu": 0.2}})
    assert (found.f, found.low, found.high, found.most) == (last, last, last, 6)
    for f, tried in found.tried.items():
        assert tried.retention == pytest.approx(0.95 if f <= last else 0.5)
    assert len(workers.seen) == 4 * (1 + len(found.tried))


def test_the_interval_is_that_of_the_paired_contrast(tmp_path: Path) -> None:
    found = find_breakdown(POINT, range(6), tmp_path, Imagined(tmp_path, lambda f: 0.9 - 0.04 * f, noise=60.0))
    assert found.low <= found.f <= found.high
    assert found.low < found.high
    for tried in found.tried.values():
        assert tried.low < tried.margin < tried.high


def test_undefined_and_failed_numbers_of_attackers_are_not_survived(tmp_path: Path) -> None:
    point = {**POINT, "agents": 3, "aggregator": "krum"}
    found = find_breakdown(point, range(3), tmp_path, Imagined(tmp_path, lambda f: 1.0))
    assert found.f == 0
    assert found.tried[1].retention is None
    assert "krum" in found.tried[1].why
    found = find_breakdown(POINT, range(3), tmp_path, Imagined(tmp_path, lambda f: 1.0 if f < 3 else -1.0))
    assert found.f == 2
    assert found.tried[3].why == "3 of 3 runs failed"


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
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["low"] <= found["f"] <= found["high"] <= found["most"] == 1
    assert np.isfinite(found["tried"]["1"]["retention"])
