"""Commands `byzbench leaderboard`: run a suite, submit results, verify submissions, build the site."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byzbench.axes import AXES
from byzbench.cli import attack, audit, findings, options, reference, site
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.completion import complete_suite
from byzbench.cli.groups import Group
from byzbench.cli.output import write_json
from byzbench.reports.terminal import echo

if TYPE_CHECKING:
    from byzbench.leaderboard.schema import Method, Track

app = typer.Typer(
    cls=Group,
    help="Leaderboards whose rows can be verified by replay.\n\n"
    "Examples:\n    byzbench leaderboard run --suite smoke-v2 --algo decbyzpg\n"
    "    byzbench leaderboard verify leaderboards/submissions/SUITE/TRACK/SLUG",
    no_args_is_help=True,
    add_completion=False,
)

_Tuned = Annotated[
    list[Path] | None,
    typer.Option(help="A file of tuned parameters; repeat the option for one of each task.", metavar="FILE"),
]
_SET_BY_SUITE = [axis.name for axis in AXES if not axis.is_method and axis.name not in ("attack", "preset")]


@app.command("run")
@takes_axes(
    without=_SET_BY_SUITE,
    texts={"algo": "The algorithm to enter, or to attack.", "attack": "The attack to enter."},
)
def run(
    suite: Annotated[str, typer.Option("--suite", "-s", help="Name of a frozen suite.", autocompletion=complete_suite)],
    point: Point,
    against: Annotated[str | None, typer.Option(help="Slug of the entry to attack, for the track adaptive.")] = None,
    tuned: _Tuned = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Tune its parameters in each task first, with the budget of the suite.")
    ] = False,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    on_existing: options.OnExisting = "reuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and run nothing.")] = False,
    wandb: options.Wandb = "off",
) -> None:
    """Run every cell of a suite for one entry; the same command resumes an interrupted one.

    Exit 0: all cells finished. 1: a cell failed.

    Examples:
        byzbench leaderboard run --suite smoke-v2 --algo decbyzpg
        byzbench leaderboard run --suite smoke-v2 --attack alie --dry-run
    """
    from byzbench.cli.entries import open_suite, run_entry
    from byzbench.cli.suite_tuning import run_suite_study, study_line
    from byzbench.errors import UserError
    from byzbench.leaderboard import submitting
    from byzbench.leaderboard.plan import plan_submission
    from byzbench.records.tuned import TunedParameters
    from byzbench.sweeps.executors import make_executor

    opened = partial(make_executor, executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    method, track = _method(point, against)
    content = open_suite(suite)
    if tune:
        if tuned or track != "defence":
            raise UserError("--tune needs --algo alone, without --attack and without --tuned FILE")
        from byzbench.leaderboard.suite_study import method_studies

        studies = method_studies(content, method)
        if dry_run:
            for study in studies:
                typer.echo(study_line(study))
        else:
            tuned = [run_suite_study(study, out, opened()) for study in studies]
    method = submitting.fill(method, [*map(TunedParameters.read, tuned or ())])
    plan = plan_submission(content, track, method)
    run_entry(plan, out, opened(on_existing), on_existing=on_existing, wandb=wandb, tuned=tuned or (), dry_run=dry_run)


def _method(point: Point, against: str | None) -> tuple[Method, Track]:
    """Return the method that enters, and its track.

    Args:
        point: The values of the axes that the user gives.
        against: The slug of the entry to attack, for the track adaptive.

    Raises:
        UserError: The options do not belong to one track.
    """
    from byzbench.errors import UserError
    from byzbench.leaderboard.plan import canonical_spec
    from byzbench.leaderboard.schema import Method, validate

    if not ("algo" in point or "attack" in point):
        raise UserError("give --algo to enter an algorithm, or --attack to enter an attack")
    if (against is None) == ("algo" in point and "attack" in point):
        raise UserError("give --attack alone to enter an attack, or --attack, --algo and --against to attack an entry")
    written = {k: v if k == "preset" else canonical_spec(v) for k, v in point.items()}
    method = validate(Method, {**written, **({"against": against} if against else {})}, "method")
    return method, "adaptive" if against else "attack" if "attack" in point else "defence"


@app.command("submit")
def submit(
    runs: Annotated[Path, typer.Argument(help="The store, or the file that `leaderboard run` wrote to it.")],
    name: Annotated[str, typer.Option(help="Display name of the entry.")],
    author: Annotated[list[str], typer.Option(help="Author; repeat the option for several.")],
    slug: Annotated[str | None, typer.Option(help="Name of the folder; default: derived from the name.")] = None,
    paper: Annotated[str | None, typer.Option(help="Link to the paper, https://...")] = None,
    license: Annotated[str, typer.Option(help="SPDX identifier of the license of the code.")] = "MIT",
    conflicts: Annotated[str | None, typer.Option(help="Conflicts of interest.")] = None,
    date: Annotated[str | None, typer.Option(help="Date, YYYY-MM-DD; default: today in UTC.")] = None,
    tuned: _Tuned = None,
    supersedes: Annotated[str | None, typer.Option(help="Slug of the submission that this one replaces.")] = None,
    notes: Annotated[
        Path | None, typer.Option(help="A text file for NOTES.md, shown unchanged.", metavar="FILE")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of submissions.")] = Path("leaderboards/submissions"),
) -> None:
    """Write the folder of a submission from finished runs, check it, and print the text of the pull request.

    Examples:
        byzbench leaderboard submit runs --name "DecByzPG" --author "A. Author"
        byzbench leaderboard submit runs --name X --author Y --notes notes.txt
    """
    import shutil

    from byzbench.errors import UserError
    from byzbench.leaderboard import submitting
    from byzbench.leaderboard.checks import check_submission
    from byzbench.leaderboard.schema import EntryMetadata, validate
    from byzbench.leaderboard.summaries import markdown
    from byzbench.records.tuned import TunedParameters

    ticket = submitting.RunManifest.read(runs)
    store = runs if runs.is_dir() else runs.parent
    about = {"name": name, "slug": slug or _slug(name), "authors": author, "license": license}
    more = {"paper": paper, "conflicts": conflicts, "submitted": date or datetime.now(UTC).date().isoformat()}
    metadata = validate(EntryMetadata, about | {k: v for k, v in more.items() if v}, "entry")
    lot = ticket.submission_plan()
    folder = submitting.write_submission(
        lot,
        submitting.collect_cells(lot, store),
        metadata,
        out,
        environment=submitting.ran_in(lot, store),
        tunings=[submitting.tuned_by(TunedParameters.read(file), ticket.method) for file in tuned or ()],
        supersedes=submitting.supersede(out, ticket.suite, ticket.track, supersedes) if supersedes else None,
        notes=notes.read_text(encoding="utf-8-sig") if notes else "",
    )
    report = check_submission(folder, out)
    for finding in report.findings:
        echo(str(finding), err=True)
    if report.refused:
        shutil.rmtree(folder)
        raise UserError(f"{folder} would be refused and was not written; correct the findings above")
    assert report.entry is not None
    typer.echo(markdown(report.entry, lot.suite, folder))


def _slug(name: str) -> str:
    import re

    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:39]


@app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(help="The folder of a submission.", metavar="FOLDER")],
    cells: Annotated[int, typer.Option(min=0, help="Number of cells to replay; 0: only the checks.")] = 8,
    salt: Annotated[
        str | None, typer.Option(help="Text that seeds the choice of cells and fresh seeds; default: a random one.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="A commit whose submissions must not have changed.", metavar="REF")
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(help="A folder with the wheels of its plug-ins; default: they are installed.", metavar="FOLDER"),
    ] = None,
    verdict: Annotated[Path | None, typer.Option(help="Write the verdict as JSON.", metavar="FILE")] = None,
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    as_json: options.Json = False,
) -> None:
    """Check a submission, and replay randomly chosen cells.

    Plug-ins of the submission run in a sandbox, which needs bubblewrap.

    Exit 0: verified. 1: refused, or contradicted by a replay. 3: not contradicted, but it could not be
    replayed, or too few cells could be compared to decide.

    Examples:
        byzbench leaderboard verify leaderboards/submissions/SUITE/TRACK/SLUG
        byzbench leaderboard verify submissions/SUITE/TRACK/SLUG --cells 0
        byzbench leaderboard verify SUBMISSION --wheels wheels --verdict out.json
    """
    _match_instruction_set(folder)
    from byzbench.leaderboard.summaries import verdict_lines
    from byzbench.leaderboard.verification import sandbox_runner, verify_submission
    from byzbench.reports.progress import StepsProgress
    from byzbench.sweeps.executors import make_executor

    if verdict is not None:
        verdict.unlink(missing_ok=True)  # an earlier verdict must not be taken for one of this call
    opened = partial(make_executor, executor, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    with StepsProgress(0, bound="at least", quiet=as_json) as progress:
        result = verify_submission(
            folder,
            cells=cells,
            salt=salt,
            base=base,
            wheels=wheels,
            open_executor=opened,
            open_sandbox=partial(sandbox_runner, jobs=jobs, seconds=cell_timeout),
            callback=lambda line, planned: progress(line, total=planned),
        )
    if verdict is not None:
        result.write(verdict)
    if as_json:
        write_json(result.to_json())
    else:
        for line in verdict_lines(folder, result.findings, result.refused, result.replay):
            echo(line, indent=2)
    raise typer.Exit(result.exit_code)


def _match_instruction_set(folder: Path) -> None:
    """Limit torch to the instruction set that an entry was run with, so that a replay gives the same bits.

    This must happen before torch is imported, and in `verify` only: other commands record the instruction set of the
    CPU.
    """
    import os

    from byzbench.leaderboard.documents import Refused
    from byzbench.leaderboard.entries import read_entry

    try:
        instruction_set = read_entry(folder).submission.environment.cpu
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except (Refused, OSError, ValueError):
        return  # the checks report the cause
    if instruction_set == "DEFAULT" or (instruction_set == "AVX2" and "avx2" in flags):
        os.environ.setdefault("ATEN_CPU_CAPABILITY", instruction_set.lower())


@app.command("freeze")
def freeze(
    suite: Annotated[
        str, typer.Argument(help="The name of a suite file.", metavar="SUITE", autocompletion=complete_suite)
    ],
    pilot: Annotated[Path, typer.Option(help="The pilot file that admitted the suite.", metavar="FILE.toml")],
    out: options.Out = Path("runs"),
) -> None:
    """Write the resolved experiments of a suite, with today's defaults, beside its file. This can be done only once.

    The runs of its pilot are read from the store. A suite must not hold anything that its pilot did not admit.

    Examples:
        byzbench leaderboard freeze my-suite-v1 --pilot pilot.toml
        byzbench leaderboard freeze my-suite-v1 --pilot pilot.toml --out runs
    """
    from byzbench.errors import UserError
    from byzbench.leaderboard import admission, freezing, frozen, suites
    from byzbench.leaderboard.pilot import load_runs, pilot_cells, read_pilot

    content = suites.suite(suite)
    frozen.refuse_second(content)
    candidate = read_pilot(pilot)
    stages = admission.run_stages(
        candidate, "both", lambda stage, selection: load_runs(pilot_cells(candidate, stage, selection), out)
    )
    if problems := freezing.suite_problems(content, candidate, *stages):
        more = f" ({len(problems) - 1} more)" if problems[1:] else ""
        raise UserError(f"suite {suite}: {problems[0]}{more}")
    typer.echo(frozen.freeze_suite(content, candidate.sha256))


app.command("attack")(attack.attack)
app.command("reference")(reference.reference)
app.command("findings")(findings.findings)
app.command("audit")(audit.audit)
app.command("build")(site.build)
app.command("serve")(site.serve)
