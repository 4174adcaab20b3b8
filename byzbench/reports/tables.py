"""Results as tables: of one run, and of groups of them. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byzbench.registry import name_of
from byzbench.reports.benefit import benefit
from byzbench.reports.estimators import Interval
from byzbench.reports.ordering import Difference, describe_separation, rank_ranges, separated
from byzbench.reports.row_scores import CLEAN, attack_scores, common_seeds, row_retention, row_runs
from byzbench.reports.scoring import EntryRuns, Retention, score_entry
from byzbench.reports.sheets import Sheet
from byzbench.reports.summary import DEFENCE, Groups, Label, Row, rounded

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
    """Return the tables of groups: results, worst attacks, order of the methods, and benefit of taking part."""
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
    decimals, secondary = _decimals(groups), {m: name for m, name in _SECONDARY.items() if m != groups.metric}
    retained = _retentions(groups)
    records, cells = [], []
    for index, row in enumerate(groups.rows):
        others = {metric: row.secondary(metric) for metric in secondary}
        retention = retained.get(index)
        records.append(
            {
                **row.key,
                "seeds": len(row.values),
                **_ends(row.estimate),
                **others,
                **_retention_numbers(retention),
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
                *(_number(value, decimals) for value in others.values()),
                *([_written_retention(retention)] if retained else []),
                ", ".join(f"{name} {count}" for name, count in row.verdicts.items()),
                ", ".join(row.remarks),
            ]
        )
    columns = [*(f">{name}" for name in secondary.values()), *([">retention"] if retained else [])]
    head = [*groups.axes, ">seeds", ">mean", ">95 % interval", *columns, "verdicts", "remarks"]
    fixed = ", ".join(f"{axis}={value}" for axis, value in groups.fixed.items())
    title = f"Mean over seeds of the {groups.title}; {fixed or 'nothing is fixed'}"
    notes = (f"Retention: {_RETENTION}",) if retained else ()
    return Sheet("results", title, records, head, cells, (*secondary.values(), "verdicts", "retention"), notes)


def _retentions(groups: Groups) -> dict[int, Retention]:
    """Return the retention of each row under an attack that has a row without, by position."""
    if "attack" not in groups.axes:
        return {}
    clean = {key: row for key, rows in groups.blocks(("attack",)).items() for row in rows if row.key["attack"] == CLEAN}
    found = {}
    for index, row in enumerate(groups.rows):
        peer = clean.get(tuple(row.key[axis] for axis in groups.axes if axis != "attack"))
        if peer is not None and row is not peer and (retention := row_retention(row, peer)) is not None:
            found[index] = retention
    return found


def _worst(groups: Groups) -> Sheet:
    """For each combination of the other axes: the worst case over attacks, by the definitions of boards."""
    others = [axis for axis in groups.axes if axis != "attack"]
    records, cells = [], []
    for labels, rows in groups.blocks(("attack",)).items():
        score, clean, attacked, apart = attack_scores(rows)
        if not any(row.key["attack"] != CLEAN for row in rows):
            continue
        key = dict(zip(others, labels, strict=True))
        missing = [f"other seeds, not compared: {', '.join(str(row.key['attack']) for row in apart)}"] if apart else []
        gaps = [f"{row.key['attack']}: {gap}" for row in rows for gap in row.gaps]
        if score is None:
            why = [*(missing or [_unscored(rows[0])]), *gaps]
            records.append(
                {**key, **dict.fromkeys(_WORST_NUMBERS), "attacks": 0, "seeds": 0, "remarks": ", ".join(why)}
            )
            cells.append([*map(str, labels), *["–"] * (len(_WORST_HEAD) - 3), "0", "0", ", ".join(why)])
            continue
        stratum, unattacked = score.strata[0], score.clean if clean else None
        named = stratum.named_attack if clean else None
        retention = stratum.retention[stratum.worst_attack] if clean else None
        remarks = [
            *(
                []
                if named
                else ["no attack did certain harm" if clean else "no runs without an attack to compare with"]
            ),
            *(
                [f"not told from it: {', '.join(sorted(stratum.tied - {named}))}"]
                if named and len(stratum.tied) > 1
                else []
            ),
            *missing,
            *gaps,
        ]
        records.append(
            {
                **key,
                "clean": unattacked.value if unattacked else None,
                "attack": named,
                "lowest": stratum.worst_attack,
                "tied": sorted(stratum.tied),
                **_ends(score.worst),
                "crossfit": score.crossfit,
                "cvar": score.cvar,
                **_retention_numbers(retention),
                "attacks": len(attacked),
                "seeds": score.num_seeds,
                "remarks": ", ".join(remarks),
            }
        )
        cells.append(
            [
                *map(str, labels),
                _number(unattacked.value if unattacked else None, 2),
                named or "–",
                *_written(score.worst, 2),
                _number(score.crossfit, 2),
                _number(score.cvar, 2),
                _written_retention(retention),
                str(len(attacked)),
                str(score.num_seeds),
                ", ".join(remarks),
            ]
        )
    title = f"Worst case over attacks: scores of the {groups.title}, 0 the random policy, 1 the solved task"
    spare = ("attacks", "CVaR", "cross-fitted", "clean", "seeds", "retention")
    return Sheet("worst", title, records, [*others, *_WORST_HEAD], cells, spare, (_WORST_NOTE,))


def _ranking(groups: Groups) -> Sheet:
    """Within each combination of the other axes: methods by score, with the range of ranks that the data allow."""
    rivals = groups.varied(DEFENCE)
    others = [axis for axis in groups.axes if axis not in rivals]
    records, cells, notes = [], [], []
    for labels, entries, apart, seeds in _contests(groups, others, rivals):
        names = [" · ".join(str(value) for value in key.values()) for key, _ in entries]
        ranges = rank_ranges([entry for _, entry in entries])
        where = " · ".join(map(str, labels))
        said = describe_separation(names, separated([entry for _, entry in entries])) if len(entries) > 1 else ""
        notes += [f"{where}: {said}" if where else said] if said else []
        block = dict(zip(others, labels, strict=True))
        for (key, entry), ranks in zip(entries, ranges, strict=True):
            score = score_entry(entry).worst
            remarks = "too few seeds to separate" if score.low is None else ""
            numbers = {"rank_best": ranks[0], "rank_worst": ranks[1], **_ends(score), "seeds": len(seeds)}
            records.append({**block, **key, **numbers, "remarks": remarks})
            place = str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]} to {ranks[1]}"
            shown = [place, *_written(score, 2), str(len(seeds)), remarks]
            cells.append([*map(str, labels), *(str(key[axis]) for axis in rivals), *shown])
        for key, why in apart:
            numbers = dict.fromkeys(("rank_best", "rank_worst", "value", "low", "high", "seeds"))
            records.append({**block, **key, **numbers, "remarks": why})
            cells.append([*map(str, labels), *(str(key[axis]) for axis in rivals), "–", "–", "–", "–", why])
    head = [*others, *rivals, ">ranks", ">score", ">95 % interval", ">seeds", "remarks"]
    title = (
        f"Order by score of the {groups.title}, 0 the random policy, 1 the solved task; ranks: the range that paired "
        "tests on common seeds allow, jointly at 95 %"
    )
    return Sheet("ranking", title, records, head, cells, ("95 % interval", "seeds"), tuple(notes))


_Key = dict[str, Label]
_Contest = tuple[tuple[Label, ...], list[tuple[_Key, EntryRuns]], list[tuple[_Key, str]], list[int]]
"""Labels of the other axes; the methods that can be compared, best first; the others with reasons; common seeds."""


def _contests(groups: Groups, others: Sequence[str], rivals: Sequence[str]) -> Iterator[_Contest]:
    """Yield the methods of each combination of the other axes, then those under the worst of all attacks."""
    for labels, rows in groups.blocks(rivals).items():
        methods = [(_rival(row, rivals), {"": row}) for row in rows]
        if len(methods) > 1:
            yield (labels, *_contest(methods))
    if not groups.varied(("attack",)):
        return
    for labels, rows in groups.blocks(("attack", *rivals)).items():
        met: dict[tuple[Label, ...], tuple[_Key, dict[str, Row]]] = {}
        for row in rows:
            if row.key["attack"] != CLEAN:
                key = _rival(row, rivals)
                met.setdefault(tuple(key.values()), (key, {}))[1][str(row.key["attack"])] = row
        attacks = {attack for _, attacked in met.values() for attack in attacked}
        if len(met) > 1 and len(attacks) > 1:
            rest = iter(labels)
            named = tuple(f"worst of {len(attacks)}" if axis == "attack" else next(rest) for axis in others)
            yield (named, *_contest([*met.values()], len(attacks)))


def _contest(
    methods: Sequence[tuple[_Key, Mapping[str, Row]]], attacks: int = 1
) -> tuple[list[tuple[_Key, EntryRuns]], list[tuple[_Key, str]], list[int]]:
    """Return the methods that can be compared, best first, the others with reasons, and the common seeds."""
    apart: list[tuple[_Key, str]] = []
    fair = []
    for key, attacked in methods:
        if reason := _unscored(next(iter(attacked.values()))):
            apart.append((key, reason))
        elif len(attacked) < attacks:
            apart.append((key, f"{attacks - len(attacked)} of {attacks} attacks were not run"))
        else:
            fair.append((key, attacked))
    owners = [index for index, (_, attacked) in enumerate(fair) for _ in attacked]
    chosen, _ = common_seeds([row for _, attacked in fair for row in attacked.values()])
    dropped = {owner for position, owner in enumerate(owners) if position not in chosen}
    apart += [(key, "other seeds, not compared") for index, (key, _) in enumerate(fair) if index in dropped]
    fair = [method for index, method in enumerate(fair) if index not in dropped]
    sets = [set(row.seeds) for _, attacked in fair for row in attacked.values()]
    seeds = sorted(set.intersection(*sets)) if sets else []
    entries = [(key, entry) for key, attacked in fair if (entry := row_runs(attacked, None, seeds)) is not None]
    entries.sort(key=lambda found: -found[1].seed_scores.mean())
    return entries, apart, seeds


def _rival(row: Row, rivals: Sequence[str]) -> _Key:
    return {axis: row.key[axis] for axis in rivals}


def _unscored(row: Row) -> str:
    """Return why a row has no score, or nothing."""
    if row.bounds is None:
        return "the task states no returns of a random policy and of a solved task"
    return "" if len(row.values) else "no finished runs"


_RETENTION = (
    "the share of the improvement over the random policy without an attack that is left under it, on the same seeds; "
    "– where the runs without an attack have not certainly made 0.3 of the way to solved."
)
_WORST_NUMBERS = (
    *("clean", "attack", "lowest", "tied", "value", "low", "high", "crossfit", "cvar"),
    *("retention", "retention_low", "retention_high", "retention_defined"),
)
_WORST_HEAD = (
    *(">clean", "worst attack", ">lowest mean", ">95 % interval", ">cross-fitted", ">CVaR"),
    *(">retention", ">attacks", ">seeds", "remarks"),
)
_WORST_NOTE = (
    "An attack is named where its runs are certainly lower than those without an attack, on the same seeds. "
    "Cross-fitted: the attack chosen on half of the seeds, scored on the rest. CVaR: mean of the worst fifth of "
    "the seeds."
)


def _decimals(groups: Groups) -> int:
    """Return the decimals that show three or four digits of the largest value."""
    largest = max((abs(row.estimate.value) for row in groups.rows if row.estimate), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def _ends(found: Interval | Difference | None) -> dict[str, float | None]:
    return {key: getattr(found, key) if found else None for key in ("value", "low", "high")}


def _retention_numbers(found: Retention | None) -> dict[str, float | bool | None]:
    return {
        "retention": found.value if found else None,
        "retention_low": found.low if found else None,
        "retention_high": found.high if found else None,
        "retention_defined": found.defined if found else None,
    }


def _written_retention(found: Retention | None) -> str:
    if found is None or not found.defined:
        return "–"
    return " ".join(_written(Interval(found.value or 0.0, found.low, found.high), 2, "({})"))


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else rounded(value, decimals)


def _written(found: Interval | None, decimals: int, form: str = "{}") -> list[str]:
    """Return a value and its interval."""
    if found is None or found.low is None or found.high is None:
        return [_number(found.value if found else None, decimals), "–"]
    return [
        _number(found.value, decimals),
        form.format(f"{rounded(found.low, decimals)} to {rounded(found.high, decimals)}"),
    ]
