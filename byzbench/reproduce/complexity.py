"""The finite-time bound of DecByzPG on problems with exact gradients: trajectories until the mean gradient is small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy import optimize, special

from byzbench.reports.estimators import Interval
from byzbench.reports.plot_style import COLOURS, MARKERS, STYLE
from byzbench.reports.plots import trace
from byzbench.reports.sheets import Table
from byzbench.reproduce.estimates import format_interval, geometric_mean
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult

LENGTHS = (0.08, 0.06, 0.045, 0.034)
"""eps, the mean lengths of the gradient that runs must reach."""
FIT, PREDICTED, WORSE = 40, (80, 0.2), 1.5
"""The largest K of the fit, the K and alpha that it predicts, and the least ratio of errors without the K-free term."""

INTRODUCTION = """Trajectories per agent until the mean over rounds of ||grad J||, which is computed exactly, is at most
eps. Step by plain ascent with a constant step. Batches follow the theorem: N = sigma^2 (1/K + alpha) / eps^2, B =
sqrt(N/K), p = B / (N + B), with sigma^2 the variance of the gradient of one episode at the first policy. The rule is
`trimmed_mean`, which is the mean without Byzantine agents; a share alpha of the agents sends `alie(z=1.5)`. On a
complete graph with messages that are the same for all, honest agents hold equal parameters, so DecByzPG runs without
an agreement, and equals ByzPG; alpha = 0.3 is beyond f < K / 4, and is of ByzPG. Times are geometric means with
Student's 95 % interval of logarithms.

The bound is

    O(alpha^(3/2) / eps^4 + alpha^(1/2) / (K eps^4) + alpha^(1/2) / (K^(1/2) eps^3) + 1 / (K eps^3)).

Slopes are of logarithms by least squares, with their 95 % intervals. The model has the four terms with factors that are
not negative, fitted to relative errors at K up to {fit}; *without* leaves out the first term, which does not fall with
K. Fitted to all eps at once, the model has the bound's powers of eps; fitted to each eps by itself, it has those of K
and alpha only. What this can show: that a term is needed, and the exponents on these two problems. What it cannot: that
the bound is tight, since it is a worst case; where a small gradient means that little is left to gain, as on
`riverswim`, times grow more slowly in 1/eps than the bound allows, so no model with its powers of eps fits them."""

FITS = ("all eps", "each eps")
"""What the models are fitted to: the times of all eps at once, or of each eps by itself."""


@dataclass(frozen=True)
class Problem:
    """Problem with exact gradients.

    Attributes:
        env: The task.
        variance: sigma^2, the variance of the gradient of one episode at the first policy.
        lr: The step.
        rounds: The rounds of a run at the first of `LENGTHS`; they grow like 1/eps.
    """

    env: str
    variance: float
    lr: float
    rounds: int


PROBLEMS = (Problem("riverswim", 0.475, 2.0, 300), Problem("chain", 0.1, 4.0, 100))


@dataclass(frozen=True)
class Share:
    """Share alpha of Byzantine agents, with the method and the numbers of agents that run."""

    alpha: float
    algo: str
    agents: Sequence[int]


SHARES = (
    Share(0.0, "decbyzpg", (1, 2, 4, 8, 16, 32, 64)),
    Share(0.1, "decbyzpg", (10, 20, 40, 80)),
    Share(0.2, "decbyzpg", (10, 20, 40, 80)),
    Share(0.3, "byzpg", (10, 20, 40, 80)),
)


def cell_options(problem: Problem, share: Share, agents: int, length: float) -> Options:
    """Return the options of a row: batches by the theorem, and a budget for `Problem.rounds`.

    Args:
        problem: The problem.
        share: The share of Byzantine agents.
        agents: K.
        length: eps.

    Example:
        >>> cell_options(PROBLEMS[0], SHARES[0], agents=16, length=0.06)["algo"]
        'decbyzpg(N=9, B=1, p=0.1, lr=2.0, optimizer=sgd)'
    """
    n = math.ceil(problem.variance * (1 / agents + share.alpha) / length**2)
    b = math.ceil(math.sqrt(n / agents))
    p = b / (n + b)
    rounds = problem.rounds * LENGTHS[0] / length
    decentralised: Options = {"agreement": "none"} if share.algo == "decbyzpg" else {}
    return {
        "algo": f"{share.algo}(N={n}, B={b}, p={p:.4g}, lr={problem.lr}, optimizer=sgd)",
        "attack": "alie(z=1.5)" if share.alpha else "none",
        "env": problem.env,
        "policy": "tabular",
        "aggregator": "trimmed_mean",
        "agents": agents,
        "byzantine": round(share.alpha * agents),
        "trajectories": math.ceil(n + rounds * (p * n + (1 - p) * b)),
        "evaluations": 1,
        "evaluation_episodes": 1,
        "preset": "paper",
        **decentralised,
    }


def bound_terms(agents: np.ndarray, alpha: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the four terms of the bound, [n, 4]; the first one does not fall with the number of agents.

    Example:
        >>> bound_terms(np.array([4.0]), np.array([0.25]), np.array([0.5])).tolist()
        [[2.0, 2.0, 2.0, 2.0]]
    """
    root = np.sqrt(alpha)
    falling = [root / (agents * length**4), root / (np.sqrt(agents) * length**3), 1 / (agents * length**3)]
    return np.stack([alpha * root / length**4, *falling], axis=1)


