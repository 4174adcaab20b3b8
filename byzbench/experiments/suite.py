"""A sweep as written, in a TOML file or by flags, and as planned: its cells, each checked before anything runs."""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from byzbench import registry
from byzbench.errors import ByzbenchError, InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.files import read_bytes
from byzbench.experiments.migrations import migrate
from byzbench.experiments.tuned import Tuned


def split(text: str) -> list[str]:
    """Several components in one text: `alie(z=1.5,sign=plus),ipm` or `alie:z=1.5,sign=plus,ipm`."""
    items, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth <= 0:
            items.append("")
        else:
            items[-1] += letter
    found: list[str] = []
    for item in map(str.strip, items):
        if found and re.match(r"\w+\s*:", found[-1]) and re.match(r"\w+\s*=", item):
            found[-1] += f",{item}"
        elif item:
            found.append(item)
    return found


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Names = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
Counts = Annotated[list[Annotated[int, Field(strict=True)]], BeforeValidator(_listed), Field(min_length=1)]
Switch = Annotated[list[Annotated[bool, Field(strict=True)]], BeforeValidator(_listed), Field(min_length=1)]


def _seeds(value: Any) -> Any:
    return list(range(value)) if type(value) is int and value > 0 else value


def _by_kind(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A kind has several names (algo, algorithm); here it has one."""
    found: dict[str, dict[str, Any]] = {}
    for word, own in values.items():
        found.setdefault(registry.kind_of(word), {}).update(own)
    return found


class Suite(BaseModel):
    """Axes to cross, and what all cells share. Every axis takes one value or a list; what is left out follows from the
    rest, as in `Experiment.create`.

    Attributes:
        seeds: how many (0, 1, ...), or which.
        parameters: by kind, of every cell: {"attack": {"z": 1.5}}.
        exclude: cells to leave out: each entry names an axis and a value, and what meets all of them is left out.
        tuned: files of tuned parameters, each for the component that it names.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,80}$")] = "sweep"
    algo: Names = ["decbyzpg"]
    attack: Names = ["none"]
    topology: Names | None = None
    env: Names = ["cartpole"]
    aggregator: Names | None = None
    agreement: Names | None = None
    placement: Names | None = None
    channel: Names | None = None
    coin: Names | None = None
    preset: Names | None = None
    agents: Counts | None = None
    byzantine: Counts | None = None
    declared: Counts | None = None
    relay: Switch | None = None
    mixing: Names | None = None
    trajectories: Counts | None = None
    evaluations: Counts | None = None
    evaluation_episodes: Counts | None = None
    seeds: Annotated[list[Annotated[int, Field(strict=True, ge=0)]], BeforeValidator(_seeds), Field(min_length=1)] = [0]
    device: str = "cpu"
    parameters: Annotated[dict[str, dict[str, Any]], AfterValidator(_by_kind)] = {}
    exclude: list[dict[str, str | int]] = []
    tuned: list[str] = []

    @model_validator(mode="after")
    def _excludes_what_is_there(self) -> Suite:
        axes = self.axes()
        for axis, value in ((a, v) for entry in self.exclude for a, v in entry.items()):
            if axis not in axes:
                raise ValueError(f"exclude: {axis!r} is not an axis of this suite; its axes: {', '.join(axes)}")
            if str(value) not in map(str, axes[axis]):
                raise ValueError(f"exclude: {axis} has no value {value!r}")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "sweep") -> Suite:
        """A suite from plain data.

        Raises:
            InvalidParameter: one line with every mistake, each with its path.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            said = [": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in error.errors()]
            raise InvalidParameter(f"{where}: {'; '.join(said)}") from None

    @classmethod
    def read(cls, path: Path) -> Suite:
        """A suite from a TOML file; paths of tuned parameters in it are relative to it.

        The file may say by which `schema` it was written; without, it is of the first.

        Raises:
            InvalidParameter: there is no such file, or it is no suite.
        """
        try:
            values = tomllib.loads(read_bytes(path).decode())
        except FileNotFoundError:
            raise InvalidParameter(f"there is no suite {path}") from None
        except (ValueError, RecursionError) as error:
            raise InvalidParameter(f"{path} is not TOML: {error}") from None
        suite = cls.of({k: v for k, v in migrate("suite", values, path).items() if k != "schema"}, str(path))
        return suite.model_copy(update={"tuned": [str(path.parent / file) for file in suite.tuned]})

    def axes(self) -> dict[str, list[Any]]:
        """The axes that were given, in the order in which cells are labelled."""
        names = (*_COMPONENTS, "preset", "mixing", *_NUMBERS)
        return {name: values for name in names if (values := getattr(self, name)) is not None}


_COMPONENTS = ("algo", "attack", "topology", "env", "aggregator", "agreement", "placement", "channel", "coin")
_NUMBERS = ("agents", "byzantine", "declared", "trajectories", "evaluations", "evaluation_episodes", "relay")


@dataclass(frozen=True)
class Plan:
    """A suite's cells.

    Attributes:
        name: the suite's.
        cells: by label; no two are the same experiment.
        undefined: combinations that make no sense, by label (of all their seeds), each with the reason.
    """

    name: str
    cells: Mapping[str, Experiment]
    undefined: Mapping[str, str]

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name the set of cells, whatever their order."""
        return hashlib.sha256("".join(sorted(cell.hash for cell in self.cells.values())).encode()).hexdigest()[:16]


def plan(suite: Suite) -> Plan:
    """Check every cell. Nothing has run and nothing is written.

    Raises:
        UserError: one line with everything that is wrong with any axis.
    """
    tuned = [Tuned.read(Path(file)) for file in suite.tuned]
    axes = suite.axes()
    if mistakes := list(dict.fromkeys(_mistakes(axes))):
        raise InvalidParameter("; ".join(mistakes))
    varied = [name for name, values in axes.items() if len(values) > 1]
    cells: dict[str, Experiment] = {}
    undefined: dict[str, str] = {}
    seen: set[str] = set()
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        if any(all(str(point.get(k)) == str(v) for k, v in entry.items()) for entry in suite.exclude):
            continue
        shown = [name for name in point if name in varied or name in ("algo", "attack")]
        label = " · ".join(f"{n}={point[n]}" if n in _NUMBERS else str(point[n]) for n in shown)
        for seed in suite.seeds:
            try:
                cell = _create(point, seed, suite, tuned)
            except Undefined as error:
                undefined.setdefault(label, str(error))
                break
            except ByzbenchError as error:
                raise type(error)(f"{label}: {error}") from None
            if cell.hash not in seen:
                seen.add(cell.hash)
                cells[f"{label} · seed {seed}"] = cell
    return Plan(suite.name, cells, undefined)


def _create(point: Mapping[str, Any], seed: int, suite: Suite, tuned: Sequence[Tuned]) -> Experiment:
    parameters = suite.parameters
    for found in tuned:
        parameters = found.fill(point, parameters)
    return Experiment.create(**point, seed=seed, device=suite.device, parameters=parameters)


def _mistakes(axes: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """What is wrong with any value of any axis, on its own."""
    for axis, values in axes.items():
        for value in values if axis in _COMPONENTS else ():
            try:
                registry.find(registry.kind_of(axis), registry.parse(value).name)
            except ByzbenchError as error:
                yield str(error)
