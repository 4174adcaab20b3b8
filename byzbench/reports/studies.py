"""Plots of a tuning study: its history, the importance of parameters, and the objective along each parameter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

_MAIN, _OTHER, _GREY = "#0072b2", "#d55e00", "0.6"


def pictures(study: Study, folder: Path) -> list[Path]:
    """Write history.png, slices.png and importance.png.

    A plot for which there are too few trials is not written.

    Args:
        study: The study.
        folder: The folder to write to; it is made if it does not exist.

    Returns:
        The files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trials = study.get_trials(deepcopy=False)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    varied = sorted(k for k in study.best_params if len({t.params.get(k) for t in complete}) > 1)
    figures = {"history.png": _history(study, trials, complete)}
    if varied:
        figures["slices.png"] = _slices(complete, varied, study.best_trial)
    if len(varied) > 1 and len(complete) > 3:
        figures["importance.png"] = _importance(study, varied)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=130)
    return [folder / name for name in figures]


def _history(study: Study, trials: list[FrozenTrial], complete: list[FrozenTrial]) -> Figure:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    pruned = [t for t in trials if t.state == TrialState.PRUNED and t.intermediate_values]
    numbers, values = [t.number for t in complete], np.array([t.value for t in complete], float)
    best = (np.maximum if study.direction == StudyDirection.MAXIMIZE else np.minimum).accumulate(values)
    axes.plot(numbers, values, "o", color=_MAIN, ms=4, label="complete")
    if pruned:
        means = [float(np.mean(list(t.intermediate_values.values()))) for t in pruned]
        axes.plot([t.number for t in pruned], means, "x", color=_GREY, ms=4, label="pruned (mean of its runs)")
    last = max(t.number for t in (*complete, *pruned))
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=_OTHER, lw=1.2, label="best so far")
    if complete[0].number == 0:
        axes.axhline(values[0], color=_GREY, lw=0.8, ls=":")
        axes.annotate("defaults", (1, values[0]), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.set(xlabel="trial", ylabel="objective")
    _hide_spines(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _slices(complete: list[FrozenTrial], varied: list[str], best: FrozenTrial) -> Figure:
    figure = Figure(figsize=(2.6 * len(varied) + 0.8, 3), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(varied), sharey=True)), varied, strict=True):
        trials = [t for t in complete if name in t.params]
        space = trials[0].distributions[name]
        categorical = isinstance(space, CategoricalDistribution)
        axes.plot([_axis_value(t, name) for t in trials], [t.value for t in trials], "o", color=_MAIN, ms=4, alpha=0.6)
        axes.plot([_axis_value(best, name)], [best.value], "o", color=_OTHER, ms=7, mfc="none", mew=1.5)
        if not categorical and getattr(space, "log", False):
            axes.set_xscale("log")
            wide = space.high / space.low > 30  # type: ignore[attr-defined]
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(LogFormatterSciNotation() if wide else "{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=name)
        _hide_spines(axes)
    figure.axes[0].set_ylabel("objective (best ringed)")
    return figure


def _axis_value(trial: FrozenTrial, name: str) -> Any:
    value = trial.params[name]
    return str(value) if isinstance(trial.distributions[name], CategoricalDistribution) else value


def _importance(study: Study, varied: list[str]) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is experimental, and warns of few trials
        importances = optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), params=varied
        )
    figure = Figure(figsize=(5, 0.4 * len(importances) + 1), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(importances)[::-1], list(importances.values())[::-1], color=_MAIN)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(xlabel="share of variation explained (PED-ANOVA)")
    _hide_spines(axes)
    return figure


def _hide_spines(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
