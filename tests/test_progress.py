"""Progress of long commands: lines on standard error with the time left, and nothing on standard output."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from byzbench.reports import progress
from byzbench.reports.progress import StepsProgress, SweepProgress, time_left


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock by which times left are estimated, at the second `now`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.mark.parametrize(
    "elapsed, done, total, text",
    [
        (60, 2, 8, " · about 3 min left"),
        (60, 0, 8, ""),
        (60, 8, 8, ""),
        (60, 5, 6, " · about 12 s left"),
        (3, 1, 2, ""),
        (3600, 1, 9, " · about 8.0 h left"),
    ],
)
def test_the_time_left_follows_from_the_steps_that_are_over(elapsed: float, done: int, total: int, text: str) -> None:
    assert time_left(elapsed, done, total) == text


def test_steps_that_took_no_time_do_not_count(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    with StepsProgress(10, done=4, bound="at least") as bar:
        bar("trial 4", instant=True)
        clock.now += 60
        bar("trial 5 [red]")
        clock.now += 60
        bar("trial 6", total=20)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["trial 4", "trial 5 [red] · at least 4 min left", "trial 6 · at least 13 min left"]


def test_a_sweep_names_the_time_left(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [
        SimpleNamespace(reused=reused, status="finished", result={"return": {"mean": 12.0}}, error="")
        for reused in (True, False, False)
    ]
    with SweepProgress(4) as bar:
        for label, outcome in zip("abc", outcomes, strict=True):
            clock.now += 30 * (not outcome.reused)
            bar(label, outcome)  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["2/4  b: 12.0 · about 60 s left", "3/4  c: 12.0 · about 30 s left"]


def test_quiet_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with StepsProgress(2, quiet=True) as bar:
        bar("one")
    assert capsys.readouterr() == ("", "")
    assert bar.done == 1


def test_on_a_terminal_lines_are_above_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with StepsProgress(3) as bar:
        bar("one")
        bar("two")
    assert capsys.readouterr().out == ""
    shown = terminal.getvalue()
    assert shown.index("one") < shown.index("two") < shown.rindex("2/3")
    assert "left" not in shown
