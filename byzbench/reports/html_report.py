"""Report of runs as one self-contained HTML page: no script, and nothing is loaded from elsewhere.

Texts may come from untrusted records: `byzbench.reports.markup` escapes them, and figures are images without links.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from byzbench.errors import CorruptRecord, UserError
from byzbench.records.files import parse_object, read_bytes
from byzbench.records.store import AXES, StoredRun
from byzbench.reports.markup import Child, Markup, document, el
from byzbench.reports.result_tables import sheets
from byzbench.reports.sheets import Table, table_columns
from byzbench.reports.summary import ASSUMED, END_OF, Groups, clean, group

if TYPE_CHECKING:
    from byzbench.reports.plot_style import Plot

_HEADINGS = {
    "results": "Results",
    "worst": "Worst case over attacks",
    "ranking": "Order of the methods",
    "benefit": "Benefit of taking part",
}
_PIXELS = 120
"""Pixels of an inch of a figure."""

_STYLE = """
.report h2 { scroll-margin-top: 1rem; }
td, th { padding-inline: .5rem; }
td:not(.n) { max-width: 32rem; }
@media (max-width: 48rem) { table { width: max-content; } td:not(.n) { max-width: 18rem; } }
caption span { position: sticky; left: .6rem; display: inline-block; max-width: min(56rem, 100vw - 4rem); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .35rem 1rem; padding: 0; }
figure { margin: .75rem 0 1.5rem; }
figure img { display: block; background: #fff; padding: .5rem; }
figcaption { max-width: 56rem; }
.warning { border-left: 4px solid light-dark(#b3470a, #ff9d5c); padding-left: .75rem; }
"""


def html_report(groups: Groups, command: str = "", problems: Sequence[str] = ()) -> str:
    """Return a report as one HTML page: the tables of `sheets`, final returns, figures, and what was run.

    Args:
        groups: The rows of the report.
        command: The command that writes the page, if one did.
        problems: Lines on what cannot be trusted, beside those of `groups`.
    """
    sections = [*_sections(groups, command)]
    entries = _entries(groups)
    counts = Counter(entry.status for entry in entries)
    lead = ", ".join(f"{counts[status]} {status}" for status in ("finished", "failed", "unfinished") if counts[status])
    style = _style()
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{allowed}'; img-src data:; base-uri 'none'; form-action 'none'"
    links = (el("li", el("a", name, href=f"#{_anchor(name)}")) for name, _ in sections)
    return document(
        "byzbench report",
        policy,
        el("style", style),
        el("header", el("div", el("strong", "byzbench"), " report", class_="bar")),
        el(
            "main",
            el("h1", _capitalised(groups.title)),
            el("p", f"{len(entries)} runs: {lead}."),
            *(el("p", f"Not trusted: {clean(line, 2000)}", class_="warning") for line in (*groups.problems, *problems)),
            *(el("p", f"Note: {clean(line, 2000)}.") for line in groups.notes),
            el("nav", el("ul", links), aria_label="Sections"),
            *((el("h2", name, id=_anchor(name)), content) for name, content in sections),
            class_="report",
        ),
    )


def table_markup(sheet: Table) -> Markup:
    """Return a table with its notes as HTML.

    Example:
        >>> print(table_markup(Table("a", "A & B", [], ["x", ">y"], [["<b>", "1"]])))  # doctest: +ELLIPSIS
        <div class="frame" ...><td>&lt;b&gt;</td><td class="n">1</td></tr></tbody></table></div>
    """
    names, numeric = table_columns(sheet)
    classes = ["n" if is_number else None for is_number in numeric]
    heads = (el("th", name, scope="col", class_=class_) for name, class_ in zip(names, classes, strict=True))
    rows = (
        el("tr", (el("td", text, class_=class_) for text, class_ in zip(cells, classes, strict=True)))
        for cells in sheet.cells
    )
    table = el("table", el("caption", el("span", sheet.title)), el("thead", el("tr", heads)), el("tbody", rows))
    frame = el("div", table, class_="frame", tabindex="0", role="region", aria_label=sheet.title)
    return Markup(frame + "".join(el("p", note) for note in sheet.notes))


def _sections(groups: Groups, command: str) -> Iterator[tuple[str, Child]]:
    """Yield the heading and the content of each section that the report has."""
    for sheet in sheets(groups):
        yield _HEADINGS[sheet.name], table_markup(sheet)
    entries = _entries(groups)
    requested = groups.axes[: len(groups.axes) - len(groups.split)]
    if groups.metric in END_OF:
        final = group(entries, requested, END_OF[groups.metric])
        yield "Final returns", table_markup(sheets(final)[0])
    from byzbench.reports.figures import curves, heatmap

    x = groups.point.name if groups.point else "trajectories"
    described = f"return over {x} of {len(groups.rows)} groups of runs; numbers: the tables above"
    yield "Learning curves", _figure(lambda: curves(groups, (), x=x), f"Learning curves: mean training {described}")
    described = f"{groups.title} of each method under each attack; numbers: the table Results"
    yield "Heatmap", _figure(lambda: heatmap(groups, ()), f"Heatmap: {described}")
    yield "What was run", [table_markup(table) for table in _experiments(groups)]
    if (code := _code(entries)).cells:
        yield "Code and machines", table_markup(code)
    if any(entry.status == "failed" for entry in entries):
        yield "Failures", table_markup(_failures(groups))
    if command:
        yield "Command", el("pre", el("code", clean(command, 2000)))


def _figure(draw: Callable[[], Plot], description: str) -> Markup:
    """Return a figure as an image inside of the page; where it cannot be drawn, the reason."""
    import matplotlib

    from byzbench.reports.plot_style import STYLE

    picture = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        try:
            plot = draw()
        except UserError as error:
            return el("p", f"Not drawn: {error}")
        plot.figure.savefig(picture, format="svg", metadata={"Date": None})
    width, height = (round(_PIXELS * inches) for inches in plot.figure.get_size_inches())
    source = f"data:image/svg+xml;base64,{base64.b64encode(picture.getvalue()).decode()}"
    image = el("img", src=source, alt=description, width=width, height=height)
    frame = el("div", image, class_="frame", tabindex="0", role="region", aria_label=description)
    return el("figure", frame, el("figcaption", plot.caption))


def _experiments(groups: Groups) -> Iterator[Table]:
    """Yield the fields of the experiments that differ, with their values, and those that all runs share."""
    entries = _entries(groups)
    varied, shared = [], []
    for axis, key in AXES.items():
        if axis in groups.fixed and not (axis == ASSUMED and "byzantine" in groups.axes):
            shared.append([axis, str(groups.fixed[axis]), _parameters([e.experiment[key] for e in entries])])
        else:
            labels = [row.key.get(axis, entry.name(axis)) for row in groups.rows for entry in row.entries]
            varied.append([axis, ", ".join(clean(label) for label in dict.fromkeys(labels))])
    yield Table("varied", "Fields in which the runs differ", [], ["field", "values"], varied)
    yield Table("shared", "Fields that all runs share", [], ["field", "value", "parameters"], shared)


def _parameters(descriptions: Sequence[Any]) -> str:
    """Return the parameters of a component, if they are the same in all runs."""
    first = descriptions[0]
    if not isinstance(first, Mapping):
        return ""
    if any(other != first for other in descriptions):
        return "differ between runs"
    values = ", ".join(f"{name}={_value(value)}" for name, value in first["parameters"].items())
    return clean(values, 500)


def _value(value: Any) -> str:
    return str(value.get("name")) if isinstance(value, Mapping) else str(value)


def _code(entries: Sequence[StoredRun]) -> Table:
    """Return the engine, the versions of libraries and the processors of the runs, with the number of runs of each."""
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        for name, value in _recorded(entry).items():
            if isinstance(value, str | int):
                counts.setdefault(clean(name), Counter())[clean(value)] += 1
    cells = [
        [name, ", ".join(value if len(values) == 1 else f"{value} ({n} runs)" for value, n in values.most_common())]
        for name, values in counts.items()
    ]
    return Table(
        "code", "What the runs recorded of the code, the libraries and the processor", [], ["", "value"], cells
    )


def _recorded(entry: StoredRun) -> dict[str, Any]:
    """Return the engine, commit, versions and processor of a record, all of them unchecked."""
    path = entry.path / "experiment.json"
    try:
        record = parse_object(read_bytes(path), path)
    except (OSError, CorruptRecord):  # it was readable when the report began
        return {}
    identity, code = (part if isinstance(part := record.get(key), Mapping) else {} for key in ("identity", "code"))
    versions = code.get("versions")
    chosen = {key: code.get(key) for key in ("commit", "cpu", "processor", "blas", "threads")}
    return {"engine": identity.get("engine"), **(versions if isinstance(versions, Mapping) else {}), **chosen}


def _failures(groups: Groups) -> Table:
    cells = [
        [*groups.cells(row.key), str(entry.name("seed")), clean(entry.error, 500), entry.hash]
        for row in groups.rows
        for entry in row.entries
        if entry.status == "failed"
    ]
    return Table("failures", "Runs that failed", [], [*groups.columns(groups.axes), ">seed", "error", "run"], cells)


def _entries(groups: Groups) -> list[StoredRun]:
    return [entry for row in groups.rows for entry in row.entries]


def _style() -> Markup:
    """Return the style sheet of the page, which holds no text of a record."""
    sheets_of_pages = (
        files("byzbench.reports").joinpath(name).read_text("utf-8") for name in ("palette.css", "page.css")
    )
    return Markup("".join(sheets_of_pages) + _STYLE)


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
