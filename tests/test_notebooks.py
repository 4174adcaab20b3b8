"""The notebooks of the site run from top to bottom, and hold the outputs that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs/_site"))
    import notebooks  # type: ignore[import-not-found, unused-ignore]

    return notebooks


def code_cells(text: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def outputs(module: ModuleType, text: str) -> list[list[str]]:
    """The outputs of each cell with # in the place of numbers and hashes, which another engine may move."""
    masked = []
    for cell in code_cells(text):
        shown = [(kind, "" if kind == "image/png" else output) for kind, output in module.shown(cell)]
        masked.append([f"{kind}: {re.sub(r'[0-9a-f]{16}|-?[0-9][0-9.]*', '#', output)}" for kind, output in shown])
    return masked


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_its_outputs_and_no_paths_of_a_machine(path: Path, notebooks: ModuleType) -> None:
    text = path.read_text(encoding="utf-8")
    cells = code_cells(text)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert {output["output_type"] for cell in cells for output in cell["outputs"]} <= {
        "stream",
        "execute_result",
        "display_data",
    }
    assert not re.search(r"/(home|root|tmp|var|work|usr|Users)\b|site-packages|Warning", text)
    page, pictures = notebooks.notebook_page(path)
    assert page.startswith("# ")
    assert pictures.keys() == {name for _, name in re.findall(r"!\[([^\]]+)\]\((.+?)\)", page)}
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_holds(
    path: Path, notebooks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executed = notebooks.run_notebook(path, tmp_path)
    assert outputs(notebooks, executed) == outputs(notebooks, path.read_text(encoding="utf-8"))
