"""Command `byzbench reproduce`: run a published or theoretical experiment, and set the results beside the source's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byzbench.cli import options
from byzbench.cli.output import write_output

if TYPE_CHECKING:
    from byzbench.reports.sheets import Format
    from byzbench.reproduce.study import Study, StudyResult
    from byzbench.sweeps.grid import SweepPlan


def reproduce(
    name: Annotated[str | None, typer.Argument(help="A study; default: list all.", metavar="[STUDY]")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds; default: the study's.")] = None,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    page: Annotated[Path | None, typer.Option(help="A Markdown page to write.", metavar="FILE.md")] = None,
    figure: Annotated[Path | None, typer.Option(help="A figure to write: .png, .pdf or .svg.", metavar="FILE")] = None,
    data: Annotated[
        Path | None, typer.Option(help="What was measured of each run, to write as JSON.", metavar="FILE.json")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run a published experiment and compare it with the published numbers. The same command resumes.

    Runs that the store has are not repeated. Without a name, the studies are listed.

    Examples:
        byzbench reproduce
        byzbench reproduce decbyzpg --seeds 3 --page decbyzpg.md
    """
    from byzbench.records.files import require_writable
    from byzbench.reports.plot_style import require_format
    from byzbench.reports.sheets import render_tables
    from byzbench.reports.terminal import echo, terminal_width
    from byzbench.reproduce.catalog import find_study, studies
    from byzbench.reproduce.pages import all_tables, study_table
    from byzbench.reproduce.running import reproduce_study

    form: Format = "json" if as_json else "table"
    if name is None:
        write_output(render_tables([study_table(studies())], form, {}, terminal_width()), newline=False)
        return
    study = find_study(name)
    if figure is not None:
        require_format(figure)
    for file in filter(None, (page, figure, data)):
        require_writable(file)

    def run_plan(plan: SweepPlan) -> int:
        from byzbench.cli.cells import run_cells
        from byzbench.sweeps.executors import make_executor

        workers = make_executor(executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
        return run_cells(plan, out, workers)

    result = reproduce_study(study, out, seeds=seeds, run_plan=run_plan)
    _write(study, result, seeds, page, figure, data)
    findings = study.findings(result)
    about = {"study": name, "engine": result.engine, "findings": list(findings)}
    write_output(render_tables(all_tables(study, result), form, about, terminal_width()), newline=False)
    if not as_json:
        for sentence in findings:
            echo(sentence)


def _write(
    study: Study, result: StudyResult, seeds: int | None, page: Path | None, figure: Path | None, data: Path | None
) -> None:
    """Write the files of a study that the user asks for.

    Args:
        study: The study.
        result: Its result.
        seeds: The number of seeds that the user gave.
        page: The Markdown page.
        figure: The figure.
        data: What was measured.
    """
    from byzbench.records.files import write_file
    from byzbench.reports.plot_style import save_figure
    from byzbench.reproduce.pages import study_page

    if figure is not None:
        save_figure(study.figure(result), figure, dpi=200)
    if data is not None:
        write_file(data, result.to_json())
    if page is not None:
        files = {"--page": page, "--figure": figure, "--data": data}
        words = [text for flag, file in files.items() if file is not None for text in (flag, str(file))]
        counted = ["--seeds", str(seeds)] if seeds is not None else []
        command = shlex.join(["byzbench", "reproduce", study.name, *counted, *words])
        write_file(page, study_page(study, result, command, figure.name if figure else None))
