"""Pages of the site that are made when it is built: from the program, its components, and files beside docs/."""

import inspect
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File, Files

import byzbench
from byzbench import core, registry
from byzbench.catalogue import describe_component, summary
from byzbench.experiments.metric_descriptions import METRICS, TIMING, TRACE, MetricDescription, result_descriptions
from byzbench.file_formats import FORMATS, json_schema
from byzbench.identity import equal_digests

sys.path.insert(0, str(Path(__file__).parent))
from notebooks import NOTEBOOKS, notebook_page

ROOT = Path(__file__).resolve().parents[2]
BESIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages in the root of the checkout, and where the site has them."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made, and the palette that boards and reports have too."""
    pages = {page: beside(name) for name, page in BESIDE.items()}
    pages["reference/cli.md"] = command_line()
    pages["reference/api.md"] = api("Python", byzbench, sorted(byzbench.__all__))
    pages["reference/core.md"] = api("Base classes", core, [name for name in vars(core) if name[0].isupper()])
    pages["reference/metrics.md"] = metrics()
    pages["reference/formats.md"] = formats()
    schemas = {name: json.dumps(json_schema(name), indent=2) for name in FORMATS}
    pages |= {f"reference/schemas/{name}.schema.json": f"{schema}\n" for name, schema in schemas.items()}
    pages["reference/components/index.md"] = kinds()
    pages |= {f"reference/components/{kind}.md": components(kind, files) for kind in registry.KINDS}
    pictures: dict[str, bytes] = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"], shown = notebook_page(path)
        pictures |= {f"notebooks/{name}": content for name, content in shown.items()}
    for name, content in [*pages.items(), *pictures.items()]:
        files.append(File.generated(config, name, content=content))
    palette = (ROOT / "byzbench/reports/palette.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "stylesheets/palette.css", content=palette))
    return files


def beside(name: str) -> str:
    """Return a page of the root, with links that lead to where the site has their aims."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for file, page in BESIDE.items():
        text = text.replace(f"]({file}", f"]({page}")
    return text.replace("](docs/", "](")


def api(title: str, module: ModuleType, names: list[str]) -> str:
    """Return the page of what a module offers under some names."""
    head = f"# {title}\n\n{prose(inspect.cleandoc(module.__doc__ or ''))}"
    return "\n\n".join([head, *(f"::: {module.__name__}.{name}" for name in names)])


def command_line() -> str:
    """Return the page of all commands, from the program itself."""
    import typer

    from byzbench.cli import app

    page = ["# Command line", "Made from the program: `byzbench COMMAND --help` prints the same."]
    root = typer.main.get_command(app)
    context = root.make_context("byzbench", ["version"], resilient_parsing=True)
    for name, command in root.commands.items():
        page += command_sections(f"byzbench {name}", name, command, context)
    return "\n\n".join(page)


def command_sections(path: str, name: str, command: Any, parent: Any) -> list[str]:
    """Return the sections of a command and of those below it."""
    context = command.make_context(name, ["x"], parent=parent, resilient_parsing=True)
    below = getattr(command, "commands", {})
    section = [f"{'###' if path.count(' ') > 1 else '##'} {path}", prose(command.help or "")]
    if not below:
        records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        section.append(table(["parameter", ""], [[f"`{r[0]}`", escape(r[1])] for r in records if r]))
    for sub, inner in below.items():
        section += command_sections(f"{path} {sub}", sub, inner, context)
    return section


def shipped(kind: str) -> list[registry.Origin]:
    """Return the components of a kind that byzbench ships."""
    return [o for o in registry.origins(kind).values() if o.distribution.startswith("byzbench ")]


def kinds() -> str:
    """Return the page that lists every component with its first line."""
    page = [
        "# Components",
        "Made from the catalogue that `byzbench show` and `byzbench list` print. "
        "[Axes and components](../../axes.md) has the flag of each kind.",
    ]
    for kind in registry.KINDS:
        rows = [[f"[{o.name}]({kind}.md#{o.name})", escape(summary(o))] for o in shipped(kind)]
        page += [f"## {kind}", table([kind, ""], rows)]
    return "\n\n".join(page)


def components(kind: str, files: Files) -> str:
    """Return the page of a kind: description, facts, version and parameters of each component."""
    page = [f"# {registry.KINDS[kind].capitalize()}", f"`byzbench list {registry.KINDS[kind]}` prints the names."]
    for origin in shipped(kind):
        described = describe_component(origin)
        picture = f"attacks/{origin.name}.png"
        page += [f"## {origin.name} {{ #{origin.name} }}", prose(described.text)]
        if kind == "attack":
            if files.get_file_from_path(picture):
                alt = f"One exchange under {origin.name}: honest vectors, Byzantine messages and the aggregate"
                page.append(f"![{alt}](../../{picture}){{ .component loading=lazy }}")
            page.append(f"[Among the other attacks, with what it needs](../../attacks.md#{origin.name}).")
        versions = equal_digests().get(f"{kind} {origin.name}", {"1": ()})
        facts = {**described.facts, "version": str(max(map(int, versions)))}
        page.append(table(["", origin.name], [[escape(key), escape(value)] for key, value in facts.items()]))
        if described.parameters:
            keys = ["name", "default", "type", "bounds", "search", "description"]
            rows = [[escape(parameter[key]) for key in keys] for parameter in described.parameters]
            page.append(table(["parameter", "default", "type", "bounds", "tuning range", ""], rows))
    return "\n\n".join(page)


METRICS_HEAD = """# Metrics

Every key that a run writes, from the descriptions in `byzbench.experiments.metric_descriptions`, which a test compares
with the files of runs. An empty *when* means always, and an empty *better* that neither direction is. A number that is
not finite is null. An algorithm, a rule or a policy of a plug-in may log further metrics.

`Result.curve(NAME)` returns a key of `metrics.jsonl` by round. A row of `Results.to_pandas()` has the hash, status,
path and error of a run, its axes and their parameters (`algo`, `algo.lr`), the name of the verdict, `return` for
`return.mean`, the keys of `evaluation`, the numbers at the top of `result.json`, and `random` and `solved`, the
reference scores of the task. [File formats](formats.md) has the files themselves."""


def metrics() -> str:
    """Return the page of all keys of the logs and the result of a run."""
    sections = {
        "metrics.jsonl": ("One line for each round. Every value is one number for the whole round.", METRICS),
        "result.json": ("The result of a finished run. `Result` has the keys as attributes.", result_descriptions()),
        "trace.jsonl": ("The numbers that identify the behaviour of a run, which rows of leaderboards hash.", TRACE),
        "timing.jsonl": ("The measured time of each round; the bytes of all other logs are reproducible.", TIMING),
    }
    page = [METRICS_HEAD]
    for name, (head, keys) in sections.items():
        page += [f"## {name}", head, metrics_table(keys)]
    return "\n\n".join(page)


def metrics_table(keys: Sequence[MetricDescription]) -> str:
    """Return the table of some keys; with their shapes where not all are numbers."""
    columns = ["meaning", "unit", "when", "better", "shape"]
    columns = [name for name in columns if name != "shape" or {key.shape for key in keys} != {"number"}]
    rows = [[f"`{key.name}`", *(escape(getattr(key, name)) for name in columns)] for key in keys]
    return table(["key", *columns], rows)


FORMATS_HEAD = """# File formats

The files of a run folder, a store, a submission and of suites, with the JSON Schema (draft 2020-12) of each. Schemas
are made from the classes that read and write the files, and a test holds files of real runs against them. They describe
what this version writes; older files are migrated when they are read, never rewritten
([identity of runs](../identity.md)). For TOML the schema holds for the parsed file, for `.jsonl` for each line. A file
that fits its schema may still be refused, for example for a component that does not exist.

`byzbench schema NAME` prints a schema, for example for an editor that checks sweep files while you write them:

```sh
byzbench schema sweep.toml > sweep.schema.json
```

Two files are no JSON. `checkpoint.safetensors` in a run folder has every tensor that the next round needs, and in its
metadata `progress` (the number of the round, sizes and sha256 of the logs) and `seal` (the sha256 of the file).
`policy.safetensors`, written by `TrainedPolicy.save`, has `parameters`, for normalised observations their `scales`, and
in its metadata `experiment` and `agent`. Neither holds code. The store of a search (`byzbench tune`) is a journal or a
database of Optuna."""


def formats() -> str:
    """Return the page of all file formats, with the keys at the top of each file."""
    page = [FORMATS_HEAD]
    for each in FORMATS.values():
        schema = json_schema(each.name)
        required = schema.get("required", [])
        rows = [
            [
                f"`{key}`",
                escape(type_text(value)),
                "yes" if key in required else "",
                escape(value.get("description", "")),
            ]
            for key, value in schema["properties"].items()
        ]
        page += [
            f"## {each.name}",
            f"{escape(each.content)} In: {each.place}. [JSON Schema](schemas/{each.name}.schema.json).",
            table(["key", "type", "required", ""], rows),
        ]
    return "\n\n".join(page)


def type_text(schema: dict[str, Any]) -> str:
    """Return the types that a JSON Schema allows, for a cell of a table."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_text(option) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {type_text(schema['items'])}"
    types = schema.get("type", "any")
    return " or ".join([types] if isinstance(types, str) else types)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Return a line as text of a cell, outside of its code spans."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", "\\|"))
    return "".join(part if i % 2 else plain(part) for i, part in enumerate(parts))


def plain(text: str) -> str:
    """Return text in which no character has a meaning in Markdown."""
    return re.sub(r"([*_\[\]])", r"\\\1", text.replace("<", "&lt;"))


def prose(docstring: str) -> str:
    """Return a docstring as Markdown: indented blocks are code, and all else is text."""
    blocks: list[str] = []
    for block in re.split(r"\n\s*\n", docstring):
        lines = block.split("\n")
        if lines[0].startswith("    "):
            blocks.append(block)
            continue
        indented = next((i for i, line in enumerate(lines) if line.startswith("    ")), len(lines))
        blocks.append(escape(" ".join(lines[:indented])).replace("\\|", "|"))
        if indented < len(lines):
            blocks.append("\n".join(lines[indented:]))
    return "\n\n".join(blocks)
