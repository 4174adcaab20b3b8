"""Tables of the result of one run, and of groups of runs. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byzbench.experiments.curves import LEARNING
from byzbench.reports.benefit import benefit
from byzbench.reports.estimators import Interval
from byzbench.reports.labels import component_label
from byzbench.reports.ordering import Difference, describe_separation, rank_ranges, separated
from byzbench.reports.row_scores import CLEAN, attack_scores, common_seeds, row_retention, row_runs
from byzbench.reports.scoring import EntryRuns, Retention, StratumScore, score_entry
from byzbench.reports.sheets import Table
from byzbench.reports.summary import DEFENCE, Groups, Label, ReportRow, rounded

if TYPE_CHECKING:
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.result import Result

_SECONDARY = {"evaluation": "evaluation", "evaluation_worst": "worst agent"}
"""Metrics that are shown beside the requested one, with the names of their columns."""


def rows(experiment: Experiment, result: Result) -> list[tuple[str, str]]:
    """Return the lines of the table of one result.

    Args:
        experiment: The experiment.
        result: Its result, or the pooled result of several seeds.

    Returns:
        Pairs of a label and a value, in the order of the table.
    """
    from byzbench.experiments.metrics import WINDOW

    final, verdict = result.final, result.verdict
    pooled = isinstance(result.run, list)
    value = "not finite" if final["mean"] is None else f"{final['mean']:.1f}"
    if final["low"] is not None:
        value += f"  (95 % interval {final['low']:.1f} to {final['high']:.1f}, {final['n']} seeds)"
    elif pooled:
        value += f"  (mean of {final['n']} seeds)"
    verdict_text = verdict.name
    if verdict.number is not None:
        against = "" if verdict.threshold is None else f" against {verdict.threshold:.3g}"
        verdict_text += f"  ({verdict.meaning}: {verdict.number:.3g}{against})"
    if verdict.name == "no_consensus" and not experiment.algorithm.communication.sends_messages:
        verdict_text = f"{verdict.name}  (none is sought: the agents exchange no messages)"
    worst = "largest of all seeds: " if pooled else ""
    window = min(WINDOW, max(1, experiment.trajectories // 4))
    return [
        (f"return, last {window} trajectories", value),
        ("evaluation return" if not pooled else "worst seed's evaluation return", _evaluated(result)),
        ("worst verdict" if pooled else "verdict", verdict_text),
        ("honest disagreement", "not finite" if result.disagreement is None else f"{worst}{result.disagreement:.3g}"),
        ("aggregation error", _aggregation_error(result)),
        ("assumption constants", _assumption_constants(result)),
        ("messages sent", f"{result.messages:,}"),
        ("bytes sent", _size(result.bytes)),
        ("malformed messages", f"{result.num_malformed:,}"),
        ("environment steps", f"{result.steps:,}  ({result.steps_per_second:,.0f} per second)"),
        *_clock_rows(result),
        *(
            [("seconds", ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items()))]
            if result.seconds
            else []
        ),
        *_graph_rows(experiment, result, worst),
    ]


def _clock_rows(result: Result) -> list[tuple[str, str]]:
    """Return the line on the virtual clock, if there is one."""
    if (seconds := result.clock.get("seconds")) is None:
        return []
    parts = [f"{seconds:,.1f} s"]
    if (idle := result.clock.get("idle_share")) is not None:
        parts.append(f"honest agents wait {idle:.0%} of it")
    if (age := result.clock.get("staleness")) is not None:
        parts.append(f"messages are {age:.2g} rounds old (at most {result.clock['staleness_max']:.0f})")
    return [("virtual time", ", ".join(parts))]


def print_result(experiment: Experiment, result: Result, picture: Path) -> None:
    """Print the table of a result, its notes, the paths of its files, and the commands that replay its runs.

    Args:
        experiment: The experiment.
        result: Its result, or the pooled result of several seeds.
        picture: The file of the learning curve.
    """
    from rich.console import Console
    from rich.table import Table

    from byzbench.reports.terminal import echo

    console = Console(highlight=False)
    parts = (experiment.algorithm, experiment.attack, experiment.topology, experiment.task)
    title = " · ".join(map(component_label, parts)) + f"   K={experiment.agents}, f={experiment.byzantine}"
    table = Table(title=title, show_header=False, title_style="bold", title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows(experiment, result):
        table.add_row(name, value)
    console.print(table)
    for note in result.notes:
        echo(f"note: {note}", indent=6)
    folders = [result.run] if isinstance(result.run, str) else result.run
    for line in (
        *([f"learning curve: {picture}"] if picture.exists() else []),
        *(f"saved: {folder}   replay: byzbench replay {folder}" for folder in folders),
    ):
        console.print(line, markup=False, soft_wrap=True)


def _graph_rows(experiment: Experiment, result: Result, worst: str) -> list[tuple[str, str]]:
    """Return the lines on the graph: of the server's inboxes where a server aggregates, else of the honest agents."""
    from byzbench.core import Communication  # here, as reports of stored runs do without torch

    if experiment.algorithm.communication == Communication.SERVER:
        from byzbench.federation.graph_diagnostics import server_diagnostics

        groups = experiment.algorithm.groups
        diagnostics = server_diagnostics(experiment.members, groups)
        return [
            ("largest local Byzantine share", f"{diagnostics['local_weight']:.3f}"),
            ("server inboxes beyond tolerance", f"{diagnostics['beyond_bound']} of {groups}"),
        ]
    honest = experiment.agents - experiment.byzantine
    return [
        ("largest local Byzantine share", f"{worst}{result.diagnostics['local_weight']:.3f}"),
        ("honest agents beyond tolerance", f"{worst}{result.diagnostics['beyond_bound']} of {honest}"),
        ("honest components", f"{worst}{result.diagnostics['honest_components']}"),
    ]


