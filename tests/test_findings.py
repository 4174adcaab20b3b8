"""Findings on the rows of a suite, as numbers, as sentences, as a page and as a figure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from synthetic_entries import ALIE, SPLIT, SUITE, serve_suites, write_entry
from tiny_suite import main

from byzbench.leaderboard.boards import boards
from byzbench.leaderboard.entries import scan_entries
from byzbench.leaderboard.findings import Findings, examine_board
from byzbench.leaderboard.findings_page import division_tables, findings_page, sentences
from byzbench.leaderboard.headline import shown_rows

EVEN = {"none": 0.0, ALIE: 0.2, SPLIT: 0.3}


@pytest.fixture(scope="module", autouse=True)
def _suites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with serve_suites(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four rows without a server, one of them tuned, and one with a server."""
    home = tmp_path_factory.mktemp("leaderboards")
    plain = {"algo": "decbyzpg(lr=0.01)"}
    options: dict[str, dict[str, Any]] = {
        "strong": {"skill": 0.95, "method": {"algo": "nna"}},
        "plain": {"skill": 0.5, "seed": 1, "method": plain},
        "tuned": {"skill": 0.85, "seed": 2, "method": {"algo": "decbyzpg(lr=0.02)"}, "tuning": tuning(plain)},
        "alone": {"skill": 0.7, "seed": 3, "method": {"algo": "solo"}, "harm": {"none": 0.0, ALIE: 0.0, SPLIT: 0.0}},
        "central": {"skill": 0.8, "seed": 4, "method": {"algo": "byzpg"}, "division": "server"},
    }
    for slug, own in options.items():
        write_entry(home / "submissions", SUITE, slug, **{"harm": EVEN, "noise": 0.02, **own})
    return home


def tuning(method: dict[str, str]) -> dict[str, Any]:
    search = {
        "method": method,
        "ranges": {"algorithm.lr": [0.0001, 0.03, True]},
        "episodes": 1000,
        "steps": 5000,
        "best": ["200.0", "210.0"],
        "again": "205.0",
        "default": "199.0",
    }
    return {
        "study": "0" * 16,
        "trials_sha256": "0" * 16,
        "trials": 2,
        "seeds": [1, 2, 3],
        "attacks": ["min_max"],
        "search": search,
    }


@pytest.fixture(scope="module")
def suite_findings(home: Path) -> Findings:
    entries, refused = scan_entries(home / "submissions")
    assert not refused
    return next(examine_board(board) for board in boards(SUITE, entries) if board.division == "decentralised")


def test_the_span_allows_for_the_choice_of_its_pair(suite_findings: Findings) -> None:
    assert [row.row.entry.slug for row in suite_findings.rows] == ["alone", "strong", "tuned", "plain"]
    runs = [row.runs for row in suite_findings.rows]
    differences = runs[0].seed_scores - runs[-1].seed_scores
    error = max(differences.std(ddof=1), 0.05) / np.sqrt(len(differences))
    half = stats.t.ppf(1 - 0.025 / 6, len(differences) - 1) * error
    assert suite_findings.span is not None
    assert (suite_findings.span.low, suite_findings.span.high) == pytest.approx(
        (differences.mean() - half, differences.mean() + half)
    )


def test_joining_is_tested_jointly(suite_findings: Findings) -> None:
    assert (suite_findings.joining.better, suite_findings.joining.worse) == ((), ("Entry plain",))
    assert suite_findings.joining.undecided == ("Entry strong", "Entry tuned")


def test_tuning_stands_beside_the_row_as_written(suite_findings: Findings) -> None:
    (one,) = suite_findings.tuning
    assert one.method == "Entry plain"
    assert one.worst.value == pytest.approx(0.35, abs=0.05)
    assert one.clean.value == pytest.approx(0.35, abs=0.05)
    assert one.changed == {"algorithm.lr": (0.01, 0.02)}
    assert one.fresh == {"": (199.0, 205.0)}
    assert [row.row.entry.slug for row in shown_rows(suite_findings)] == ["alone", "strong", "tuned"]


