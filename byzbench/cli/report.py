"""Command `byzbench report`: compare finished runs in tables."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from byzbench.axes import axis_named, recorded_axes
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.output import write_output
from byzbench.reports.abscissa import AbscissaName
from byzbench.reports.sheets import Format

if TYPE_CHECKING:
    from byzbench.records.store import StoredRun
    from byzbench.reports.summary import Groups

Runs = Annotated[
    list[str], typer.Argument(help="Run folders, stores (folders or URLs), or files of sweeps.", metavar="RUNS...")
]
By = Annotated[list[str], typer.Option(help="Axes that distinguish rows, for example attack,algo,topology.")]
All = Annotated[bool, typer.Option("--all", help="All runs of a store, not only those of its last sweep.")]
Metric = Annotated[
    str | None,
    typer.Option(
        help="evaluation_auc (default if all runs have evaluations), return, evaluation, evaluation_greedy, "
        "evaluation_worst, evaluation_cvar or auc."
    ),
]

_NEEDED = {
    "results": "a run",
    "worst": "several attacks",
    "ranking": "several methods or rules",
    "benefit": "runs of solo",
}


@takes_axes("filter")
def report(
    runs: Runs,
    by: By = ["attack", "algo"],  # noqa: B006
    metric: Metric = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = "table",
    part: Annotated[
        Literal["all", "results", "worst", "ranking", "benefit"],
        typer.Option(help="The table to print. CSV holds one table, by default the results."),
    ] = "all",
    x: Annotated[
        AbscissaName | None,
        typer.Option(
            help="Compare returns at equal trajectories, virtual seconds or bytes, not at the end of each run."
        ),
    ] = None,
    at: Annotated[
        float | None, typer.Option(min=0, help="So many of --x; default: the largest number that all runs reached.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write instead of standard output.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write one HTML page with the tables, figures and what was run.", metavar="FILE.html"),
    ] = None,
    everything: All = False,
    *,
    point: Point,
) -> None:
    """Compare runs: means over seeds with intervals, retention, worst attacks, ranges of ranks.

    Of a store with sweeps, the runs of the last sweep are compared.

    Examples:
        byzbench report runs
        byzbench report runs --all --env cartpole --agents 13
        byzbench report runs --by attack,aggregator --format md --out report.md
        byzbench report runs --by schedule --x seconds
        byzbench report runs --html report.html
    """
    from byzbench.records.files import require_writable, write_file
    from byzbench.reports.summary import group

    for file in filter(None, (out, html)):
        require_writable(file)
    groups = group(gathered(runs, point, everything), axes(by), metric, x=x, at=at)
    print_report(groups, form, part=part, out=out)
    if html is not None:
        from byzbench.reports.html_report import html_report

        write_file(html, html_report(groups, shlex.join(["byzbench", *sys.argv[1:]])))
        tell([str(html)], "page")


def print_report(groups: Groups, form: Format, *, part: str = "all", out: Path | None = None) -> None:
    """Print the tables that compare runs, or write them to a file.

    Args:
        groups: The rows.
        form: The format.
        part: The table, or `all`.
        out: The file; None: standard output.

    Raises:
        UserError: The runs have no such table.
        StorageError: The file cannot be written.
    """
    from byzbench.errors import UserError
    from byzbench.records.files import write_file
    from byzbench.reports.result_tables import about, sheets
    from byzbench.reports.sheets import render_tables
    from byzbench.reports.terminal import terminal_width

    tell(groups.problems, "not trusted")
    tell(groups.notes, "note")
    chosen = [sheet for sheet in sheets(groups) if part in ("all", sheet.name)]
    if not chosen:
        raise UserError(f"there is no table {part!r}: it needs {_NEEDED[part]}")
    if form == "csv" and len(chosen) > 1:
        tell(
            [f"CSV holds one table; for the others give --part {' or '.join(sheet.name for sheet in chosen[1:])}"],
            "note",
        )
    width = terminal_width() if out is None else None
    text = render_tables(chosen, form, about(groups), width)
    if out is None:
        write_output(text, newline=False)
    else:
        write_file(out, text)


def gathered(places: Sequence[str], point: Point, everything: bool) -> list[StoredRun]:
    """Return the runs of some folders, stores or files of sweeps; print what is left out, and what cannot be trusted.

    Args:
        places: Run folders, stores, or files of sweeps.
        point: Values of axes that the runs have; see `StoredRun.matches`.
        everything: Whether all runs of a store are meant, and not only those of its last sweep.

    Raises:
        InvalidParameter: There is no such folder, store or file.
        StorageError: A store at a URL cannot be reached.
        UserError: No run has these values.
    """
    from byzbench.errors import UserError
    from byzbench.records.remote import open_store
    from byzbench.records.store import gather, last_sweep

    paths: list[Path] = []
    problems: list[str] = []
    for place in sorted(
        set(places)
    ):  # sorted, so that the choice between two copies of a run does not depend on the order
        with open_store(place) as store:
            problems += store.pull()
            latest = None if everything or not store.path.is_dir() else last_sweep(store.path)
            paths.append(latest or store.path)
            if latest:
                tell([f"the runs of the last sweep in {place}, {latest.name}; --all compares all of them"], "note")
    entries, more = gather(paths)
    tell([*problems, *more], "not trusted")
    selected = [entry for entry in entries if entry.matches(point)]
    if entries and not selected:
        words = " ".join(f"--{axis} {value}" for axis, value in point.items())
        raise UserError(f"none of {len(entries)} runs there matches {words}")
    return selected


def axes(given: list[str]) -> list[str]:
    """Return the names of the axes of a repeatable option, each of whose values may be a list separated by commas.

    Raises:
        InvalidParameter: There is no such axis.

    Example:
        >>> axes(["attack,algorithm", "topology"])
        ['attack', 'algo', 'topology']
    """
    words = [word.strip() for text in given for word in text.split(",") if word.strip()]
    return [axis_named(word, recorded_axes()).name for word in words]


def tell(lines: Sequence[str], what: str) -> None:
    """Print lines on standard error, each with a label before it."""
    from byzbench.reports.summary import clean
    from byzbench.reports.terminal import echo

    for line in lines:
        echo(f"{what}: {clean(line, 500)}", err=True, indent=2)
