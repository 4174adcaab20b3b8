"""Accessible tables, with a caption, header cells with a scope, and values by which a script can sort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from byzbench.reports.markup import Child, Markup, el, join
from byzbench.reports.estimators import Interval
from byzbench.reports.ordering import Difference


def number_text(value: float | None) -> str:
    """Return a score as a text with two decimals; an empty text for None.

    Example:
        >>> number_text(0.125), number_text(-0.25), number_text(None)
        ('0.12', '−0.25', '')
    """
    return "" if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """Return a count as a text with commas, and with one decimal below 100; an empty text for None.

    Example:
        >>> count(12345.6), count(12.34), count(12)
        ('12,346', '12.3', '12')
    """
    return "" if value is None else f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def with_interval(estimate: Interval | Difference) -> Markup:
    """Return a number, and in small print its interval if it has one."""
    return join(number_text(estimate.value), " ", interval_text(estimate.low, estimate.high))


def interval_text(low: float | None, high: float | None) -> Markup | None:
    """Return an interval in brackets; None where it is not defined."""
    return None if low is None else el("small", f"[{number_text(low)}, {number_text(high)}]")


def cell(*content: Child, sort: float | None = None, class_: str | None = None) -> Markup:
    """Return a cell of a table.

    Args:
        content: The content.
        sort: The value by which a script sorts, where the text is not a number.
        class_: The class for the style sheet.
    """
    return el("td", *content, data_v=None if sort is None else f"{sort:.6g}", class_=class_)


def figure(value: float | Interval | Difference | None) -> Markup:
    """Return a cell with a score and its interval; an empty cell for None."""
    if value is None:
        return cell(class_="n")
    if isinstance(value, Interval | Difference):
        return cell(with_interval(value), sort=value.value, class_="n")
    return cell(number_text(value), sort=value, class_="n")


def quantity(value: float | None) -> Markup:
    """Return a cell with a count; an empty cell for None."""
    return cell(count(value), sort=value, class_="n")


def lead(*content: Child, class_: str | None = None) -> Markup:
    """Return the header cell of a row."""
    return el("th", *content, scope="row", class_=class_)


def row(*cells: Child, class_: str | None = None) -> Markup:
    """Return a row of cells."""
    return el("tr", *cells, class_=class_)


def html_table(
    caption: str, heads: Sequence[Child], rows: Iterable[Markup], *, sortable: bool = False, names: int = 0
) -> Markup:
    """Return a table in a frame that scrolls in a narrow window, while the column of row headers stays visible.

    Args:
        caption: The caption.
        heads: The headers of the columns.
        rows: The rows, each with as many cells as there are columns; one of them is a `lead`.
        sortable: True if a script lets readers sort the table by any column.
        names: The index of the column with the leads.
    """
    header = el(
        "tr", (el("th", title, scope="col", class_="names" if i == names else None) for i, title in enumerate(heads))
    )
    content = join(el("caption", caption), el("thead", header), el("tbody", *rows))
    element = el("table", content, class_="sortable" if sortable else None)
    return el("div", element, class_="frame", role="region", aria_label=caption, tabindex="0")


def fact_list(pairs: Iterable[tuple[Child, Child]]) -> Markup:
    """Return a description list; terms without a description are left out."""
    return el("dl", ((el("dt", term), el("dd", text)) for term, text in pairs if text not in (None, "")))
