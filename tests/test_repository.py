"""The files that describe the repository parse, agree with pyproject.toml, and name what exists."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import byzbench
from byzbench.registry import KINDS

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"] == byzbench.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["abstract"] == PROJECT["description"] + "."
    assert citation["authors"] == PROJECT["authors"]
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors", "year"} <= paper.keys()
    assert "2401.03489" in paper["url"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_and_files_that_exist(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        command = step.get("run", "")
        assert set(re.findall(r"\bmake ([a-z-]+)", command)) <= TARGETS
        named = re.findall(r"[\w/.-]+\.txt\b|base/\.ci/[\w-]+", command)
        named += [v for k, v in step.get("with", {}).items() if k == "cache-dependency-path"]
        assert all((ROOT / name.removeprefix("base/")).is_file() for name in named)
        version = step.get("with", {}).get("python-version")
        assert version is None or f">={version}" == PROJECT["requires-python"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_of_issues_have_what_they_need(path: Path) -> None:
    form = read(path)
    if path.stem == "config":
        return
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(field["attributes"]["label"] for field in form["body"])
    for field in form["body"]:
        if field["id"] == "kind":
            assert set(field["attributes"]["options"]) == set(KINDS)


def test_the_image_is_of_files_and_a_python_that_fit() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (version,) = re.findall(r"^FROM python:([\d.]+)-slim$", text, re.MULTILINE)
    assert f">={version}" == PROJECT["requires-python"]
    needed = {PROJECT["readme"], *PROJECT["license-files"], *re.findall(r"/src/([\w.]+)", text)}
    assert all((ROOT / name).is_file() for name in needed)
    assert not needed & set((ROOT / ".dockerignore").read_text().split())


def test_hooks_are_tools_of_the_development_extra() -> None:
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in local["hooks"]}
    extra = {re.split(r"[>\[]", requirement)[0] for requirement in PROJECT["optional-dependencies"]["dev"]}
    assert tools == {"ruff", "mypy"} <= extra


def test_every_required_distribution_is_pinned() -> None:
    def name(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[>=\[]", requirement)[0]).lower()

    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    required = [*PROJECT["dependencies"], *(r for rs in PROJECT["optional-dependencies"].values() for r in rs)]
    assert {name(r) for r in required} - {"byzbench"} <= {name(line) for line in lines}


@pytest.mark.parametrize("page", ["SECURITY.md", "CODE_OF_CONDUCT.md", "README.md", "CONTRIBUTING.md"])
def test_links_of_pages_in_the_root_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_no_file_has_the_marks_of_a_conflict() -> None:
    patterns = (
        "*",
        "docs/**/*.md",
        "docs/_site/**/*",
        "byzbench/**/*.css",
        "leaderboards/**/*.toml",
        ".github/**/*.yml",
    )
    paths = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    marks = re.compile(rb"^(<{7} |>{7} |={7}$)", re.MULTILINE)
    assert not [path for path in sorted(paths) if marks.search(path.read_bytes())]
