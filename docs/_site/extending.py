"""The generated half of the pages that extend byzbench: component, interface, checks and test of a kind.

They are made from what `byzbench new` writes and `byzbench check` runs, so that a page cannot differ from either.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from hooks import escape, table

from byzbench import registry
from byzbench.cli.new import component_texts
from byzbench.testing.kits import kit_of

FOLDER = "extend/"


def on_page_markdown(markdown: str, page: Any, **arguments: Any) -> str:
    """Add the generated sections to the page of a kind."""
    uri = page.file.src_uri
    return extended(markdown, Path(uri).stem) if uri.startswith(FOLDER) else markdown


def extended(markdown: str, kind: str) -> str:
    """Return the page of a kind, with its generated sections.

    Args:
        markdown: The written half, whose first command is `byzbench new KIND NAME --package`.
        kind: The kind.
    """
    match = re.search(rf"byzbench new {kind} (\w+) --package", markdown)
    if match is None:
        raise ValueError(f"the page of {kind} has no command byzbench new {kind} NAME --package")
    name = match[1]
    component, test = f"byzbench_{name}/{name}.py", f"tests/test_{name}.py"
    texts = component_texts(kind, name, f"byzbench_{name}.{name}", Path(component), Path(test))
    checks = [[f"`{check}`", requirement(run)] for check, run in kit_of(kind).checks.items()]
    return "\n\n".join(
        [
            markdown,
            "## The component",
            f"`byzbench new` writes the folder `byzbench-{name.replace('_', '-')}`: this component, a test, and a "
            "`pyproject.toml` with the entry point by which every command knows it. `# Change:` marks what to change.",
            code(component, texts[Path(component)]),
            "## What its methods take and return",
            *interface(kind),
            "## Its checks",
            f"`byzbench check {name}` runs these checks, as does the test that is written beside the component.",
            table(["check", "what it holds"], checks),
            code(test, texts[Path(test)]),
        ]
    )


def code(title: str, text: str) -> str:
    """Return a file as a block of code."""
    return f'```python title="{title}"\n{text}```'


def requirement(check: Any) -> str:
    """Return what a check holds, from its docstring."""
    first = inspect.getdoc(check).partition("\n")[0]
    return escape(re.sub(r"^Check (that )?", "", first))


def interface(kind: str) -> list[str]:
    """Return the methods that the component defines, and the other ones of its base class."""
    component = importlib.import_module(f"byzbench.cli.templates.{kind}").NewComponent
    defined = methods(component)
    base = registry.base_class(kind)
    page = f"../reference/core.md#byzbench.core.{base.__name__}"
    blocks = [f"The base class is [{base.__name__}]({page}), which documents its class attributes."]
    for name in defined:
        owner = next(c for c in component.__mro__[1:] if name in vars(c) and inspect.getdoc(member(c, name)))
        options = "heading_level: 3\n      show_root_full_path: false\n      skip_local_inventory: true"
        blocks.append(f"::: {owner.__module__}.{owner.__name__}.{name}\n    options:\n      {options}")
    others = [name for name in methods(base) if name not in [*defined, "__call__"]]
    if others:
        rows = [[f"[`{name}`]({page}.{name})", escape(first_line(base, name))] for name in others]
        blocks += ["Further methods of the base class, which it may override:", table(["method", ""], rows)]
    return blocks


def methods(cls: type) -> list[str]:
    """Return the public methods and properties of a class, in the order of their definition."""
    return [
        name for name in vars(cls) if (name == "__call__" or not name.startswith("_")) and callable(member(cls, name))
    ]


def member(cls: type, name: str) -> Any:
    """Return a method, or the function of a property."""
    value = vars(cls)[name]
    return value.fget if isinstance(value, property) else value


def first_line(cls: type, name: str) -> str:
    """Return the first line of the docstring of a method."""
    return (inspect.getdoc(member(cls, name)) or "").partition("\n")[0]
