"""The numbers of all boards for programs: board.csv and board.json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from byzbench.leaderboard.boards import AttackRow, Board, Row
from byzbench.leaderboard.scoring import Bracket
from byzbench.leaderboard.site.collection import Collection

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that a spreadsheet takes for a formula."""


DIGITS = 6
"""Of scores. The last bits depend on the CPU, and a site must not."""


def board_json(all_of_them: Collection) -> bytes:
    """Every suite and every row of every board."""
    suites = {s.name: {"sha256": s.sha256, "seeds": s.seeds} for s in all_of_them.suites}
    data = {"schema": 1, "suites": suites, "rows": _rounded(list(_records(all_of_them)))}
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def board_csv(all_of_them: Collection) -> bytes:
    """The same rows without their cells. A text that would be a formula has an apostrophe before it."""
    records = _rounded(list(_records(all_of_them)))
    rows = [{k: v for k, v in record.items() if not isinstance(v, dict)} for record in records]
    names = list(dict.fromkeys(key for one in rows for key in one))
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, names, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _plain(value) for key, value in one.items()} for one in rows)
    return file.getvalue().encode()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _rounded(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_rounded(value) for value in data]
    return round(data, DIGITS) if isinstance(data, float) else data


def _records(all_of_them: Collection) -> Iterator[dict[str, Any]]:
    for board in all_of_them.boards:
        yield from ({**_about(board, r, all_of_them), **_score(r)} for r in board.rows)
        yield from ({**_about(board, r, all_of_them), **_damage(r)} for r in board.attacks)


def _about(board: Board, r: Row | AttackRow, all_of_them: Collection) -> dict[str, Any]:
    about = r.entry.submission
    return {
        "suite": board.suite.name,
        "track": about.track,
        "division": board.division,
        "adversary": board.knowledge,
        "slug": r.entry.slug,
        "name": about.entry.name,
        "authors": list(about.entry.authors),
        "tuned": about.tuning is not None,
        "submission": r.entry.digest,
        "engine": about.code.engine,
        "audit": all_of_them.audit[r.entry.digest],
    }


def _score(r: Row) -> dict[str, Any]:
    s = r.score
    return {
        "rank": r.rank,
        "rank_best": r.ranks and r.ranks[0],
        "rank_worst": r.ranks and r.ranks[1],
        **_bracket("worst", s.worst),
        "crossfit": s.crossfit,
        "bracket_low": s.bracket and s.bracket[0],
        "bracket_high": s.bracket and s.bracket[1],
        "best_known": r.best_known,
        **_bracket("clean", s.clean),
        "mean": s.mean,
        "gap": s.gap,
        "worst_attack": list(dict.fromkeys(s.attack.values())),
        "beats_next": r.beats_next,
        "failed": r.failed,
        "flags": list(dict.fromkeys(flag.name for flag in r.flags)),
        "superseded": r.superseded,
        "cells": {s: {a: [e.value, e.low, e.high] for a, e in by.items()} for s, by in r.cells.items()},
    }


def _damage(r: AttackRow) -> dict[str, Any]:
    return {
        "attack": r.entry.submission.method.attack,
        **_bracket("damage", r.damage),
        "failed": r.failed,
        "cells": {s: dict(by) for s, by in r.by.items()},
    }


def _bracket(name: str, found: Bracket) -> dict[str, float | None]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
