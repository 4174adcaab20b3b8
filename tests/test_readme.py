"""The commands and code of README.md, CONTRIBUTING.md and the pages of docs/ run as they are written there."""

import doctest
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from byzbench.registry import KINDS, origins

ROOT = Path(__file__).resolve().parent.parent


def blocks(page: str, language: str, heading: str = "") -> list[str]:
    """The blocks of a page in a language; those below a heading of the second level, if one is given."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page: str, heading: str = "") -> list[list[str]]:
    lines = [line.partition("  #")[0].strip() for block in blocks(page, "sh", heading) for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


def run(arguments: list[str], folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_readme_names_no_command_that_is_not_tried() -> None:
    assert {c[0] for c in commands("README.md")} == {"make", "byzbench"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {c[1] for c in commands("README.md") if c[0] == "make"} <= set(targets)


def test_the_page_of_axes_names_every_component() -> None:
    page = (ROOT / "docs/axes.md").read_text(encoding="utf-8")
    names = [name for kind in KINDS for name, o in origins(kind).items() if o.module.startswith("byzbench.")]
    assert not [name for name in names if not re.search(rf"\b{name}\b", page)]


def test_the_readme_counts_components() -> None:
    page = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    shipped = {k: [n for n, o in origins(k).items() if o.module.startswith("byzbench.")] for k in KINDS}
    methods, attacks, rules, graphs = (len(shipped[k]) for k in ("algorithm", "attack", "aggregator", "topology"))
    counted = f"{methods - 2} further methods, {attacks - 1} attacks, {rules} aggregation rules, {graphs} families"
    assert counted in page  # further than ByzPG and DecByzPG; `none` is no attack
    compared = {"communication": f"server, {graphs} families of graphs", "attacks": attacks - 1}
    compared["aggregation rules, with pre-aggregators"] = rules
    assert not [row for row, value in compared.items() if f"| {row} | {value} |" not in page]


def test_the_page_of_commands_has_those_by_which_tasks_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    goals = importlib.import_module("learned").GOALS
    assert blocks("docs/command-line.md", "console") == ["".join(f"{goal.command}\n" for goal in goals.values())]


RUNS = ("README", *(f"docs/{page}" for page in ("command-line", "tasks", "scenarios", "channels", "decentralised")))
PAGES = tuple(f"{page}.md" for page in (*RUNS, "docs/schedules", "docs/policies", "docs/identity"))
"""The pages each command of which works by itself."""
QUICK = ("list", "show", "check", "runs", "version")
"""The commands that are tried with the fast tests; the others are with the slow ones."""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(c, id=" ".join(c), marks=[] if " ".join(c[1:]).startswith(QUICK) else [pytest.mark.slow])
        for c in {tuple(c): None for page in PAGES for c in commands(page) if c[0] == "byzbench"}
    ],
)
def test_commands_of_pages(command: Sequence[str], tmp_path: Path) -> None:
    if "leaderboard" in command:
        shutil.copytree(ROOT / "leaderboards", tmp_path / "leaderboards")
    done = run([sys.executable, "-m", *command], tmp_path, ROOT)
    assert done.returncode == 0, done.stderr
    assert ("verdict" if command[1] == "run" else "") in done.stdout.strip() != ""


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_readme_python(code: str, tmp_path: Path) -> None:
    done = run([sys.executable, "-c", code], tmp_path, ROOT)
    assert done.returncode == 0, done.stderr


ADDED = {kind: (f"docs/extend/{kind}.md", "") for kind in KINDS}
ADDED["first"] = ("CONTRIBUTING.md", "Add an attack in five minutes")
"""The pages that add a component, and the heading of the part that does."""


def test_every_kind_has_a_page_that_adds_one() -> None:
    assert {path.stem for path in (ROOT / "docs/extend").iterdir()} == set(KINDS)
    linked = re.findall(r"\(docs/extend/(\w+)\.md\)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(KINDS)


@pytest.mark.parametrize(
    "block", [b for page, heading in ADDED.values() for b in blocks(page, "python", heading) if b.startswith(">>>")]
)
def test_sessions_on_adding_print_what_stands_there(block: str) -> None:
    session = doctest.DocTestParser().get_doctest(block, {}, "page", None, None)
    assert not doctest.DocTestRunner(verbose=False).run(session).failed


@pytest.mark.slow
@pytest.mark.parametrize("page, heading", ADDED.values(), ids=ADDED)
def test_a_component_is_added_as_its_page_says(page: str, heading: str, tmp_path: Path) -> None:
    """The commands of a page work one after the other; the test that they write is one of them, or follows."""
    path = Path(os.pathsep.join([str(tmp_path / "site"), str(ROOT)]))
    typed = commands(page, heading)
    kind, name = typed[0][2:4]
    package = f"byzbench-{name.replace('_', '-')}"
    test = ["python", "-m", "pytest", package]
    first = [["byzbench", "new", kind, name, "--package"], ["pip", "install", "-e", f"./{package}"]]
    assert typed[:3] == [*first, ["byzbench", "check", name]]
    assert typed[-1][:2] == ["byzbench", "run"]
    for command in typed if test in typed else [*typed, test]:
        if command[0] == "pip":
            options = ["--no-index", "--no-deps", "--no-build-isolation", "--target", "site"]
            command = ["pip", "install", *options, *command[3:]]
        start = [sys.executable] if command[0] == "python" else [sys.executable, "-m", command[0]]
        done = run([*start, *command[1:]], tmp_path, path)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        printed = {"run": "verdict", "check": "all checks passed"}.get(command[1], "")
        assert printed in done.stdout


@pytest.mark.slow
def test_docs_graphs(tmp_path: Path) -> None:
    """The command that shows a graph says what stands there, up to the list of rules."""
    for command in commands("docs/graphs.md"):
        done = run([sys.executable, "-m", *command], tmp_path, ROOT)
        assert done.returncode == 0, done.stderr
        shown = "show" in command
        assert (blocks("docs/graphs.md", "text")[0].partition("\n\n")[0] if shown else "verdict") in done.stdout
    assert (tmp_path / "small_world.png").stat().st_size


LINES = {
    ("tasks", 0): 0,
    ("tasks", 1): 0,
    ("attacker", 0): 0,
    ("attacker", 1): 3,
    ("python", 0): 1,
    ("python", 1): 3,
    ("python", 2): 2,
}
"""The lines that each block of Python of a page prints."""


@pytest.mark.slow
@pytest.mark.parametrize("page, index", LINES)
def test_docs_python(page: str, index: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(blocks(f"docs/{page}.md", "python")[index])
    done = run([sys.executable, "script.py"], tmp_path, ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == LINES[page, index]


COMPONENTS = (
    ("docs/policies.md", "policy"),
    ("docs/scenarios.md", "scenario"),
    ("CONTRIBUTING.md", "algorithm"),
    ("CONTRIBUTING.md", "task"),
)
"""The pages whose first block of Python is a file with components, and the kinds of these."""


@pytest.mark.slow
@pytest.mark.parametrize("page, kind", COMPONENTS)
def test_components_of_pages_pass_their_checks(page: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(blocks(page, "python")[0])
    done = run([sys.executable, "-m", "byzbench", "check", "mine.py", "--kind", kind], tmp_path, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


EXECUTED = {
    *product(PAGES, ["sh"]),
    ("README.md", "python"),
    *((f"docs/{page}.md", "python") for page, _ in LINES),
    *product((page for page, _ in ADDED.values()), ["sh", "python"]),
    *((page, "python") for page, _ in COMPONENTS),
    *product(("docs/get-started.md", "docs/ray.md"), ["sh", "python", "toml"]),
    *product(("docs/sweeps.md",), ["sh", "toml"]),
    ("docs/graphs.md", "sh"),
}
"""The blocks that the tests of this file execute, by page and language."""
MARK = "<!-- not run by a test: "


def test_every_block_is_executed_or_says_why_not() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/extend/*.md")]:
        page = path.relative_to(ROOT).as_posix()
        found = re.findall(r"(.*)\n```(sh|bash|console|python|toml)\b", path.read_text(encoding="utf-8"))
        run_here = [language for before, language in found if not before.startswith(MARK)]
        assert not {(page, language) for language in run_here} - EXECUTED, page
        if page in {f"docs/{name}.md" for name, _ in LINES} | {page for page, _ in COMPONENTS}:
            known = {index for name, index in LINES if page == f"docs/{name}.md"} or {0}
            assert run_here.count("python") == len(known), page


@pytest.mark.slow
def test_docs_get_started(tmp_path: Path) -> None:
    """The page, followed from top to bottom: its files, its commands, and what it says that they print."""
    page = (ROOT / "docs/get-started.md").read_text(encoding="utf-8")
    files = re.findall(r'```(?:python|toml) title="([^"]+)"\n(.*?)```', page, re.DOTALL)
    for name, text in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    path = Path(f"{tmp_path / 'installed'}{os.pathsep}{ROOT}")
    printed = {}
    for command in commands("docs/get-started.md"):
        if command[0] == "pip":
            command = [*command, "--target", "installed"]
        done = run([sys.executable, "-m", *command], tmp_path, path)
        assert done.returncode == 0, (command, done.stderr)
        printed[command[1]] = done.stdout
    assert len(files) == 2
    assert "all checks passed" in printed["check"]
    assert printed["run"].startswith(blocks("docs/get-started.md", "text")[0])
    assert "no attack did certain harm" in " ".join(printed["report"].split())


@pytest.mark.slow
def test_docs_sweeps(tmp_path: Path) -> None:
    """Its commands work one after the other, on the suite that stands there."""
    (tmp_path / "suite.toml").write_text(blocks("docs/sweeps.md", "toml")[0])
    for command in commands("docs/sweeps.md"):
        done = run([sys.executable, "-m", *command], tmp_path, ROOT)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.strip() or done.stderr.strip()
    assert {path.name for path in tmp_path.glob("*.p*")} == {"heatmap.png", "curves.pdf"}


CLUSTER = """
import json, shutil, subprocess, sys
from ray.cluster_utils import Cluster
here = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
cluster = Cluster(initialize_head=True, head_node_args={**here, "include_dashboard": False})
cluster.add_node(**here)
outputs = []
for command in json.loads(sys.argv[1]):
    if any("HEAD" in word for word in command):
        shutil.rmtree("runs")  # so that the cluster has something to do
        command = [word.replace("HEAD:6379", cluster.address) for word in command]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr[-2000:])
    outputs.append(done.stdout + done.stderr)
cluster.shutdown()
print(json.dumps(outputs))
"""


@pytest.mark.slow
def test_docs_ray(tmp_path: Path) -> None:
    """Its commands and its script, one after the other, on a cluster of two nodes in the place of HEAD."""
    (tmp_path / "cluster.py").write_text(CLUSTER)
    page = "docs/ray.md"
    (tmp_path / "suite.toml").write_text(re.findall(r"```toml.*?\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[0])
    script = re.findall(r"```python.*?\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[0]
    todo = [["-m", *command] for command in commands(page)] + [["-c", script]]
    switches = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # as in test_ray
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **switches}
    done = subprocess.run(
        [sys.executable, "cluster.py", json.dumps(todo)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    planned, alone, cluster, python = json.loads(done.stdout.splitlines()[-1])
    assert "12 cells: 12 to run" in planned
    assert blocks(page, "text")[0] in alone
    assert blocks(page, "text")[0] in cluster
    assert python.count("\n") == 6
