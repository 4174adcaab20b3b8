"""Suites of experiments, from TOML files or flags, and their plans: validated cells."""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    create_model,
    model_validator,
)

from byzbench import registry
from byzbench.axes import AXES, Axis, without_aliases
from byzbench.errors import ByzbenchError, InvalidParameter, Undefined, validation_text
from byzbench.experiments.experiment import Experiment
from byzbench.literals import split_at_commas
from byzbench.records.files import read_named_file
from byzbench.records.migrations import migrate
from byzbench.records.tuned import TunedParameters


def split(text: str) -> list[str]:
    """Split a text of several components at its top-level commas.

    Example:
        >>> split("alie(z=1.5,sign=plus),ipm")
        ['alie(z=1.5,sign=plus)', 'ipm']
        >>> split("alie:z=1.5,sign=plus,ipm")
        ['alie:z=1.5,sign=plus', 'ipm']
    """
    components: list[str] = []
    for item in map(str.strip, split_at_commas(text)):
        if components and re.match(r"\w+\s*:", components[-1]) and re.match(r"\w+\s*=", item):
            components[-1] += f",{item}"
        elif item:
            components.append(item)
    return components


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


_ALWAYS = ("algo", "attack", "env")
"""The axes that have values in every suite; the others have those of `Experiment.create` if a suite is silent."""


def _axis_field(axis: Axis) -> tuple[Any, list[Any] | None]:
    """Return the type and the default of the field of an axis, which takes one value or a list."""
    value: Any = axis.type
    single = BeforeValidator(_as_list, json_schema_input_type=value | list[value])
    values = Annotated[list[Annotated[value, Field(strict=True)]], single, Field(min_length=1)]
    return (values, [axis.default]) if axis.name in _ALWAYS else (values | None, None)


_SWEPT = {axis.name: axis for axis in AXES if axis.name != "seed"}
_Axes = create_model("_Axes", **{name: _axis_field(axis) for name, axis in _SWEPT.items()})  # type: ignore[call-overload]


def _seeds(value: Any) -> Any:
    if type(value) is int and value > 0:
        return list(range(value))
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a number of seeds, at least 1, or a list of seeds; got {value!r}")
    return value


def _by_kind(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge the parameters of the aliases of a kind (algo, algorithm) under its name."""
    merged: dict[str, dict[str, Any]] = {}
    for alias, parameters in values.items():
        merged.setdefault(registry.kind_of(alias), {}).update(parameters)
    return merged


class SweepGrid(_Axes, BaseModel):  # type: ignore[valid-type, misc]
    """A suite of experiments: axes, whose product are the cells, and common options.

    Every axis of `byzbench.axes` is a field that takes one value or a list; the defaults are those of
    `Experiment.create`.

    Attributes:
        seeds: The seeds, or their number (0, 1, ...).
        parameters: The parameters of every cell by kind: {"attack": {"z": 1.5}}.
        exclude: The cells to leave out; each entry maps axes to values, and excludes the cells that have all of them.
        tuned: The files of tuned parameters, each for the component that it names.

    Example:
        >>> suite = SweepGrid.of({"attack": ["none", "alie"], "seeds": 2})
        >>> suite.attack, suite.seeds
        (['none', 'alie'], [0, 1])
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,80}$")] = "sweep"
    seeds: Annotated[
        list[Annotated[int, Field(strict=True, ge=0)]],
        BeforeValidator(_seeds, json_schema_input_type=PositiveInt | list[NonNegativeInt]),
        Field(min_length=1),
    ] = [0]
    parameters: Annotated[dict[str, dict[str, Any]], AfterValidator(_by_kind)] = {}
    exclude: list[dict[str, str | int]] = []
    tuned: list[str] = []

    @model_validator(mode="after")
    def _check_exclude(self) -> SweepGrid:
        axes = self.axes()
        for axis, value in ((a, v) for entry in self.exclude for a, v in entry.items()):
            if axis not in axes:
                raise ValueError(f"exclude: {axis!r} is not an axis of this suite; its axes: {', '.join(axes)}")
            if str(value) not in map(str, axes[axis]):
                known = ", ".join(map(str, axes[axis]))
                raise ValueError(f"exclude: {axis} has no value {value!r} in this suite; its values: {known}")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "sweep") -> SweepGrid:
        """Create a suite from plain data.

        Args:
            values: The fields by name; an axis may have an alias.
            where: The source of the data, for the message.

        Raises:
            InvalidParameter: There are no fields, or some are invalid; the message is one line with the path of each
                error.
        """
        if not values:
            raise InvalidParameter(f"{where} has neither axes nor seeds; give some, for example attack")
        try:
            return cls.model_validate(without_aliases(values))
        except ValidationError as error:
            messages = [
                ": ".join(filter(None, (".".join(map(str, e["loc"])), validation_text(e, cls.model_fields))))
                for e in error.errors()
            ]
            raise InvalidParameter(f"{where}: {'; '.join(messages)}") from None

    @classmethod
    def read(cls, path: Path) -> SweepGrid:
        """Read a suite from a TOML file.

        Paths of tuned parameters in the file are relative to it. The file may have a `schema` number; the default is 1.

        Raises:
            InvalidParameter: The file does not exist or is invalid.
        """
        try:
            values = tomllib.loads(read_named_file(path).decode())
        except FileNotFoundError:
            raise InvalidParameter(f"there is no suite {path}") from None
        except (ValueError, RecursionError) as error:
            raise InvalidParameter(f"{path} is not TOML: {error}") from None
        suite = cls.of({k: v for k, v in migrate("suite", values, path).items() if k != "schema"}, str(path))
        return suite.model_copy(update={"tuned": [str(path.parent / file) for file in suite.tuned]})

    def axes(self) -> dict[str, list[Any]]:
        """Return the axes that have values, in the order of the cells' labels."""
        return {name: values for name in _SWEPT if (values := getattr(self, name)) is not None}


