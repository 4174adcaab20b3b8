"""Accessible tables: a caption, heads with a scope, and numbers that a script can sort by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from byzbench.leaderboard.site.html import Child, Markup, el, join
from byzbench.reports.estimators import Interval
from byzbench.reports.ordering import Difference


def number(value: float | None) -> str:
    """Return a score as it is shown, with two digits after the point; an empty text for None."""
    return "" if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """Return a count with commas, or with one digit after the point below 100; an empty text for None."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def with_interval(found: Interval | Difference) -> Markup:
    """Return a number and, smaller, its interval if it has one."""
    return join(number(found.value), " ", interval_text(found.low, found.high))


def interval_text(low: float | None, high: float | None) -> Markup | None:
    """Return an interval in brackets; None where it has no ends."""
    return None if low is None else el("small", f"[{number(low)}, {number(high)}]")


def cell(*content: Child, sort: float | None = None, class_: str | None = None) -> Markup:
    """Return a cell; `sort` is its value where its text is no number."""
    return el("td", *content, data_v=None if sort is None else f"{sort:.6g}", class_=class_)


def figure(value: float | Interval | Difference | None) -> Markup:
    """Return a cell with a score, or an empty one."""
    if value is None:
        return cell(class_="n")
    if isinstance(value, Interval | Difference):
        return cell(with_interval(value), sort=value.value, class_="n")
    return cell(number(value), sort=value, class_="n")


def quantity(value: float | None) -> Markup:
    """Return a cell with a count, or an empty one."""
    return cell(count(value), sort=value, class_="n")


def lead(*content: Child, class_: str | None = None) -> Markup:
    """Return the cell that names a row."""
    return el("th", *content, scope="row", class_=class_)


def row(*cells: Child, class_: str | None = None) -> Markup:
    """Return a row of cells."""
    return el("tr", *cells, class_=class_)


def table(
    caption: str, heads: Sequence[Child], rows: Iterable[Markup], *, sortable: bool = False, names: int = 0
) -> Markup:
    """Return a table in a frame that scrolls by itself in a narrow window; the column of names stays visible.

    Args:
        caption: what the table shows.
        heads: of the columns.
        rows: each of as many cells, one of them a `lead`.
        sortable: whether a script lets readers sort it by any column.
        names: the index of the column of leads.
    """
    top = el(
        "tr", (el("th", title, scope="col", class_="names" if i == names else None) for i, title in enumerate(heads))
    )
    inner = join(el("caption", caption), el("thead", top), el("tbody", *rows))
    whole = el("table", inner, class_="sortable" if sortable else None)
    return el("div", whole, class_="frame", role="region", aria_label=caption, tabindex="0")


def facts(pairs: Iterable[tuple[Child, Child]]) -> Markup:
    """Return a list of terms and their descriptions; a term without a description is left out."""
    return el("dl", ((el("dt", term), el("dd", text)) for term, text in pairs if text not in (None, "")))
