"""Command `byzbench new`: write a component, its test, and a distribution of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from byzbench.cli.completion import complete_kind
from byzbench.errors import StorageError, UserError

TEST = '''"""Tests of the {kind} {name}."""

import pytest

from byzbench.testing.kits import kit_of
from {module} import {cls}

KIT = kit_of("{kind}")


@pytest.mark.parametrize("check", KIT.checks.values(), ids=KIT.checks)
def test_it_passes_the_checks_of_its_kind(check):
    for case in KIT.cases:
        check({cls}(), case)


# Add tests of what is particular to this component.
'''
PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
description = "Components for byzbench"
requires-python = ">=3.11"
dependencies = ["byzbench"]

[tool.setuptools]
packages = ["{package}"]
"""


def new(
    kind: Annotated[
        str,
        typer.Argument(help="A kind of components, for example attack or aggregator.", autocompletion=complete_kind),
    ],
    name: Annotated[str, typer.Argument(help="The name of the component, for example my_attack.")],
    package: Annotated[
        bool, typer.Option("--package", help="Write a distribution with the component, in a folder of its own.")
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Add the component to this distribution, which --package wrote."),
    ] = None,
) -> None:
    """Write a working component of any kind, with its test, as a start for one of your own.

    The file says what to change. With --package, a pip-installable distribution makes it known by name.

    Examples:
        byzbench new attack my_attack
        byzbench new attack my_attack --package
        byzbench new aggregator my_rule --into byzbench-my-attack
    """
    from byzbench.registry import kind_of

    kind = kind_of(kind)
    _check_name(kind, name)
    if package and into is not None:
        raise UserError("give --package for a new distribution or --into for one that exists, not both")
    if package:
        into = Path(f"byzbench-{name.replace('_', '-')}")
        if into.exists():
            raise UserError(f"{into} exists; choose another name, or add to it with --into {into}")
        module = f"byzbench_{name}"
        texts = {into / module / "__init__.py": '"""Components for byzbench."""\n'}
        project = PROJECT.format(distribution=into.name, package=module)
        _write(texts | _in_package(kind, name, into, module, project))
    elif into is not None:
        project, module = _read_project(into / "pyproject.toml")
        _write(_in_package(kind, name, into, module, project), changed=into / "pyproject.toml")
    else:
        _check_module(name)
        _write(component_texts(kind, name, name, Path(f"{name}.py"), Path(f"test_{name}.py")))
    _print_next_steps(kind, name, into)


def _check_name(kind: str, name: str) -> None:
    """Check that a component can have a name.

    Raises:
        UserError: The name is no identifier in lower case, pytest or pip would read its file as one of theirs, or a
            component of the kind has it.
    """
    import keyword

    from byzbench import registry

    if not re.fullmatch("[a-z][a-z0-9_]{0,59}", name) or keyword.iskeyword(name):
        raise UserError(
            f"a name is one word of at most 60 lower-case letters, digits and _, for example my_{kind}; got {name!r}"
        )
    if name in ("conftest", "setup") or name.startswith("test_") or name.endswith("_test"):
        raise UserError(
            f"{'pip' if name == 'setup' else 'pytest'} would take {name}.py for its own; choose another name"
        )
    if name in registry.origins(kind):
        owner = registry.origins(kind)[name].distribution
        raise UserError(f"there is {kind} {name!r} in {owner}; choose another name")


def _check_module(name: str) -> None:
    """Check that a file of a name hides no module that is installed."""
    import importlib.util
    import sys

    if name in sys.stdlib_module_names or (not Path(f"{name}.py").exists() and importlib.util.find_spec(name)):
        raise UserError(f"{name}.py would hide the module {name}; choose another name, or add --package")