def _aggregation_error(result: Result) -> str:
    """Return the distance of the aggregates to the honest mean and the influence of Byzantine agents, as text."""
    diagnostics = result.aggregation
    if diagnostics.get("error") is None:
        return "none"
    text = f"{diagnostics['error']:.2g} honest std"
    if diagnostics.get("byzantine_weight") is not None:
        text += f"; Byzantine weight {diagnostics['byzantine_weight']:.2g}"
    pull = diagnostics.get("byzantine_pull")
    return text + ("" if pull is None else f"; bias towards attackers {pull:.2g}")


def _assumption_constants(result: Result) -> str:
    """Return the estimates of the constants in the assumptions of theorems, as text."""
    estimates = {key: value for key, value in result.assumptions.items() if value is not None}
    parts = [
        (f"max ||g|| {estimates['gradient_norm_max']:.3g}" if "gradient_norm_max" in estimates else ""),
        (f"sigma^2 {estimates['gradient_variance']:.3g}" if "gradient_variance" in estimates else ""),
        (
            f"zeta^2 (unbiased estimate) {estimates['gradient_dissimilarity']:.3g}"
            if "gradient_dissimilarity" in estimates
            else ""
        ),
        (
            f"max importance weight {estimates['importance_weight_max']:.3g}"
            if "importance_weight_max" in estimates
            else ""
        ),
    ]
    return "; ".join(filter(None, parts)) or "none"


def _evaluated(result: Result) -> str:
    """Return the evaluation returns as text."""
    returns = result.evaluation
    shown = {key: "not finite" if value is None else f"{value:.1f}" for key, value in returns.items()}
    if "evaluation" not in shown:
        return "none"
    return (
        f"{shown['evaluation']} as trained, {shown['evaluation_greedy']} greedy; "
        f"worst honest agent {shown['evaluation_worst']}"
    )


