"""Tables in five formats: terminal, Markdown, CSV, LaTeX and JSON.

Texts in cells may come from untrusted records. Every format escapes them.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from byzbench.reports.terminal import wrap_line

Format = Literal["table", "md", "csv", "tex", "json"]

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    **{letter: f"{{{letter}}}" for letter in "[*"},  # would be read as an argument of the preceding \\
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


@dataclass(frozen=True)
class Table:
    """Table with records for machines and cells for readers.

    Attributes:
        name: The name of the table, one word.
        title: The title, one line.
        records: One mapping for each row; values are numbers, texts, None, or lists and mappings of these.
        head: Names of the columns of `cells`. A name that begins with `>` is of a column of numbers.
        cells: [rows, columns] The texts of the table.
        spare: Columns that a narrow terminal leaves out, in this order.
        notes: Sentences below the table.
    """

    name: str
    title: str
    records: Sequence[Mapping[str, Any]]
    head: Sequence[str]
    cells: Sequence[Sequence[str]]
    spare: Sequence[str] = ()
    notes: Sequence[str] = ()


def render_tables(sheets: Sequence[Table], form: Format, about: Mapping[str, Any], width: int | None = None) -> str:
    """Format tables as text.

    Args:
        sheets: The tables, at least one.
        form: The format. CSV holds the first table only.
        about: Further entries of a JSON object.
        width: The width of the terminal in columns; None for no limit.

    Returns:
        The text, which ends with a line break.

    Example:
        >>> records = [{"algo": "gpomdp", "score": 0.5}]
        >>> sheet = Table("scores", "Scores", records, head=["algo", ">score"], cells=[["gpomdp", "0.50"]])
        >>> print(render_tables([sheet], "md", {}), end="")
        Scores
        <BLANKLINE>
        | algo | score |
        | --- | ---: |
        | gpomdp | 0.50 |
    """
    if form == "json":
        notes = {f"{sheet.name}_notes": list(sheet.notes) for sheet in sheets if sheet.notes}
        data = {**about, **notes, **{sheet.name: list(sheet.records) for sheet in sheets}}
        return json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"
    if form == "csv":
        return _csv(sheets[0])
    if form == "table":
        return _terminal(sheets, width)
    return "\n".join({"md": _markdown, "tex": _tex}[form](sheet) for sheet in sheets)


def _csv(sheet: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(sheet.records[0] if sheet.records else sheet.head)
    writer.writerows([[_field(value) for value in record.values()] for record in sheet.records])
    return out.getvalue()


def _field(value: Any) -> Any:
    """Return a number as it is, and a text so that no spreadsheet evaluates it as a formula."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {count}" for key, count in value.items())
    elif isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _markdown(sheet: Table) -> str:
    names, numeric = table_columns(sheet)
    lines = [
        [*map(plain_markdown, names)],
        ["---:" if is_number else "---" for is_number in numeric],
        *([*map(plain_markdown, row)] for row in sheet.cells),
    ]
    notes = [f"\n{plain_markdown(note)}" for note in sheet.notes]
    return "\n".join([f"{plain_markdown(sheet.title)}\n", *(f"| {' | '.join(line)} |" for line in lines), *notes, ""])


def plain_markdown(text: str) -> str:
    """Escape the special characters of Markdown and HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _tex(sheet: Table) -> str:
    names, numeric = table_columns(sheet)
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (names, *sheet.cells)]
    columns = "".join("r" if is_number else "l" for is_number in numeric)
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


def _terminal(sheets: Sequence[Table], width: int | None) -> str:
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width or 10_000, color_system=None, highlight=False, legacy_windows=False)
    for position, sheet in enumerate(sheets):
        shown, hidden = _fit_width(sheet, width)
        widths = _column_widths(shown, width)
        if widths is None:
            hidden = []
        body = Text("\n".join(_record_lines(sheet, width))) if widths is None else _table(shown, widths)
        console.print(*[""] * bool(position), Text(sheet.title), body, sep="\n")
        for note in sheet.notes:
            console.print(Text(note))
        if hidden:
            console.print(f"a wider terminal also shows: {', '.join(hidden)}")
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _table(sheet: Table, widths: Sequence[int]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, numeric, width in zip(*table_columns(sheet), widths, strict=True):
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold", width=width)
    for row in sheet.cells:
        table.add_row(*(Text(_wrapped(cell, width)) for cell, width in zip(row, widths, strict=True)))
    return table


def _pieces(text: str) -> list[str]:
    """Return the parts between which a text may be broken: after a space, and in a label after one of `,(=:`.

    Example:
        >>> _pieces("alie(z=1.5), ok 1")
        ['alie(', 'z=', '1.5),', 'ok', '1']
    """
    return [piece.strip() for piece in re.findall(r"[^\s,(=:]*[,(=:]+\s*|[^\s,(=:]+\s*", text)]


def _wrapped(text: str, width: int) -> str:
    """Break a text into lines of a width, between its `_pieces` where it can be."""
    from rich.cells import cell_len

    lines, line, rest = [], "", text
    for piece in _pieces(text):
        start = rest.index(piece)
        space, rest = rest[:start], rest[start + len(piece) :]
        if line and cell_len(line + space + piece) > width:
            lines.append(line)
            line, space = "", ""
        line += space + piece
    return "\n".join([*lines, line])


def _fit_width(sheet: Table, width: int | None) -> tuple[Table, list[str]]:
    """Return the table without the spare columns that do not fit the width, and the names of these columns."""
    names, hidden = table_columns(sheet)[0], []
    widths = {
        name: max(map(len, column)) + 2
        for name, column in zip(names, zip(names, *sheet.cells, strict=True), strict=True)
    }
    for name in sheet.spare:
        if width is not None and name in widths and sum(widths.values()) > width:
            hidden.append(name)
            del widths[name]
    shown = [index for index, name in enumerate(names) if name not in hidden]
    cells = [[row[index] for index in shown] for row in sheet.cells]
    return replace(sheet, head=[sheet.head[index] for index in shown], cells=cells), hidden


def _column_widths(sheet: Table, width: int | None) -> list[int] | None:
    """Return the width of each column, so that the table fits and no word is broken; None where it cannot."""
    from rich.cells import cell_len

    widths, shortest = [], []
    names = table_columns(sheet)[0]
    for column in zip(names, *sheet.cells, strict=True):
        words = [*column[0].split(), *_pieces(" ".join(column[1:]))]
        widths.append(max(map(cell_len, column)))
        shortest.append(max(map(cell_len, words), default=0))
    while width is not None and sum(widths) + 2 * len(widths) - 1 > width:
        excess = [now - least for now, least in zip(widths, shortest, strict=True)]
        if not any(excess):
            return None
        widths[max(range(len(widths)), key=lambda index: (excess[index] > 0, widths[index]))] -= 1
    return widths


def _record_lines(sheet: Table, width: int | None) -> Iterator[str]:
    """Yield the rows as lists of names and values, for a terminal that is too narrow for the table."""
    for row in sheet.cells:
        pairs = zip(table_columns(sheet)[0], row, strict=True)
        values = (f"{name}: {value}" if name else value for name, value in pairs if value)
        yield wrap_line("; ".join(values), width, indent=2)


def table_columns(sheet: Table) -> tuple[list[str], list[bool]]:
    """Return the names of the columns, and which of them hold numbers."""
    return [name.removeprefix(">") for name in sheet.head], [name.startswith(">") for name in sheet.head]
