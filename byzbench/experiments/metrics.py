"""Metrics of a round, and the verdict on a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from byzbench.core import Agreement, Task
from byzbench.experiments.curves import LEARNING, area_under_curve
from byzbench.experiments.diagnostics import contraction, diagnose, diameter
from byzbench.experiments.verdict import Verdict, mean_of
from byzbench.federation.statistics import AggregationResult, Counters, RoundStatistics

WINDOW = 500
"""The number of last trajectories per agent of which the final return is the mean; at most a quarter of the budget."""

CONSENSUS = 0.1
"""The threshold of consensus: the largest diameter of the honest parameters, relative to their mean norm."""

TAIL = 0.2
"""The share of honest agents, the worst ones, over which `cvar` is the mean."""

NOT_FINITE = 0.5
"""The threshold of a rule that does not work: the share of its outputs that are not finite, the mean over rounds."""

NO_MAJORITY = 0.05
"""The share of rounds above which a rule that finds no majority within its thresholds is remarked upon."""

_NOT_FINITE = {"aggregate": "aggregator_not_finite", "agreement": "agreement_not_finite"}
"""The metrics `not_finite_share` of both rules; absent where the share is zero."""


def measure(
    theta: Tensor,
    byzantine: Tensor,
    counters: Counters,
    statistics: RoundStatistics,
    extra: Mapping[str, float],
    agreed: Agreement,
    bound: float | None,
) -> dict[str, Any]:
    """Compute one line of metrics.jsonl, without the round's number.

    Args:
        theta: The parameters after the round, [K, d].
        byzantine: The agents that do not count as honest, bool [K].
        counters: The counters of the federation.
        statistics: The measurements of the round.
        extra: The algorithm's own metrics.
        agreed: The experiment's agreement.
        bound: The bound of its contraction, if one holds.

    Returns:
        The metrics by name; None for a number that is not finite.
    """
    honest = ~byzantine
    returns = statistics.returns[honest] if statistics.returns is not None else torch.full((1,), math.nan)
    line: dict[str, Any] = {
        "trajectories": counters.trajectories_spent(honest),
        "steps": int(counters.steps.sum() + counters.server_samples[1]),
        "return": float(returns.mean()),
        "return_worst": float(returns.min()),
        "return_cvar": cvar(returns),
        "disagreement": diameter(theta[honest.to(theta.device)]),
        "messages": counters.messages,
        "bytes": counters.bytes,
        "num_malformed": counters.num_malformed,
        "num_silent": counters.num_silent,
        "num_undefined": counters.num_undefined,
    }
    for name, application in (("aggregate", statistics.aggregation), ("agreement", statistics.mixing)):
        if application is not None:
            line |= {f"{name}_{key}": value for key, value in diagnose(application, byzantine).items()}
            if share := not_finite_share(application, byzantine):
                line[_NOT_FINITE[name]] = share
    if statistics.agreement is not None and (report := statistics.agreement.report).exchanges.any():
        mask = honest.to(report.before.device)
        line["num_exchanges"] = int(report.exchanges[honest].max())
        line["inbox_diameter_before"] = float(report.before[mask].max())
        line["inbox_diameter_after"] = float(report.after[mask].max())
        line["contraction"] = contraction(statistics.agreement, byzantine, agreed.measure)
        line["contraction_bound"] = bound
    if statistics.aggregation is not None:
        gradients = statistics.aggregation.inbox.base[: len(byzantine)][honest.to(theta.device)]
        line["gradient_norm"] = float(gradients.norm(dim=1).max())
    for name, values in statistics.logged.items():
        finite = values[honest & values.isfinite()]
        if len(finite):
            line[name] = float(finite.min() if name == "relative_effective_sample_size" else finite.max())
    line.update(extra)
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}


def not_finite_share(application: AggregationResult, byzantine: Tensor) -> float:
    """Return the share of honest receivers to which a rule returned a vector that is not finite.

    The inputs of a rule are finite, and receivers at which it is not defined do not count.

    Args:
        application: The outputs of the rule.
        byzantine: The agents that do not count as honest, bool [K].
    """
    receivers, counted = application.inbox.receivers, application.usable
    if receivers is not None:
        counted = counted & ~byzantine[receivers]
    finite = application.value.isfinite().all(1).cpu()
    return float((~finite[counted]).double().mean()) if counted.any() else 0.0


def cvar(values: Tensor, share: float = TAIL) -> float:
    """Return the conditional value at risk of values [h]: the mean of the worst `share` of them; NaN if one is NaN.

    The tail has share * h values, of which the last one may count in part; it has at least the worst value.

    Example:
        >>> cvar(torch.tensor([4.0, 1.0, 3.0, 2.0]), share=0.5)
        1.5
    """
    ordered = values.double().sort().values
    tail = share * len(ordered)
    weights = (tail - torch.arange(len(ordered), dtype=torch.float64, device=ordered.device)).clamp(0, 1)
    return float((weights * ordered).sum() / weights.sum())


def evaluation_area(lines: Sequence[Mapping[str, Any]], task: Task, budget: int) -> float | None:
    """Return the area under the evaluation curve of a run, divided by the budget.

    It is None for a run that was never evaluated, or had an evaluation that is not finite.

    The curve starts at the return of a random policy; where the task has none, at the first evaluation.

    Args:
        lines: The lines of metrics of the run.
        task: The task, with its reference scores.
        budget: The number of trajectories of the whole run.
    """
    points = [(line["trajectories"], line["evaluation"]) for line in lines if "evaluation" in line]
    if not points or None in [value for _, value in points]:
        return None
    start = task.reference.get("random", points[0][1])
    return None if start is None else area_under_curve([p[0] for p in points], [p[1] for p in points], start, budget)


def final_return(lines: Sequence[Mapping[str, Any]], budget: int) -> float:
    """Return the mean training return over the last trajectories; a round is weighted by its number of episodes.

    Args:
        lines: The lines of metrics of the run.
        budget: The number of trajectories of the whole run.
    """
    start = lines[-1]["trajectories"] - min(WINDOW, max(1, budget // 4))
    total = weight = 0.0
    before = 0
    for line in lines:
        share = line["trajectories"] - max(before, start)
        before = line["trajectories"]
        if share > 0:
            total += share * (math.nan if line["return"] is None else line["return"])
            weight += share
    return total / weight if weight else math.nan


def aggregation(lines: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the means over rounds of all metrics `aggregate_*`; the error is in units of the honest spread."""
    prefix = "aggregate_"
    rounds = [{k.removeprefix(prefix): v for k, v in line.items() if k.startswith(prefix)} for line in lines]
    for values in rounds:
        error, spread = values.get("error"), values.pop("spread", None)
        if "error" in values:
            values["error"] = error / spread if error is not None and spread else None
    names = dict.fromkeys(name for values in rounds for name in values)
    return {name: mean_of(values.get(name) for values in rounds) for name in names}


