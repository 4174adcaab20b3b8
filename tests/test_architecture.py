"""Architecture: the arrows between packages, public names and docstrings, and what shipped code never does."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
TOP_LEVEL_KINDS = ["algorithms", "attacks", "topologies"]
KINDS = [
    *TOP_LEVEL_KINDS,
    "agreements",
    "aggregators",
    "channels",
    "coins",
    "placements",
    "policies",
    "scenarios",
    "tasks",
]

LAYERS = [
    ["errors"],
    ["axes", "canonical", "deprecation", "literals", "randomness"],
    ["geometry", "rl"],
    ["core"],
    ["registry", "catalogue"],
    ["identity"],
    KINDS,
    ["federation"],
    ["records"],
    ["experiments"],
    ["sweeps"],
    ["tuning", "integrations"],
    ["testing"],
    ["envs"],  # an episode is one experiment that is running
    ["reports"],
    ["leaderboard"],
    ["leaderboards"],
    ["cli", "__main__"],
]
"""From the ground up. A package may import from its own layer and from those before it."""
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}

COMPONENTS_IMPORT = {"core", "rl", "geometry", "errors", *KINDS}
"""The packages that a component file imports: what a plug-in may import, and components that it is made of."""
PRIVATE_DATA = {"byzbench.algorithms._official", "byzbench.algorithms._recommended", "byzbench.tasks._references"}
"""Private modules that component files import: data of shipped components. All that others may need is public."""

UPWARD = {("byzbench.experiments.plugin_errors", "testing")}
"""Imports that point up: after an error of a plug-in, its conformance tests tell what is wrong with it."""

MAX_LINES = 50
"""The largest number of lines of a function without its docstring."""
LONG = {
    "byzbench.experiments.experiment.create": "its parameters are the axes, each with a line in the signature",
    "byzbench.cli.show.show": "a command of many kinds of components",
}
"""Longer functions, with the reason."""

MAX_PARAMETERS = 8
"""The largest number of parameters of a function, without self."""
MANY_PARAMETERS = {
    "byzbench.experiments.experiment.create": "its parameters are the axes",
    "byzbench.federation.federation.__init__": "the parts of a federation, by keyword",
    "byzbench.federation.rule_oracle.__init__": "what a rule reads at one receiver, by keyword",
    "byzbench.rl.compiled._play": "a compiled kernel takes arrays, not objects",
    "byzbench.experiments.evaluation.evaluate_policy": "a function of the public API, whose options have defaults",
}
"""Functions with more, with the reason. The parameters of commands are their options."""

GONE = re.compile(r"\bliars?\b|\bstrangers?\b|\bmail\b|the wires|whose words|the house", re.IGNORECASE)
"""Words that are no terms of the field."""
KEYS_THAT_STAY = re.compile(r"""["']mail[/"']""")
"""The name of a section in checkpoints."""

HOMES = {CHECKOUT / "byzbench": "byzbench"} | {
    CHECKOUT / folder: f"byzbench.{folder}" for folder in [*TOP_LEVEL_KINDS, "leaderboards"]
}
FILES = {
    ".".join([package, *path.relative_to(home).with_suffix("").parts]).removesuffix(".__init__"): path
    for home, package in HOMES.items()
    for path in sorted(home.rglob("*.py"))
}
SHIPPED = pytest.mark.parametrize("module", FILES)


def package_of(module: str) -> str:
    """Return the package of a module below byzbench; empty for byzbench itself, and for other distributions.

    Example:
        >>> package_of("byzbench.cli.run"), package_of("byzbench"), package_of("torch.nn")
        ('cli', '', '')
    """
    top, *rest = module.split(".")
    return rest[0] if top == "byzbench" and rest else ""


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the names that are imported when the program runs; without those for type checkers."""
    if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        yield from _imported_by(node)
        for child in ast.iter_child_nodes(node):
            yield from imports(child)


def all_imports(module: str) -> Iterator[str]:
    """Yield the names that a module imports, with those for type checkers."""
    for node in ast.walk(tree(module)):
        yield from _imported_by(node)


def _imported_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are written in full"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with its dotted name, as in `np.random.default_rng`."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def public_functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the public functions of a module, and the public methods of its public classes."""
    for node in tree(module).body:
        public_class = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        for one in node.body if public_class else [node]:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_"):
                yield one


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module in FILES} - {""} == set(LEVEL)


