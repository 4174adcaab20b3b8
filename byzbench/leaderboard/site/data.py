"""The numbers of all boards as data: board.csv and board.json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from byzbench.leaderboard.boards import AttackRow, Board
from byzbench.leaderboard.rows import Row
from byzbench.leaderboard.site.collection import Collection
from byzbench.reports.estimators import Interval
from byzbench.reports.ordering import Difference
from byzbench.reports.scoring import EntryScore, StratumScore

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that a spreadsheet reads as a formula."""

DIGITS = 6
"""Decimals of scores. The last bits of a number depend on the CPU, and the files must not."""

SCHEMA = 2
"""Schema number of board.json; 2: scores are those of docs/scoring.md."""


def board_json(collection: Collection) -> bytes:
    """Return every suite and every row of every board as JSON."""
    suites = {s.name: {"sha256": s.sha256, "seeds": s.seeds} for s in collection.suites}
    data = {"schema": SCHEMA, "suites": suites, "rows": _rounded(list(_records(collection)))}
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def board_csv(collection: Collection) -> bytes:
    """Return the rows of all boards as CSV, without scores of single cells.

    A text that a spreadsheet would read as a formula starts with an apostrophe.
    """
    records = _rounded(list(_records(collection)))
    rows = [{k: v for k, v in record.items() if not isinstance(v, dict)} for record in records]
    names = list(dict.fromkeys(key for row in rows for key in row))
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, names, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _csv_value(value) for key, value in row.items()} for row in rows)
    return file.getvalue().encode()


def _csv_value(value: Any) -> Any:
    """Return a list as a text with semicolons, and a text that would be a formula with an apostrophe."""
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _rounded(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_rounded(value) for value in data]
    return round(data, DIGITS) if isinstance(data, float) else data


def _records(collection: Collection) -> Iterator[dict[str, Any]]:
    """Yield the fields of every row of every board."""
    for board in collection.boards:
        for r in board.rows:
            yield {**_entry_fields(board, r, collection), **_row_fields(r), **_score_fields(r.score, r.joining)}
        for attack_row in board.attacks:
            yield {**_entry_fields(board, attack_row, collection), **_damage_fields(attack_row)}


def _entry_fields(board: Board, r: Row | AttackRow, collection: Collection) -> dict[str, Any]:
    submission = r.entry.submission
    return {
        "suite": board.suite.name,
        "track": submission.track,
        "division": board.division,
        "slug": r.entry.slug,
        "name": submission.entry.name,
        "authors": list(submission.entry.authors),
        "paper": submission.entry.paper,
        "submitted": submission.entry.submitted,
        "submission": r.entry.digest,
        "engine": submission.code.engine,
        "audit": collection.audit[r.entry.digest],
        "unranked": list(r.unranked),
        "failed": r.failed,
    }


def _row_fields(r: Row) -> dict[str, Any]:
    settings, costs = r.settings, r.costs
    return {
        "rank_best": r.ranks and r.ranks[0],
        "rank_worst": r.ranks and r.ranks[1],
        "parameters": settings.origin,
        "lr": list(settings.lr),
        "batch_size": list(settings.batch_size),
        "search_episodes": settings.search_episodes,
        "messages": costs.messages,
        "bytes": costs.bytes,
        "seconds": costs.seconds,
        "best_known": r.best_known,
        "worst_attack": list(r.named_attacks),
        "flags": list(dict.fromkeys(flag.name for flag in r.flags)),
        "final_returns": dict(r.final_returns),
        "by_knowledge": dict(r.by_knowledge),
        "cells": {name: _cell_fields(stratum) for name, stratum in r.matrix.items()},
    }


def _score_fields(score: EntryScore | None, joining: Any) -> dict[str, Any]:
    if score is None:
        return {}
    retention, defined, total = score.mean_retention()
    return {
        **_ends("score", score.worst),
        "crossfit": score.crossfit,
        "cvar": score.cvar,
        **_ends("clean", score.clean),
        "mean": score.mean,
        "retention": retention,
        "retentions_defined": defined,
        "retentions": total,
        **(_ends("joining", joining.overall) if joining else {}),
    }


def _cell_fields(stratum: StratumScore) -> dict[str, Any]:
    """Return the score without an attack, and for each attack its score and, where it is defined, its retention."""
    fields: dict[str, Any] = {"none": {"score": stratum.clean.value}}
    for attack, mean in stratum.means.items():
        retention = stratum.retention[attack]
        defined = [retention.value, retention.low, retention.high] if retention.defined else None
        fields[attack] = {"score": mean, "retention": defined}
    return fields


def _damage_fields(r: AttackRow) -> dict[str, Any]:
    return {
        "attack": r.entry.submission.method.attack,
        **(_ends("damage", r.damage) if r.damage else {}),
        "cells": {s: dict(by) for s, by in r.by.items()},
    }


def _ends(name: str, estimate: Interval | Difference) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
