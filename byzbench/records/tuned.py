"""Files of tuned parameters: the values, their components, and the study that they are from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.errors import InvalidParameter, StorageError, validation_text
from byzbench.records.files import parse_json, read_named_file, write_file
from byzbench.records.migrations import migrate

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


TunedSide: TypeAlias = Literal["algorithm", "attack"]
"""The side whose parameters are tuned."""


class TunedOn(BaseModel):
    """The experiments of a study; an evaluation of its parameters must use other seeds."""

    model_config = ConfigDict(extra="forbid")

    env: str
    attacks: list[str]
    algorithms: list[str]
    seeds: list[int]
    trajectories: int
    agents: int
    byzantine: int
    topology: str


class TunedParameters(BaseModel):
    """The best parameters of a study.

    Attributes:
        version: The schema number of the file.
        kind: The tuned side: the algorithm (with its rules) or the attack.
        components: The components of the parameters, by kind.
        parameters: The values by kind and name.
        study: The hash of the study's problem: components, ranges, seeds, attacks, budget of a run.
        trials: The sha256 of the study's finished trials.
        objective: The study's best value, its trial and the number of trials.
        on: The experiments of the study.
        search: The record of the study in a leaderboard submission, for the study of a suite.
        task: The task of the suite whose strata have the parameters; None: all.
    """

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(alias="schema", strict=True)] = SCHEMA
    kind: TunedSide
    components: dict[str, str]
    parameters: dict[str, dict[str, Any]]
    study: Digest
    trials: Digest
    objective: dict[str, float | int]
    on: TunedOn
    search: dict[str, Any] | None = None
    task: str | None = None

    @classmethod
    def read(cls, path: Path) -> TunedParameters:
        """Read a file of tuned parameters.

        Raises:
            InvalidParameter: The file does not exist or is invalid.
        """
        try:
            data = parse_json(read_named_file(path, 2**20))
            return cls.model_validate(migrate("tuned", data, path) if isinstance(data, dict) else data)
        except FileNotFoundError:
            raise InvalidParameter(f"there is no file {path}") from None
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {validation_text(first, cls.model_fields)}"
        except ValueError:
            reason = "not JSON"
        raise InvalidParameter(f"{path} is not a file of tuned parameters: {reason}")

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        text = json.dumps(self.model_dump(by_alias=True, exclude_none=True), indent=2, sort_keys=True) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
        write_file(path, text)

    def fill(self, point: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Add the tuned parameters to those of the user, which have priority.

        Nothing is added to a component that differs from the tuned one. A rule that `point` does not name is the
        default of the algorithm, and counts as the tuned one.

        Args:
            point: The components and counts by flag, as written by the user.
            parameters: The user's further parameters by kind.

        Returns:
            The parameters by kind.
        """
        merged = {kind: dict(values) for kind, values in parameters.items()}
        if not self.concerns(point):
            return merged
        for kind, values in self.parameters.items():
            written = point.get(registry.FLAGS[kind])
            spec = registry.with_parameters(kind, written, {}) if isinstance(written, str) else None
            if spec is None or spec.name == self.components[kind]:
                explicit = spec.parameters if spec else {}
                free = {k: v for k, v in values.items() if k not in explicit}
                merged[kind] = free | registry.current_names(kind, self.components[kind], merged.get(kind, {}))
        return merged

    def concerns(self, point: Mapping[str, Any]) -> bool:
        """Return whether the components of `point`, by flag, include the tuned one."""
        written = point.get(registry.FLAGS[self.kind])
        return isinstance(written, str) and registry.parse_spec(written).name == self.components[self.kind]