def prediction_error(times: np.ndarray, terms: np.ndarray, fitted: np.ndarray) -> float:
    """Return the mean error of log times that a model predicts, with factors fitted to other times.

    The factors are not negative and minimise the sum of squared relative errors.

    Args:
        times: [n] Times.
        terms: [n, m] The terms of the model.
        fitted: bool [n] The times to which the model is fitted; the others are predicted.

    Example:
        >>> terms = np.array([[1.0], [2.0], [4.0]])
        >>> round(prediction_error(np.array([3.0, 6.0, 12.0]), terms, np.array([True, True, False])), 9)
        0.0
    """
    factors = optimize.nnls(terms[fitted] / times[fitted, None], np.ones(int(fitted.sum())))[0]
    predicted = np.maximum(terms[~fitted] @ factors, 1e-12)
    return float(np.abs(np.log(predicted / times[~fitted])).mean())


def slope(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Interval | None:
    """Return the common slope of lines with an intercept for each group, and its 95 % interval.

    Args:
        x: [n] Abscissae.
        y: [n] Ordinates.
        groups: [n] The group of each point.

    Returns:
        The slope by least squares; None where x does not vary within a group.

    Example:
        >>> x = np.array([0.0, 1, 2, 0, 1, 2])
        >>> print(slope(x, np.array([0.0, -1, -2, 5, 4, 3]), np.array([0, 0, 0, 1, 1, 1])))
        -1.00 (-1.00 to -1.00)
    """
    names = np.unique(groups)
    x_centred, y_centred = x.astype(float), y.astype(float)
    for name in names:
        inside = groups == name
        x_centred[inside] -= x_centred[inside].mean()
        y_centred[inside] -= y_centred[inside].mean()
    square, free = float(x_centred @ x_centred), len(x) - len(names) - 1
    if square <= 0 or free < 1:
        return None
    value = float(x_centred @ y_centred) / square
    residual = y_centred - value * x_centred
    half = float(special.stdtrit(free, 0.975)) * math.sqrt(float(residual @ residual) / free / square)
    return Interval(value, value - half, value + half)


@dataclass(frozen=True)
class ComplexityStudy(Study):
    """Trajectories until the mean gradient is small, by the number and share of agents and by its length."""

    @property
    def introduction(self) -> str:
        """Return how the tables are made."""
        return INTRODUCTION.format(fit=FIT)

    def rows(self) -> dict[str, list[Options]]:
        """Return a row for each problem, share, number of agents and length."""
        return {
            _name(problem, share.alpha, k, length): [cell_options(problem, share, k, length)]
            for problem, share, length in product(PROBLEMS, SHARES, LENGTHS)
            for k in share.agents
        }

    def measure(self, folder: Path) -> list[float | None]:
        """Return the trajectories until the mean over rounds of the exact gradient is at most each of `LENGTHS`.

        Trajectories are those that were spent when the policy with that mean was reached.
        """
        at, norms = trace(folder, "exact_gradient_norm")
        means = np.cumsum(norms) / np.arange(1, len(norms) + 1)
        passed = [np.flatnonzero(means <= length) for length in LENGTHS]
        return [float(at[where[0]]) if len(where) else None for where in passed]

    def tables(self, result: StudyResult) -> list[Table]:
        """Return the times of each problem, the slopes, and the predictions of the models."""
        return [*(self._times(problem, result) for problem in PROBLEMS), self._slopes(result), self._models(result)]

    def checks(self, result: StudyResult) -> dict[str, bool]:
        """Return whether the term that does not fall with K is needed to predict the largest federation."""
        return {
            f"{problem.env}, {fit}: without the K-free term, K={PREDICTED[0]} at alpha={PREDICTED[1]} is predicted at "
            f"least {WORSE:g} times worse": without >= WORSE * full
            for problem, fit in product(PROBLEMS, FITS)
            for full, without in [_errors(problem, fit, result)]
        }

    def figure(self, result: StudyResult) -> Figure:
        """Draw times against agents: a panel for each problem, a line for each share, at the first and last length."""
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(7.1, 3.0), layout="constrained")
            for axes, problem in zip(figure.subplots(1, len(PROBLEMS)), PROBLEMS, strict=True):
                for share, colour, marker in zip(SHARES, COLOURS, MARKERS, strict=False):
                    for length, dashes in ((LENGTHS[0], ":"), (LENGTHS[-1], "-")):
                        times = [
                            (k, _mean(_row(result, problem, share.alpha, k, length), length)) for k in share.agents
                        ]
                        points = [(k, time.value) for k, time in times if time is not None]
                        name = f"α={share.alpha:g}" if dashes == "-" else None
                        x, y = [k for k, _ in points], [time for _, time in points]
                        axes.plot(x, y, color=colour, marker=marker, ls=dashes, ms=3.5, label=name)
                axes.set(xscale="log", yscale="log", title=problem.env, xlabel="agents K")
                axes.xaxis.set(major_locator=FixedLocator([1, 4, 16, 64]), minor_locator=NullLocator())
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.legend(fontsize=6.5)
            figure.supylabel(f"trajectories per agent (dotted: eps={LENGTHS[0]}, solid: {LENGTHS[-1]})", fontsize=8)
        return figure

    def _times(self, problem: Problem, result: StudyResult) -> Table:
        records: list[dict[str, Any]] = []
        cells = []
        for share in SHARES:
            for k in share.agents:
                line = []
                for length in LENGTHS:
                    row = _row(result, problem, share.alpha, k, length)
                    time, missing = _mean(row, length), len(row.runs) - len(_reached(row, length))
                    records.append(
                        {"alpha": share.alpha, "agents": k, "length": length, "missing": missing}
                        | {"trajectories": time and time.value, "runs": len(row.runs)}
                    )
                    line.append(format_interval(time, 0) + f", {missing} never" * bool(missing))
                cells.append([f"{share.alpha:g}", str(k), *line])
        head = [">alpha", ">K", *(f"eps={length:g}" for length in LENGTHS)]
        return Table(problem.env, f"{problem.env}: trajectories per agent", records, head, cells)

    def _slopes(self, result: StudyResult) -> Table:
        records: list[dict[str, Any]] = []
        for problem, share in product(PROBLEMS, SHARES):
            k, length, times = _points(problem, [share], result)[[0, 2, 3]]
            in_agents = slope(np.log(k), np.log(times), length)
            in_length = slope(np.log(length), np.log(times), k)
            records.append({"problem": problem.env, "alpha": share.alpha, "in_agents": in_agents, "in_eps": in_length})
        cells = [
            [r["problem"], f"{r['alpha']:g}", *(format_interval(r[key], 2) for key in ("in_agents", "in_eps"))]
            for r in records
        ]
        plain = [
            {key: vars(value) if isinstance(value, Interval) else value for key, value in record.items()}
            for record in records
        ]
        return Table("slopes", "Slopes of logarithms", plain, ["problem", ">alpha", "in K", "in eps"], cells)

    def _models(self, result: StudyResult) -> Table:
        errors = {(problem.env, fit): _errors(problem, fit, result) for problem, fit in product(PROBLEMS, FITS)}
        records = [
            {"problem": env, "fit": fit, "full": full, "without": without}
            for (env, fit), (full, without) in errors.items()
        ]
        cells = [[env, fit, f"{full:.2f}", f"{without:.2f}"] for (env, fit), (full, without) in errors.items()]
        title = f"Mean error of log times at K={PREDICTED[0]}, alpha={PREDICTED[1]}, fitted at K up to {FIT}"
        return Table(
            "models", title, records, ["problem", "fitted to", ">four terms", ">without the K-free one"], cells
        )


