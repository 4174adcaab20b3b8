"""The rules of the house: which way imports point, what is packaged, and what shipped code never does."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LARGE_ZOOS = ["algorithms", "attacks", "topologies"]
ZOOS = [*LARGE_ZOOS, "agreements", "aggregators", "channels", "coins", "placements", "tasks"]

LAYERS = [
    ["errors"],
    ["canonical", "deprecation", "randomness"],
    ["geometry", "learning"],
    ["contracts"],
    ["registry"],
    ["identity"],
    ZOOS,
    ["federation"],
    ["experiments", "testing"],
    ["envs"],  # an episode is one experiment under way
    ["reports"],
    ["leaderboard"],
    ["leaderboards"],
    ["cli", "__main__"],
]
"""From the ground up. A room may import from its own layer and from those before it."""
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

HOMES = {CHECKOUT / "byzbench": "byzbench"} | {
    CHECKOUT / folder: f"byzbench.{folder}" for folder in [*LARGE_ZOOS, "leaderboards"]
}
FILES = {
    ".".join([package, *path.relative_to(home).with_suffix("").parts]).removesuffix(".__init__"): path
    for home, package in HOMES.items()
    for path in sorted(home.rglob("*.py"))
}
SHIPPED = pytest.mark.parametrize("module", FILES)


def room(module: str) -> str:
    """`byzbench.cli.run` is in the room `cli`; byzbench itself, and what is not ours, in none."""
    top, *rest = module.split(".")
    return rest[0] if top == "byzbench" and rest else ""


def imports(node: ast.AST) -> Iterator[str]:
    """Modules that are imported when the program runs, with the names taken from them; nothing for type checkers."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are written in full"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call by its dotted name, as in `np.random.default_rng`."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_the_plan_names_every_room() -> None:
    assert {room(module) for module in FILES} - {""} == set(LEVEL)


@SHIPPED
def test_imports_point_down(module: str) -> None:
    above = [i for i in imports(tree(module)) if LEVEL.get(room(i), 0) > LEVEL.get(room(module), 0)]
    assert not above


@SHIPPED
def test_the_harness_imports_no_zoo(module: str) -> None:
    """It finds what is in a zoo by name. A file of a zoo may build upon another."""
    found = list(imports(tree(module)))
    assert not [i for i in found if i.split(".")[0] in LARGE_ZOOS], "a zoo's name starts with byzbench"
    assert room(module) in ZOOS or not [i for i in found if room(i) in ZOOS]


def test_every_folder_with_code_is_packaged_and_every_package_is_a_folder() -> None:
    setup = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {FILES[m].parent for m in FILES}
    packages = {
        ".".join([package, *folder.relative_to(home).parts])
        for home, package in HOMES.items()
        for folder in folders
        if folder.is_relative_to(home)
    }
    assert packages == set(setup["packages"])
    assert {name: str(home.relative_to(CHECKOUT)) for home, name in HOMES.items() if name != "byzbench"} == setup[
        "package-dir"
    ]


@SHIPPED
def test_no_module_state_draws_random_numbers(module: str) -> None:
    """Whatever is random comes out of a generator that was handed in."""
    assert not {"random", "secrets"} & {name.split(".")[0] for name in imports(tree(module))}
    for name, call in calls(module):
        given = {keyword.arg for keyword in call.keywords}
        if name.startswith(("np.random.", "numpy.random.")):
            assert name.split(".")[2] in {"Generator", "Philox", "default_rng", "RandomState"}, name
            assert call.args or call.keywords, f"{name} without a seed"
        assert name not in {"torch.manual_seed", "torch.seed", "torch.set_rng_state"}, name
        if re.fullmatch(r"torch\.(rand\w*|normal|bernoulli|multinomial|poisson)", name):
            assert "generator" in given, f"{name} without a generator"
        if re.search(r"\.(uniform|normal|bernoulli|exponential|random|geometric|cauchy|log_normal)_$", name):
            assert "generator" in given, f"{name} without a generator"


@SHIPPED
def test_no_data_can_carry_code(module: str) -> None:
    carriers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
    assert not carriers & {name.split(".")[0] for name in imports(tree(module))}
    for name, call in calls(module):
        assert name not in {"torch.load", "torch.save", "eval", "exec", "np.save"}, name
        assert "allow_pickle" not in {keyword.arg for keyword in call.keywords}


@pytest.mark.parametrize("module", ["attacks.alie", "algorithms.decbyzpg", "topologies.ring"])
def test_a_zoo_has_one_name(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported under two names, a class would exist twice, and one would be no instance of the other."""
    monkeypatch.syspath_prepend(CHECKOUT)
    with pytest.raises(ImportError, match=rf"^import this package as byzbench\.{module.split('.')[0]}, not "):
        importlib.import_module(module)


def test_every_extra_that_a_message_names_exists() -> None:
    extras = set(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {e for path in FILES.values() for e in re.findall(r"byzbench\[(\w+)\]", path.read_text(encoding="utf-8"))}
    assert "watch" in named
    assert named <= extras