@SHIPPED
def test_imports_point_down(module: str) -> None:
    """Also those for type checkers: there is no circle."""
    level = LEVEL.get(package_of(module), len(LAYERS))
    above = {(module, package_of(name)) for name in all_imports(module) if LEVEL.get(package_of(name), 0) > level}
    assert above <= UPWARD


def test_no_two_packages_import_each_other() -> None:
    edges = {(module, package_of(name)) for module in FILES for name in all_imports(module)}
    arrows = {(package_of(module), package) for module, package in edges - UPWARD}
    circles = [(a, b) for a, b in arrows if a and b and a < b and (b, a) in arrows]
    assert not circles


def test_no_modules_import_each_other() -> None:
    """Also for type checkers, and also within a package; `byzbench` itself imports what it exports when it is used."""
    graph = nx.DiGraph()
    for module in FILES.keys() - {"byzbench"}:
        for name in all_imports(module):
            imported = name if name in FILES else name.rpartition(".")[0]
            if imported in FILES:
                graph.add_edge(module, imported)
    assert not [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1]


@SHIPPED
def test_the_harness_imports_no_component(module: str) -> None:
    """It finds components by name. A component may build upon another."""
    names = list(imports(tree(module)))
    assert not [name for name in names if name.split(".")[0] in TOP_LEVEL_KINDS], "the package's name has a prefix"
    assert package_of(module) in KINDS or not [name for name in names if package_of(name) in KINDS]


@pytest.mark.parametrize("module", [module for module in FILES if package_of(module) in KINDS])
def test_components_import_what_a_plugin_may_import(module: str) -> None:
    names = set(all_imports(module))
    assert {package_of(name) for name in names} - {""} <= COMPONENTS_IMPORT
    private = {m[0] for name in names if (m := re.match(r"byzbench\.(?:\w+\.)*?_\w+", name))} - PRIVATE_DATA
    if package_of(module) == "aggregators":
        private = {name for name in private if not name.startswith("byzbench.aggregators._")}
    assert not private


def test_no_public_name_stands_twice() -> None:
    """Commands have the names that users type, and are not part of the library."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in FILES:
        if package_of(module) != "cli":
            for node in tree(module).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


@SHIPPED
def test_public_functions_have_a_docstring_that_begins_as_it_should(module: str) -> None:
    """A verb in the imperative or a noun phrase, and Args from four parameters on.

    Commands explain their parameters in `--help`, and an implementation of a documented interface may refer to it.
    """
    for function in public_functions(module):
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
        text = ast.get_docstring(function)
        if text is None:
            assert decorators & {"setter", "overload"}, f"{function.name} has no docstring"
            continue
        assert not re.match(r"(What|Whether|How|Of|Who|Where|When)\b", text), f"{function.name}: {text.splitlines()[0]}"
        parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        if function in tree(module).body and package_of(module) != "cli" and len(parameters) >= 4:
            assert "Args:" in text, f"{function.name} does not explain its parameters"


def functions(module: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function and method of a module, with the module and its own name."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}.{node.name}", node


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, from `def` on.

    Example:
        >>> lines_without_docstring(ast.parse("def f():\\n    'Text.'\\n    return 1").body[0])
        2
    """
    first, last = function.body[0], function.end_lineno or function.lineno
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function, clean=False) else 0
    return last - function.lineno + 1 - docstring


