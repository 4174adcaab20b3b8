"""What asynchrony costs and buys: virtual seconds to a return, of agents of unequal speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench.reports.estimators import Interval
from byzbench.reports.figures import reached
from byzbench.reports.plot_style import COLOURS, GREY, STYLE
from byzbench.reports.plots import trace
from byzbench.reports.sheets import Table
from byzbench.reports.statistics import mean_interval
from byzbench.reproduce.estimates import format_interval, geometric_mean
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

GOAL, AGENTS, BYZANTINE, BUDGET = 400.0, 13, 3, 700
HEAVY_TAILED = "heavy-tailed batches"
HEAVY_TAILED_SEEDS = 30
"""Seeds of rows under heavy tails, where times vary about twice as much between seeds."""
LAWS: Mapping[str, str] = {
    "equal": "speed=equal",
    "two speeds, 1:4": "speed=two_speed, ratio=4, slow=0.5",
    HEAVY_TAILED: "speed=heavy_tailed, tail=1.5, per=batch",
}
BATCHES = ("N=10, B=5, p=0.5, lr=0.05", "N=10, B=5, p=0.5, lr=0.1", "N=4, B=2, p=0.5, lr=0.03")
SERVER_STEPS = ("N=2, lr=0.05", "N=4, lr=0.05", "N=10, lr=0.1")
SHARED = "baseline=others, lr_schedule=inverse_sqrt"
STALENESS = ("staleness=2", "staleness=8", "staleness=None")
"""Largest ages of messages. With one, fast agents run ahead of slow ones only so far: in the end all are as slow."""
UNEQUAL = "two speeds, 1:4"
"""The law under which agents are attacked."""
QUORUMS = ("all", "n-f", "7")
"""Quorums of tuned synchronous agents; 7 of 13 is the least with a majority of honest agents for f = 3."""

INTRODUCTION = """CartPole, {agents} agents, at most {budget} trajectories of the fastest; a batch takes as long as its
environment steps at 1,000 steps per second and speed 1, messages take no time. Half of the agents are four times slower
(*two speeds*), or every batch takes a Pareto time of tail index 1.5 (*heavy-tailed batches*). DecByzPG has `rfa` and
`rb_tm(cap=2)`, whose bound holds asynchronously for n >= 3f + 1; ByzPG has p = 1 and `trimmed_mean`, and `basgd` is
that method with a server that handles messages as they arrive, in a buffer for each agent: it steps when n - f of the
buffers are filled. Nobody is Byzantine, and agents assume f = {byzantine}.

Synchronous agents wait for n - f messages of a round, asynchronous ones for n - f of at most some age. *Tuned* ones
wait for the best number: synchronous ones of all, n - f and 7, asynchronous ones of n - f and 7 messages or filled
buffers. A search on other seeds chooses one of three batches with their steps, the quorum of tuned rows, and the
largest age of messages (asynchronous DecByzPG: 2 rounds, 8, or any): most runs that reach {goal:g}, then the least
time. A quorum of 7 has a majority of honest agents and not the guarantee of `rb_tm`.
Seconds are virtual, until the training return, averaged over the last tenth of the time so far, has reached
{goal:g}: geometric means with Student's 95 % interval of logarithms. The ratio is paired by seed, of the
synchronous row to the asynchronous one of the same kind: above 1 the asynchronous one is faster. Rows under heavy
tails, whose times vary more, have {heavy_tailed_seeds} seeds, others {seeds}.