def clock_summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the time at the end of a run, its idle share, and the ages of messages; empty without a clock.

    Args:
        lines: The lines of metrics of the run.

    Example:
        >>> clock_summary([{"seconds": 1.5, "idle_share": 0.2}, {"seconds": 3.0, "idle_share": 0.1}])
        {'seconds': 3.0, 'idle_share': 0.1}
    """
    last = lines[-1]
    summary = {name: last[name] for name in ("seconds", "idle_share") if name in last}
    if "staleness" in last:
        summary["staleness"] = mean_of(line.get("staleness") for line in lines)
        summary["staleness_max"] = max(line.get("staleness_max") or 0.0 for line in lines)
    return summary


def majority_notes(lines: Sequence[Mapping[str, Any]], aggregator: str) -> list[str]:
    """Return a remark if a rule that needs a majority of close vectors found none in more than `NO_MAJORITY` of rounds.

    Args:
        lines: The lines of metrics of the run, of which `no_majority` is 1 in such rounds.
        aggregator: The rule in written form.

    Example:
        >>> majority_notes([{"no_majority": 1.0}, {"no_majority": 0.0}], "fedpg_filter(sigma=0.1)")
        ['sigma of fedpg_filter(sigma=0.1) is too small: in 50 % of rounds no vector was within 2 sigma of most others']
    """
    share = mean_of(line.get("no_majority") for line in lines) or 0.0
    if share <= NO_MAJORITY:
        return []
    rounds = f"{100 * share:.0f} % of rounds"
    return [f"sigma of {aggregator} is too small: in {rounds} no vector was within 2 sigma of most others"]


def classify_rules(lines: Sequence[Mapping[str, Any]], rules: Mapping[str, str], diverged: bool) -> Verdict | None:
    """Return the verdict on a run in which a rule returned vectors that are not finite, or None.

    Args:
        lines: The lines of metrics of the run.
        rules: The names of the `aggregator` and the `agreement`.
        diverged: Whether honest parameters are not finite. Then the first round counts, as all later messages of agents
            that take such parameters from their agreement are malformed; otherwise the mean over rounds.
    """
    for kind, name in rules.items():
        shares = [line.get(f"{kind}_not_finite") or 0.0 for line in lines]
        share = shares[0] if diverged else sum(shares) / len(shares)
        if share > NOT_FINITE:
            return Verdict(
                "not_finite", share, NOT_FINITE, f"{kind} {name} returned this share of vectors that are not finite"
            )
    return None


def classify_run(final: float, theta: Tensor, honest: Tensor, task: Task) -> Verdict:
    """Classify a finished run.

    Args:
        final: The final training return.
        theta: The parameters of all agents at the end, [K, d].
        honest: The honest agents that are present at the end, bool [K].
        task: The task, with its reference scores.

    Returns:
        The verdict.
    """
    parameters = theta[honest]
    if not (parameters.isfinite().all() and math.isfinite(final)):
        return Verdict("diverged", None, None, "honest parameters or returns are not finite")
    disagreement = diameter(parameters) / max(float(parameters.double().norm(dim=1).mean()), 1e-12)
    if disagreement > CONSENSUS:
        return Verdict(
            "no_consensus", disagreement, CONSENSUS, "honest agents end further apart than this share of their length"
        )
    if not {"random", "solved"} <= task.reference.keys():
        return Verdict("ok", final, None, "the return is finite; without reference scores learning cannot be judged")
    low, high = task.reference_score("random"), task.reference_score("solved")
    floor = low + LEARNING * (high - low)
    if final < floor:
        return Verdict("not_learning", final, floor, "the final return is below a tenth of the way to solved")
    return Verdict("ok", final, floor, "the final return is above a tenth of the way to solved")