@SHIPPED
def test_functions_are_short(module: str) -> None:
    long = {name for name, function in functions(module) if lines_without_docstring(function) > MAX_LINES}
    assert long <= set(LONG)


@SHIPPED
def test_functions_have_few_parameters(module: str) -> None:
    """Except commands: public functions of `byzbench.cli` with an option among their parameters."""
    many = set()
    for name, function in functions(module):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        parameters = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        annotations = [ast.unparse(argument.annotation) for argument in parameters if argument.annotation]
        is_command = package_of(module) == "cli" and any("typer." in text or "options." in text for text in annotations)
        if len(parameters) > MAX_PARAMETERS and not is_command:
            many.add(name)
    assert many <= set(MANY_PARAMETERS)


def test_a_set_of_literals_is_written_once() -> None:
    """Used twice, it has a name. The fields of components are apart: each describes a parameter of its own."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in FILES:
        if package_of(module) not in KINDS:
            for node in ast.walk(tree(module)):
                if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
                    homes[ast.unparse(node.slice)].append(module)
    assert {values: modules for values, modules in homes.items() if len(modules) > 1} == {}


@SHIPPED
def test_no_word_that_is_gone_is_used(module: str) -> None:
    lines = FILES[module].read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if GONE.search(line) and not KEYS_THAT_STAY.search(line)]


def test_no_word_that_is_gone_is_used_beside_the_package() -> None:
    patterns = (
        "*.md",
        "docs/*.md",
        "benchmarks/*.py",
        "tests/**/*.py",
        "examples/**/*.py",
        ".ci/*",
        ".github/**/*.yml",
    )
    paths = {path for pattern in patterns for path in CHECKOUT.glob(pattern) if path.is_file()} - {Path(__file__)}
    used = [
        (path.relative_to(CHECKOUT), line)
        for path in sorted(paths)
        for line in path.read_text(encoding="utf-8").splitlines()
        if GONE.search(line) and not KEYS_THAT_STAY.search(line)
    ]
    assert not used


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
    """Whatever is random comes from a generator that was passed in."""
    assert not {"random", "secrets"} & {name.split(".")[0] for name in imports(tree(module))}
    for name, call in calls(module):
        passed = {keyword.arg for keyword in call.keywords}
        if name.startswith(("np.random.", "numpy.random.")):
            assert name.split(".")[2] in {"Generator", "Philox", "default_rng", "RandomState"}, name
            assert call.args or call.keywords, f"{name} without a seed"
        assert name not in {"torch.manual_seed", "torch.seed", "torch.set_rng_state"}, name
        if re.fullmatch(r"torch\.(rand\w*|normal|bernoulli|multinomial|poisson)", name):
            assert "generator" in passed, f"{name} without a generator"
        if re.search(r"\.(uniform|normal|bernoulli|exponential|random|geometric|cauchy|log_normal)_$", name):
            assert "generator" in passed, f"{name} without a generator"


@SHIPPED
def test_no_data_can_carry_code(module: str) -> None:
    carriers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
    assert not carriers & {name.split(".")[0] for name in imports(tree(module))}
    for name, call in calls(module):
        assert name not in {"torch.load", "torch.save", "eval", "exec", "np.save"}, name
        assert "allow_pickle" not in {keyword.arg for keyword in call.keywords}


@pytest.mark.parametrize("module", ["attacks.alie", "algorithms.decbyzpg", "topologies.ring"])
def test_a_kind_has_one_name(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported under two names, a class would exist twice, and one would be no instance of the other."""
    monkeypatch.syspath_prepend(CHECKOUT)
    with pytest.raises(ImportError, match=rf"^import this package as byzbench\.{module.split('.')[0]}, not "):
        importlib.import_module(module)


def test_every_extra_that_a_message_names_exists() -> None:
    extras = set(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {e for path in FILES.values() for e in re.findall(r"byzbench\[(\w+)\]", path.read_text(encoding="utf-8"))}
    assert "render" in named
    assert named <= extras
