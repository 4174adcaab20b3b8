"""`byzbench replay`: run a finished run again, elsewhere, and compare the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from byzbench.experiments.records import RunFolder


def replay(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
) -> None:
    """Run the experiment of a run folder again and compare its trace byte for byte; exit 1 if they differ."""
    import tempfile

    from byzbench.cli.progress import Progress
    from byzbench.errors import CorruptRecord
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.provenance import code_difference, differences, provenance
    from byzbench.experiments.records import RunFolder
    from byzbench.experiments.runner import run as train

    folder = RunFolder(run)
    record = folder.record()
    if record is None or folder.read("result.json") is None:
        raise CorruptRecord(f"{run} is not the folder of a finished run")
    try:
        todo = Experiment.from_description(record["experiment"])
    except (KeyError, TypeError, AttributeError):
        todo = None
    if todo is None or todo.describe() != record["experiment"]:
        raise CorruptRecord(f"{run / 'experiment.json'} does not describe an experiment")
    first = _lines(folder)
    with tempfile.TemporaryDirectory() as scratch:
        with Progress(todo.trajectories, f"replay {run.name}") as progress:
            result = train(todo, out=scratch, watch=progress)
        second = _lines(RunFolder(Path(str(result.run))))
    if len(first) == len(second) and all(map(_same, first, second)):
        typer.echo(f"identical: {len(first)} rounds, byte for byte")
        return
    where = run / "experiment.json"
    why = [*differences(record, todo, where), *code_difference(record.get("code"), provenance(todo))]
    at = next((i for i, pair in enumerate(zip(first, second, strict=False)) if not _same(*pair)), None)
    at = min(len(first), len(second)) if at is None else at
    typer.echo(f"different from round {at} on; {'; '.join(why) or 'the same behaviour and the same libraries ran'}")
    raise typer.Exit(1)


def _lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the rounds of a run: each line of metrics, and of the trace where there is one."""
    from byzbench.errors import CorruptRecord

    metrics = folder.metrics()
    traced = (folder.path / "trace.jsonl").exists()
    trace = folder.metrics("trace.jsonl") if traced else [{} for _ in metrics]
    if len(trace) != len(metrics):
        raise CorruptRecord(f"the logs of {folder.path} are not of the same rounds")
    return [line | {"trace": traces} for line, traces in zip(metrics, trace, strict=True)]


def _same(then: dict[str, Any], now: dict[str, Any]) -> bool:
    """Return whether two rounds are equal, but for columns that came later and a trace that an older run lacks."""
    return all(now.get(name) == value for name, value in then.items() if name != "trace" or value)