def _class_name(name: str) -> str:
    """Return the name of a component's class.

    Example:
        >>> _class_name("my_attack_2")
        'MyAttack2'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def component_texts(kind: str, name: str, module: str, component: Path, test: Path) -> dict[Path, str]:
    """Return the texts of a component and its test.

    Args:
        kind: The kind.
        name: The name of the component.
        module: The module from which the test imports it.
        component: The file of the component.
        test: The file of the test.

    Raises:
        UserError: The name of its class is taken in the file of the component.

    Example:
        >>> texts = component_texts("coin", "mine", "mine", Path("mine.py"), Path("test_mine.py"))
        >>> "class Mine(Coin):" in texts[Path("mine.py")]
        True
    """
    from importlib.resources import files

    cls = _class_name(name)
    template = (files("byzbench.cli.templates") / f"{kind}.py").read_text(encoding="utf-8")
    if re.search(rf"\b{cls}\b", template):
        raise UserError(f"the name of the class, {cls}, is taken in a file of kind {kind}; choose another name")
    return {
        component: template.replace("NewComponent", cls).replace("NAME", name),
        test: TEST.format(kind=kind, name=name, module=module, cls=cls),
    }


def _in_package(kind: str, name: str, folder: Path, package: str, project: str) -> dict[Path, str]:
    """Return the texts of a component and its test in a distribution, and its pyproject.toml with the entry point.

    Args:
        kind: The kind.
        name: The name of the component.
        folder: The folder of the distribution.
        package: The package of the component.
        project: The text of the pyproject.toml.
    """
    component, test = folder / package / f"{name}.py", folder / "tests" / f"test_{name}.py"
    project = _with_entry_point(project, kind, name, package)
    return component_texts(kind, name, f"{package}.{name}", component, test) | {folder / "pyproject.toml": project}


def _with_entry_point(project: str, kind: str, name: str, package: str) -> str:
    """Return the text of a pyproject.toml with an entry point more.

    Raises:
        UserError: The text is written in another way than `--package` writes it.
    """
    import tomllib

    from byzbench.registry import KINDS

    table, line = _entry_point(kind, name, package)
    changed = (
        project.replace(table, f"{table}\n{line}", 1)
        if table in project
        else f"{project.rstrip()}\n\n{table}\n{line}\n"
    )
    try:
        expected, parsed = tomllib.loads(project), tomllib.loads(changed)
        about = expected["project"]
        group = about.setdefault("entry-points", {}).setdefault(f"byzbench.{KINDS[kind]}", {})
        is_new = name not in group and "entry-points" not in about.get("dynamic", [])
        group[name] = f"{package}.{name}:{_class_name(name)}"
    except (ValueError, KeyError, TypeError, AttributeError):
        is_new, expected, parsed = False, {}, {}
    if not (is_new and parsed == expected):
        raise UserError(f"cannot add the entry point to this pyproject.toml; write it yourself: {table}, {line}")
    return changed


def _read_project(path: Path) -> tuple[str, str]:
    """Return the text of a pyproject.toml, and the first package that it names.

    Raises:
        UserError: There is no such file, or it names no package.
    """
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        packages = tomllib.loads(text)["tool"]["setuptools"]["packages"]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        packages = None
    if not (isinstance(packages, list) and packages and isinstance(packages[0], str)):
        raise UserError(f'{path} has no list `packages` in [tool.setuptools], such as packages = ["my_package"]')
    if not packages[0].isidentifier() or not (path.parent / packages[0]).is_dir():
        raise UserError(f"{path} names the package {packages[0]!r}, and there is no such folder beside it")
    return text, packages[0]


def _entry_point(kind: str, name: str, package: str) -> tuple[str, str]:
    """Return the table of entry points and the line that make a component known."""
    from byzbench.registry import KINDS

    return f'[project.entry-points."byzbench.{KINDS[kind]}"]', f'{name} = "{package}.{name}:{_class_name(name)}"'


def _write(texts: dict[Path, str], changed: Path | None = None) -> None:
    """Write files, all of them or none.

    Args:
        texts: The texts by file; a file that is changed is the last.
        changed: The one file that may exist.

    Raises:
        UserError: Another file exists.
        StorageError: A file cannot be written.
    """
    if existing := [path for path in texts if path != changed and path.exists()]:
        raise UserError(f"{existing[0]} exists; remove it, or choose another name")
    missing = {folder for path in texts for folder in path.parents if not folder.exists()}
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            _remove([written for written in texts if written != changed], missing)
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def _remove(files: list[Path], folders: set[Path]) -> None:
    """Remove files, then folders, the deepest first."""
    for file in files:
        file.unlink(missing_ok=True)
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        if folder.exists():
            folder.rmdir()


def _print_next_steps(kind: str, name: str, folder: Path | None) -> None:
    """Print the files and the commands that follow."""
    if folder is None:
        table, line = _entry_point(kind, name, "your_package")
        typer.echo(f"wrote {name}.py and test_{name}.py")
        typer.echo(f"check:  byzbench check {name}.py\ntest:   python -m pytest test_{name}.py")
        typer.echo(f"to use it by name, put it into your package and add to its pyproject.toml:\n{table}\n{line}")
        return
    typer.echo(f"wrote {kind} {name} and its test to {folder}")
    typer.echo(f"install:  pip install -e {os.path.join('.', folder)}\ncheck:    byzbench check {name} --kind {kind}")
    typer.echo(f"test:     python -m pytest {folder}")
