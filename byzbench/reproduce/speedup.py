"""Speed-up of DecByzPG with the number of agents, with step and batch chosen for each number by the same search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from byzbench.reports.estimators import Interval
from byzbench.reports.plot_style import COLOURS, GREY, MARKERS, STYLE
from byzbench.reports.sheets import Table
from byzbench.reproduce.estimates import format_interval, geometric_mean, speed_ratio
from byzbench.reproduce.learning import Passage, passage
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

GOAL, FLOOR, BUDGET = 400.0, 350.0, 2000
"""The return to reach, the return above which a run stays, and trajectories per agent."""
AGENTS = (1, 2, 5, 13, 26)
ATTACKED = (13, 26, 50)
BYZANTINE = 3
STEPS = (1e-3, 3e-3, 1e-2, 3e-2)
LARGE: Sequence[Options] = [{"N": n, "B": n, "p": 1.0} for n in (1, 4, 8, 16)]
PAGE: Sequence[Options] = [{"N": n, "B": b, "p": p} for n, b, p in ((4, 2, 0.5), (16, 8, 0.5), (16, 4, 0.2))]
EQUAL: Sequence[Options] = [{"N": 8, "B": 8, "p": 1.0}]
BASELINE: Sequence[Options] = [{"N": n, "B": n, "p": 1.0, "baseline": "others"} for n in (2, 4, 8)]
"""Candidates of every search: steps, and batches without variance reduction, with PAGE, one for all numbers of agents,
and with a baseline."""
EXPECTED = {5: 2.5, 13: 4.0}
"""Speed-ups of runs that stay that K agents should have at least."""

INTRODUCTION = """CartPole, complete graph, DecByzPG with `rfa` and `mda`, Adam with a constant step, {budget:,}
trajectories per agent. For p = 1 (every batch is large, so there is no variance reduction), PAGE (p < 1), and p = 1
with the baseline of other episodes apart, N, B, p and lr are chosen for each number K of agents by the same search; of
p = 1 with one batch for all numbers, N = 8, the step alone. Its candidates are the steps {steps} with N = {large} at
p = 1, with N/B/p = {page} for PAGE, and with N = {baseline} for the baseline, which needs two episodes; under the
attack the steps {attacked_steps} with N = {attacked}. The candidate wins of which most runs stay and, of those, whose
runs reach the goal soonest. The search has other seeds than the table: {search_seeds}. Its steps are a factor of three
apart, so two numbers of agents may have the same one.

