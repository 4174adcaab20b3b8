"""Golden traces and vectors: what the code computes is what it computed at the same versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a pinned process finds when it compares the checkout with its golden file."""
    path = tmp_path_factory.mktemp("golden") / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden", "--check", "--report", str(path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert path.exists(), done.stdout + done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    if not found["exact"]:
        print(f"compared with a tolerance: outputs are not known to be exact on {found['processor']}")
    return found


def test_no_output_moved_without_a_version(report: dict[str, Any]) -> None:
    assert not report["named"], "\n".join(report["lines"])


def test_every_component_has_a_golden_entry(report: dict[str, Any]) -> None:
    assert not report["missing"], "\n".join(report["lines"])
    assert not report["gone"], "\n".join(report["lines"])


def test_every_raised_version_has_an_output_that_differs(report: dict[str, Any]) -> None:
    assert not report["unsound"], "\n".join(report["unsound"])


def test_the_code_of_every_component_is_listed_as_equal(report: dict[str, Any]) -> None:
    assert not report["unlisted"], "\n".join(report["lines"])


def test_nothing_is_left_to_renew(report: dict[str, Any]) -> None:
    assert report["passed"], "\n".join(report["lines"])
