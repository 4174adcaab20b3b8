"""Golden traces and vectors: what the code computes is what it computed at the same versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from byzbench.errors import CorruptRecord
from tests.golden import store
from tests.golden.comparison import ENGINE, Case, dependents, differences, responsible

CHECKOUT = Path(__file__).resolve().parents[1]


def test_outputs_versions_and_digests_are_those_of_the_golden_file(tmp_path: Path) -> None:
    """One test for all that one pinned process finds, so that no two workers start it."""
    path = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden", "--check", "--report", str(path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert path.exists(), done.stdout + done.stderr
    report = json.loads(path.read_text(encoding="utf-8"))
    print(done.stdout)  # says where outputs were compared with a tolerance
    assert report["passed"], "\n".join(report["lines"])
    assert done.returncode == 0


ALIE, SPLIT, FOOLING = "attack alie", "attack split_brain", "attack mda_fooling"
DEFINED_IN = {ALIE: "attacks.alie", SPLIT: "attacks.split_brain", FOOLING: "attacks.mda_fooling"}


def moved(name: str, *components: str) -> Case:
    return Case(name, frozenset(components), ["x: 1 then, 2 now"])


def unmoved(name: str, *components: str) -> Case:
    return Case(name, frozenset(components))


def test_the_edited_component_is_named_and_not_what_imports_it() -> None:
    edited = {ALIE: frozenset({"attacks.alie"}), SPLIT: frozenset({"attacks.alie"})}
    cases = [moved("a", ALIE), moved("b", SPLIT, ALIE), unmoved("c", SPLIT), unmoved("d")]
    assert list(responsible(cases, edited, DEFINED_IN)) == [ALIE]
    assert dependents(cases, edited, [ALIE]) == [SPLIT]


def test_a_component_that_moves_with_a_module_of_another_one_is_named() -> None:
    edited = {FOOLING: frozenset({"attacks.min_max"}), SPLIT: frozenset({"attacks.min_max"})}
    cases = [moved("a", FOOLING), moved("b", FOOLING, SPLIT), unmoved("c", SPLIT)]
    assert responsible(cases, edited, DEFINED_IN) == {FOOLING: {"a": cases[0].moved, "b": cases[1].moved}}


def test_the_engine_is_named_where_no_edited_component_takes_part() -> None:
    edited = {ALIE: frozenset({"attacks.alie"})}
    cases = [moved("a", ALIE), moved("b", SPLIT)]
    assert set(responsible(cases, edited, DEFINED_IN)) == {ALIE, ENGINE}
    assert set(responsible(cases, {}, DEFINED_IN)) == {ENGINE}


def test_new_keys_are_ignored_and_old_ones_compared() -> None:
    stored: dict[str, Any] = {"rounds": ["aa", "bb"], "last": {"return": 1.5}, "first": {"return": 1.0}}
    assert differences(stored, {**stored, "last": {"return": 1.5, "new": 3}}, exact=True) == []
    assert differences(stored, {**stored, "rounds": ["aa", "cc"]}, exact=True) == ["rounds 1: bb then, cc now"]
    assert differences(stored, {"error": "ValueError: no (f)"}, exact=True) == ["no error then, ValueError: no (f) now"]
    shifted = {**stored, "rounds": ["dd", "cc"], "first": {"return": 1.0001}}
    assert differences(stored, shifted, exact=False) == []
    assert differences(stored, {**shifted, "first": {"return": 1.1}}, exact=False) == [
        "first return: 1.0 then, 1.1 now"
    ]


@pytest.mark.parametrize(
    "text, line", [("{", "is no JSON"), ("[]", "lacks 'base'"), ('{"base": {}}', "lacks 'entries'")]
)
def test_a_broken_golden_file_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: str
) -> None:
    path = tmp_path / "expected.json"
    path.write_text(text)
    monkeypatch.setattr(store, "EXPECTED", path)
    with pytest.raises(CorruptRecord, match=line) as caught:
        store.read()
    assert "\n" not in str(caught.value)