def _name(problem: Problem, alpha: float, agents: int, length: float) -> str:
    return f"{problem.env}, alpha={alpha:g}, K={agents}, eps={length:g}"


def _row(result: StudyResult, problem: Problem, alpha: float, agents: int, length: float) -> MeasuredRow:
    return result.rows[_name(problem, alpha, agents, length)]


def _reached(row: MeasuredRow, length: float) -> np.ndarray:
    place = LENGTHS.index(length)
    return np.array([run[place] for run in row.runs if run[place] is not None], float)


def _mean(row: MeasuredRow, length: float) -> Interval | None:
    return geometric_mean(_reached(row, length))


def _points(problem: Problem, shares: Sequence[Share], result: StudyResult) -> np.ndarray:
    """Return K, alpha, eps and the time of every run that reached its length, [4, n]."""
    points = [
        (float(k), share.alpha, length, float(time))
        for share, length in product(shares, LENGTHS)
        for k in share.agents
        for time in _reached(_row(result, problem, share.alpha, k, length), length)
    ]
    return np.array(points, float).reshape(-1, 4).T


def _errors(problem: Problem, fit: str, result: StudyResult) -> tuple[float, float]:
    """Return the errors of predicting the largest federation with all terms, and without the one that has no K.

    Args:
        problem: The problem.
        fit: One of `FITS`.
        result: The measured times.
    """
    agents, alpha, length, times = _points(problem, SHARES[:3], result)
    used = (agents <= FIT) | ((agents == PREDICTED[0]) & (alpha == PREDICTED[1]))
    terms, fitted = bound_terms(agents, alpha, length), agents <= FIT
    groups = [used] if fit == FITS[0] else [used & (length == one) for one in LENGTHS]
    errors = [
        [prediction_error(times[group], terms[group][:, first:], fitted[group]) for first in (0, 1)]
        for group in groups
        if not fitted[group].all()
    ]
    full, without = np.mean(errors, axis=0)
    return float(full), float(without)


COMPLEXITY = ComplexityStudy(
    name="complexity",
    title="The finite-time bound on exact problems",
    source="Jordan et al. 2024, arXiv 2401.03489: the sample complexity of DecByzPG",
    cost="12 minutes of two cores",
    num_seeds=4,
)
