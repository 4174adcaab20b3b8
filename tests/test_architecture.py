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
    "schedules",
    "tasks",
]

LAYERS = [
    ["errors"],
    ["axes", "canonical", "compilation", "deprecation", "literals", "platforms", "randomness", "threads"],
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
    ["api"],
    ["reproduce", "leaderboard"],
    ["leaderboards"],
    ["file_formats"],
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
    "byzbench.rl.kernels.play_episodes": "its parameters are arrays, each with a line in the signature",
}
"""Longer functions, with the reason."""

MAX_PARAMETERS = 8
"""The largest number of parameters of a function, without self."""
MANY_PARAMETERS = {
    "byzbench.experiments.experiment.create": "its parameters are the axes",
    "byzbench.federation.federation.__init__": "the parts of a federation, by keyword",
    "byzbench.federation.rule_oracle.__init__": "what a rule reads at one receiver, by keyword",
    "byzbench.api.verbs.evaluate": "a function of the public API, whose options have defaults",
    "byzbench.api.verbs.tune": "a function of the public API, whose options have defaults",
    "byzbench.experiments.evaluation.evaluate_policy": "a function of the public API, whose options have defaults",
}
"""Functions with more, with the reason. The parameters of commands are their options."""
KERNELS = "byzbench.rl.kernels"
"""The module whose functions take arrays, not objects, as they are compiled."""

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


@cache
def calls(module: str) -> list[tuple[str, ast.Call]]:
    """Return every call with its dotted name, as in `np.random.default_rng`."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]


def public_functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the public functions of a module, and the public methods of its public classes."""
    for node in tree(module).body:
        public_class = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        for one in node.body if public_class else [node]:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_"):
                yield one


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module in FILES} - {""} == set(LEVEL)


def test_imports_point_down() -> None:
    """Also those for type checkers: there is no circle."""
    arrows = {(module, package_of(name)) for module in FILES for name in all_imports(module)}
    above = {arrow for arrow in arrows if LEVEL.get(arrow[1], 0) > LEVEL.get(package_of(arrow[0]), len(LAYERS))}
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


def test_the_harness_imports_no_component() -> None:
    """It finds components by name. A component may build upon another."""
    imported = [(module, name) for module in FILES for name in imports(tree(module))]
    assert not [arrow for arrow in imported if arrow[1].split(".")[0] in TOP_LEVEL_KINDS], "its name has a prefix"
    assert not [arrow for arrow in imported if package_of(arrow[0]) not in KINDS and package_of(arrow[1]) in KINDS]


def test_components_import_what_a_plugin_may_import() -> None:
    components = [module for module in FILES if package_of(module) in KINDS]
    imported = [(module, name) for module in components for name in all_imports(module)]
    assert not [arrow for arrow in imported if package_of(arrow[1]) not in {"", *COMPONENTS_IMPORT}]
    private = [
        (module, match[0])
        for module, name in imported
        if (match := re.match(r"byzbench\.(?:\w+\.)*?_\w+", name)) and match[0] not in PRIVATE_DATA
    ]
    assert not [
        (module, name)
        for module, name in private
        if not (package_of(module) == "aggregators" and name.startswith("byzbench.aggregators._"))
    ]


def test_no_public_name_stands_twice() -> None:
    """Commands have the names that users type, and are not part of the library."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in FILES:
        if package_of(module) != "cli":
            for node in tree(module).body:
                is_named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
                if is_named and "overload" not in map(ast.unparse, node.decorator_list):
                    homes[node.name].append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_public_functions_have_a_docstring_that_begins_as_it_should() -> None:
    """A verb in the imperative or a noun phrase, and Args from four parameters on.

    Commands explain their parameters in `--help`, and an implementation of a documented interface may refer to it.
    """
    assert not [
        f"{module}.{function.name} {fault}"
        for module in FILES
        for function in public_functions(module)
        for fault in docstring_faults(module, function)
    ]


def docstring_faults(module: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield what is wrong with the docstring of a public function."""
    text = ast.get_docstring(function)
    if text is None:
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
        if not decorators & {"setter", "overload"}:
            yield "has no docstring"
        return
    if re.match(r"(What|Whether|How|Of|Who|Where|When)\b", text):
        yield f"begins: {text.splitlines()[0]}"
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    explained = "Args:" in text or len(parameters) < 4
    if function in tree(module).body and package_of(module) != "cli" and not explained:
        yield "does not explain its parameters"


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


def test_functions_are_short() -> None:
    everywhere = [pair for module in FILES for pair in functions(module)]
    long = {name for name, function in everywhere if lines_without_docstring(function) > MAX_LINES}
    assert long <= set(LONG)


def test_functions_have_few_parameters() -> None:
    """Except commands: public functions of `byzbench.cli` with an option among their parameters."""
    many = set()
    for module in FILES:
        for name, function in functions(module):
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            parameters = [argument for argument in arguments if argument.arg not in ("self", "cls")]
            if len(parameters) <= MAX_PARAMETERS or module == KERNELS:
                continue
            annotations = [ast.unparse(argument.annotation) for argument in parameters if argument.annotation]
            has_options = any("typer." in text or "options." in text for text in annotations)
            if not (package_of(module) == "cli" and has_options):
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


def test_no_word_that_is_gone_is_used() -> None:
    lines = [(m, line) for m, path in FILES.items() for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [(m, line) for m, line in lines if GONE.search(line) and not KEYS_THAT_STAY.search(line)]


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


def random_faults(module: str) -> Iterator[str]:
    """Yield what draws random numbers from anything but a generator that was passed in."""
    yield from {"random", "secrets"} & {name.split(".")[0] for name in imports(tree(module))}
    for name, call in calls(module):
        passed = {keyword.arg for keyword in call.keywords}
        if name.startswith(("np.random.", "numpy.random.")):
            if name.split(".")[2] not in {"Generator", "Philox", "default_rng", "RandomState"}:
                yield name
            if not (call.args or call.keywords):
                yield f"{name} without a seed"
        if name in {"torch.manual_seed", "torch.seed", "torch.set_rng_state"}:
            yield name
        drawn = re.fullmatch(r"torch\.(rand\w*|normal|bernoulli|multinomial|poisson)", name) or re.search(
            r"\.(uniform|normal|bernoulli|exponential|random|geometric|cauchy|log_normal)_$", name
        )
        if drawn and "generator" not in passed:
            yield f"{name} without a generator"


def test_no_module_state_draws_random_numbers() -> None:
    """Whatever is random comes from a generator that was passed in."""
    assert not [(module, fault) for module in FILES for fault in random_faults(module)]


def code_carriers(module: str) -> Iterator[str]:
    """Yield what reads or writes data that can carry code."""
    carriers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
    yield from carriers & {name.split(".")[0] for name in imports(tree(module))}
    for name, call in calls(module):
        if name in {"torch.load", "torch.save", "eval", "exec", "np.save"}:
            yield name
        if "allow_pickle" in {keyword.arg for keyword in call.keywords}:
            yield f"{name} with allow_pickle"


def test_no_data_can_carry_code() -> None:
    assert not [(module, fault) for module in FILES for fault in code_carriers(module)]


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
