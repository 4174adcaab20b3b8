"""Command `byzbench replay`: repeat a finished run in a temporary folder, and compare the logs byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from byzbench.records.run_folder import RunFolder


def replay(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")],
) -> None:
    """Repeat the experiment of a run folder, and compare both traces byte for byte.

    Exit 0: identical. 1: different.

    Examples:
        byzbench replay runs/0123456789abcdef
        byzbench replay /scratch/store/0123456789abcdef
    """
    import tempfile

    from byzbench.errors import CorruptRecord
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.provenance import code_difference, provenance, recorded_differences
    from byzbench.experiments.runner import run_experiment
    from byzbench.records.run_folder import RunFolder
    from byzbench.reports.progress import Progress

    folder = RunFolder(run)
    record = folder.record()
    if record is None or folder.result() is None:
        raise CorruptRecord(f"{run} is not the folder of a finished run")
    try:
        experiment = Experiment.from_description(record["experiment"])
    except (KeyError, TypeError, AttributeError):
        experiment = None
    if experiment is None or experiment.describe() != record["experiment"]:
        raise CorruptRecord(f"{run / 'experiment.json'} does not describe an experiment")
    stored_rounds = _lines(folder)
    with tempfile.TemporaryDirectory() as scratch:
        with Progress(experiment.trajectories, f"replay {run.name}") as progress:
            result = run_experiment(experiment, out=scratch, callback=progress)
        repeated_rounds = _lines(RunFolder(Path(str(result.run))))
    if len(stored_rounds) == len(repeated_rounds) and all(map(_same, stored_rounds, repeated_rounds)):
        typer.echo(f"identical: {len(stored_rounds)} rounds, byte for byte")
        return
    path = run / "experiment.json"
    reasons = [
        *recorded_differences(record, experiment, path),
        *code_difference(record.get("code"), provenance(experiment)),
    ]
    first_difference = next(
        (i for i, pair in enumerate(zip(stored_rounds, repeated_rounds, strict=False)) if not _same(*pair)), None
    )
    first_difference = min(len(stored_rounds), len(repeated_rounds)) if first_difference is None else first_difference
    typer.echo(
        f"different from round {first_difference} on; {'; '.join(reasons) or 'behaviour and libraries are the same'}"
    )
    raise typer.Exit(1)


def _lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the rounds of a run: each line of metrics, and of the trace where there is one."""
    from byzbench.errors import CorruptRecord

    metrics = folder.metrics()
    traced = (folder.path / "trace.jsonl").exists()
    trace = folder.metrics("trace.jsonl") if traced else [{} for _ in metrics]
    if len(trace) != len(metrics):
        raise CorruptRecord(f"the logs of {folder.path} have different numbers of rounds")
    return [line | {"trace": trace_line} for line, trace_line in zip(metrics, trace, strict=True)]


def _same(stored: dict[str, Any], repeated: dict[str, Any]) -> bool:
    """Return whether two rounds are equal in all columns of the older one, its trace excepted if that is empty."""
    return all(repeated.get(name) == value for name, value in stored.items() if name != "trace" or value)
