"""Options that several commands share, and the parsers of their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from byzbench.axes import AXES
from byzbench.cli.output import reserve
from byzbench.errors import InvalidParameter, UserError
from byzbench.integrations.modes import WandbMode
from byzbench.records import store

AXIS = "several: separate them by commas, or repeat the option"

Parameter = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="A parameter, kind.key=value, for example attack.z=1.5.")
]
Out = Annotated[Path, typer.Option(help="Folder of the store of runs.", envvar="BYZBENCH_OUT")]
Store = Annotated[
    str,
    typer.Option(
        "--out", help="The store of runs: a folder or an fsspec URL (s3://bucket/runs).", envvar="BYZBENCH_OUT"
    ),
]
Tuned = Annotated[
    list[Path] | None, typer.Option(help="A file of tuned parameters that `byzbench tune` wrote.", metavar="FILE")
]
Wandb = Annotated[WandbMode, typer.Option(help="Track runs with Weights & Biases.")]
Executor = Annotated[
    store.ExecutorName,
    typer.Option(help="Where cells run: in this process, one process per core, or a Ray cluster."),
]
OnExisting = Annotated[store.OnExisting, typer.Option(help="What to do with cells that ran before.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Number of processes; default: one per core.", envvar="BYZBENCH_JOBS"),
]
CellTimeout = Annotated[
    float | None,
    typer.Option(help="Seconds after which the process of a run is killed; the run has failed.", metavar="SECONDS"),
]
RayAddress = Annotated[
    str | None, typer.Option(help="Ray cluster: auto or HOST:PORT; default: this machine.", metavar="ADDRESS")
]
Json = Annotated[bool, typer.Option("--json", callback=reserve, help="Print JSON only.")]


def parameters(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the parameters of the option `-p kind.key=value`, by kind.

    Raises:
        InvalidParameter: A text does not have that form.

    Example:
        >>> parameters(["attack.z=1.5", "algo.lr=0.01"])
        {'attack': {'z': 1.5}, 'algorithm': {'lr': 0.01}}
    """
    from byzbench.registry import kind_of, literal

    by_kind: dict[str, dict[str, Any]] = {}
    for text in given:
        path, sign, value = text.partition("=")
        kind, dot, key = path.strip().partition(".")
        if not (sign and dot and key):
            raise InvalidParameter(f"-p takes kind.key=value, for example attack.z=1.5; got {text!r}")
        by_kind.setdefault(kind_of(kind), {})[key] = literal(value)
    return by_kind


def seed_list(seed: int | None, seeds: str | None) -> list[int]:
    """Return the seeds of `--seed N`, `--seeds 5` (a number of seeds) or `--seeds 0,3,7` (a list).

    Args:
        seed: The value of `--seed`, if any.
        seeds: The value of `--seeds`, if any.

    Raises:
        UserError: Both are given, or `--seeds` has another form.

    Example:
        >>> seed_list(None, "3"), seed_list(None, "0,3,7"), seed_list(4, None)
        ([0, 1, 2], [0, 3, 7], [4])
    """
    if seeds is None:
        return [0 if seed is None else seed]
    if seed is not None:
        raise UserError("give --seed N for one run or --seeds for several, not both")
    try:
        numbers = [int(n) for n in seeds.split(",")]
    except ValueError:
        numbers = []
    if "," not in seeds and numbers and numbers[0] > 0:
        return list(range(numbers[0]))
    if "," not in seeds or len(set(numbers)) != len(numbers) or not numbers:
        raise UserError(f"--seeds takes a number of seeds (5) or a list of different seeds (0,3,7), got {seeds!r}")
    return numbers


def components(given: Sequence[str] | None) -> list[str] | None:
    """Return the components of a repeatable option, each of whose values may be a list separated by commas.

    Example:
        >>> components(["krum,bucketing(krum, s=2)", "rfa"])
        ['krum', 'bucketing(krum, s=2)', 'rfa']
    """
    from byzbench.sweeps.grid import split

    return [item for text in given for item in split(text)] if given else None


def numbers(flag: str, given: Sequence[str] | None) -> list[int] | None:
    """Return the whole numbers of a repeatable option, each of whose values may be a list separated by commas.

    Raises:
        InvalidParameter: A value is not a whole number.

    Example:
        >>> numbers("--agents", ["5,13", "20"])
        [5, 13, 20]
    """
    try:
        return [int(item) for text in given for item in text.split(",")] if given else None
    except ValueError:
        raise InvalidParameter(f"{flag} takes whole numbers, got {','.join(given or [])!r}") from None


def filled(point: Mapping[str, Any], given: Sequence[str] | None, tuned: Sequence[Path] | None) -> dict[str, Any]:
    """Return the parameters of `-p` and of files of tuned parameters, by kind.

    Args:
        point: The components of the experiment, by axis; one that is not there is the default.
        given: The values of `-p`; they replace those of the files.
        tuned: The files of tuned parameters.

    Raises:
        InvalidParameter: A file is for a component that `point` does not have.
    """
    from byzbench.records.tuned import TunedParameters as File

    point = {axis.name: axis.default for axis in AXES if axis.is_kind and axis.default} | dict(point)
    by_kind: dict[str, dict[str, Any]] = parameters(given or [])
    for path in tuned or []:
        file = File.read(path)
        if not file.concerns(point):
            raise InvalidParameter(f"{path} has parameters for {file.kind} {file.components[file.kind]!r}")
        by_kind = file.fill(point, by_kind)
    return by_kind
