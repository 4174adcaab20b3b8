"""Audits: what is printed, what is written down, and what the site shows of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_suite
from synthetic_entries import write_entry
from tiny_suite import as_schema_1, inflate, lines_of, main, rewrite

from byzbench.identity import ENGINE
from byzbench.leaderboard.audits import Audit, AuditedRow, AuditResult
from byzbench.leaderboard.entries import read_entry
from byzbench.leaderboard.site.build import site
from byzbench.leaderboard.site.collection import collect_entries
from byzbench.leaderboard.suites import Suite

tiny, home, copy = tiny_suite.tiny, tiny_suite.home, tiny_suite.copy
ROOT = Path(__file__).parents[1]
AUDIT = ("leaderboard", "audit", "--executor", "serial", "--from")


def test_an_audit_prints_its_results_and_the_site_shows_them(
    tiny: Suite, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    as_schema_1(write_entry(tmp_path / "submissions", tiny, "older"))
    assert main(monkeypatch, *AUDIT, str(tmp_path)) == 0
    expected = f"exact at engine {ENGINE}"
    assert capsys.readouterr().out.splitlines() == [
        "tiny-v1/defence/older: cannot be replayed",
        f"tiny-v1/defence/tiny: {expected}, 1 cell",
    ]
    row = {"engine": ENGINE, "verdict": "exact", "cells": 1, "salt": f"engine-{ENGINE}"}
    written = (tmp_path / "audit.json").read_bytes()
    assert json.loads(written)["rows"] == {read_entry(copy).digest: [row]}
    assert main(monkeypatch, *AUDIT, str(tmp_path), "--suite", "tiny-v1") == 0
    assert (tmp_path / "audit.json").read_bytes() == written, "the same cells, and the same document"
    for times in (1, 0):
        pages = {path: content.decode() for path, content in site(collect_entries(tmp_path / "submissions")[0])}
        for page in ("boards/tiny-v1.defence.decentralised.html", "entries/tiny-v1.defence.tiny.html"):
            assert pages[page].count(expected) == times
        assert (expected in pages["board.csv"]) == times
        (tmp_path / "audit.json").unlink(missing_ok=True)


def test_an_audit_that_contradicts_a_row_exits_with_1(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rewrite(copy, [inflate(line, 1.001) | {"trace": f"{i}" * 64} for i, line in enumerate(lines_of(copy))])
    out = tmp_path / "elsewhere.json"
    assert main(monkeypatch, *AUDIT, str(tmp_path), "--salt", "x", "--cells", "2", "--out", str(out)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"tiny-v1/defence/tiny: contradicted at engine {ENGINE}, 2 cells"
    assert [line.split()[0] for line in lines[1:]] == ["mismatch", "mismatch"]
    assert Audit.read(out)[read_entry(copy).digest] == f"contradicted at engine {ENGINE}"
    rewrite(copy, lines_of(copy)[1:])
    assert main(monkeypatch, *AUDIT, str(tmp_path), "--suite", "tiny-v1") == 1
    assert "refused" in capsys.readouterr().out


def test_an_audit_keeps_what_each_engine_saw() -> None:
    record, digest = Audit(), "a" * 64
    for engine, verdict in ((2, "consistent"), (1, "mismatch"), (1, "exact")):
        row = AuditedRow(engine=engine, verdict=verdict, cells=1, salt="x")  # type: ignore[arg-type]
        record = record.with_row(digest, AuditResult("", row=row))
    assert record[digest] == "exact at engine 1, consistent at engine 2"
    assert record.with_row(digest, AuditResult("cannot be replayed")) == record
    assert record["b" * 64] == ""


@pytest.mark.slow
def test_the_smoke_suite_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Every row that stands, by the code that is here: what keeps a change from moving a number unnoticed."""
    shutil.copytree(ROOT / "tests" / "rows", tmp_path / "submissions")
    assert main(monkeypatch, "leaderboard", "audit", "--from", str(tmp_path), "--suite", "smoke-v1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(f" at engine {ENGINE}, 1 cell" in line for line in lines)
