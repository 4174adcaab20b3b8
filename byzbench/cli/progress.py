"""Progress bars on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from byzbench.experiments.cells import Outcome


class Progress:
    """Watches a run: call it with every line of metrics."""

    def __init__(self, budget: int, title: str, quiet: bool = False) -> None:
        """`budget` in trajectories per agent."""
        self._budget, self._title, self._quiet, self._told = budget, title, quiet, 0
        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} trajectories · return {task.fields[value]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task(title, total=budget, value="-")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, line: Mapping[str, Any]) -> None:
        """One round is over."""
        done, value = min(line["trajectories"], self._budget), line["return"]
        shown = "not finite" if value is None else f"{value:.1f}"
        self._bar.update(self._task, completed=done, value=shown)
        tenth = 10 * done // self._budget
        if self._bar.disable and not self._quiet and tenth > self._told:
            self._told = tenth
            print(f"{self._title}: {done}/{self._budget} trajectories, return {shown}", file=sys.stderr, flush=True)


class SweepProgress:
    """Watches a sweep: call it with every cell that is over."""

    def __init__(self, cells: int, quiet: bool = False) -> None:
        """`cells` in all."""
        self._cells, self._quiet, self._done, self._failed = cells, quiet, 0, 0
        self._worst: tuple[float, str] | None = None
        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("cells"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}{task.fields[said]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=quiet or not console.is_terminal,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("", total=cells, said="")

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, label: str, outcome: Outcome) -> None:
        """A cell is over."""
        self._done += 1
        self._failed += outcome.status == "failed"
        value = outcome.result["return"]["mean"] if outcome.result else None
        if value is not None and (self._worst is None or value < self._worst[0]):
            self._worst = value, label
        failed = f" · {self._failed} failed" if self._failed else ""
        worst = f" · worst so far {self._worst[0]:.1f} ({self._worst[1]})" if self._worst else ""
        self._bar.update(self._task, completed=self._done, said=failed + worst)
        if self._bar.disable and not self._quiet and not outcome.reused:
            said = outcome.error if outcome.error else "not finite" if value is None else f"{value:.1f}"
            print(f"{self._done}/{self._cells}{failed}  {label}: {said}", file=sys.stderr, flush=True)


PLAIN_EVERY = 5.0
"""Seconds between lines of progress where standard error is no terminal."""


def announce(line: str) -> None:
    """Print one line on standard error at once.

    Args:
        line: The line.
    """
    print(f"byzbench: {line}", file=sys.stderr, flush=True)


class RunsProgress:
    """Progress of runs that other processes write, by what their logs hold; call it with every run that is over."""

    def __init__(self, runs: Mapping[str, tuple[Path, int]], jobs: int, quiet: bool = False) -> None:
        """Announce the runs.

        Args:
            runs: By label, `name · seed 0`, the folder and the budget in trajectories.
            jobs: How many processes run them.
            quiet: Print nothing.
        """
        self._runs, self._quiet, self._began = dict(runs), quiet, time.monotonic()
        self._over: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} trajectories"),
            TimeElapsedColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
            refresh_per_second=4,
        )
        self._total = sum(budget for _, budget in self._runs.values())
        self._task = self._bar.add_task(f"{len(self._runs)} runs", total=self._total)
        if not quiet:
            names = dict.fromkeys(label.partition(" · ")[0] for label in self._runs)
            announce(f"{len(self._runs)} runs in {jobs} process{'es' * (jobs > 1)}: {', '.join(names)}")

    def __enter__(self) -> RunsProgress:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.stop()

    def __call__(self, label: str, outcome: Outcome) -> None:
        """Count a run that is over."""
        self._over[label] = self._runs[label][1]
        self._show()
        if not self._quiet:
            value = outcome.result.get("evaluation", {}).get("evaluation")
            shown = "not finite" if value is None else f"evaluation return {value:.1f}"
            reused = " (reused)" if outcome.reused else ""
            self._bar.console.print(f"{label}: {outcome.error or shown}{reused}", markup=False, highlight=False)

    def _follow(self) -> None:
        told = self._began
        while not self._stop.wait(0.5):
            done = self._show()
            if self._bar.disable and not self._quiet and time.monotonic() - told >= PLAIN_EVERY:
                told = time.monotonic()
                announce(f"{told - self._began:.0f} s: {done} of {self._total} trajectories")

    def _show(self) -> int:
        """Show and return how many trajectories are done."""
        done = sum(
            self._over.get(label, min(budget, _trajectories(folder))) for label, (folder, budget) in self._runs.items()
        )
        self._bar.update(self._task, completed=done)
        return done


def _trajectories(folder: Path) -> int:
    """Return how many trajectories the log of a run counts so far."""
    try:
        with open(folder / "metrics.jsonl", "rb") as log:
            log.seek(max(0, log.seek(0, 2) - 2**16))
            lines = log.read().rsplit(b"\n", 2)
        return int(json.loads(lines[-2])["trajectories"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0