def _size(count: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def sheets(groups: Groups) -> list[Table]:
    """Return the tables of a report: results, worst attacks, order of the methods, and benefit of taking part.

    Args:
        groups: The rows of the report.

    Returns:
        The tables that have records.
    """
    tables = [_results(groups)]
    if groups.varied(("attack",)):
        tables.append(_worst(groups))
    if groups.varied(DEFENCE):
        tables.append(_ranking(groups))
    tables.append(benefit(groups))
    return [sheet for sheet in tables if sheet.records]


def about(groups: Groups) -> dict[str, Any]:
    """Return the entries of a JSON report that hold for all rows."""
    return {
        "schema": 1,
        "metric": groups.metric,
        **({} if groups.point is None else {"x": groups.point.name, "at": groups.point.at}),
        "axes": list(groups.axes),
        "fixed": dict(groups.fixed),
        "notes": list(groups.notes),
    }


def _results(groups: Groups) -> Table:
    decimals = _decimals(groups)
    secondary = {metric: name for metric, name in _SECONDARY.items() if metric != groups.metric}
    retentions = _retentions(groups)
    records, cells = [], []
    for index, row in enumerate(groups.rows):
        others = {metric: row.secondary(metric) for metric in secondary}
        retention = retentions.get(index)
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
                *groups.cells(row.key),
                str(len(row.values)),
                *_with_interval(row.estimate, decimals),
                *(_number(value, decimals) for value in others.values()),
                *([_retention_text(retention)] if retentions else []),
                ", ".join(f"{name} {count}" for name, count in row.verdicts.items()),
                ", ".join(row.remarks),
            ]
        )
    columns = [*(f">{name}" for name in secondary.values()), *([">retention"] if retentions else [])]
    head = [*groups.columns(groups.axes), ">seeds", ">mean", ">95 % interval", *columns, "verdicts", "remarks"]
    fixed = ", ".join(f"{axis}={value}" for axis, value in groups.fixed.items())
    title = f"Mean over seeds of the {groups.title}; {fixed or 'every axis varies'}"
    usual = ", ".join(f"{axis}={label}" for axis, label in groups.usual.items())
    notes = (
        *((f"Setting: where it is not that of most runs, {usual}.",) if usual else ()),
        *((f"Retention: {_RETENTION}",) if retentions else ()),
    )
    return Table("results", title, records, head, cells, (*secondary.values(), "verdicts", "retention"), notes)


def _retentions(groups: Groups) -> dict[int, Retention]:
    """Return the retention of each row under an attack that has a row without, by position."""
    if "attack" not in groups.axes:
        return {}
    clean = {key: row for key, rows in groups.blocks(("attack",)).items() for row in rows if row.key["attack"] == CLEAN}
    retentions = {}
    for index, row in enumerate(groups.rows):
        peer = clean.get(tuple(row.key[axis] for axis in groups.axes if axis != "attack"))
        if peer is not None and row is not peer and (retention := row_retention(row, peer)) is not None:
            retentions[index] = retention
    return retentions


def _worst(groups: Groups) -> Table:
    """Return the worst case over attacks for each combination of the other axes, by the definitions of boards."""
    others = [axis for axis in groups.axes if axis != "attack"]
    records, cells = [], []
    for labels, rows in groups.blocks(("attack",)).items():
        if any(row.key["attack"] != CLEAN for row in rows):
            record, texts = _worst_case(rows)
            records.append({**dict(zip(others, labels, strict=True)), **record})
            cells.append([*groups.cells(dict(zip(others, labels, strict=True))), *texts])
    title = f"Worst case over attacks: scores of the {groups.title}, 0 the random policy, 1 the solved task"
    spare = ("attacks", "CVaR", "cross-fitted", "clean", "seeds", "retention")
    return Table("worst", title, records, [*groups.columns(others), *_WORST_HEAD], cells, spare, (_WORST_NOTE,))


def _worst_case(rows: Sequence[ReportRow]) -> tuple[dict[str, Any], list[str]]:
    """Return the worst case over the attacks of rows that differ only in the attack, as data and as cells."""
    score, clean, attacked, not_compared = attack_scores(rows)
    gaps = [f"{row.key['attack']}: {gap}" for row in rows for gap in row.gaps]
    if not_compared:
        gaps.insert(0, f"other seeds, not compared: {', '.join(str(row.key['attack']) for row in not_compared)}")
    if score is None:
        reasons = ", ".join(gaps if not_compared else [_unscored(rows[0]), *gaps])
        record = {**dict.fromkeys(_WORST_NUMBERS), "attacks": 0, "seeds": 0, "remarks": reasons}
        return record, [*["–"] * (len(_WORST_HEAD) - 3), "0", "0", reasons]
    stratum, unattacked = score.strata[0], score.clean.value if clean and score.clean else None
    named = stratum.named_attack if clean else None
    retention = stratum.retention[stratum.worst_attack] if clean else None
    remarks = ", ".join([*_attack_remarks(stratum, named, has_clean=bool(clean)), *gaps])
    record = {
        "clean": unattacked,
        "attack": named,
        "lowest": stratum.worst_attack,
        "tied": sorted(stratum.tied),
        **_ends(score.worst),
        "crossfit": score.crossfit,
        "cvar": score.cvar,
        **_retention_numbers(retention),
        "attacks": len(attacked),
        "seeds": score.num_seeds,
        "remarks": remarks,
    }
    cells = [
        _number(unattacked, 2),
        named or "–",
        *_with_interval(score.worst, 2),
        _number(score.crossfit, 2),
        _number(score.cvar, 2),
        _retention_text(retention),
        str(len(attacked)),
        str(score.num_seeds),
        remarks,
    ]
    return record, cells


