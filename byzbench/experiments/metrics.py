"""The numbers of a round, and the verdict on a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from byzbench.contracts import Agreement, Task
from byzbench.experiments.curves import area_under_curve
from byzbench.experiments.diagnostics import contraction, diagnose, diameter
from byzbench.federation.ledger import Ledger

WINDOW = 500
"""The final return is the mean over this many last trajectories per agent; of short runs, over the last quarter."""

CONSENSUS = 0.1
"""Honest parameters are one policy while their diameter stays below this share of their mean length."""

TAIL = 0.2
"""The share of honest agents whose mean is the conditional value at risk, `_cvar`."""

LEARNING = 0.1
"""A run has learned if its final return is above random by this share of the way from random to solved."""


def measure(
    theta: Tensor, byzantine: Tensor, ledger: Ledger, extra: Mapping[str, float], agreed: Agreement, bound: float | None
) -> dict[str, Any]:
    """One line of metrics.jsonl, without the round's number.

    Args:
        theta: [K, d] after the round.
        byzantine: [K] bool.
        ledger: what the federation used so far.
        extra: the algorithm's own metrics.
        agreed: the experiment's agreement.
        bound: on its contraction, where one holds.
    """
    honest = ~byzantine
    returns = ledger.returns[honest] if ledger.returns is not None else torch.full((1,), math.nan)
    line: dict[str, Any] = {
        "trajectories": ledger.spent(honest),
        "steps": int(ledger.steps.sum() + ledger.served[1]),
        "return": float(returns.mean()),
        "return_worst": float(returns.min()),
        "return_cvar": cvar(returns),
        "disagreement": diameter(theta[honest.to(theta.device)]),
        "messages": ledger.messages,
        "bytes": ledger.bytes,
        "screened": ledger.screened,
        "silent": ledger.silent,
        "kept": ledger.kept,
    }
    for name, seen in (("aggregate", ledger.aggregation), ("agreement", ledger.mixing)):
        if seen is not None:
            line |= {f"{name}_{key}": value for key, value in diagnose(seen, byzantine).items()}
    if ledger.agreed is not None and (report := ledger.agreed.report).exchanges.any():
        seats = honest.to(report.before.device)
        line["exchanges"] = int(report.exchanges[honest].max())
        line["width_before"] = float(report.before[seats].max())
        line["width_after"] = float(report.after[seats].max())
        line["contraction"] = contraction(ledger.agreed, byzantine, agreed.measure)
        line["contraction_bound"] = bound
    if ledger.aggregation is not None:
        said = ledger.aggregation.inbox.base[: len(byzantine)][honest.to(theta.device)]
        line["gradient_norm"] = float(said.norm(dim=1).max())
    for name, values in ledger.noted.items():
        mine = values[honest & values.isfinite()]
        if len(mine):
            line[name] = float(mine.min() if name == "weight_effective" else mine.max())
    line.update(extra)
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}


def cvar(values: Tensor, share: float = TAIL) -> float:
    """The conditional value at risk of values [h]: the mean of the worst `share` of them; NaN if one is.

    Of the value at the edge that part counts which makes it share * h values in all; of fewer than one, the worst.
    """
    ordered = values.double().sort().values
    tail = share * len(ordered)
    weights = (tail - torch.arange(len(ordered), dtype=torch.float64, device=ordered.device)).clamp(0, 1)
    return float((weights * ordered).sum() / weights.sum())


def at_bytes(lines: Sequence[Mapping[str, Any]], name: str, budget: int) -> float | None:
    """What metric `name` was when last taken before agents had sent more than `budget` bytes, all together.

    None if it was not taken by then. A run that ended with fewer has its last.
    """
    found = [line[name] for line in lines if name in line and (line["bytes"] or 0) <= budget]
    return found[-1] if found else None


def evaluation_area(lines: Sequence[Mapping[str, Any]], task: Task, budget: int) -> float | None:
    """Return the area under the evaluation curve of a run, divided by the budget; None if it was never evaluated.

    The curve starts at the return of a random policy; where the task knows none, at the first evaluation.
    """
    points = [(line["trajectories"], line["evaluation"]) for line in lines if "evaluation" in line]
    if not points:
        return None
    start = task.reference.get("random", points[0][1])
    return None if start is None else area_under_curve([p[0] for p in points], [p[1] for p in points], start, budget)


def final_return(lines: Sequence[Mapping[str, Any]], budget: int) -> float:
    """Mean training return over the last trajectories; a round's return counts as often as it has episodes."""
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
    """The `aggregate_` numbers of all rounds as one each, their mean; the error in units of the honest spread."""
    prefix = "aggregate_"
    rounds = [{k.removeprefix(prefix): v for k, v in line.items() if k.startswith(prefix)} for line in lines]
    for found in rounds:
        error, spread = found.get("error"), found.pop("spread", None)
        if "error" in found:
            found["error"] = error / spread if error is not None and spread else None
    return {name: mean_of(found.get(name) for found in rounds) for name in dict.fromkeys(k for f in rounds for k in f)}


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of what is not None; None of nothing."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


@dataclass(frozen=True)
class Verdict:
    """ok, diverged, no_consensus or not_learning; with the number that decided and the threshold it was held to."""

    name: str
    number: float | None
    threshold: float | None
    meaning: str


SEVERITY = ("ok", "not_learning", "no_consensus", "diverged")


def judge(final: float, theta: Tensor, honest: Tensor, task: Task) -> Verdict:
    """The verdict on a run that ended with theta [K, d] and this final return."""
    mine = theta[honest]
    if not (mine.isfinite().all() and math.isfinite(final)):
        return Verdict("diverged", None, None, "honest parameters or returns are not finite")
    apart = diameter(mine) / max(float(mine.double().norm(dim=1).mean()), 1e-12)
    if apart > CONSENSUS:
        return Verdict(
            "no_consensus", apart, CONSENSUS, "honest agents end further apart than this share of their length"
        )
    if not {"random", "solved"} <= task.reference.keys():
        return Verdict("ok", final, None, "the return is finite; without reference scores learning cannot be judged")
    low, high = task.worth("random"), task.worth("solved")
    floor = low + LEARNING * (high - low)
    if final < floor:
        return Verdict("not_learning", final, floor, "the final return is below a tenth of the way to solved")
    return Verdict("ok", final, floor, "the final return is above a tenth of the way to solved")
