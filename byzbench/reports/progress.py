"""Progress: bars on a terminal and in a notebook, plain lines on standard error elsewhere."""

from __future__ import annotations

import html
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from byzbench.reports.terminal import terminal_width, wrap_line

if TYPE_CHECKING:
    from byzbench.sweeps.cells import CellOutcome


def duration(seconds: float) -> str:
    """Return a duration as text, in the unit that suits it.

    Example:
        >>> duration(80), duration(600), duration(9000)
        ('80 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def time_left(elapsed: float, done: float, total: float, bound: str = "about") -> str:
    """Return the time left as the end of a line; empty where it is not known, or below ten seconds.

    Args:
        elapsed: Seconds since the start.
        done: Steps that took this time, without those that were reused.
        total: Steps in all, without those that were reused.
        bound: `about`, or `at least` where the total may grow.

    Example:
        >>> time_left(60, 1, 4), time_left(60, 0, 4)
        (' · about 3 min left', '')
    """
    seconds = elapsed / done * (total - done) if done > 0 else 0.0
    return f" · {bound} {duration(seconds)} left" if seconds >= _SHORTEST else ""


_SHORTEST = 10.0
"""The smallest number of seconds that are named as left."""


class _Bar(RichProgress):
    """Progress bar under a line of text; both fit a terminal of 80 columns."""

    def __init__(self, title: str, counts: str, *times: ProgressColumn, quiet: bool, transient: bool = False) -> None:
        console, self.title = Console(stderr=True), title
        self._notebook = None if quiet else _notebook_display()
        super().__init__(
            BarColumn(bar_width=24),
            TextColumn(counts),
            *times,
            console=console,
            disable=quiet or not console.is_terminal,
            refresh_per_second=4,
            transient=transient,
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the line of text, if there is one, and the bar."""
        if self.title:
            yield Text(self.title, no_wrap=True, overflow="ellipsis")
        yield from super().get_renderables()

    @property
    def is_shown(self) -> bool:
        """Return whether a terminal or a notebook shows the bar."""
        return not self.disable or self._notebook is not None

    def update(self, *values: Any, **fields: Any) -> None:
        """Update the bar; that of a notebook is replaced in place."""
        super().update(*values, **fields)
        if self._notebook is not None:
            task = self.tasks[0]
            numbers = html.escape(_counts(task.completed, task.total, task.fields.get("value")))
            bar = f'<progress value="{task.completed:.0f}" max="{task.total:.0f}"></progress>'
            self._notebook(f"<div>{html.escape(self.title)}<br>{bar} {numbers}</div>")


def _counts(completed: float, total: float | None, value: object) -> str:
    return f"{completed:.0f}/{total or 0:.0f}" + ("" if value is None else f" · return {value}")


def _notebook_display() -> Callable[[str], None] | None:
    """Return a function that shows HTML at one place of a notebook, again and again; None outside of notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if not hasattr(shell, "kernel"):
        return None
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    return lambda text: handle.update(HTML(text))


class Progress:
    """Progress of one run, a callback that gets every line of metrics."""

    def __init__(self, budget: int, title: str, quiet: bool = False) -> None:
        """Prepare the progress bar.

        Args:
            budget: Trajectories per agent of the whole run.
            title: The text before the bar.
            quiet: Print nothing.
        """
        self._budget, self._title, self._quiet, self._printed_tenth = budget, title, quiet, 0
        counts = "{task.completed:.0f}/{task.total:.0f} · return {task.fields[value]}"
        # The bar of a run that is reused is removed, since it never gets a line of metrics.
        self._bar = _Bar(title, counts, TimeElapsedColumn(), TimeRemainingColumn(), quiet=quiet, transient=True)
        self._task = self._bar.add_task(title, total=budget, value="-")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Show the progress after a round."""
        self._bar.live.transient = False
        done, value = min(line["trajectories"], self._budget), line["return"]
        shown = "not finite" if value is None else f"{value:.1f}"
        self._bar.update(self._task, completed=done, value=shown)
        tenth = 10 * done // self._budget
        if not self._bar.is_shown and not self._quiet and tenth > self._printed_tenth:
            self._printed_tenth = tenth
            print(f"{self._title}: {done}/{self._budget} trajectories, return {shown}", file=sys.stderr, flush=True)


class SweepProgress:
    """Progress of a sweep, a callback that gets every cell that is over."""

    def __init__(self, cells: int, quiet: bool = False) -> None:
        """Prepare the progress bar.

        Args:
            cells: The number of cells.
            quiet: Print nothing.
        """
        self._cells, self._quiet, self._done, self._reused, self._failed = cells, quiet, 0, 0, 0
        self._began = time.monotonic()
        self._worst: tuple[float, str] | None = None
        counts, remaining = "{task.completed:.0f}/{task.total:.0f}", TimeRemainingColumn(elapsed_when_finished=True)
        self._bar = _Bar(f"{cells} cells", counts, TimeElapsedColumn(), remaining, quiet=quiet)
        self._task = self._bar.add_task("", total=cells)

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, label: str, outcome: CellOutcome) -> None:
        """Count a cell that is over."""
        self._done += 1
        self._reused += outcome.reused
        self._failed += outcome.status == "failed"
        value = outcome.result.get("return", {}).get("mean")
        if value is not None and (self._worst is None or value < self._worst[0]):
            self._worst = value, label
        failed = f" · {self._failed} failed" if self._failed else ""
        reused = f" · {self._reused} reused" if self._reused else ""
        worst = f" · worst so far {self._worst[0]:.1f} ({self._worst[1]})" if self._worst else ""
        self._bar.title = f"{self._cells} cells{reused}{failed}{worst}"
        self._bar.update(self._task, completed=self._done)
        if not self._bar.is_shown and not self._quiet and not outcome.reused:
            shown = outcome.error if outcome.error else "not finite" if value is None else f"{value:.1f}"
            done, total = self._done - self._reused, self._cells - self._reused
            left = time_left(time.monotonic() - self._began, done, total)
            print(f"{self._done}/{self._cells}{failed}  {label}: {shown}{left}", file=sys.stderr, flush=True)


