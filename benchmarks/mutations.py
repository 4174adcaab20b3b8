"""Change numbers and operators of the code, one at a time, and see whether the golden outputs notice and name it.

    python benchmarks/mutations.py [--count 60] [--seed 0] [--jobs 2] [--write]

The population are the numeric constants and the arithmetic and comparison operators inside function bodies of
components, federation, learning and geometry; not those in annotations, default values, raised errors and texts, which
move no output, and not in abstract functions. A constant has 1 added; an operator becomes its opposite. A mutant is
caught with the right name if the check names components whose code holds the mutated module, and nothing else, or for
code of the harness the engine alone. Survivors are listed. With --write the result goes into docs/identity.md.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent
COMPONENTS = ("algorithms", "attacks", "topologies")
INNER_COMPONENTS = ("aggregators", "agreements", "channels", "coins", "placements", "tasks")
HARNESS = ("core", "federation", "geometry", "rl")
SECONDS = 900
"""Longest time of one check."""

OPPOSITES: dict[type[ast.AST], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Pow: ("**", "*"),
    ast.Lt: ("<", ">="),
    ast.LtE: ("<=", ">"),
    ast.Gt: (">", "<="),
    ast.GtE: (">=", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: relative to the checkout.
        line: where, from 1.
        start, end: offsets in bytes of what is replaced.
        text: what replaces it.
        shown: the change, for a reader.
    """

    file: str
    line: int
    start: int
    end: int
    text: str
    shown: str


def sources() -> list[Path]:
    """Return the files that are mutated."""
    folders = [ROOT / name for name in COMPONENTS]
    folders += [ROOT / "byzbench" / name for name in (*INNER_COMPONENTS, *HARNESS)]
    return sorted(path for folder in folders for path in folder.glob("*.py") if path.name != "__init__.py")


def population(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file."""
    content = path.read_bytes()
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    name = path.relative_to(ROOT).as_posix()
    for node in _numeric(ast.parse(content)):
        line = node.lineno
        if isinstance(node, ast.Constant):
            start, end = (starts[n - 1] + at for n, at in ((line, node.col_offset), (line, node.end_col_offset or 0)))
            yield Mutant(name, line, start, end, f"({node.value} + 1)", f"{node.value} -> {node.value + 1}")
            continue
        left, op, right = _operands(node)
        before, after = OPPOSITES[type(op)]
        start, end = starts[left.end_lineno - 1] + left.end_col_offset, starts[right.lineno - 1] + right.col_offset
        between = content[start:end].decode()
        if between.count(before) == 1:
            text = between.replace(before, after)
            shown = f"{ast.unparse(node)[:60]}: {before} -> {after}"
            yield Mutant(name, line, start, end, text, shown)


def _operands(node: ast.AST) -> tuple[ast.expr, ast.AST, ast.expr]:
    if isinstance(node, ast.Compare):
        return node.left, node.ops[0], node.comparators[0]
    assert isinstance(node, ast.BinOp)
    return node.left, node.op, node.right


def _numeric(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the constants and operators that are mutated, wherever they stand in function bodies."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "abstract" not in ast.dump(
            ast.Module(node.decorator_list, [])  # type: ignore[arg-type]
        ):
            for statement in node.body:
                yield from _inside(statement)


def _inside(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return  # texts of errors; inner functions are visited as functions
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield node
    if isinstance(node, ast.BinOp) and type(node.op) in OPPOSITES:
        yield node
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPPOSITES:
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "slice_annotation"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _inside(child)


def holders() -> dict[str, set[str]]:
    """Return, by file of components, the names of the components whose code holds it."""
    from byzbench import registry
    from byzbench.identity import code_modules, component_name

    owners: dict[str, set[str]] = {}
    for kind in registry.KINDS:
        for name in registry.origins(kind):
            cls = registry.find(kind, name)
            for module in code_modules(cls):
                inner = module.removeprefix("byzbench.").replace(".", "/")
                file = f"{inner}.py" if inner.split("/")[0] in COMPONENTS else f"byzbench/{inner}.py"
                owners.setdefault(file, set()).add(component_name(cls))
    return owners


def copied(folder: Path) -> Path:
    """Return a copy of the checkout without what is built."""
    ignored = shutil.ignore_patterns(".venv", ".git", "build", "docs", "runs", "leaderboards", "*.egg-info", ".*_cache")
    return Path(shutil.copytree(ROOT, folder, ignore=ignored))


def check(tree: Path, mutant: Mutant) -> tuple[list[str], str]:
    """Return what the check names for a mutant, and how it ended where it names nothing."""
    path, report = tree / mutant.file, tree / "report.json"
    original = path.read_bytes()
    report.unlink(missing_ok=True)
    path.write_bytes(original[: mutant.start] + mutant.text.encode() + original[mutant.end :])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.golden", "--check", "--report", str(report)],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        outcome = json.loads(report.read_text()) if report.exists() else {}
        tail = (done.stdout + done.stderr).strip().splitlines()
        return sorted(outcome.get("responsible", ())), f"exit {done.returncode}: {tail[-1][:100] if tail else ''}"
    except subprocess.TimeoutExpired:
        return [], f"no end after {SECONDS} s"
    finally:
        path.write_bytes(original)


def verdict(mutant: Mutant, named: list[str], owners: dict[str, set[str]]) -> str:
    """Return `caught`, `survived`, or `misnamed`."""
    if not named:
        return "survived"
    right = {"ENGINE"} if mutant.file.split("/")[1] in HARNESS else owners.get(mutant.file, set())
    return "caught" if set(named) <= right else "misnamed"


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    everything = [mutant for path in sources() for mutant in population(path)]
    drawn = random.Random(args.seed).sample(everything, args.count)
    owners = holders()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        trees: Queue[Path] = Queue()
        for number in range(args.jobs):
            trees.put(copied(Path(scratch) / f"tree{number}"))

        def tried(mutant: Mutant) -> tuple[Mutant, str, list[str], str]:
            tree = trees.get()
            try:
                named, end = check(tree, mutant)
            finally:
                trees.put(tree)
            return mutant, verdict(mutant, named, owners), named, end

        with ThreadPoolExecutor(args.jobs) as pool:
            for mutant, result, named, end in pool.map(tried, drawn):
                shown = ", ".join(named[:4]) or end
                lines.append(f"{result:<9} {mutant.file}:{mutant.line}  {mutant.shown}  [{shown}]")
                print(lines[-1], flush=True)
    caught = sum(line.startswith("caught") for line in lines)
    summary = f"{caught} of {len(lines)} mutants caught with the right name, of a population of {len(everything)}"
    print(summary)
    if args.write:
        _write(f"{summary}; seed {args.seed}.", [line for line in lines if not line.startswith("caught")])


def _write(summary: str, survivors: list[str]) -> None:
    """Put the result between the marks in docs/identity.md."""
    page = ROOT / "docs" / "identity.md"
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- mutations -->")
    _, _, after = rest.partition("<!-- /mutations -->")
    listed = "\n".join(["```text", *survivors, "```"]) if survivors else "None survived."
    text = f"{before}<!-- mutations -->\n\n{summary}\n\n{listed}\n\n<!-- /mutations -->{after}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
