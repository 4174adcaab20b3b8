"""What communication costs: messages and bytes of an agent until the reference return, by protocol and federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from byzbench.records.run_folder import RunFolder
from byzbench.reports.figures import reached
from byzbench.reports.plot_style import COLOURS, MARKERS, STYLE
from byzbench.reports.plots import trace
from byzbench.reports.sheets import Table
from byzbench.reproduce.estimates import format_interval, geometric_mean
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

GOAL = 400.0
SIZES = (5, 13, 32, 100)
BUDGET = 600
STEP = "N=8, lr=0.01"
"""Batch and step of all methods; those of the PAGE family have p = 1."""
SPARSE = "random_regular(degree=4)"
PROTOCOLS: Mapping[str, Options] = {
    "byzpg, star": {"algo": f"byzpg({STEP}, p=1)"},
    "decbyzpg, complete, no agreement": {"algo": f"decbyzpg({STEP}, p=1)", "agreement": "none"},
    "decbyzpg, complete, mda": {"algo": f"decbyzpg({STEP}, p=1)"},
    "decbyzpg, complete, rb_tm": {"algo": f"decbyzpg({STEP}, p=1)", "agreement": "rb_tm"},
    "clipped_gossip, 4-regular": {"algo": f"clipped_gossip({STEP})", "topology": SPARSE, "assumed_byzantine": 1},
    "ios, 4-regular": {"algo": f"ios({STEP})", "topology": SPARSE, "assumed_byzantine": 1},
}
KAPPA = (1, 5, 20)
CODES = ("perfect", "top_k(share=0.1)", "top_k(share=0.01)", "random_k(share=0.1)", "quantise(bits=4)", "sign")
FAULTS = ("loss(rate=0.2)", "delay(mean=0.25)", "loss(rate=0.2)+delay(mean=0.25)")

INTRODUCTION = """CartPole, {budget} trajectories per agent, {step}, and p = 1 for ByzPG and DecByzPG, so all methods
have the same batch and step. Without an attack no agent is Byzantine, and protocols assume the largest f that they
tolerate, f < K / 4; gossip on graphs of degree 4 assumes one Byzantine neighbour. Messages and bytes are those that one
agent sends, the mean over agents; a server's are divided among them. Echoes of reliable broadcast carry the vector.
*To {goal:g}*: until the training return, averaged over the last tenth of the trajectories so far, has reached it;
geometric means over the runs that reach it, with Student's 95 % interval of logarithms.

