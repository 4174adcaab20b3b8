"""Tuned parameters as a file: what was found, for which component, on which attacks and seeds, by which study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from byzbench import registry
from byzbench.canonical import SCHEMA
from byzbench.errors import InvalidParameter, StorageError
from byzbench.experiments.files import parse, read_bytes
from byzbench.experiments.migrations import migrate

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


class TunedOn(BaseModel):
    """What a study has seen, and what an evaluation therefore must not use."""

    model_config = ConfigDict(extra="forbid")

    env: str
    attacks: list[str]
    algorithms: list[str]
    seeds: list[int]
    trajectories: int
    agents: int
    byzantine: int
    topology: str


class Tuned(BaseModel):
    """The best parameters of a study.

    Attributes:
        kind: whose side was tuned: of the algorithm (with its rules) or of the attack.
        components: by kind, the components that the parameters are for.
        parameters: by kind.
        study: hash of the study's question: components, ranges, seeds, attacks, budget of a run.
        trials: sha256 of the study's finished trials.
        objective: the study's best value, and how many trials it took.
        search: what a leaderboard's submission says of the study, if it was one of a suite.
    """

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(alias="schema", strict=True)] = SCHEMA
    kind: Literal["algorithm", "attack"]
    components: dict[str, str]
    parameters: dict[str, dict[str, Any]]
    study: Digest
    trials: Digest
    objective: dict[str, float | int]
    on: TunedOn
    search: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> Tuned:
        """From a file.

        Raises:
            InvalidParameter: it is not there, or no such file.
        """
        try:
            data = parse(read_bytes(path, 2**20))
            return cls.model_validate(migrate("tuned", data, path) if isinstance(data, dict) else data)
        except FileNotFoundError:
            raise InvalidParameter(f"there is no file {path}") from None
        except ValidationError as error:
            first = error.errors()[0]
            said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except ValueError:
            said = "not JSON"
        raise InvalidParameter(f"{path} is not a file of tuned parameters: {said}")

    def write(self, path: Path) -> None:
        """To a file, whole or not at all."""
        text = json.dumps(self.model_dump(by_alias=True, exclude_none=True), indent=2, sort_keys=True) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_text(text)
            temporary.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None

    def fill(self, point: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Parameters by kind, with the tuned ones where the user's own (`parameters`, or in `point`) leave room.

        Nothing is added where `point` names another component than the one that was tuned. A rule that `point` leaves
        to the algorithm is the one that was tuned.
        """
        filled = {kind: dict(values) for kind, values in parameters.items()}
        if not self.concerns(point):
            return filled
        for kind, values in self.parameters.items():
            written = point.get(registry.FLAGS[kind])
            spec = registry.parse(written) if isinstance(written, str) else None
            if spec is None or spec.name == self.components[kind]:
                own = spec.parameters if spec else {}
                free = {k: v for k, v in values.items() if k not in own}
                filled[kind] = free | filled.get(kind, {})
        return filled

    def concerns(self, point: Mapping[str, Any]) -> bool:
        """Whether `point`, by flags, holds the component that was tuned."""
        written = point.get(registry.FLAGS[self.kind])
        return isinstance(written, str) and registry.parse(written).name == self.components[self.kind]