The last table has f = {byzantine} Byzantine agents that attack the time of messages (docs/schedules.md): *stale*
sends vectors of five rounds ago, *rush* sends last, *slowdown* holds the messages of three honest agents for ever,
and on their way to a server for five seconds, *flood* sends ten copies to a server. Methods have their recommended
parameters and a largest age of 4 rounds."""


class Run(TypedDict):
    """What is measured of a run.

    Attributes:
        seconds: Virtual seconds until the return is reached; None if it never is.
        end: The virtual seconds of the whole run.
        last: The training return over the last tenth of the time; None where it is not finite.
    """

    seconds: float | None
    end: float
    last: float | None


def _experiment(algo: str, schedule: str, **options: Any) -> Options:
    return {
        "algo": algo,
        "schedule": schedule,
        "agents": AGENTS,
        "byzantine": 0,
        "assumed_byzantine": BYZANTINE,
        "trajectories": BUDGET,
        "evaluations": 1,
        "evaluation_episodes": 10,
        **options,
    }


def _decentralised(step: str, schedule: str) -> Options:
    return _experiment(f"decbyzpg({step}, {SHARED})", schedule, aggregator="rfa", agreement="rb_tm(cap=2)")


def _at_server(algo: str, step: str, schedule: str) -> Options:
    return _experiment(f"{algo}({step}, {SHARED})", schedule, aggregator="trimmed_mean")


def _candidates(method: str, law: str, asynchronous: bool, tuned: bool) -> list[Options]:
    """Return the candidates of a row."""
    speeds = LAWS[law]
    if method == "DecByzPG" and asynchronous:
        return [
            _decentralised(step, f"asynchronous({speeds}, quorum={quorum}, {age})")
            for step, age, quorum in product(BATCHES, STALENESS, QUORUMS[1:] if tuned else ("n-f",))
        ]
    if asynchronous:
        return [
            _at_server("basgd", f"{step}, buffers={AGENTS}, filled={filled}", f"asynchronous({speeds})")
            for step, filled in product(SERVER_STEPS, (10, 7) if tuned else (10,))
        ]
    quorums = QUORUMS if tuned else ("n-f",)
    if method == "DecByzPG":
        return [_decentralised(s, f"synchronous({speeds}, quorum={q})") for s, q in product(BATCHES, quorums)]
    return [
        _at_server("byzpg", f"{step}, p=1", f"synchronous({speeds}, quorum={quorum})")
        for step, quorum in product(SERVER_STEPS, quorums)
    ]


ATTACKS: Mapping[str, str] = {
    "none": "none",
    "stale": "replay(delay=5)",
    "rush": "rush(alie(z=1.5, on=both))",
    "slowdown": "slowdown(alie(z=1.5, on=both))",
    "flood": "flood(ipm, copies=10)",
}
"""The attacks on time of the last table."""
AT_SERVER = "slowdown(alie(z=1.5, on=both), seconds=5)"
"""The attack in the place of slowdown on methods whose server waits for nobody."""
DEFENCES: Mapping[str, Options] = {
    "DecByzPG, rfa and rb_tm": {"algo": "decbyzpg", "aggregator": "rfa", "agreement": "rb_tm(cap=2)"},
    "DecByzPG, plain averaging": {"algo": "decbyzpg", "aggregator": "mean", "agreement": "gossip+mean"},
    "basgd, 7 of 7 buffers": {"algo": "basgd", "aggregator": "trimmed_mean"},
    "basgd, 10 of 13 buffers": {"algo": f"basgd(buffers={AGENTS}, filled=10)", "aggregator": "trimmed_mean"},
    "zenopp, rate_limit=2": {"algo": "zenopp(rate_limit=2)"},
    "aflguard, rate_limit=2": {"algo": "aflguard(rate_limit=2)"},
    "kardam, rate_limit=2": {"algo": "kardam(rate_limit=2)"},
    "afedpg, no defence": {"algo": "afedpg"},
}
"""The methods of the last table, with their recommended parameters."""
DEFENDED = [name for name in DEFENCES if "plain" not in name and "no defence" not in name]
METHODS = ("DecByzPG", "ByzPG")
KINDS = ("n-f", "tuned")
SCHEDULES = ("synchronous", "asynchronous")


@dataclass(frozen=True)
class AsynchronyStudy(Study):
    """Virtual seconds to a return by law of speeds, method and schedule."""

    @property
    def introduction(self) -> str:
        """Return how the tables are made."""
        return INTRODUCTION.format(
            agents=AGENTS,
            budget=BUDGET,
            byzantine=BYZANTINE,
            goal=GOAL,
            seeds=self.num_seeds,
            heavy_tailed_seeds=HEAVY_TAILED_SEEDS,
        )

    def num_seeds_of(self, row: str) -> int:
        """Return the number of seeds of a row: larger under heavy tails."""
        return HEAVY_TAILED_SEEDS if row.startswith(HEAVY_TAILED) else self.num_seeds

    def rows(self) -> dict[str, list[Options]]:
        """Return the candidates of each method and schedule under each law."""
        rows = {
            _name(law, method, kind, schedule): _candidates(method, law, schedule == "asynchronous", kind == "tuned")
            for law, method, kind, schedule in product(LAWS, METHODS, KINDS, SCHEDULES)
        }
        for (name, options), (attack, written) in product(DEFENCES.items(), ATTACKS.items()):
            schedule = f"asynchronous({LAWS[UNEQUAL]}, staleness=4)"
            if attack == "slowdown" and "agreement" not in options:
                written = AT_SERVER
            attacked: Options = {**options, "attack": written, "byzantine": BYZANTINE}
            rows[f"{name}: {attack}"] = [_experiment(attacked["algo"], schedule, **_without(attacked, "algo"))]
        return rows

    def measure(self, folder: Path) -> Run:
        """Return when a run reaches the return, in virtual seconds, and where it ends."""
        when, is_reached = reached(folder, GOAL, "seconds")
        at, values = trace(folder, "return", "seconds")
        late = at[1:] > 0.9 * at[-1]
        last = float(np.average(values[late], weights=np.diff(at)[late]))
        return {
            "seconds": float(when) if is_reached else None,
            "end": float(at[-1]),
            "last": round(last, 1) if math.isfinite(last) else None,
        }

    def score(self, runs: Sequence[Run]) -> tuple[float, float]:
        """Return how many runs reach the return, then the geometric mean of their times, negated."""
        times = [run["seconds"] or run["end"] for run in runs]
        return float(sum(run["seconds"] is not None for run in runs)), -float(np.mean(np.log(times)))

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the times of each law, and the returns under attacks on time."""
        return [*(self._times(law, result) for law in LAWS), self._returns(result)]

    def checks(self, result: StudyResult) -> dict[str, bool]:
        """Return whether asynchronous agents of unequal speed are faster, with their whole interval."""
        statements = {}
        for law, method, kind in product(list(LAWS)[1:], METHODS, KINDS):
            ratio = self.ratio(result, law, method, kind)
            faster = ratio is not None and ratio.low is not None and ratio.low > 1
            statements[f"{law}: asynchronous {method} is faster than synchronous, {kind}"] = faster
        for name, attack in product(DEFENDED, ATTACKS):
            last = _last(result.rows[f"{name}: {attack}"])
            statements[f"{name} learns on under {attack}: at least {GOAL:g}"] = bool(last and last.value >= GOAL)
        return statements

    def findings(self, result: StudyResult) -> list[str]:
        """Return how much faster asynchronous agents are, and the lowest returns under attack."""
        ratios = {key: self.ratio(result, *key) for key in product(list(LAWS)[1:], METHODS, KINDS)}
        times = [
            f"{format_interval(ratio, 2)} ({method}, {law}, {kind})" for (law, method, kind), ratio in ratios.items()
        ]
        intervals = [(ratio.low, ratio.high) for ratio in ratios.values() if ratio]
        above = sum(low is not None and low > 1 for low, _ in intervals)
        below = sum(high is not None and high < 1 for _, high in intervals)
        ends = {(name, attack): _last(result.rows[f"{name}: {attack}"]) for name, attack in product(DEFENCES, ATTACKS)}
        known = {key: end for key, end in ends.items() if end is not None}
        lowest = []
        for names in (DEFENDED, [name for name in DEFENCES if name not in DEFENDED]):
            name, attack = min((key for key in known if key[0] in names), key=lambda key: known[key].value)
            lowest.append(f"{format_interval(known[name, attack], 0)} ({name}, {attack})")
        return [
            f"Times of synchronous agents over those of asynchronous ones: {'; '.join(times)}. Of these {len(times)} "
            f"intervals {above} are above 1 and {below} below.",
            f"Under attacks on time the lowest return at the end is {lowest[0]} with a defence, {lowest[1]} without.",
        ]

    def ratio(self, result: StudyResult, law: str, method: str, kind: str) -> Interval | None:
        """Return the ratio of times, paired by seed, of runs of which both reach the return."""
        rows = (result.rows[_name(law, method, kind, schedule)] for schedule in SCHEDULES)
        pairs = [
            (a["seconds"], b["seconds"])
            for a, b in zip(*(row.runs for row in rows), strict=True)
            if a["seconds"] and b["seconds"]
        ]
        if not pairs:
            return None
        logs = mean_interval(np.array([math.log(a / b) for a, b in pairs]))
        return Interval(
            math.exp(logs.value), *(None if end is None else math.exp(end) for end in (logs.low, logs.high))
        )

    def figure(self, result: StudyResult) -> Figure:
        """Draw the times of each law: a panel for each method, a bar for each schedule."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 2.6), layout="constrained")
            for axes, method in zip(figure.subplots(1, len(METHODS), sharey=True), METHODS, strict=True):
                bars = list(product(KINDS, SCHEDULES))
                for (i, law), (j, (kind, schedule)) in product(enumerate(LAWS), enumerate(bars)):
                    time = geometric_mean(_seconds(result.rows[_name(law, method, kind, schedule)]))
                    if time is None:
                        continue
                    at = i + 0.2 * (j - 1.5)
                    look: Any = {"color": [GREY, *COLOURS][j], "label": f"{schedule}, {kind}" if i == 0 else None}
                    axes.bar(at, time.value, 0.18, **look)
                    if time.low is not None and time.high is not None:
                        ends = [[time.value - time.low], [time.high - time.value]]
                        axes.errorbar(at, time.value, ends, color="black", capsize=2, lw=0.8)
                axes.set(title=method, xticks=range(len(LAWS)), xticklabels=[law.replace(", ", ",\n") for law in LAWS])
                axes.tick_params(axis="x", labelsize=7)
            figure.supylabel(f"virtual seconds to return {GOAL:g}", fontsize=8)
            figure.axes[0].legend(fontsize=6.5)
        return figure

    def _times(self, law: str, result: StudyResult) -> Table:
        records: list[dict[str, Any]] = []
        cells = []
        for method, kind, schedule in product(METHODS, KINDS, SCHEDULES):
            row = result.rows[_name(law, method, kind, schedule)]
            times = geometric_mean(_seconds(row))
            ratio = None if schedule == "asynchronous" else self.ratio(result, law, method, kind)
            count = f"{len(_seconds(row))} of {len(row.runs)}"
            records.append(
                {
                    "method": method,
                    "schedule": schedule,
                    "kind": kind,
                    "reached": len(_seconds(row)),
                    "runs": len(row.runs),
                }
                | {"seconds": times and times.value, "ratio": ratio and ratio.value}
            )
            chosen = f"{row.options['algo']}, {row.options['schedule']}"
            cells.append(
                [method, f"{schedule}, {kind}", count, format_interval(times, 0), format_interval(ratio, 2), chosen]
            )
        head = ["method", "schedule", ">reached", "seconds", "ratio to asynchronous", "chosen"]
        return Table(law, f"{law}: virtual seconds to return {GOAL:g}", records, head, cells)

    def _returns(self, result: StudyResult) -> Table:
        records: list[dict[str, Any]] = []
        cells = []
        for name in DEFENCES:
            line = []
            for attack in ATTACKS:
                last = _last(result.rows[f"{name}: {attack}"])
                records.append({"method": name, "attack": attack, "last": last and last.value})
                line.append(format_interval(last, 0))
            cells.append([name, *line])
        title = f"{UNEQUAL}, f={BYZANTINE}: training return over the last tenth of the time"
        return Table("attacks", title, records, ["method", *ATTACKS], cells)


def _last(row: MeasuredRow) -> Interval | None:
    """Return the mean return at the end of the runs of a row; None if one is not finite."""
    values = [run["last"] for run in row.runs]
    return None if None in values else mean_interval(np.array(values, float))


def _without(options: Options, name: str) -> Options:
    return {key: value for key, value in options.items() if key != name}


def _name(law: str, method: str, kind: str, schedule: str) -> str:
    return f"{law}: {method}, {schedule}, {kind}"


def _seconds(row: MeasuredRow) -> np.ndarray:
    return np.array([run["seconds"] for run in row.runs if run["seconds"] is not None], float)


ASYNCHRONY = AsynchronyStudy(
    name="asynchrony",
    title="What asynchrony costs and buys",
    source="the claim of asynchronous methods that agents need not wait for slow ones",
    cost="two hours of two cores",
    first_seed=50,
    search_seeds=(0, 1),
)