class StepsProgress:
    """Progress of steps of one kind, as the trials of a study: a line for each step that is over, and the time left.

    On a terminal the lines are above a bar.

    Attributes:
        done: How many steps are over.
    """

    def __init__(self, total: int, *, done: int = 0, bound: str = "about", quiet: bool = False) -> None:
        """Prepare the progress bar.

        Args:
            total: The number of steps.
            done: How many are over before the start.
            bound: `about`, or `at least` where the total may grow; see `time_left`.
            quiet: Print nothing.
        """
        self._total, self.done, self._instant, self._bound, self._quiet = total, done, done, bound, quiet
        self._began = time.monotonic()
        counts, remaining = "{task.completed:.0f}/{task.total:.0f}", TimeRemainingColumn(elapsed_when_finished=True)
        # A bar without a step is removed, as of a verification that replays nothing.
        self._bar = _Bar("", counts, TimeElapsedColumn(), remaining, quiet=quiet, transient=True)
        self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> StepsProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, line: str, *, instant: bool = False, total: int = 0) -> None:
        """Count a step that is over.

        Args:
            line: The line about it.
            instant: Whether it took no time, as a run of the store.
            total: The number of steps, if it has grown.
        """
        self._bar.live.transient = False
        self.done += 1
        self._instant += instant
        self._total = max(self._total, total, self.done)
        self._bar.update(self._task, completed=self.done, total=self._total)
        if not self._quiet:
            steps, total_steps = self.done - self._instant, self._total - self._instant
            left = time_left(time.monotonic() - self._began, steps, total_steps, self._bound)
            console = self._bar.console
            text = line if self._bar.is_shown else f"{line}{left}"
            console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


PLAIN_EVERY = 5.0
"""Seconds between lines of progress where standard error is not a terminal."""


def announce(line: str) -> None:
    """Print one line on standard error immediately."""
    print(wrap_line(f"byzbench: {line}", terminal_width(err=True)), file=sys.stderr, flush=True)


class RunsProgress:
    """Progress of runs in other processes, read from their logs; a callback that gets every run that is over."""

    def __init__(self, runs: Mapping[str, tuple[Path, int]], jobs: int, quiet: bool = False) -> None:
        """Print the number of runs, and prepare the progress bar.

        Args:
            runs: The folder and the budget in trajectories of each run, by its label, `name · seed 0`.
            jobs: The number of processes.
            quiet: Print nothing.
        """
        self._runs, self._quiet, self._began = dict(runs), quiet, time.monotonic()
        self._finished: dict[str, int] = {}
        self._reused = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        counts = "{task.completed:.0f}/{task.total:.0f} trajectories"
        self._bar = _Bar("", counts, TimeElapsedColumn(), TimeRemainingColumn(), quiet=quiet)
        self._total = sum(budget for _, budget in self._runs.values())
        self._task = self._bar.add_task("", total=self._total)
        if not quiet:
            names = dict.fromkeys(label.partition(" · ")[0] for label in self._runs)
            amount = f"{len(self._runs)} run{'s' * (len(self._runs) > 1)}"
            announce(f"{amount} in {jobs} process{'es' * (jobs > 1)}: {', '.join(names)}")

    def __enter__(self) -> RunsProgress:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.stop()

    def __call__(self, label: str, outcome: CellOutcome) -> None:
        """Count a run that is over."""
        self._finished[label] = self._runs[label][1]
        self._reused += self._runs[label][1] * outcome.reused
        self._show()
        if not self._quiet:
            value = outcome.result.get("evaluation", {}).get("evaluation")
            shown = "not finite" if value is None else f"evaluation return {value:.1f}"
            reused = " (reused)" if outcome.reused else ""
            line, console = f"{label}: {outcome.error or shown}{reused}", self._bar.console
            console.print(line, markup=False, highlight=False, soft_wrap=not console.is_terminal)

    def _follow(self) -> None:
        last_printed = self._began
        while not self._stop.wait(0.5):
            done = self._show()
            if not self._bar.is_shown and not self._quiet and time.monotonic() - last_printed >= PLAIN_EVERY:
                last_printed = time.monotonic()
                elapsed = last_printed - self._began
                left = time_left(elapsed, done - self._reused, self._total - self._reused)
                announce(f"{elapsed:.0f} s: {done} of {self._total} trajectories{left}")

    def _show(self) -> int:
        """Update the bar, and return how many trajectories are done."""
        done = sum(
            self._finished.get(label, min(budget, _trajectories(folder)))
            for label, (folder, budget) in self._runs.items()
        )
        self._bar.update(self._task, completed=done)
        return done


def _trajectories(folder: Path) -> int:
    """Return the number of trajectories in the log of a run."""
    try:
        with open(folder / "metrics.jsonl", "rb") as log:
            log.seek(max(0, log.seek(0, 2) - 2**16))
            lines = log.read().rsplit(b"\n", 2)
        return int(json.loads(lines[-2])["trajectories"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0