def _attack_remarks(stratum: StratumScore, named: str | None, has_clean: bool) -> list[str]:
    """Return why no attack is named as the worst, or which attacks are tied with the named one."""
    if not named:
        return ["no attack did certain harm" if has_clean else "no runs without an attack to compare with"]
    if len(stratum.tied) > 1:
        return [f"tied with: {', '.join(sorted(stratum.tied - {named}))}"]
    return []


def _ranking(groups: Groups) -> Table:
    """Return the order of the methods by score within each combination of the other axes, with ranges of ranks."""
    method_axes = groups.varied(DEFENCE)
    others = [axis for axis in groups.axes if axis not in method_axes]
    records, cells, notes = [], [], []
    for labels, entries, not_compared, seeds in _comparisons(groups, others, method_axes):
        block = dict(zip(others, labels, strict=True))
        setting = " · ".join(filter(None, groups.cells(block)))
        scores = [score_entry(entry).worst for _, entry in entries]
        ranges: Sequence[tuple[int, int] | None] = [None] * len(entries)
        if any(score.value >= LEARNING for score in scores):
            names = [" · ".join(str(value) for value in key.values()) for key, _ in entries]
            ranges = rank_ranges([entry for _, entry in entries])
            note = describe_separation(names, separated([entry for _, entry in entries])) if len(entries) > 1 else ""
        else:
            note = "No order: no method made a tenth of the way to solved." if entries else ""
            entries, scores = _by_name(entries, scores)
        notes += [f"{setting}: {note}" if setting else note] if note else []
        for (key, _), score, ranks in zip(entries, scores, ranges, strict=True):
            remarks = "nothing learned" if ranks is None else "too few seeds to separate" if score.low is None else ""
            best, worst = ranks or (None, None)
            numbers = {"rank_best": best, "rank_worst": worst, **_ends(score), "seeds": len(seeds)}
            records.append({**block, **key, **numbers, "remarks": remarks})
            rank_text = "–" if ranks is None else str(best) if best == worst else f"{best} to {worst}"
            row_cells = [rank_text, *_with_interval(score, 2), str(len(seeds)), remarks]
            cells.append([*groups.cells({**block, **key}), *row_cells])
        for key, reason in not_compared:
            numbers = dict.fromkeys(("rank_best", "rank_worst", "value", "low", "high", "seeds"))
            records.append({**block, **key, **numbers, "remarks": reason})
            cells.append([*groups.cells({**block, **key}), "–", "–", "–", "–", reason])
    head = [*groups.columns([*others, *method_axes]), ">ranks", ">score", ">95 % interval", ">seeds", "remarks"]
    title = (
        f"Order by score of the {groups.title}, 0 the random policy, 1 the solved task; ranks: the range that paired "
        "tests on common seeds allow, jointly at 95 %"
    )
    return Table("ranking", title, records, head, cells, ("95 % interval", "seeds"), tuple(notes))


_Key = dict[str, Label]
_Comparison = tuple[tuple[Label, ...], list[tuple[_Key, EntryRuns]], list[tuple[_Key, str]], list[int]]
"""Labels in the other axes; the methods that can be compared, best first; the others with reasons; common seeds."""


def _by_name(
    entries: Sequence[tuple[_Key, EntryRuns]], scores: Sequence[Interval]
) -> tuple[list[tuple[_Key, EntryRuns]], list[Interval]]:
    """Return methods and their scores in the order of the methods' names."""
    order = sorted(range(len(entries)), key=lambda index: [str(label) for label in entries[index][0].values()])
    return [entries[index] for index in order], [scores[index] for index in order]