A round costs 2 K vectors with a server, K (K - 1) (1 + kappa) on a complete graph, where kappa is the number of
exchanges of its agreement, and K times the degree on a sparse one; by reliable broadcast of n agents each vector is
sent 1 + 2 n times. An agreement ends before kappa where an agent sees that all agree, so that kappa is 1 without an
attack; the rows by kappa have f = 3 agents that send different noise to every agent."""


class RunCost(TypedDict):
    """Cost of a run for one agent.

    Attributes:
        messages, bytes: Per round.
        reached: Trajectories per agent until the reference return; None if it is never reached.
        bytes_to_goal: Bytes until then.
        last: The training return over the last tenth of the budget; None where it is not finite.
    """

    messages: float
    bytes: float
    reached: float | None
    bytes_to_goal: float | None
    last: float | None


@dataclass(frozen=True)
class CommunicationStudy(Study):
    """Messages and bytes to the reference return, by protocol, kappa, code and fault of the channel."""

    @property
    def introduction(self) -> str:
        """Return how the tables are made."""
        return INTRODUCTION.format(budget=BUDGET, step=STEP, goal=GOAL)

    def rows(self) -> dict[str, list[Options]]:
        """Return the rows of all tables."""
        shared: Options = {"preset": "paper", "trajectories": BUDGET, "evaluations": 1, "evaluation_episodes": 10}
        decbyzpg, alone = f"decbyzpg({STEP}, p=1)", {"agents": 13, "byzantine": 0}
        rows: dict[str, Options] = {
            f"{name}, K={k}": {"agents": k, "byzantine": 0, "assumed_byzantine": (k - 1) // 4, **options}
            for k in SIZES
            for name, options in PROTOCOLS.items()
        }
        for kappa in KAPPA:
            noise = {"attack": "large_noise(on=both)", "agents": 13, "byzantine": 3}
            rows[f"kappa={kappa}"] = {"algo": decbyzpg, "agreement": f"mda(cap={kappa})", **noise}
        for channel in (*CODES, *FAULTS):
            rows[channel] = {"algo": decbyzpg, "agreement": "none", "channel": channel, **alone}
        return {name: [{**options, **shared}] for name, options in rows.items()}

    def measure(self, folder: Path) -> RunCost:
        """Return what a run costs an agent."""
        agents = (RunFolder(folder).record() or {})["experiment"]["agents"]
        at, sent = trace(folder, "bytes")
        messages, returns = trace(folder, "messages")[1], trace(folder, "return")[1]
        when, is_reached = reached(folder, GOAL)
        last = float(np.mean(returns[at[1:] > 0.9 * at[-1]]))
        return {
            "messages": float(messages[-1] / len(sent) / agents),
            "bytes": float(sent[-1] / len(sent) / agents),
            "reached": float(when) if is_reached else None,
            "bytes_to_goal": float(np.interp(when, at[1:], sent) / agents) if is_reached else None,
            "last": round(last, 1) if np.isfinite(last) else None,
        }

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the tables of protocols, of kappa, and of channels."""
        protocols = {f"{name}, K={k}": [name, str(k)] for k in SIZES for name in PROTOCOLS}
        return [
            _table("protocols", "With a server, without, and on sparse graphs", ["protocol", ">K"], protocols, result),
            _table(
                "kappa",
                "DecByzPG, K=13, f=3, noise that differs by receiver",
                [">kappa"],
                {f"kappa={kappa}": [str(kappa)] for kappa in KAPPA},
                result,
            ),
            _table(
                "channels",
                "DecByzPG, K=13, no agreement: compressed and unreliable channels",
                ["channel"],
                {channel: [channel] for channel in (*CODES, *FAULTS)},
                result,
            ),
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw bytes to the reference return against the number of agents."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.6, 3.0), layout="constrained")
            axes = figure.add_subplot()
            for name, colour, marker in zip(PROTOCOLS, COLOURS, MARKERS, strict=False):
                points = [(k, mean.value / 1e6) for k in SIZES if (mean := _mean(result.rows[f"{name}, K={k}"]))]
                agents, sizes = [k for k, _ in points], [size for _, size in points]
                axes.plot(agents, sizes, color=colour, marker=marker, ms=4.5, label=name)
            axes.set(xscale="log", yscale="log", xlabel="agents K", ylabel=f"MB of an agent to return {GOAL:g}")
            axes.xaxis.set(major_locator=FixedLocator(SIZES), minor_locator=NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.legend(fontsize=6.5)
        return figure


def _mean(row: MeasuredRow, key: str = "bytes_to_goal") -> Any:
    return geometric_mean(np.array([run[key] for run in row.runs if run[key] is not None], float))


def _table(name: str, title: str, columns: list[str], names: Mapping[str, list[str]], result: StudyResult) -> Table:
    """Return a table of some rows, whose first columns are `names`."""
    records: list[dict[str, Any]] = []
    cells = []
    for row_name, first in names.items():
        row = result.rows[row_name]
        messages, size = (float(np.mean([run[key] for run in row.runs])) for key in ("messages", "bytes"))
        times, sent = _mean(row, "reached"), _mean(row)
        num_reached, of = sum(run["reached"] is not None for run in row.runs), len(row.runs)
        finite = [run["last"] for run in row.runs if run["last"] is not None]
        last = float(np.mean(finite)) if finite else None
        records.append(
            {"row": row_name, "messages_per_round": messages, "bytes_per_round": size, "reached": num_reached}
            | {"runs": of, "trajectories": times and times.value, "bytes": sent and sent.value, "last": last}
        )
        megabytes = "-" if sent is None else f"{sent.value / 1e6:,.3g}"
        shown = [
            f"{messages:,.1f}",
            f"{size / 1e3:,.1f}",
            f"{num_reached} of {len(row.runs)}",
            format_interval(times, 0),
        ]
        cells.append([*first, *shown, megabytes, "-" if last is None else f"{last:.0f}"])
    costs = [">messages a round", ">kB a round", ">reached", f"trajectories to {GOAL:g}", f">MB to {GOAL:g}"]
    return Table(name, title, records, [*columns, *costs, ">last tenth"], cells)


COMMUNICATION = CommunicationStudy(
    name="communication",
    title="What communication costs",
    source="messages of Jordan et al. 2024, arXiv 2401.03489, and of gossip",
    cost="10 minutes of one core",
    num_seeds=5,
)