@dataclass(frozen=True)
class SweepPlan:
    """The cells of a suite.

    Attributes:
        name: The name of the suite.
        cells: The distinct experiments by label.
        undefined: The reasons why combinations are undefined, by label without the seed.
    """

    name: str
    cells: Mapping[str, Experiment]
    undefined: Mapping[str, str]

    @property
    def hash(self) -> str:
        """Return the 16 hexadecimal digits that identify the set of cells, in any order."""
        return hashlib.sha256("".join(sorted(cell.hash for cell in self.cells.values())).encode()).hexdigest()[:16]


def plan_sweep(suite: SweepGrid) -> SweepPlan:
    """Create and check all experiments of a suite, without running them.

    Args:
        suite: The suite.

    Returns:
        The plan, with the reasons for undefined combinations.

    Raises:
        UserError: The suite is invalid; the message is one line with the errors of all axes.

    Example:
        >>> list(plan_sweep(SweepGrid(attack=["none", "alie"], trajectories=[100])).cells)
        ['decbyzpg · none · seed 0', 'decbyzpg · alie · seed 0']
    """
    tuned = [TunedParameters.read(Path(file)) for file in suite.tuned]
    axes = suite.axes()
    if errors := list(dict.fromkeys(_axis_errors(axes))):
        raise InvalidParameter("; ".join(errors))
    varied = [name for name, values in axes.items() if len(values) > 1]
    cells: dict[str, Experiment] = {}
    undefined: dict[str, str] = {}
    hashes: set[str] = set()
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        if any(all(str(point.get(k)) == str(v) for k, v in entry.items()) for entry in suite.exclude):
            continue
        label_axes = [name for name in point if name in varied or name in ("algo", "attack")]
        label = " · ".join(point[n] if _SWEPT[n].type is str else f"{n}={point[n]}" for n in label_axes)
        for seed in suite.seeds:
            try:
                cell = _create(point, seed, suite, tuned)
            except Undefined as error:
                undefined.setdefault(label, str(error))
                break
            except ByzbenchError as error:
                raise type(error)(f"{label}: {error}") from None
            if cell.hash not in hashes:
                hashes.add(cell.hash)
                cells[f"{label} · seed {seed}"] = cell
    return SweepPlan(suite.name, cells, undefined)


def _create(point: Mapping[str, Any], seed: int, suite: SweepGrid, tuned: Sequence[TunedParameters]) -> Experiment:
    parameters = suite.parameters
    for file in tuned:
        parameters = file.fill(point, parameters)
    return Experiment.create(**point, seed=seed, parameters=parameters)


def _axis_errors(axes: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield the errors of single values of the axes."""
    for axis, values in axes.items():
        for value in values if _SWEPT[axis].is_kind else ():
            try:
                registry.find(registry.kind_of(axis), registry.parse_spec(value).name)
            except ByzbenchError as error:
                yield str(error)
