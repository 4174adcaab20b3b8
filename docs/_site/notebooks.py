"""The notebooks of the site: run them, keep their outputs, and make pages of them.

    python docs/_site/notebooks.py      run all notebooks, and write their outputs into them

Every notebook runs in a kernel and a folder of its own, from top to bottom, and starts with nothing but byzbench.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def run_notebook(path: Path, folder: Path) -> str:
    """Run a notebook in a folder, and return its text with the outputs, which holds no times.

    Args:
        path: The notebook.
        folder: The folder in which it runs, and which its cells may write.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised an error.
    """
    import nbformat
    from nbclient import NotebookClient

    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for cells with !byzbench
    environment = {**os.environ, "IPYTHONDIR": str(folder / ".ipython"), "PATH": programs}
    notebook = nbformat.read(path, as_version=4)
    options = {"timeout": 600, "record_timing": False, "coalesce_streams": True}
    client = NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options)
    client.execute(env=environment)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return nbformat.writes(notebook) + "\n"


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown page of a notebook, with its code and outputs, and its pictures by name."""
    parts = [f"[Download this notebook]({path.name}){{ .md-button download={path.name} }}"]
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for kind, output in shown(cell):
            name = f"{path.stem}-{number}.png"
            if kind == "image/png":
                pictures[name] = base64.b64decode(output)
                parts.append(f"![{cell['metadata']['alt']}]({name})")
            elif kind == "text/html":
                plain = re.sub(r"<style.*?</style>\n?", "", output, flags=re.DOTALL)
                parts.append(re.sub("<table[^>]*>", "<table>", plain))  # the site scrolls tables without a class
            else:
                parts.append(f"```text\n{output.rstrip()}\n```")
    title, *rest = parts[1:]
    head, _, first = title.partition("\n")
    return "\n\n".join([head, parts[0], first.strip(), *rest]) + "\n", pictures


def shown(cell: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the outputs of a cell in the richest form that a page has: its type and its content."""
    for output in cell["outputs"]:
        data = {"text/plain": output["text"]} if output["output_type"] == "stream" else output["data"]
        kind = next(kind for kind in ("image/png", "text/html", "text/plain") if kind in data)
        yield kind, "".join(data[kind])


if __name__ == "__main__":
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            text = run_notebook(notebook, Path(folder))
        notebook.write_text(text, encoding="utf-8")
        print(notebook.name)