def _comparisons(groups: Groups, others: Sequence[str], method_axes: Sequence[str]) -> Iterator[_Comparison]:
    """Yield the methods of each combination of the other axes, first for each attack, then for the worst of them."""
    for labels, rows in groups.blocks(method_axes).items():
        methods = [(_method_key(row, method_axes), {"": row}) for row in rows]
        if len(methods) > 1:
            yield (labels, *_compare_methods(methods))
    if not groups.varied(("attack",)):
        return
    for labels, rows in groups.blocks(("attack", *method_axes)).items():
        by_method: dict[tuple[Label, ...], tuple[_Key, dict[str, ReportRow]]] = {}
        for row in rows:
            if row.key["attack"] != CLEAN:
                key = _method_key(row, method_axes)
                by_method.setdefault(tuple(key.values()), (key, {}))[1][str(row.key["attack"])] = row
        attacks = {attack for _, attacked in by_method.values() for attack in attacked}
        if len(by_method) > 1 and len(attacks) > 1:
            remaining = iter(labels)
            setting = tuple(f"worst of {len(attacks)}" if axis == "attack" else next(remaining) for axis in others)
            yield (setting, *_compare_methods([*by_method.values()], len(attacks)))


def _compare_methods(
    methods: Sequence[tuple[_Key, Mapping[str, ReportRow]]], attacks: int = 1
) -> tuple[list[tuple[_Key, EntryRuns]], list[tuple[_Key, str]], list[int]]:
    """Return the methods that can be compared, best first, the others with reasons, and the common seeds.

    Args:
        methods: The key of each method and its row under each attack.
        attacks: How many attacks a method must have been run under.
    """
    not_compared: list[tuple[_Key, str]] = []
    comparable = []
    for key, attacked in methods:
        if reason := _unscored(next(iter(attacked.values()))):
            not_compared.append((key, reason))
        elif len(attacked) < attacks:
            not_compared.append((key, f"{attacks - len(attacked)} of {attacks} attacks were not run"))
        else:
            comparable.append((key, attacked))
    owners = [index for index, (_, attacked) in enumerate(comparable) for _ in attacked]
    chosen, _ = common_seeds([row for _, attacked in comparable for row in attacked.values()])
    dropped = {owner for position, owner in enumerate(owners) if position not in chosen}
    not_compared += [
        (key, "other seeds, not compared") for index, (key, _) in enumerate(comparable) if index in dropped
    ]
    comparable = [method for index, method in enumerate(comparable) if index not in dropped]
    sets = [set(row.seeds) for _, attacked in comparable for row in attacked.values()]
    seeds = sorted(set.intersection(*sets)) if sets else []
    entries = [(key, entry) for key, attacked in comparable if (entry := row_runs(attacked, None, seeds)) is not None]
    entries.sort(key=lambda method: -method[1].seed_scores.mean())
    return entries, not_compared, seeds


def _method_key(row: ReportRow, method_axes: Sequence[str]) -> _Key:
    return {axis: row.key[axis] for axis in method_axes}


def _unscored(row: ReportRow) -> str:
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


def _ends(estimate: Interval | Difference | None) -> dict[str, float | None]:
    return {key: getattr(estimate, key) if estimate else None for key in ("value", "low", "high")}


def _retention_numbers(retention: Retention | None) -> dict[str, float | bool | None]:
    return {
        "retention": retention.value if retention else None,
        "retention_low": retention.low if retention else None,
        "retention_high": retention.high if retention else None,
        "retention_defined": retention.defined if retention else None,
    }


def _retention_text(retention: Retention | None) -> str:
    if retention is None or not retention.defined:
        return "–"
    return " ".join(_with_interval(Interval(retention.value or 0.0, retention.low, retention.high), 2, "({})"))


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else rounded(value, decimals)


def _with_interval(estimate: Interval | None, decimals: int, form: str = "{}") -> list[str]:
    """Return the texts of a value and of its interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return [_number(estimate.value if estimate else None, decimals), "–"]
    return [
        _number(estimate.value, decimals),
        form.format(f"{rounded(estimate.low, decimals)} to {rounded(estimate.high, decimals)}"),
    ]
