"""Hostile submissions: each is refused, with a path; none is followed, imported, or runs away with the memory."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import pytest
from hostile_submissions import HARMLESS, INVISIBLE, MISLEADING, REFUSED, field
from synthetic_entries import write_entry

from byzbench.leaderboard.checks import check_submission
from byzbench.leaderboard.documents import Refused, text_offence
from byzbench.leaderboard.entries import read_entry, scan_entries
from byzbench.leaderboard.names import name_offence
from byzbench.leaderboard.suites import suite

SMOKE = suite("smoke-v1")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_entry(tmp_path_factory.mktemp("good"), SMOKE, "good")


@pytest.mark.parametrize("how", REFUSED)
def test_refused_with_a_path(how: str, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    shutil.copytree(good, folder)
    attack, where = REFUSED[how]
    attack(folder)
    tracemalloc.start()
    with pytest.raises(Refused) as refused:
        read_entry(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert where in {finding.where for finding in refused.value.findings}, refused.value.findings
    assert peak < 20e6
    texts = [str(finding) for finding in refused.value.findings]
    assert all(text.isprintable() and len(text) < 1000 for text in texts), texts


@pytest.mark.parametrize("how", INVISIBLE | MISLEADING)
def test_the_character_of_a_refused_name_is_named(how: str, good: Path, tmp_path: Path) -> None:
    name, character = (INVISIBLE | MISLEADING)[how]
    shutil.copytree(good, tmp_path / "good")
    field("entry", "name", value=name)(tmp_path / "good")
    with pytest.raises(Refused) as refused:
        read_entry(tmp_path / "good")
    assert [character in finding.what for finding in refused.value.findings] == [True], refused.value.findings


NAMES = [
    "BRIDGE, tuned",
    "β-Krum",
    "λ PPO (μ = 0.1)",
    "Zürich",
    "Nguyễn Văn An",
    "Анна Роса",
    "Γιώργος",
    "李小龍 Lee",
    "東京タワー",
    "김철수",
    "שלום",
    "สวัสดี",
    "हिन्दी",
    "O'Neil-Smith",
    "Krum² + RFA",
    "C++ 17",
    "İstanbul ığ",
    "André ☃",
    "Dec-PAGE-PG",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_all_languages_are_taken(name: str) -> None:
    assert text_offence(name) is None
    assert name_offence(name) is None


@pytest.mark.parametrize(
    "one, other",
    [
        ("Entry good", "Entry good"),
        ("Entry good", "ENTRY GOOD"),
        ("Entry good", "Entrygood"),
        ("Solo 1", "Solo l"),
        ("IOS", "lOS"),
        ("IOS", "1OS"),
        ("FedPPO", "FedPP0"),
        ("Krum", "Krurn"),
        ("COP", "СОР"),
        ("KRUM", "ꓗꓣꓴꓟ"),
        ("Solo - tuned", "Solo ‐ tuned"),
    ],
)
def test_a_name_that_looks_like_that_of_another_row_is_refused(one: str, other: str, tmp_path: Path) -> None:
    about = {"name": one, "slug": "first", "authors": ["A. Author"], "license": "MIT"}
    write_entry(tmp_path, SMOKE, "first", entry=about)
    second = write_entry(tmp_path, SMOKE, "second", entry=about | {"name": other, "slug": "second"})
    twins = [finding for finding in check_submission(second, tmp_path).findings if finding.check == "twin"]
    assert [finding.where for finding in twins] == ["submission.json $.entry.name"]
    assert twins[0].what == f"{other!a} looks like the name of defence/first"


def test_there_are_enough_of_them() -> None:
    assert len(REFUSED) + len(HARMLESS) >= 60


@pytest.mark.parametrize("how", HARMLESS)
def test_text_is_text(how: str, tmp_path: Path) -> None:
    """It is taken as it is: pages and tables escape it, and nothing else would help."""
    about = {"name": HARMLESS[how], "slug": "text", "authors": [HARMLESS[how]], "license": "MIT"}
    entry = read_entry(write_entry(tmp_path, SMOKE, "text", entry=about, notes=HARMLESS[how]))
    assert entry.submission.entry.name == HARMLESS[how] == entry.notes


def test_a_bad_submission_is_a_finding_and_the_others_are_read(tmp_path: Path) -> None:
    for slug in ("bad", "good", "other"):
        write_entry(tmp_path, SMOKE, slug)
    home = tmp_path / "smoke-v1" / "defence"
    (home / "bad" / "cells.jsonl").unlink()
    (home / "link").symlink_to(home / "good")
    (tmp_path / "smoke-v1" / "attack").mkdir()
    shutil.move(home / "other", tmp_path / "smoke-v1" / "attack" / "other")
    entries, findings = scan_entries(tmp_path)
    assert [entry.slug for entry in entries] == ["good"]
    assert {finding.where.split("/")[2] for finding in findings} == {"bad", "link", "other"}
