"""A leaderboard of seconds, for tests: a suite of four cells, and a submission of it that was run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from byzbench import cli
from byzbench.leaderboard import suites
from byzbench.leaderboard.checks import CheckReport, check_submission
from byzbench.leaderboard.frozen import freeze_suite, frozen
from byzbench.leaderboard.plan import SubmissionPlan, plan_submission
from byzbench.leaderboard.replay import ReplayResult, draw_cells, replay_entry
from byzbench.leaderboard.runners import LocalRunner
from byzbench.leaderboard.schema import EntryMetadata, Method
from byzbench.leaderboard.submitting import collect_cells, write_submission
from byzbench.leaderboard.suites import Suite, suite
from byzbench.sweeps.executors import SerialExecutor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

TINY = """
name = "tiny-v1"
title = "Seconds."
seeds = 2
[[attack]]
spec = "none"
[[attack]]
spec = "ipm"
knows = "omniscient"
[[algorithm]]
spec = "decbyzpg(N=4, B=2, lr_schedule=constant, baseline=none)"
division = "decentralised"
[[stratum]]
name = "cartpole-complete"
division = "decentralised"
env = "cartpole"
topology = "complete"
agents = 5
byzantine = 1
trajectories = 8
low = 1
high = 500
random = 22.3
reference = 30
"""
TWO_GRAPHS = TINY.replace("tiny-v1", "graphs-v1") + TINY[TINY.index("[[stratum]]") :].replace(
    "cartpole-complete", "cartpole-ring"
).replace('"complete"', '"ring"')
EIGHT_SEEDS = TINY.replace("tiny-v1", "seeds-v1").replace("seeds = 2", "seeds = 8")
METHOD = Method(algo="decbyzpg(N=4, B=2, lr_schedule=constant, baseline=none)")
ABOUT = EntryMetadata(name="Tiny", slug="tiny", authors=("A. Author",), license="MIT")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite of four cells in place of the frozen ones."""
    home = tmp_path_factory.mktemp("home")
    (home / "suites").mkdir()
    texts = {"tiny-v1": TINY, "graphs-v1": TWO_GRAPHS, "seeds-v1": EIGHT_SEEDS}
    for name, text in texts.items():
        (home / "suites" / f"{name}.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "files", lambda package: home)
        forget_suites()
        for name in texts:
            freeze_suite(suite(name))
        yield suite("tiny-v1")
    forget_suites()


def forget_suites() -> None:
    for cached in (suite, suites.suites, frozen):
        cached.cache_clear()


def run(entered: SubmissionPlan, store: Path) -> None:
    todo = SweepPlan("tiny", {cell.hash: cell for cell in entered.cells.values()}, {})
    assert not run_sweep(todo, store, SerialExecutor(store)).failed


@pytest.fixture(scope="module")
def home(tiny: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs`, and `submissions` of which one was run."""
    home = tmp_path_factory.mktemp("board")
    entered = plan_submission(tiny, "defence", METHOD)
    run(entered, home / "runs")
    write_submission(entered, collect_cells(entered, home / "runs"), ABOUT, home / "submissions", notes="By hand.\n")
    return home


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    """The submission's folder, to be tampered with."""
    shutil.copytree(home / "submissions", tmp_path / "submissions")
    return tmp_path / "submissions" / "tiny-v1" / "defence" / "tiny"


def checked(folder: Path) -> CheckReport:
    return check_submission(folder, folder.parents[2])


def rewrite(folder: Path, lines: list[dict[str, Any]], **changes: Any) -> None:
    """Write cells, with a digest that fits: a forger can compute it too."""
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (folder / "cells.jsonl").write_bytes(content)
    about = json.loads((folder / "submission.json").read_text())
    about |= {"cells_sha256": hashlib.sha256(content).hexdigest(), **changes}
    (folder / "submission.json").write_text(json.dumps(about))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]


def edited(folder: Path, **code: Any) -> dict[str, Any]:
    """The code of a submission with other values."""
    return {**json.loads((folder / "submission.json").read_text())["code"], **code}


def inflate(line: dict[str, Any], by: float = 1.3) -> dict[str, Any]:
    value = repr(by * float(line["return"]))
    return line | {"return": value, "curve": [*line["curve"][:-1], value]}


def replayed(
    folder: Path, scratch: Path, callback: Callable[[str], None] | None = None, **options: Any
) -> ReplayResult:
    """The cell of `ipm` on the second seed is run again: under the first salt that draws it."""
    report = checked(folder)
    entry, here = report.entry, report.submission_plan
    assert not report.refused, report.findings
    assert entry is not None
    assert here is not None
    salts = (s for s in map(str, range(200)) if draw_cells(entry, here.cells, 1, s)[0].key[1::2] == ("ipm", 1))
    return replay_entry(entry, here, 1, next(salts), LocalRunner(scratch, SerialExecutor(scratch), callback), **options)


OLD_CODE = {"byzbench": "0.1.0", "sha256": "a" * 64, "harness": "b" * 64, "plugins": [], "commit": "c" * 40}


def as_schema_1(folder: Path) -> None:
    """Rewrite a submission as one of schema 1."""
    about = json.loads((folder / "submission.json").read_text())
    del about["resolved"]
    about["environment"].pop("processor", None)
    (folder / "submission.json").write_text(json.dumps(about | {"schema": 1, "code": OLD_CODE}))


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command."""
    monkeypatch.setattr("sys.argv", ["byzbench", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)