def test_sentences_and_tables(suite_findings: Findings) -> None:
    lines_of_page = list(sentences(suite_findings))
    assert lines_of_page[0].startswith("Span: the score of Entry alone minus that of Entry plain is +0.")
    assert any(
        line.startswith("Correlation of the worst case and the clean score over 4 rows: ") for line in lines_of_page
    )
    rows, _, retention, tuned = division_tables(suite_findings)
    assert [cells[1] for cells in rows.cells] == ["Entry alone", "Entry strong", "Entry tuned", "Entry plain"]
    assert retention.head[1:] == [
        f">{attack}" for attack in sorted(suite_findings.rows[0].row.matrix["cartpole-complete-f2"].means)
    ]
    assert tuned.cells[0][-1] == "algorithm.lr: 0.01 to 0.02"


def test_the_command_writes_the_same_page_and_figure_twice(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    page, figure = tmp_path / "page.md", tmp_path / "figure.png"
    words = ["leaderboard", "findings", SUITE.name, "--from", str(home), "--page", str(page), "--figure", str(figure)]
    assert main(monkeypatch, *words) == 0
    assert "division server" in capsys.readouterr().out
    first = page.read_bytes(), figure.read_bytes()
    assert main(monkeypatch, *words) == 0
    assert (page.read_bytes(), figure.read_bytes()) == first
    assert f"byzbench leaderboard findings {SUITE.name}" in page.read_text()


def test_what_cannot_be_shown_is_one_line(home: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    for code, words, message in (
        (2, ["smoke-v1"], "is closed"),
        (2, [SUITE.name, "--from", str(tmp_path)], "has no ranked row in"),
        (2, [SUITE.name, "--from", str(home), "--figure", str(tmp_path / "figure.txt")], "figures are written as"),
        (1, [SUITE.name, "--from", str(home), "--page", str(tmp_path / "none" / "page.md")], "cannot write"),
    ):
        assert main(monkeypatch, "leaderboard", "findings", *words) == code
        assert message in capsys.readouterr().err


def test_rows_of_one_name_are_distinguished_and_names_are_text(tmp_path: Path) -> None:
    evil = "<img src=x> *b* | c"
    named = {"name": evil, "authors": ["A. Author"], "license": "MIT"}
    for slug, skill, algo in (("one", 0.95, "nna"), ("two", 0.9, "ios"), ("low", 0.3, "bridge")):
        options: dict[str, Any] = {
            "skill": skill,
            "method": {"algo": algo},
            "harm": EVEN,
            "entry": named | {"slug": slug},
        }
        write_entry(tmp_path, SUITE, slug, noise=0.02, **options)
    (board,) = boards(SUITE, scan_entries(tmp_path)[0])
    division = examine_board(board)
    assert [row.name for row in division.rows] == [f"{evil} ({slug})" for slug in ("one", "two", "low")]
    assert division.better == ((0, 2), (1, 2))
    page = findings_page(SUITE, [division], "command")
    assert "<img" not in page
    assert not re.search(r"(?<!\\)\*b", page)


def test_a_row_of_other_rules_is_not_hidden_by_a_tuned_one(tmp_path: Path) -> None:
    other = {"algo": "decbyzpg(lr=0.01)", "aggregator": "krum"}
    write_entry(tmp_path, SUITE, "other", method=other)
    write_entry(tmp_path, SUITE, "tuned", method={"algo": "decbyzpg(lr=0.02)"}, tuning=tuning({"algo": "decbyzpg"}))
    (board,) = boards(SUITE, scan_entries(tmp_path)[0])
    assert {row.row.entry.slug for row in shown_rows(examine_board(board))} == {"other", "tuned"}


def test_orders_that_tuning_changes(tmp_path: Path) -> None:
    first, second, third = {"algo": "decbyzpg(lr=0.01)"}, {"algo": "nna"}, {"algo": "ios"}
    rows: dict[str, tuple[float, dict[str, str], dict[str, str] | None]] = {
        "first": (0.5, first, None),
        "second": (0.9, second, None),
        "third": (0.7, third, None),
        "first-tuned": (1.1, {"algo": "decbyzpg(lr=0.02)"}, first),
        "second-tuned": (0.9, {"algo": "nna(lr=0.02)"}, second),
        "third-tuned": (0.7, {"algo": "ios(lr=0.02)"}, third),
    }
    for i, (slug, (skill, method, written)) in enumerate(rows.items()):
        options: dict[str, Any] = {"tuning": tuning(written)} if written else {}
        write_entry(tmp_path, SUITE, slug, skill=skill, seed=i, noise=0.02, harm=EVEN, method=method, **options)
    (board,) = boards(SUITE, scan_entries(tmp_path)[0])
    division = examine_board(board)
    assert division.num_compared == 3
    changed = {one.methods: one for one in division.reorderings}
    assert set(changed) == {("Entry first", "Entry second"), ("Entry first", "Entry third")}
    one = changed["Entry first", "Entry second"]
    assert one.reversed
    assert (one.written.value, one.tuned.value) == pytest.approx((-0.4, 0.2), abs=0.05)
    assert "Tuning changes the certain order of 2 of 3 pairs of methods, and reverses that of 2." in sentences(division)
    orders = next(table for table in division_tables(division) if table.name == "orders")
    assert [cells[0] for cells in orders.cells] == ["Entry first minus Entry second", "Entry first minus Entry third"]
    assert all(cells[1].endswith(", certain") and cells[2].endswith(", certain") for cells in orders.cells)


def test_attacks_tuned_against_a_row_stand_beside_the_fixed_ones(tmp_path: Path) -> None:
    aim = {"algo": "nna", "attack": "ipm(scale=3)", "against": "aimed"}
    write_entry(tmp_path, SUITE, "aimed", skill=0.9, noise=0.02, harm=EVEN, method={"algo": "nna"})
    write_entry(tmp_path, SUITE, "spared", skill=0.9, noise=0.02, harm=EVEN, method={"algo": "ios"})
    harm = {"none": 0.0, aim["attack"]: 0.5}
    write_entry(tmp_path, SUITE, "against-aimed", skill=0.9, noise=0.02, harm=harm, track="adaptive", method=aim)
    (board,) = boards(SUITE, scan_entries(tmp_path)[0])
    division = examine_board(board)
    (one,) = division.adaptive
    assert (one.method, one.attack) == ("Entry aimed", "ipm(scale=3)")
    assert (one.clean.value, one.fixed.value, one.best_known) == pytest.approx((-0.5, -0.2, 0.4), abs=0.05)
    aimed, spared = sorted(division.rows, key=lambda row: row.name)
    assert one.best_known == aimed.row.best_known
    assert spared.row.best_known == spared.score.worst.value
    assert "for the rows that no attack was tuned against" in findings_page(SUITE, [division], "command")


def test_the_worst_attack_of_a_row_is_named_where_it_did_harm(tmp_path: Path) -> None:
    write_entry(tmp_path, SUITE, "harmed", skill=0.9, noise=0.02, harm={"none": 0.0, ALIE: 0.1, SPLIT: 0.4})
    write_entry(tmp_path, SUITE, "unharmed", skill=0.9, noise=0.02, harm={}, method={"algo": "nna"})
    (board,) = boards(SUITE, scan_entries(tmp_path)[0])
    worst = next(table for table in division_tables(examine_board(board)) if table.name == "worst")
    by_attack = {attack: (cases, rows) for attack, cases, rows in worst.cells}
    assert by_attack[ALIE] == ("0", "none")
    assert by_attack[SPLIT][0] == "1"
    assert by_attack[SPLIT][1].startswith("Entry harmed in cartpole-complete-f2 retains 0.")
