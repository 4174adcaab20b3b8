"""The assumptions of the theorems on problems with exact gradients: dissimilar agents, and unbounded gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench.reports.plot_style import COLOURS, MARKERS, STYLE
from byzbench.reports.plots import trace
from byzbench.reports.sheets import Table
from byzbench.reproduce.estimates import format_interval, geometric_mean
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

AGENTS, BUDGET, LAST = 20, 20_000, 0.2
"""K, trajectories per agent, and the share of the rounds over which the floor is the mean."""
ALPHAS = (0.0, 0.1, 0.2)
SPREADS = (0.0, 0.25, 0.5, 1.0)
"""Spreads of the factors of the agents' rewards (riverswim) and physics (lqr), which set zeta."""
STEPS = {"riverswim": 2.0, "lqr": 0.001}
"""The step on each problem."""
RADII = (0.8, 0.95, 1.05, 1.2)
"""Moduli of the eigenvalues of the linear system, which set the length of gradients."""

INTRODUCTION = """Theorems bound the mean length of the gradient by a floor that grows with zeta^2 alpha, where zeta^2
is the mean squared distance of the agents' gradients from their mean, and alpha the share of Byzantine agents; and they
assume that gradients, or their variances, are bounded. Here both are swept where gradients are exact. DecByzPG without
variance reduction (p = 1), K = {agents}, N = 64, plain ascent, `trimmed_mean`, under `alie(z=1.5)`, {budget:,}
trajectories per agent; agents differ by the factors of their rewards on `riverswim`, and by their physics on `lqr`.

The *floor* is the mean of ||grad J||^2, and *zeta^2* that of the agents' exact dissimilarity, both over the last fifth
of the rounds; geometric means over seeds with Student's 95 % interval of logarithms. *Longest* is the largest length of
the exact gradient in a run, and *finite* the runs whose parameters stay finite."""


class Floor(TypedDict):
    """What is left of the gradient at the end of a run, each None where it is not finite.

    Attributes:
        floor: The mean of the squared length over the last rounds.
        dissimilarity: The mean of zeta^2 over them.
        longest: The largest length of all rounds.
    """

    floor: float | None
    dissimilarity: float | None
    longest: float | None


@dataclass(frozen=True)
class AssumptionsStudy(Study):
    """Floors of the gradient by dissimilarity and share of Byzantine agents, and where runs stop converging."""

    @property
    def introduction(self) -> str:
        """Return how the tables are made."""
        return INTRODUCTION.format(agents=AGENTS, budget=BUDGET)

    def rows(self) -> dict[str, list[Options]]:
        """Return the rows of both sweeps."""
        return {
            **{_dissimilar(env, s, a): [_options(env, s, a)] for env in STEPS for s in SPREADS for a in ALPHAS},
            **{
                _long(radius, alpha): [_options(f"lqr(radius={radius})", 0.0, alpha)]
                for radius in RADII
                for alpha in ALPHAS
            },
        }

    def measure(self, folder: Path) -> Floor:
        """Return what is left of the gradient."""
        norms = trace(folder, "exact_gradient_norm")[1]
        dissimilarities = trace(folder, "exact_gradient_dissimilarity")[1]
        last = max(1, round(LAST * len(norms)))
        return {
            "floor": _finite(np.mean(norms[-last:] ** 2)),
            "dissimilarity": _finite(np.mean(dissimilarities[-last:])),
            "longest": _finite(np.max(norms)),
        }

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the table of dissimilar agents, and that of long gradients."""
        dissimilar = {_dissimilar(e, s, a): [e, f"{s:g}", f"{a:g}"] for e in STEPS for s in SPREADS for a in ALPHAS}
        long = {_long(radius, alpha): [f"{radius:g}", f"{alpha:g}"] for radius in RADII for alpha in ALPHAS}
        return [
            _table("dissimilar", "Dissimilar agents", ["problem", ">spread", ">alpha"], dissimilar, result),
            _table("long", "Long gradients: lqr", [">radius", ">alpha"], long, result),
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw floors against zeta^2 alpha: a panel for each problem."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 2.8), layout="constrained")
            for axes, env in zip(figure.subplots(1, len(STEPS)), STEPS, strict=True):
                for alpha, colour, marker in zip(ALPHAS[1:], COLOURS, MARKERS, strict=False):
                    rows = [result.rows[_dissimilar(env, spread, alpha)] for spread in SPREADS]
                    means = [(_mean(row, "dissimilarity"), _mean(row, "floor")) for row in rows]
                    points = [(zeta.value * alpha, floor.value) for zeta, floor in means if zeta and floor]
                    x, y = [x for x, _ in points], [y for _, y in points]
                    axes.plot(x, y, color=colour, marker=marker, label=f"α={alpha:g}")
                axes.set(xscale="log", yscale="log", title=env, xlabel="ζ² α", ylabel="floor of ||grad J||²")
                axes.legend()
        return figure


def _options(env: str, spread: float, alpha: float) -> Options:
    name = env.partition("(")[0]
    of = "rewards" if name == "riverswim" else "physics"
    policy: Mapping[str, str] = {"policy": "tabular"} if name == "riverswim" else {}
    return {
        "algo": f"decbyzpg(N=64, p=1, lr={STEPS[name]}, optimizer=sgd)",
        "attack": "alie(z=1.5)" if alpha else "none",
        "env": env,
        "scenario": f"heterogeneous(spread={spread}, of={of})" if spread else "none",
        "aggregator": "trimmed_mean",
        "agreement": "none",
        "agents": AGENTS,
        "byzantine": round(alpha * AGENTS),
        "trajectories": BUDGET,
        "evaluations": 1,
        "evaluation_episodes": 1,
        "preset": "paper",
        **policy,
    }


def _dissimilar(env: str, spread: float, alpha: float) -> str:
    return f"{env}, spread={spread:g}, alpha={alpha:g}"


def _long(radius: float, alpha: float) -> str:
    return f"lqr, radius={radius:g}, alpha={alpha:g}"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(row: MeasuredRow, key: str) -> Any:
    """Return the geometric mean of the positive values of a row; None without any."""
    values = np.array([run[key] for run in row.runs if run[key] is not None], float)
    return geometric_mean(values[values > 0])


def _table(name: str, title: str, columns: list[str], names: Mapping[str, list[str]], result: StudyResult) -> Table:
    """Return a table of some rows, whose first columns are `names`."""
    records: list[dict[str, Any]] = []
    cells = []
    for row_name, first in names.items():
        row = result.rows[row_name]
        means = {key: _mean(row, key) for key in ("dissimilarity", "floor", "longest")}
        finite, of = sum(run["longest"] is not None for run in row.runs), len(row.runs)
        values = {key: mean and mean.value for key, mean in means.items()}
        records.append({"row": row_name, **values, "finite": finite, "runs": of})
        shown = [format_interval(means[key], digits) for key, digits in (("dissimilarity", 5), ("floor", 6))]
        cells.append([*first, *shown, format_interval(means["longest"], 2), f"{finite} of {of}"])
    return Table(name, title, records, [*columns, "zeta^2", "floor", "longest", ">finite"], cells)


ASSUMPTIONS = AssumptionsStudy(
    name="assumptions",
    title="Assumptions of the theorems, swept",
    source="Jordan et al. 2024, arXiv 2401.03489: assumptions on variance and equal agents",
    cost="20 minutes of one core",
    num_seeds=5,
)
