"""Tables in five formats. What stands in a cell may come from a stranger; no format lets it do anything."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Format = Literal["table", "md", "csv", "tex", "json"]

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    **{letter: f"{{{letter}}}" for letter in "[*"},  # either would belong to the \\ of the row above
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


@dataclass(frozen=True)
class Sheet:
    """One table, for machines and for people.

    Attributes:
        name: one word.
        title: one line.
        records: one a row; values are numbers, texts, None, or lists and objects of these.
        head: of the columns for people; those whose name begins with `>` hold numbers.
        cells: [rows, columns].
        spare: columns that a narrow terminal can do without; these first.
        notes: Sentences below the table.
    """

    name: str
    title: str
    records: Sequence[Mapping[str, Any]]
    head: Sequence[str]
    cells: Sequence[Sequence[str]]
    spare: Sequence[str] = ()
    notes: Sequence[str] = ()


def render(sheets: Sequence[Sheet], form: Format, about: Mapping[str, Any], width: int | None = None) -> str:
    """The text of all sheets; of CSV, which has no room for more, the first.

    Args:
        sheets: at least one.
        form: the format.
        about: what JSON says beside the sheets.
        width: of the terminal; None: as wide as it takes.
    """
    if form == "json":
        said = {f"{sheet.name}_notes": list(sheet.notes) for sheet in sheets if sheet.notes}
        data = {**about, **said, **{sheet.name: list(sheet.records) for sheet in sheets}}
        return json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"
    if form == "csv":
        return _csv(sheets[0])
    if form == "table":
        return _terminal(sheets, width)
    return "\n".join({"md": _markdown, "tex": _tex}[form](sheet) for sheet in sheets)


def _csv(sheet: Sheet) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(sheet.records[0] if sheet.records else sheet.head)
    writer.writerows([[_field(value) for value in record.values()] for record in sheet.records])
    return out.getvalue()


def _field(value: Any) -> Any:
    """A number as it is; a text so that no spreadsheet takes it for a formula."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {count}" for key, count in value.items())
    elif isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _markdown(sheet: Sheet) -> str:
    names, right = _columns(sheet)
    lines = [
        [*map(_plain, names)],
        ["---:" if r else "---" for r in right],
        *([*map(_plain, row)] for row in sheet.cells),
    ]
    notes = [f"\n{_plain(note)}" for note in sheet.notes]
    return "\n".join([f"{_plain(sheet.title)}\n", *(f"| {' | '.join(line)} |" for line in lines), *notes, ""])


def _plain(text: str) -> str:
    """A text in which Markdown finds no mark."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _tex(sheet: Sheet) -> str:
    names, right = _columns(sheet)
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (names, *sheet.cells)]
    columns = "".join("r" if r else "l" for r in right)
    return "\n".join(
        [
            f"% {sheet.title}",
            *(f"% {note}" for note in sheet.notes),
            r"% \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _terminal(sheets: Sequence[Sheet], width: int | None) -> str:
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width or 10_000, color_system=None, highlight=False, legacy_windows=False)
    for number, sheet in enumerate(sheets):
        shown, hidden = _fitting(sheet, width)
        console.print(*[""] * bool(number), Text(sheet.title), _table(shown), sep="\n")
        for note in sheet.notes:
            console.print(Text(note))
        if hidden:
            console.print(f"a wider terminal also shows: {', '.join(hidden)}")
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _table(sheet: Sheet) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, right in zip(*_columns(sheet), strict=True):
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in sheet.cells:
        table.add_row(*map(Text, row))
    return table


def _fitting(sheet: Sheet, width: int | None) -> tuple[Sheet, list[str]]:
    """The sheet without those of its spare columns for which there is no room; and their names."""
    names, hidden = _columns(sheet)[0], []
    widths = {
        name: max(map(len, column)) + 2
        for name, column in zip(names, zip(names, *sheet.cells, strict=True), strict=True)
    }
    for name in sheet.spare:
        if width is not None and name in widths and sum(widths.values()) > width:
            hidden.append(name)
            del widths[name]
    keep = [index for index, name in enumerate(names) if name not in hidden]
    cells = [[row[index] for index in keep] for row in sheet.cells]
    return replace(sheet, head=[sheet.head[index] for index in keep], cells=cells), hidden


def _columns(sheet: Sheet) -> tuple[list[str], list[bool]]:
    """The names of the columns, and which of them hold numbers."""
    return [name.removeprefix(">") for name in sheet.head], [name.startswith(">") for name in sheet.head]
