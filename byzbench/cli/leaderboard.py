"""`byzbench leaderboard`: run a suite, submit what came of it, verify what others submitted, show it all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from byzbench.cli import audit, findings, options, reference, site

if TYPE_CHECKING:
    from byzbench.leaderboard.schema import Method

app = typer.Typer(
    help="Leaderboards that can be verified: run, submit, verify, findings, audit, build, serve.", no_args_is_help=True
)

TrackName = Literal["defence", "attack", "adaptive", "reported"]


@app.command("run")
def run(
    suite: Annotated[str, typer.Option("--suite", "-s", help="A frozen suite.")],
    algo: Annotated[str | None, typer.Option("--algo", "-a", help="The algorithm that enters, or is aimed at.")] = None,
    attack: Annotated[str | None, typer.Option("--attack", "-x", help="The attack that enters.")] = None,
    against: Annotated[
        str | None, typer.Option(help="The slug of the entry that the attack is aimed at: the track adaptive.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Of the algorithm: paper, official.")] = None,
    aggregator: Annotated[str | None, typer.Option(help="Rule for gradients; default: the algorithm's.")] = None,
    agreement: Annotated[str | None, typer.Option(help="Protocol for parameters; default: the algorithm's.")] = None,
    tuned: Annotated[Path | None, typer.Option(help="A file of tuned parameters.", metavar="FILE")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search its parameters first, as the suite allows every row to be tuned.")
    ] = False,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    on_existing: Annotated[
        Literal["reuse", "retry-failed", "rerun"], typer.Option(help="What to do with cells that were run before.")
    ] = "reuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and run nothing.")] = False,
) -> None:
    """Run every cell of a suite for one entry. Interrupted? The same command goes on. Exit 1 if a cell failed."""
    from byzbench.cli.cells import run_cells
    from byzbench.cli.suite_tuning import tune_for_suite
    from byzbench.errors import UserError
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.experiments.suite import Plan
    from byzbench.experiments.tuned import Tuned
    from byzbench.leaderboard import submitting
    from byzbench.leaderboard.plan import lot as plan
    from byzbench.leaderboard.suites import CLOSED
    from byzbench.leaderboard.suites import suite as board

    given = {"algo": algo, "attack": attack, "preset": preset, "aggregator": aggregator, "agreement": agreement}
    method, track = _method(given, against)
    if suite in CLOSED:
        raise UserError(f"suite {suite} is closed: its rows can be verified, and it takes no more entries")
    if tune:
        if tuned or track != "defence":
            raise UserError("--tune is for an algorithm that enters, and takes no --tuned FILE")
        tuned = tune_for_suite(board(suite), method, out, executor, jobs, ray_address)
    if tuned:
        method = submitting.fill(method, Tuned.read(tuned))
    lot = plan(board(suite), track, method)
    labels = {f"{p.stratum.name} · {p.algo or ''}{p.attack} · seed {p.seed}": cell for p, cell in lot.cells.items()}
    division = f", division {lot.division}" if lot.division else ""
    typer.echo(f"{suite}: track {track}{division}, {len(labels)} cells at engine {lot.code.engine}", err=True)
    if dry_run:
        return
    ticket = submitting.Ticket.of(lot).write(out)
    opened = open_executor(executor, out, on_existing, jobs=jobs, ray_address=ray_address)
    failed = run_cells(Plan(suite, labels, {}), out, opened, on_existing)
    typer.echo(f"{len(labels) - failed} finished, {failed} failed")
    found = f" --tuned {tuned}" if tuned else ""
    typer.echo(f"submit: byzbench leaderboard submit {ticket}{found} --name NAME --author AUTHOR")
    if failed:
        raise typer.Exit(1)


def _method(given: dict[str, str | None], against: str | None) -> tuple[Method, TrackName]:
    """What enters, and on which track: an algorithm, an attack, or an attack aimed at an entry."""
    from byzbench.errors import UserError
    from byzbench.leaderboard.plan import canonical
    from byzbench.leaderboard.schema import Method, validate

    if not (given["algo"] or given["attack"]):
        raise UserError("give --algo to enter an algorithm, --attack to enter an attack")
    if (against is None) == bool(given["algo"] and given["attack"]):
        raise UserError("an attack enters with --attack alone, or is aimed at an entry: --attack, --algo and --against")
    written = {k: v if k == "preset" else canonical(v) for k, v in given.items() if v is not None}
    method = validate(Method, {**written, **({"against": against} if against else {})}, "method")
    return method, "adaptive" if against else "attack" if given["attack"] else "defence"


@app.command("submit")
def submit(
    runs: Annotated[Path, typer.Argument(help="The store, or the file that `leaderboard run` left in it.")],
    name: Annotated[str, typer.Option(help="The entry's name, as people will read it.")],
    author: Annotated[list[str], typer.Option(help="Who enters it; again for several.")],
    slug: Annotated[str | None, typer.Option(help="The name of its folder; default: from the name.")] = None,
    paper: Annotated[str | None, typer.Option(help="A link, https://...")] = None,
    license: Annotated[str, typer.Option(help="Of the code, by its SPDX identifier.")] = "MIT",
    conflicts: Annotated[str | None, typer.Option(help="Interests that a reader should know of.")] = None,
    tuned: Annotated[Path | None, typer.Option(help="The file that its parameters are from.", metavar="FILE")] = None,
    supersedes: Annotated[
        str | None, typer.Option(help="The slug of the submission whose place it takes.", metavar="SLUG")
    ] = None,
    notes: Annotated[Path | None, typer.Option(help="A text for NOTES.md, shown as it is.", metavar="FILE")] = None,
    out: Annotated[Path, typer.Option(help="The folder of submissions.")] = Path("leaderboards/submissions"),
) -> None:
    """Write the folder of a submission from finished runs, check it, and print what to paste in the pull request."""
    import shutil

    from byzbench.errors import UserError
    from byzbench.experiments.tuned import Tuned
    from byzbench.leaderboard import submitting
    from byzbench.leaderboard.checks import check
    from byzbench.leaderboard.schema import About, validate
    from byzbench.leaderboard.summaries import markdown

    ticket = submitting.Ticket.read(runs)
    store = runs if runs.is_dir() else runs.parent
    about = {"name": name, "slug": slug or _slug(name), "authors": author, "license": license}
    more = {"paper": paper, "conflicts": conflicts}
    entered = validate(About, about | {k: v for k, v in more.items() if v}, "entry")
    lot = ticket.lot()
    folder = submitting.submit(
        lot,
        submitting.collect(lot, store),
        entered,
        out,
        environment=submitting.ran_in(lot, store),
        tuning=submitting.tuned_by(Tuned.read(tuned), ticket.method) if tuned else None,
        supersedes=submitting.supersede(out, ticket.suite, ticket.track, supersedes) if supersedes else None,
        notes=notes.read_text(encoding="utf-8") if notes else "",
    )
    report = check(folder, out)
    for finding in report.findings:
        typer.echo(str(finding), err=True)
    if report.refused:
        shutil.rmtree(folder)
        raise UserError(f"{folder} would be refused, and was not written; mend what is wrong")
    assert report.entry is not None
    typer.echo(markdown(report.entry, lot.suite, folder))


def _slug(name: str) -> str:
    import re

    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:39]


@app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(help="The folder of a submission.", metavar="FOLDER")],
    cells: Annotated[int, typer.Option(min=0, help="How many cells are run again; 0: only the checks.")] = 8,
    salt: Annotated[
        str | None, typer.Option(help="What cells and fresh seeds follow from, to repeat a draw; default: a fresh one.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="A commit: submissions that it has must not change.", metavar="REF")
    ] = None,
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    as_json: options.Json = False,
) -> None:
    """Check a submission, and run cells again that its author could not choose.

    Exit 0: verified. 1: refused, or a replay contradicts it. 3: nothing contradicts it, but it could not be replayed.
    """
    import json
    import tempfile

    submissions = folder.resolve().parents[2]
    _like(folder)
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.leaderboard.checks import check
    from byzbench.leaderboard.guard import guard
    from byzbench.leaderboard.replay import fresh_salt, replay
    from byzbench.leaderboard.summaries import verdict_lines

    report = check(folder, submissions)
    findings = [*report.findings, *(guard(submissions, base) if base else ())]
    refused = any(finding.fatal for finding in findings)
    found = None
    if not refused and cells and report.lot is not None:
        assert report.entry is not None
        with (
            tempfile.TemporaryDirectory(prefix="byzbench-") as scratch,
            open_executor(executor, Path(scratch), jobs=jobs, ray_address=ray_address) as workers,
        ):
            watch = None if as_json else lambda line: typer.echo(line, err=True)
            found = replay(report.entry, report.lot, cells, salt or fresh_salt(), Path(scratch), workers, watch)
    older = report.entry is not None and report.entry.submission.code.engine is None
    code = 1 if refused else found.exit_code if found else 3 if older else 0
    if as_json:
        data = {"findings": [str(f) for f in findings], "replay": found and found.to_json(), "exit": code}
        typer.echo(json.dumps(data, allow_nan=False))
    else:
        for line in verdict_lines(folder, findings, refused, found):
            typer.echo(line)
    raise typer.Exit(code)


def _like(folder: Path) -> None:
    """Ask for the instructions that an entry was run with, where this CPU has more of them: bits then agree.

    It must be asked before torch is imported, and by `verify` alone: other verbs record what the CPU has.
    """
    import os

    from byzbench.leaderboard.documents import Refused
    from byzbench.leaderboard.entries import read

    try:
        wanted = read(folder).submission.environment.cpu
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except (Refused, OSError, ValueError):
        return  # the checks will say what is wrong
    if wanted == "DEFAULT" or (wanted == "AVX2" and "avx2" in flags):
        os.environ.setdefault("ATEN_CPU_CAPABILITY", wanted.lower())


@app.command("freeze")
def freeze(
    suite: Annotated[str, typer.Argument(help="The name of a suite file.", metavar="SUITE")],
    pilot: Annotated[Path, typer.Option(help="The pilot file that admitted it.", metavar="FILE.toml")],
    out: options.Out = Path("runs"),
) -> None:
    """Write what the texts of a suite come to by today's defaults, beside its file. It is done once.

    The runs of its pilot are read from the store: a suite holds nothing that its pilot did not admit.
    """
    from byzbench.errors import UserError
    from byzbench.leaderboard import freezing, frozen, suites
    from byzbench.leaderboard.pilot import read_pilot

    found = suites.suite(suite)
    frozen.refuse_second(found)
    tried = read_pilot(pilot)
    if problems := [*freezing.suite_problems(found, tried, *freezing.load_result(tried, out))]:
        more = f" ({len(problems) - 1} more)" if problems[1:] else ""
        raise UserError(f"suite {suite}: {problems[0]}{more}")
    typer.echo(frozen.freeze_suite(found, tried.sha256))


app.command("reference")(reference.reference)
app.command("findings")(findings.findings)
app.command("audit")(audit.audit)
app.command("build")(site.build)
app.command("serve")(site.serve)
