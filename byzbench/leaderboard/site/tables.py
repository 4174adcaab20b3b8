"""Tables that a reader of any kind can use: a caption, heads with a scope, numbers that can be sorted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from byzbench.leaderboard.scoring import Bracket
from byzbench.leaderboard.site.html import Child, Markup, el, join
from byzbench.reports.statistics import Estimate


def number(value: float | None) -> str:
    """A score as it is shown, two digits after the point; nothing where there is none."""
    return "" if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def bracketed(found: Bracket | Estimate) -> Markup:
    """A number, and beside it, smaller, the interval that it is known to lie in."""
    if found.low is None:
        return join(number(found.value))
    return join(number(found.value), " ", el("small", f"[{number(found.low)}, {number(found.high)}]"))


def cell(*content: Child, sort: float | None = None, class_: str | None = None) -> Markup:
    """A cell; `sort` is what it counts for where its text is no number."""
    return el("td", *content, data_v=None if sort is None else f"{sort:.5g}", class_=class_)


def figure(value: float | Bracket | Estimate | None) -> Markup:
    """A cell with a score, or an empty one."""
    if value is None:
        return cell(class_="n")
    if isinstance(value, Bracket | Estimate):
        return cell(bracketed(value), sort=value.value, class_="n")
    return cell(number(value), sort=value, class_="n")


def lead(*content: Child, sort: float | None = None, class_: str | None = None) -> Markup:
    """The cell that names a row."""
    return el("th", *content, scope="row", data_v=None if sort is None else f"{sort:.5g}", class_=class_)


def row(*cells: Child, class_: str | None = None) -> Markup:
    """A row of cells."""
    return el("tr", *cells, class_=class_)


def table(
    caption: str, heads: Sequence[Child], rows: Iterable[Markup], *, sortable: bool = False, names: int = 0
) -> Markup:
    """A table in a frame that scrolls by itself where the window is narrow; the column that names rows stays in sight.

    Args:
        caption: what it is of.
        heads: of the columns.
        rows: of as many cells, one of them a `lead`.
        sortable: by any column, where a script runs.
        names: which column the leads are in.
    """
    top = el(
        "tr", (el("th", title, scope="col", class_="names" if i == names else None) for i, title in enumerate(heads))
    )
    inner = join(el("caption", caption), el("thead", top), el("tbody", *rows))
    whole = el("table", inner, class_="sortable" if sortable else None)
    return el("div", whole, class_="frame", role="region", aria_label=caption, tabindex="0")


def facts(pairs: Iterable[tuple[Child, Child]]) -> Markup:
    """Terms and what they are; a term without anything to say is left out."""
    return el("dl", ((el("dt", term), el("dd", said)) for term, said in pairs if said not in (None, "")))
