"""Options that several verbs share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from byzbench.errors import InvalidParameter, StorageError, UserError

COMPONENT = "name, name:key=value,... or name(key=value, ...)"
AXIS = "several: a comma list, or the flag again"

Parameter = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", help="kind.key=value, for example attack.z=1.5.")
]
Out = Annotated[Path, typer.Option(help="The folder of run folders.", envvar="BYZBENCH_OUT")]
Store = Annotated[
    str, typer.Option("--out", help="The store: a folder, or any fsspec URL (s3://bucket/runs).", envvar="BYZBENCH_OUT")
]
Agents = Annotated[int | None, typer.Option(help="K; default 13, or 1 for an algorithm of one agent.")]
Byzantine = Annotated[int | None, typer.Option(help="f, how many lie; default: the largest with K > 4f.")]
Trajectories = Annotated[int | None, typer.Option(help="Budget of episodes per agent; default: the task's.")]
Preset = Annotated[
    str, typer.Option(help="Defaults: recommended, paper, or official (the authors' code); see `byzbench show`.")
]
Evaluations = Annotated[int, typer.Option(help="Evaluations over the budget.")]
EvaluationEpisodes = Annotated[int, typer.Option(help="Episodes of each agent in an evaluation.")]
Tuned = Annotated[
    list[Path] | None, typer.Option(help="A file of tuned parameters, for the component that it names.", metavar="FILE")
]
Wandb = Annotated[
    Literal["online", "offline", "off"], typer.Option(help="Show runs at Weights & Biases, from their records.")
]
Executor = Annotated[
    Literal["serial", "process", "ray"], typer.Option(help="Who runs cells: this process, one a core, or a cluster.")
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Processes; default: one a core.", envvar="BYZBENCH_JOBS"),
]
RayAddress = Annotated[
    str | None, typer.Option(help="A cluster: auto, or HOST:PORT; default: this machine's cores.", metavar="ADDRESS")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]


def parameters(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`-p kind.key=value`, by kind."""
    from byzbench.registry import kind_of, literal

    found: dict[str, dict[str, Any]] = {}
    for text in given:
        path, sign, value = text.partition("=")
        kind, dot, key = path.strip().partition(".")
        if not (sign and dot and key):
            raise InvalidParameter(f"-p takes kind.key=value, for example attack.z=1.5; got {text!r}")
        found.setdefault(kind_of(kind), {})[key] = literal(value)
    return found


def seed_list(seed: int | None, seeds: str | None) -> list[int]:
    """`--seed N`, `--seeds 5` (how many) or `--seeds 0,3,7` (which)."""
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
        raise UserError(f"--seeds takes a number of seeds (5) or different seeds (0,3,7), got {seeds!r}")
    return numbers


def components(given: Sequence[str] | None) -> list[str] | None:
    """A repeatable flag whose every value may be a comma list of components."""
    from byzbench.experiments.suite import split

    return [item for text in given for item in split(text)] if given else None


def numbers(flag: str, given: Sequence[str] | None) -> list[int] | None:
    """A repeatable flag whose every value may be a comma list of whole numbers."""
    try:
        return [int(item) for text in given for item in text.split(",")] if given else None
    except ValueError:
        raise InvalidParameter(f"--{flag} takes whole numbers, got {','.join(given or [])!r}") from None


def filled(point: Mapping[str, Any], given: Sequence[str] | None, tuned: Sequence[Path] | None) -> dict[str, Any]:
    """Parameters by kind, of `-p` and of files of tuned ones, for the components of `point`.

    Raises:
        InvalidParameter: a file is for another component.
    """
    from byzbench.experiments.tuned import Tuned as File

    found: dict[str, dict[str, Any]] = parameters(given or [])
    for path in tuned or []:
        file = File.read(path)
        if not file.concerns(point):
            raise InvalidParameter(f"{path} has parameters for {file.kind} {file.components[file.kind]!r}")
        found = file.fill(point, found)
    return found


def write_page(path: Path, text: str) -> None:
    """Write the page that an option names.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