*First passage* is the number of trajectories per agent until the training return, averaged over the last tenth of them,
reaches {goal:g}; *stayed* are the runs that are above {floor:g} in every later tenth of the budget. Times are geometric
means with Student's 95 % interval of logarithms, over the runs that reached the goal, and over those that stayed. The
speed-up is against K = 1 of the same estimator, by runs that stay, with Welch's interval; ideal is the number of honest
agents. A speed-up over runs that stay does not say how many do: the column *stayed* does."""


@dataclass(frozen=True)
class Line:
    """Line of the figure: an estimator, with or without an attack, at several numbers of agents."""

    name: str
    agents: Sequence[int]
    batches: Sequence[Options]
    steps: Sequence[float] = STEPS
    byzantine: int = 0
    attack: str = "none"

    def row(self, agents: int) -> str:
        """Return the name of the row of a number of agents."""
        return f"{self.name}, K={agents}"

    def candidates(self, agents: int) -> list[Options]:
        """Return the candidates of a row: every batch with every step."""
        shared = {"algo": "decbyzpg", "attack": self.attack, "agents": agents, "byzantine": self.byzantine}
        shared |= {"preset": "paper", "trajectories": BUDGET, "evaluations": 1, "evaluation_episodes": 10}
        return [
            {**shared, "parameters": {"algorithm": {**batch, "lr": lr}}} for batch in self.batches for lr in self.steps
        ]


LINES = (
    Line("p=1", AGENTS, LARGE),
    Line("PAGE", AGENTS, PAGE),
    Line("p=1, N=8", AGENTS, EQUAL),
    Line("p=1, baseline", AGENTS, BASELINE),
    Line(f"p=1, f={BYZANTINE}, avg_zero", ATTACKED, LARGE[1:], STEPS[1:], BYZANTINE, "avg_zero"),
)


def passages(row: MeasuredRow, staying: bool = False) -> np.ndarray:
    """Return the first passages of the runs that reach the goal; with `staying`, of those that also stay."""
    return np.array([run["reached"] for run in row.runs if run["stayed" if staying else "reached"]], float)


def speedup_of(result: StudyResult, line: Line, agents: int) -> Interval | None:
    """Return the speed-up of a row against one agent of the same estimator, by runs that stay; None without any."""
    alone = (LINES[0] if line.byzantine else line).row(1)
    return speed_ratio(*(passages(result.rows[row], staying=True) for row in (alone, line.row(agents))))


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    value, low, high = (None,) * 3 if interval is None else (interval.value, interval.low, interval.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _draw_times(axes: Axes, rows: Mapping[int, MeasuredRow], colour: str, marker: str, name: str) -> None:
    """Draw a line of a log-log plot, open where a run did not stay, and its ideal from the first point on."""
    points = [(n, time, row) for n, row in rows.items() if (time := geometric_mean(passages(row, True))) is not None]
    if not points:
        return
    axes.plot([n for n, *_ in points], [time.value for _, time, _ in points], color=colour, label=name, zorder=1)
    for n, time, row in points:
        face = colour if len(passages(row, True)) == len(row.runs) else "white"
        axes.plot(n, time.value, marker, ms=4.5, mec=colour, mfc=face)
        if time.low is not None and time.high is not None:
            axes.errorbar(n, time.value, [[time.value - time.low], [time.high - time.value]], color=colour, capsize=2.5)
    first, time, _ = points[0]
    last = max(rows)
    axes.plot([first, last], [time.value, time.value * first / last], color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)


@dataclass(frozen=True)
class SpeedupStudy(Study):
    """First passages by the number of agents, of the settings that a search chooses for each."""

    @property
    def introduction(self) -> str:
        """Return how the table is made."""
        under_attack = LINES[-1]
        return INTRODUCTION.format(
            budget=BUDGET,
            goal=GOAL,
            floor=FLOOR,
            steps=_list(STEPS),
            large=_list(batch["N"] for batch in LARGE),
            baseline=_list(batch["N"] for batch in BASELINE),
            page=", ".join(f"{batch['N']}/{batch['B']}/{batch['p']:g}" for batch in PAGE),
            attacked_steps=_list(under_attack.steps),
            attacked=_list(batch["N"] for batch in under_attack.batches),
            search_seeds=_list(self.search_seeds),
        )

    def rows(self) -> dict[str, list[Options]]:
        """Return the candidates of each number of agents on each line of the figure."""
        return {line.row(k): line.candidates(k) for line in LINES for k in line.agents}

    def measure(self, folder: Path) -> Passage:
        """Return when a run reaches the goal, and whether it stays."""
        return passage(folder, GOAL, FLOOR)

    def score(self, runs: Sequence[Passage]) -> tuple[float, float]:
        """Return how many runs stay, then the geometric mean of their first passages, negated.

        A run that does not stay counts with the whole budget.
        """
        times = [run["reached"] if run["stayed"] and run["reached"] else BUDGET for run in runs]
        return float(sum(run["stayed"] for run in runs)), -float(np.mean(np.log(times)))

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the table of all rows."""
        records: list[dict[str, Any]] = []
        cells = []
        for line in LINES:
            for k in line.agents:
                row, ratio = result.rows[line.row(k)], speedup_of(result, line, k)
                chosen, of = row.options["parameters"]["algorithm"], len(row.runs)
                reached, stayed = passages(row), passages(row, staying=True)
                first, last = geometric_mean(reached), geometric_mean(stayed)
                records.append(
                    {"estimator": line.name, "agents": k, "honest": k - line.byzantine, "runs": of, **chosen}
                    | {"reached": len(reached), **_ends("first_passage", first)}
                    | {"stayed": len(stayed), **_ends("first_passage_stayed", last), **_ends("speedup", ratio)}
                )
                setting = "/".join(f"{chosen[name]:g}" for name in ("N", "B", "p", "lr"))
                counts = [f"{len(reached)} of {of}", f"{len(stayed)} of {of}"]
                times = [format_interval(first, 0), format_interval(last, 0), format_interval(ratio, 2)]
                cells.append([line.name, str(k), setting, *counts, *times, str(k - line.byzantine)])
        passage_columns = [">reached", ">stayed", "first passage", "first passage, stayed"]
        head = ["estimator", ">K", "N/B/p/lr", *passage_columns, "speed-up, stayed", ">ideal"]
        return [Table("speedup", "Speed-up", records, head, cells)]

    def checks(self, result: StudyResult) -> dict[str, bool]:
        """Return whether runs that stay have the expected speed-ups without Byzantine agents, by each estimator."""
        statements = {}
        for line in (line for line in LINES if not line.byzantine):
            for k, least in EXPECTED.items():
                ratio = speedup_of(result, line, k)
                statements[f"{line.name}: at least {least:g} times at K={k}"] = bool(ratio and ratio.value >= least)
        return statements

    def findings(self, result: StudyResult) -> list[str]:
        """Return the speed-ups at the number of agents of the paper, and why they are below its claim."""
        k = 13
        ratios = {line.name: format_interval(speedup_of(result, line, k), 1) for line in LINES}
        free, equal = (result.rows[line.row(1)] for line in LINES if line.name in ("p=1", "p=1, N=8"))
        episodes = free.options["parameters"]["algorithm"]["N"]
        gain = format_interval(speed_ratio(passages(equal, staying=True), passages(free, staying=True)), 1)
        return [
            f"At K = {k} the speed-up by runs that stay is {ratios['p=1']} without variance reduction, "
            f"{ratios['PAGE']} with PAGE, {ratios['p=1, baseline']} with the baseline, and {ratios['p=1, N=8']} where "
            "all numbers of agents have batches of 8 episodes.",
            f"Alone, an agent chooses N = {episodes}, which is {gain} times as fast as 8. A federation cannot gain "
            "this again, since no batch is smaller than an episode; a mean over more agents only allows larger steps.",
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw first passages of runs that stay with ideal lines, and beside them how many runs reach and stay."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 2.9), layout="constrained")
            times, shares = figure.subplots(1, 2)
            for line, colour, marker in zip(LINES, COLOURS, MARKERS, strict=False):
                rows = {k - line.byzantine: result.rows[line.row(k)] for k in line.agents}
                _draw_times(times, rows, colour, marker, line.name)
                stayed = [len(passages(row, staying=True)) / len(row.runs) for row in rows.values()]
                reached = [len(passages(row)) / len(row.runs) for row in rows.values()]
                shares.plot(list(rows), stayed, color=colour, marker=marker, ms=4.5)
                shares.plot(list(rows), reached, color=colour, ls=":", lw=1.0)
            times.set(yscale="log", ylabel=f"trajectories per agent to {GOAL:g}")
            times.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
            times.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            shares.set(ylim=(0, 1.05), ylabel="share of runs that stay (dotted: reach)")
            honest = [*AGENTS, ATTACKED[-1] - BYZANTINE]
            for axes in (times, shares):
                axes.set(xscale="log", xlabel="honest agents")
                axes.xaxis.set(major_locator=FixedLocator(honest), minor_locator=NullLocator())
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            times.legend(fontsize=6.5)
        return figure


SPEEDUP = SpeedupStudy(
    name="speedup",
    title="Speed-up with the number of agents",
    source="Jordan et al. 2024, arXiv 2401.03489: linear speed-up in K",
    cost="an hour and a half of two cores",
    first_seed=100,
    search_seeds=(0, 1, 2, 3),
)
