"""Results as tables: of one run, and of groups of them. Imports nothing heavy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byzbench.registry import name_of
from byzbench.reports.benefit import benefit
from byzbench.reports.sheets import Sheet
from byzbench.reports.statistics import CONFIDENCE, Estimate, improvement, ties, worst_case
from byzbench.reports.summary import DEFENCE, Groups, Row, rounded

if TYPE_CHECKING:
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.records import Result

_SECONDARY = {"evaluation": "evaluation", "evaluation_worst": "worst agent"}
"""Metrics that stand beside the one asked for, and what their columns are called."""


def rows(experiment: Experiment, result: Result) -> list[tuple[str, str]]:
    """What a reader of one result wants to know, in order: (what, value)."""
    from byzbench.experiments.metrics import WINDOW

    final, verdict, found = result.final, result.verdict, result.diagnostics
    several = isinstance(result.run, list)
    value = "not finite" if final["mean"] is None else f"{final['mean']:.1f}"
    if final["low"] is not None:
        value += f"  (95 % interval {final['low']:.1f} to {final['high']:.1f}, {final['n']} seeds)"
    elif several:
        value += f"  (mean of {final['n']} seeds)"
    judged = verdict.name
    if verdict.number is not None:
        against = "" if verdict.threshold is None else f" against {verdict.threshold:.3g}"
        judged += f"  ({verdict.meaning}: {verdict.number:.3g}{against})"
    worst = "largest of all seeds: " if several else ""
    honest = experiment.agents - experiment.byzantine
    window = min(WINDOW, max(1, experiment.trajectories // 4))
    return [
        (f"return, last {window} trajectories", value),
        ("evaluation return" if not several else "worst seed's evaluation return", _evaluated(result)),
        ("worst verdict" if several else "verdict", judged),
        ("honest disagreement", "not finite" if result.disagreement is None else f"{worst}{result.disagreement:.3g}"),
        ("aggregates, from the honest mean", _aggregated(result)),
        ("what theorems bound", _assumed(result)),
        ("messages sent", f"{result.messages:,}"),
        ("bytes sent", _size(result.bytes)),
        ("messages screened out", f"{result.screened:,}"),
        ("environment steps", f"{result.steps:,}  ({result.steps_per_second:,.0f} per second)"),
        ("largest local Byzantine weight", f"{worst}{found['local_weight']:.3f}"),
        ("honest agents beyond their bound", f"{worst}{found['beyond_bound']} of {honest}"),
        ("pieces of the honest graph", f"{worst}{found['honest_components']}"),
    ]


def print_result(experiment: Experiment, result: Result, picture: Path) -> None:
    """The table, the notes, where things are, and what to run next."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    parts = (experiment.algorithm, experiment.attack, experiment.topology, experiment.task)
    title = " · ".join(map(name_of, parts)) + f"   K={experiment.agents}, f={experiment.byzantine}"
    table = Table(title=title, show_header=False, title_style="bold", title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows(experiment, result):
        table.add_row(name, value)
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    folders = [result.run] if isinstance(result.run, str) else result.run
    for line in (f"learning curve: {picture}", *(f"saved: {f}   replay: byzbench replay {f}" for f in folders)):
        console.print(line, markup=False, soft_wrap=True)


def _aggregated(result: Result) -> str:
    found = result.aggregation
    if found.get("error") is None:
        return "none"
    said = f"{found['error']:.2g} honest spreads"
    if found.get("byzantine_weight") is not None:
        said += f"; weight of liars {found['byzantine_weight']:.2g}"
    return said + ("" if found.get("pull") is None else f"; pull towards them {found['pull']:.2g}")


def _assumed(result: Result) -> str:
    found = {key: value for key, value in result.assumptions.items() if value is not None}
    parts = [
        (f"gradients up to {found['gradient_norm_largest']:.3g} long" if "gradient_norm_largest" in found else ""),
        (f"variance {found['gradient_variance']:.3g}" if "gradient_variance" in found else ""),
        (f"dissimilarity {found['gradient_dissimilarity']:.3g}" if "gradient_dissimilarity" in found else ""),
        (f"importance weights up to {found['weight_largest']:.3g}" if "weight_largest" in found else ""),
    ]
    return "; ".join(filter(None, parts)) or "none"


def _evaluated(result: Result) -> str:
    found = result.evaluation
    shown = {key: "not finite" if value is None else f"{value:.1f}" for key, value in found.items()}
    if "evaluation" not in shown:
        return "none"
    return (
        f"{shown['evaluation']} as trained, {shown['evaluation_greedy']} greedy; "
        f"worst honest agent {shown['evaluation_worst']}"
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def sheets(groups: Groups) -> list[Sheet]:
    """All that can be said about groups: results; the worst attacks; who beats whom; who had better stay alone."""
    found = [_results(groups)]
    if groups.varied(("attack",)):
        found.append(_worst(groups))
    if groups.varied(DEFENCE):
        found.append(_ranking(groups))
    found.append(benefit(groups))
    return [sheet for sheet in found if sheet.records]


def about(groups: Groups) -> dict[str, Any]:
    """What holds for all rows."""
    return {
        "schema": 1,
        "metric": groups.metric,
        **({} if groups.bytes is None else {"bytes": groups.bytes}),
        "axes": list(groups.axes),
        "fixed": dict(groups.fixed),
        "notes": list(groups.notes),
    }


def _results(groups: Groups) -> Sheet:
    decimals = _decimals(groups)
    records, cells = [], []
    for row in groups.rows:
        others = {metric: row.secondary(metric) for metric in _SECONDARY if metric != groups.metric}
        mean = float(row.values.mean()) if len(row.values) else None
        records.append(
            {
                **row.key,
                "seeds": len(row.values),
                **_numbers(row.estimate),
                "mean": mean,
                **{metric: found.value if found else None for metric, found in others.items()},
                "verdicts": row.verdicts,
                "lost": row.lost,
                "unfinished": row.unfinished,
                "remarks": ", ".join(row.remarks),
                "runs": sorted(entry.hash for entry in row.entries),
            }
        )
        cells.append(
            [
                *map(str, row.key.values()),
                str(len(row.values)),
                *_written(row.estimate, decimals),
                _number(mean, decimals),
                *(_number(found.value if found else None, decimals) for found in others.values()),
                ", ".join(f"{name} {count}" for name, count in row.verdicts.items()),
                ", ".join(row.remarks),
            ]
        )
    columns = [f">{name}" for metric, name in _SECONDARY.items() if metric != groups.metric]
    head = [*groups.axes, ">seeds", ">IQM", ">95 % interval", ">mean", *columns, "verdicts", "remarks"]
    fixed = ", ".join(f"{axis}={value}" for axis, value in groups.fixed.items())
    title = f"Interquartile mean (IQM) over seeds of the {groups.title}; {fixed or 'nothing is fixed'}"
    return Sheet("results", title, records, head, cells, ("mean", *_SECONDARY.values(), "verdicts"))


def _worst(groups: Groups) -> Sheet:
    """For each combination of the other axes the attack that hurts most, with a bracket."""
    others = [axis for axis in groups.axes if axis != "attack"]
    decimals, records, cells = _decimals(groups), [], []
    for labels, rows in groups.blocks(("attack",)).items():
        attacked = [row for row in rows if row.key["attack"] != "none"]
        if (row := _hardest(attacked)) is None:
            continue
        clean = next((row.estimate for row in rows if row.key["attack"] == "none"), None)
        above = clean.value if clean else None
        # Of one attack nothing was chosen, and with lost runs nothing can be chosen fairly: there is no other end then.
        fair = len(attacked) > 1 and not any(row.lost for row in attacked)
        high = worst_case({str(row.key["attack"]): row.values for row in attacked}).crossfit if fair else None
        gaps = [f"{row.key['attack']}: {gap}" for row in attacked for gap in row.gaps]
        remarks = ", ".join([*gaps, *(said for said in row.remarks if said not in row.gaps)])
        key = dict(zip(others, labels, strict=True))
        found = {"clean": above, "attack": row.key["attack"], **_numbers(row.estimate), "crossfit": high}
        records.append({**key, **found, "attacks": len(attacked), "remarks": remarks})
        shown = [_number(above, decimals), str(row.key["attack"]), *_written(row.estimate, decimals)]
        cells.append([*map(str, labels), *shown, _number(high, decimals), str(len(attacked)), remarks])
    head = [*others, ">clean", "worst attack", ">naive", ">95 % interval", ">cross-fitted", ">attacks", "remarks"]
    title = (
        "Under the worst attack, between two ends: naive, the lowest IQM of all, and cross-fitted, which chooses the "
        "attack on half of the seeds and scores it on the rest"
    )
    return Sheet("worst", title, records, head, cells, ("attacks", "clean"))


def _hardest(attacked: Sequence[Row]) -> Row | None:
    """The row of the attack that hurts most, of those that have any value."""
    scored = {str(row.key["attack"]): row for row in attacked if len(row.values)}
    return scored[worst_case({name: row.values for name, row in scored.items()}).name] if scored else None


def _ranking(groups: Groups) -> Sheet:
    """Within each combination of the other axes: ranks of defences, and how likely each beats the next."""
    rivals = groups.varied(DEFENCE)
    others = [axis for axis in groups.axes if axis not in rivals]
    decimals, records, cells = _decimals(groups), [], []
    for labels, rows in [*groups.blocks(rivals).items(), *_hardest_blocks(groups, others, rivals)]:
        for rank, tied, row, better in _ranked(rows, rivals):
            key = {**dict(zip(others, labels, strict=True)), **{axis: row.key[axis] for axis in rivals}}
            versus = {f"better_{name}": number for name, number in _numbers(better).items() if name != "level"}
            remarks = ", ".join(row.remarks)
            place = "–" if rank is None else f"{rank}{'=' * tied}"
            records.append({**key, "rank": rank, "tied": tied, **_numbers(row.estimate), **versus, "remarks": remarks})
            shown = [*_written(row.estimate, decimals), *_written(better, 2), remarks]
            cells.append([*map(str, labels), *(str(row.key[axis]) for axis in rivals), place, *shown])
    head = [*others, *rivals, ">rank", ">IQM", ">95 % interval", ">beats the next", ">its interval", "remarks"]
    title = (
        "Ranks; those that these seeds cannot tell apart share one. Beats the next: probability that a run returns more"
    )
    return Sheet("ranking", title, records, head, cells, ("95 % interval", "its interval"))


def _hardest_blocks(
    groups: Groups, others: Sequence[str], rivals: Sequence[str]
) -> list[tuple[tuple[str | int, ...], list[Row]]]:
    """Each defence under its own worst attack, where all have met the same attacks with as many seeds."""
    found = []
    for labels, rows in groups.blocks(("attack", *rivals)).items() if groups.varied(("attack",)) else ():
        met: dict[tuple[str | int, ...], list[Row]] = {}
        for row in rows:
            if row.key["attack"] != "none":
                met.setdefault(tuple(row.key[axis] for axis in rivals), []).append(row)
        attacks = [[(row.key["attack"], len(row.values)) for row in attacked] for attacked in met.values()]
        hardest = [hurt for attacked in met.values() if (hurt := _hardest(attacked))]
        alike = attacks and all(names == attacks[0] and len(names) > 1 for names in attacks)
        if alike and not any(row.lost for row in rows):
            rest = iter(labels)
            key = tuple(f"worst of {len(attacks[0])}" if axis == "attack" else next(rest) for axis in others)
            found.append((key, hardest))
    return found


def _ranked(rows: Sequence[Row], rivals: Sequence[str]) -> list[tuple[int | None, bool, Row, Estimate | None]]:
    """Rows from the best on: the rank, whether it is shared, the row, and the probability to beat the next.

    Rows that have lost runs come last and have no rank.
    """
    names = {" · ".join(str(row.key[axis]) for axis in rivals): row for row in rows}
    fair = {name: row for name, row in names.items() if len(row.values) and not row.lost}
    ranks = ties({name: row.by_seed for name, row in fair.items()})
    shared = {rank for rank, count in Counter(ranks.values()).items() if count > 1}
    order = [*ranks, *(name for name in names if name not in ranks)]
    if len(order) < 2:
        return []  # nothing to rank
    found = []
    for name, below in zip(order, [*order[1:], ""], strict=True):
        better = improvement(fair[name].values, fair[below].values) if name in fair and below in fair else None
        found.append((ranks.get(name), ranks.get(name) in shared, names[name], better))
    return found


def _decimals(groups: Groups) -> int:
    """Enough to see three or four digits of the largest value."""
    largest = max((abs(row.estimate.value) for row in groups.rows if row.estimate), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def _numbers(found: Estimate | None) -> dict[str, float | None]:
    keys = ("value", "low", "high", "level")
    return {key: getattr(found, key) if found else None for key in keys}


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else rounded(value, decimals)


def _written(found: Estimate | None, decimals: int) -> list[str]:
    """A value and its interval, with the confidence of one that has less than it should."""
    if found is None or found.low is None or found.high is None:
        return [_number(found.value if found else None, decimals), "–"]
    less = f" ({100 * found.level:.0f} %)" if found.level is not None and found.level < CONFIDENCE else ""
    return [_number(found.value, decimals), f"{rounded(found.low, decimals)} to {rounded(found.high, decimals)}{less}"]
