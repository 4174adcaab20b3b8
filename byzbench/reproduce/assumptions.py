"""The assumptions of the theorems on problems with exact gradients: dissimilar agents, and unbounded gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from byzbench.reports.estimators import Interval
from byzbench.reports.plot_style import COLOURS, MARKERS, STYLE
from byzbench.reports.plots import trace
from byzbench.reports.sheets import Table
from byzbench.reproduce.estimates import geometric_mean
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

AGENTS, LAST = 20, 0.2
"""K, and the share of the rounds over which the floor is the mean."""
ALPHAS = (0.0, 0.1, 0.2)
SPREADS = (0.0, 0.25, 0.5, 1.0)
"""Spreads of the factors of the agents' rewards (riverswim) and physics (lqr), which set zeta."""
RIVERSWIM, LQR = "riverswim", "lqr(n=2, m=1, radius=0.5)"
PROBLEMS: Mapping[str, Options] = {
    RIVERSWIM: {"algo": "decbyzpg(N=2048, p=1, lr=8, optimizer=sgd)", "policy": "tabular", "trajectories": 81_920},
    LQR: {"algo": "decbyzpg(N=2048, p=1, lr=0.1, optimizer=clipped, baseline=others)", "trajectories": 81_920},
}
"""The problems on which agents differ, and what runs there: so many episodes that zeta^2 is not below sigma^2 / N."""
LONG: Options = {
    "algo": "decbyzpg(N=64, p=1, lr=0.03, optimizer=clipped, baseline=others)",
    "trajectories": 20_000,
}
"""What runs where gradients are long."""
RADII = (0.5, 0.65, 0.8, 0.95)
"""Moduli of the eigenvalues of the linear system, which set the length of gradients."""

INTRODUCTION = """Theorems bound the mean length of the gradient by a floor that grows with (sigma^2/N + zeta^2) alpha,
where sigma^2 is the variance of an episode's gradient, zeta^2 the mean squared distance of the agents' gradients from
their mean, and alpha the share of Byzantine agents; and they assume that gradients, or their variances, are bounded.
Here zeta, alpha and the length of gradients are swept where gradients are exact: DecByzPG without variance reduction
(p = 1), K = {agents}, `trimmed_mean`, under `alie(z=1.5)`. Agents differ by the factors of their rewards on
`riverswim`, so that their gradients vanish together, and by their physics on `lqr`, where each has its own optimum.

Over all rounds of a run, *zeta^2* is the mean exact dissimilarity and *error* the mean squared distance of the
aggregate from the mean exact gradient. It has a part without Byzantine agents, of the episodes' variance; *excess* is
what is above that of the same seed at alpha = 0. Over the last fifth of the rounds, *floor* is the mean of
||grad J||^2. All are geometric means over seeds with Student's 95 % interval of logarithms, and left out where a seed
has no positive value. *Longest* is the largest length of the exact gradient in a run, *return* the exact return at the
end, means over seeds, and *grown* counts the runs whose gradient is twice as long at the end as after a quarter of the
rounds: they do not converge.

The linear policy learns its standard deviation on `lqr`. The variance of its gradients has no bound: it grows as
actions become less random, and with the distance from the optimum."""


class Floor(TypedDict):
    """What is measured of a run, each None where it is not finite.

    Attributes:
        error: The mean squared error of the aggregate.
        dissimilarity: The mean of zeta^2.
        floor: The mean of the squared length of the gradient over the last rounds.
        longest: The largest length of the gradient.
        grown: Whether the gradient is twice as long at the end as after a quarter of the rounds.
        end: The exact return after the last round.
    """

    error: float | None
    dissimilarity: float | None
    floor: float | None
    longest: float | None
    grown: bool
    end: float | None


@dataclass(frozen=True)
class AssumptionsStudy(Study):
    """Floors of the gradient by dissimilarity and share of Byzantine agents, and where runs stop converging."""

    @property
    def introduction(self) -> str:
        """Return how the tables are made."""
        return INTRODUCTION.format(agents=AGENTS)

    def rows(self) -> dict[str, list[Options]]:
        """Return the rows of both sweeps."""
        return {
            **{
                _dissimilar(env, spread, alpha): [_options(env, options, alpha, spread)]
                for env, options in PROBLEMS.items()
                for spread, alpha in product(SPREADS, ALPHAS)
            },
            **{
                _long(radius, alpha): [_options(f"lqr(radius={radius:g})", LONG, alpha)]
                for radius, alpha in product(RADII, ALPHAS)
            },
        }

    def measure(self, folder: Path) -> Floor:
        """Return what is measured of a run."""
        names = ("exact_gradient_norm", "exact_gradient_dissimilarity", "estimator_error", "exact_return")
        norms, dissimilarities, errors, returns = (trace(folder, name)[1] for name in names)
        last = max(1, round(LAST * len(norms)))
        floor, quarter = np.mean(norms[-last:] ** 2), norms[len(norms) // 4]
        return {
            "error": _finite(np.nanmean(errors**2)),
            "dissimilarity": _finite(np.mean(dissimilarities)),
            "floor": _finite(floor),
            "longest": _finite(np.max(norms)),
            "grown": not floor <= (2 * quarter) ** 2,
            "end": _finite(returns[-1]),
        }

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the table of dissimilar agents, and that of long gradients."""
        dissimilar = {
            _dissimilar(env, s, a): [f"`{env}`", f"{s:g}", f"{a:g}"] for env, s, a in product(PROBLEMS, SPREADS, ALPHAS)
        }
        long = {_long(radius, alpha): [f"{radius:g}", f"{alpha:g}"] for radius, alpha in product(RADII, ALPHAS)}
        return [
            _table("dissimilar", "Dissimilar agents", ["problem", ">spread", ">alpha"], dissimilar, result),
            _table("long", "Long gradients: `lqr`", [">radius", ">alpha"], long, result),
        ]

    def checks(self, result: StudyResult) -> dict[str, bool]:
        """Return whether the excess of errors grows with zeta^2, whether floors do, and where runs converge."""
        rows, statements = result.rows, {}
        spread, alpha = SPREADS[-1], ALPHAS[-1]
        for env in PROBLEMS:
            excess = [_excess(result, env, s, alpha) for s in (spread, 0.0)]
            floor = [_values(rows[_dissimilar(env, spread, share)], "floor") for share in (alpha, 0.0)]
            larger = f"larger at spread={spread:g} than at 0"
            statements[f"{env}, alpha={alpha:g}: the excess is {larger}"] = _larger(*excess)
            statements[f"{env}, spread={spread:g}: the floor is larger at alpha={alpha:g} than at 0"] = _larger(*floor)
        for share in ALPHAS:
            grown = [run["grown"] for radius in RADII for run in rows[_long(radius, share)].runs]
            statements[f"lqr, alpha={share:g}: every run converges, at every radius"] = not any(grown)
        return statements

    def findings(self, result: StudyResult) -> list[str]:
        """Return how much the excess grows with dissimilar agents, and where runs do not converge."""
        spread, alpha = SPREADS[-1], ALPHAS[-1]
        times, counts = [], []
        for env in PROBLEMS:
            ratio = _mean(_excess(result, env, spread, alpha) / _excess(result, env, 0.0, alpha))
            times.append(f"{_format(ratio)} times on {env.partition('(')[0]}")
        for share in ALPHAS:
            grown = [run["grown"] for radius in RADII for run in result.rows[_long(radius, share)].runs]
            counts.append(f"{sum(grown)} of {len(grown)} for alpha = {share:g}")
        return [
            f"At alpha = {alpha:g} the excess of the squared error is {' and '.join(times)} that of equal agents.",
            f"On lqr, where the variance of gradients has no bound, runs do not converge: {', '.join(counts)}.",
        ]

    def figure(self, result: StudyResult) -> Figure:
        """Draw the excess of errors against zeta^2 alpha: a panel for each problem."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 2.8), layout="constrained")
            for axes, env in zip(figure.subplots(1, len(PROBLEMS)), PROBLEMS, strict=True):
                for alpha, colour, marker in zip(ALPHAS[1:], COLOURS, MARKERS, strict=False):
                    rows = [result.rows[_dissimilar(env, spread, alpha)] for spread in SPREADS]
                    zetas = [_mean(_values(row, "dissimilarity")) for row in rows]
                    means = [_mean(_excess(result, env, spread, alpha)) for spread in SPREADS]
                    points = [(alpha * z.value, mean.value) for z, mean in zip(zetas, means, strict=True) if z and mean]
                    x, y = [x for x, _ in points], [y for _, y in points]
                    axes.plot(x, y, color=colour, marker=marker, label=f"α={alpha:g}")
                    if means[0] is not None:
                        axes.axhline(means[0].value, color=colour, ls=":", lw=0.9, label=f"α={alpha:g}, equal agents")
                axes.set(xscale="log", yscale="log", title=env, xlabel="ζ² α", ylabel="excess of the squared error")
                axes.legend(fontsize=6.5)
        return figure


def _options(env: str, options: Options, alpha: float, spread: float = 0.0) -> Options:
    of = "rewards" if env == RIVERSWIM else "physics"
    return {
        "attack": "alie(z=1.5)" if alpha else "none",
        "env": env,
        "scenario": f"heterogeneous(spread={spread}, of={of})" if spread else "none",
        "aggregator": "trimmed_mean",
        "agreement": "none",
        "agents": AGENTS,
        "byzantine": round(alpha * AGENTS),
        "evaluations": 1,
        "evaluation_episodes": 1,
        "preset": "paper",
        **options,
    }


def _dissimilar(env: str, spread: float, alpha: float) -> str:
    return f"{env}, spread={spread:g}, alpha={alpha:g}"


def _long(radius: float, alpha: float) -> str:
    return f"lqr, radius={radius:g}, alpha={alpha:g}"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _values(row: MeasuredRow, key: str) -> np.ndarray:
    """Return what was measured of each run; infinite where it is not finite."""
    return np.array([math.inf if run[key] is None else run[key] for run in row.runs])


def _excess(result: StudyResult, env: str, spread: float, alpha: float) -> np.ndarray:
    """Return the squared error of each seed above that at alpha = 0."""
    attacked, clean = (_values(result.rows[_dissimilar(env, spread, share)], "error") for share in (alpha, 0.0))
    return attacked - clean


def _mean(values: np.ndarray) -> Interval | None:
    """Return the geometric mean over seeds; None where a value is not positive and finite."""
    return geometric_mean(values) if ((values > 0) & np.isfinite(values)).all() else None


def _larger(values: np.ndarray, others: np.ndarray) -> bool:
    """Return whether the ratio of values of the same seeds is above 1 with its whole interval."""
    ratio = _mean(values / others) if (others > 0).all() else None
    return bool(ratio and ratio.low is not None and ratio.low > 1)


def _show(values: np.ndarray) -> str:
    """Return a mean with its interval as text; 0 where nothing was measured to be above it."""
    return _format(_mean(values)) if values.any() else "0"


def _format(mean: Interval | None) -> str:
    """Return a mean of any magnitude with its interval as text."""
    if mean is None:
        return "-"
    ends = "" if mean.low is None else f" ({mean.low:.2g} to {mean.high:.2g})"
    return f"{mean.value:.2g}{ends}"


def _table(name: str, title: str, columns: list[str], names: Mapping[str, list[str]], result: StudyResult) -> Table:
    """Return a table of some rows, whose first columns are `names`; the last of these is alpha."""
    records: list[dict[str, Any]] = []
    cells = []
    for row_name, first in names.items():
        row = result.rows[row_name]
        clean = result.rows[f"{row_name.rpartition('=')[0]}=0"]
        values = {key: _values(row, key) for key in ("dissimilarity", "error", "floor", "longest", "end")}
        values["excess"] = values["error"] - _values(clean, "error")
        grown, of = sum(run["grown"] for run in row.runs), len(row.runs)
        records.append({"row": row_name, **{key: _finite(np.mean(array)) for key, array in values.items()}})
        records[-1] |= {"grown": grown, "runs": of}
        shown = [_show(values[key]) for key in ("dissimilarity", "error", "excess", "floor")]
        shown += [f"{np.mean(values['longest']):.2g}", f"{np.mean(values['end']):.3g}", f"{grown} of {of}"]
        cells.append([*first, *shown])
    head = [*columns, "zeta^2", "error", "excess", "floor", ">longest", ">return", ">grown"]
    return Table(name, title, records, head, cells)


ASSUMPTIONS = AssumptionsStudy(
    name="assumptions",
    title="Assumptions of the theorems, swept",
    source="Jordan et al. 2024, arXiv 2401.03489: assumptions on variance and equal agents",
    cost="20 minutes of one core",
    num_seeds=5,
)
