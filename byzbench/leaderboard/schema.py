"""The schema of submissions: the method, the code that ran it, and the result of every cell, without aggregates.

Numbers of cells are texts, each the `repr` of a float, so that tools that rewrite JSON cannot change them. Components
are texts as users write them, `rfa(iterations=3)`, and descriptions with the value of every parameter. Both are limited
to characters with which neither a path nor a module can be written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from byzbench.canonical import SCHEMA
from byzbench.errors import CorruptRecord, validation_text
from byzbench.identity import ComponentIdentity, RunIdentity
from byzbench.leaderboard.documents import Finding, Refused, parse_document
from byzbench.leaderboard.names import link_offence, name_offence
from byzbench.records.migrations import migrate

FILES = ("submission.json", "cells.jsonl", "NOTES.md")
"""The files of a submission; NOTES.md is optional."""

LIMITS = {"submission.json": 200_000, "cells.jsonl": 2**20, "NOTES.md": 20_000}
"""Largest size of each file, in bytes. All are text files."""

Track = Literal["defence", "attack", "adaptive", "reported"]
Division = Literal["decentralised", "server"]
Knowledge = Literal["local", "coordinated", "omniscient"]
"""The knowledge of an adversary: its own vectors; also those of all Byzantine agents and the graph; or everything."""


def _link(text: str) -> str:
    if offence := link_offence(text):
        raise ValueError(offence)
    return text


def _name(text: str) -> str:
    if offence := name_offence(text):
        raise ValueError(offence)
    return text


def _decimal(text: str) -> str:
    # The pattern of `Decimal` excludes nan and inf. A text such as 1e999 reads as inf, and is refused here.
    if repr(float(text)) != text:
        raise ValueError("a number is written as Python prints the float, for example '187.25'")
    return text


def _date(text: str) -> str:
    date.fromisoformat(text)
    return text


def _text(max_length: int, pattern: str | None = None) -> Any:
    return StringConstraints(min_length=1, max_length=max_length, pattern=pattern, strict=True)


def _trimmed(text: str) -> str:
    if text != text.strip():
        raise ValueError("a text must not start or end with a blank")
    return text


Name = Annotated[str, _text(80), AfterValidator(_trimmed), AfterValidator(_name)]
Line = Annotated[str, _text(300), AfterValidator(_trimmed)]
Date = Annotated[str, _text(10, r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_date)]
Word = Annotated[str, _text(40, r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$")]
Slug = Annotated[str, _text(39, r"^[a-z0-9][a-z0-9-]*$")]
Link = Annotated[str, _text(200, r"^[!#-;=?-\[\]_a-z~]+$"), AfterValidator(_link)]
Spec = Annotated[str, _text(160, r"^[A-Za-z_][A-Za-z0-9_.,=()+ -]*$")]
"""A component as users write it, without quotes, slashes and colons, so that it cannot name a file or a module."""

TaskSpec = Annotated[str, _text(160, r"^[A-Za-z_][A-Za-z0-9_.,=()+ :/-]*$")]
"""A task of a suite as users write it, for example `gymnasium:Acrobot-v1`. It never comes from a submission."""

TaskText = Annotated[str, _text(322, r"^[A-Za-z_][A-Za-z0-9_.,=()+ :/-]*$")]
"""A task of a suite, as `byzbench.leaderboard.suites.Stratum.learner`; that of a submission must be one of them."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_VALUE = re.compile(r"[A-Za-z0-9_.,=()+ -]{0,160}")


def _component(value: Any) -> dict[str, Any]:
    """Return a described component if its names, values and sizes are allowed.

    Raises:
        ValueError: They are not; the message says what is allowed.
    """
    if not isinstance(value, dict) or set(value) != {"name", "parameters"} or not isinstance(value["parameters"], dict):
        raise ValueError("a component has a name and parameters, and nothing else")
    names = [value["name"], *value["parameters"]]
    if len(names) > 60 or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ValueError("a component has at most 59 parameters, and all names are of letters, digits and _")
    for name, inner in value["parameters"].items():
        if isinstance(inner, dict):
            _component(inner)
            continue
        items = inner if isinstance(inner, list) else [inner]
        if len(items) > 64 or not all(item is None or isinstance(item, bool | int | float | str) for item in items):
            raise ValueError(f"{name} is a number, a text, a component, or a list of at most 64 numbers or texts")
        if not all(_VALUE.fullmatch(item) for item in items if isinstance(item, str)):
            raise ValueError(f"a text in {name} has at most 160 letters, digits and blanks, and .,=()+-_")
    return value


Described = Annotated[Any, AfterValidator(_component)]
"""A component as from `byzbench.registry.describe`: its name and the value of every parameter."""

Axis = Annotated[str, _text(40, r"^[a-z][a-z_]*$")]
Positive = Annotated[int, Field(strict=True, ge=1)]
Digest = Annotated[str, _text(64, r"^[0-9a-f]{64}$")]
Hash = Annotated[str, _text(16, r"^[0-9a-f]{16}$")]
Decimal = Annotated[str, _text(30, r"^-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$"), AfterValidator(_decimal)]
Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]


class Document(BaseModel):
    """A document or a part of one. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class EntryMetadata(Document):
    """The name and the authors of an entry.

    Attributes:
        name: The name on the boards.
        slug: The name of the folder.
        authors: The names of the authors.
        paper: The address of the paper.
        license: The license of the code, by its SPDX identifier.
        conflicts: Conflicts of interest that a reader should know.
        submitted: The date on which it was submitted, YYYY-MM-DD; None in entries older than this field.
    """

    name: Name
    slug: Slug
    authors: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]
    paper: Link | None = None
    license: Word
    conflicts: Annotated[Line, AfterValidator(_name)] | None = None
    submitted: Date | None = None


class TaskMethod(Document):
    """The components of a method that have parameters of their own in one task.

    Attributes:
        task: The task.
        algo, aggregator, agreement: The components in the task; None: those of the method.
    """

    task: TaskText
    algo: Spec | None = None
    aggregator: Spec | None = None
    agreement: Spec | None = None

    @property
    def options(self) -> dict[str, str]:
        """The options of `Experiment.create` that differ from those of the method."""
        return self.model_dump(exclude_none=True, exclude={"task"})


class Method(Document):
    """The entered method, in the options of `byzbench run`; an option that is None has its default.

    Attributes:
        algo, preset, aggregator, agreement: The defence; None in the track attack, where the suite sets it.
        attack: The attack; None in the tracks defence and reported.
        against: The slug of the entry that an adaptive attack is aimed at.
        tasks: The tasks in which components have other parameters; None if there are none.

    Example:
        >>> method = Method(algo="decbyzpg", tasks=(TaskMethod(task="lqr", algo="decbyzpg(lr=0.1)"),))
        >>> method.options, method.in_task("lqr").options
        ({'algo': 'decbyzpg'}, {'algo': 'decbyzpg(lr=0.1)'})
    """

    algo: Spec | None = None
    preset: Word | None = None
    aggregator: Spec | None = None
    agreement: Spec | None = None
    attack: Spec | None = None
    against: Slug | None = None
    tasks: Annotated[tuple[TaskMethod, ...], Field(min_length=1, max_length=100)] | None = None

    @model_validator(mode="after")
    def _has_distinct_tasks(self) -> Method:
        if self.tasks and len({part.task for part in self.tasks}) < len(self.tasks):
            raise ValueError("every task must occur once")
        return self

    @property
    def options(self) -> dict[str, str]:
        """The options of `Experiment.create` that the method sets, in tasks without parameters of their own."""
        return self.model_dump(exclude_none=True, exclude={"against", "tasks"})

    @property
    def as_written(self) -> Method:
        """The method without the parameters of single tasks."""
        return self.model_copy(update={"tasks": None})

    def in_task(self, task: str) -> Method:
        """Return the method in one task.

        Args:
            task: The task, as `byzbench.leaderboard.suites.Stratum.learner`.
        """
        own = next((part.options for part in self.tasks or () if part.task == task), {})
        return self.model_copy(update={**own, "tasks": None})


class Plugin(Document):
    """A component of a distribution other than byzbench. The digest of its code is in `Code.components`."""

    kind: Word
    name: Word
    distribution: Word
    version: Word


class ComponentVersion(Document):
    """The version and the digests of a component that was run, as in `byzbench.identity.ComponentIdentity`."""

    version: Positive
    digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})?$", strict=True)]
    data: Hash | None = None


class Code(Document):
    """The code that ran the cells.

    Attributes:
        byzbench: The version of byzbench.
        engine: `byzbench.identity.ENGINE`; None in submissions that are older than engines.
        components: The components of all cells, by kind and name, for example `attack alie`.
        plugins: The components that are not part of byzbench.
        source: The digest of all source files of byzbench; for information.
        commit: The commit of the checkout, None without one; for information.
    """

    byzbench: Word
    engine: Positive | None = None
    components: Annotated[
        dict[Annotated[str, _text(101, r"^[a-z]{1,40} [A-Za-z_][A-Za-z0-9_]*$")], ComponentVersion],
        Field(max_length=200),
    ] = {}
    plugins: Annotated[tuple[Plugin, ...], Field(max_length=10)] = ()
    source: Digest
    commit: Annotated[str, _text(40, r"^[0-9a-f]{40}$")] | None = None

    def identity(self, other: RunIdentity) -> RunIdentity:
        """Return the identity of this code, limited to the components of another identity.

        Args:
            other: The identity that it will be compared with.
        """
        components = {
            name: ComponentIdentity(part.version, part.digest, part.data or "")
            for name, part in self.components.items()
            if name in other.components
        }
        return RunIdentity(other.experiment, self.engine or 0, components)


class Environment(Document):
    """The environment of the runs, which may change the last bits of numbers.

    Attributes:
        versions: Library versions by distribution.
        cpu: The instruction set of the CPU.
        processor: The type of the CPU.
        threads: Number of threads.
    """

    versions: Annotated[dict[Word, Word], Field(max_length=20)]
    cpu: Word
    processor: Word | None = None
    threads: Annotated[int, Field(strict=True, ge=1, le=1)]


class Search(Document):
    """The study of a suite by which parameters were tuned (`byzbench.leaderboard.suite_study`, `attack_study`).

    Attributes:
        method: The method that was tuned, as written; of an attack's search, the method and row that were attacked.
        ranges: By `kind.field`, [low, high, log] of a searched range, or the values of a choice.
        sampler_seed: The seed of the search.
        episodes, steps: Numbers of episodes and steps of all runs, summed over agents.
        best: After each complete trial, the best value so far.
        again: The value of the best parameters on fresh seeds.
        default: The value of the method as written, on the same seeds; of an attack's search, without an attack.
    """

    method: Method
    ranges: Annotated[
        dict[
            Annotated[str, _text(101, r"^[a-z]{1,40}\.[A-Za-z_][A-Za-z0-9_]*$")],
            Annotated[tuple[bool | int | float | Annotated[str, _text(160)] | None, ...], Field(max_length=64)],
        ],
        Field(min_length=1, max_length=60),
    ]
    sampler_seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    episodes: Count
    steps: Count
    best: Annotated[tuple[Decimal, ...], Field(min_length=1, max_length=100_000)]
    again: Decimal
    default: Decimal


class Tuning(Document):
    """The tuning of an entry; an entry without it is shown as untuned.

    Attributes:
        study: The hash of the study: components, ranges, seeds, attacks, budget of a run.
        trials_sha256: The digest of the finished trials.
        trials: Number of finished trials.
        seeds: The seeds on which trials were evaluated; none of them is a seed of the suite.
        attacks: The attacks under which trials were evaluated; of an attack's search, its candidates.
        search: The study, if it is a study of the suite; None otherwise.
        task: The task whose parameters were tuned; None if they are those of all strata.
    """

    study: Annotated[str, _text(64, r"^[0-9a-f]{16,64}$")]
    trials_sha256: Annotated[str, _text(64, r"^[0-9a-f]{16,64}$")]
    trials: Annotated[int, Field(strict=True, ge=1, le=100_000)]
    seeds: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0, lt=2**63)], ...], Field(min_length=1, max_length=1000)
    ]
    attacks: Annotated[tuple[Spec, ...], Field(max_length=100)]
    search: Search | None = None
    task: TaskText | None = None


class Submission(Document):
    """The document `submission.json`.

    Attributes:
        version: The schema number under which it was written. The other fields are as they would be written today,
            except `method` and `resolved`, which have the names of components and parameters of that time.
        track: The track.
        suite, suite_sha256: The name and the sha256 of the frozen suite.
        entry: The name and the authors.
        method: The method as the entrant wrote it.
        resolved: By stratum and axis, the components with the value of every parameter. Replays are built from it.
        code: The code that ran the cells.
        environment: The environment of the runs.
        tuning: The tuning of one parameter set for all strata; None if there is none.
        tunings: The tuning of each task, of a method with a parameter set for each; None if there is none.
        cells_sha256: The sha256 of `cells.jsonl`.
        supersedes: The digest of an earlier submission that this one replaces on the board; that one stays listed.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)]
    track: Track
    suite: Slug
    suite_sha256: Digest
    entry: EntryMetadata
    method: Method
    resolved: Annotated[dict[Slug, Annotated[dict[Axis, Described], Field(max_length=20)]], Field(max_length=100)] = {}
    code: Code
    environment: Environment
    tuning: Tuning | None = None
    tunings: Annotated[tuple[Tuning, ...], Field(min_length=1, max_length=100)] | None = None
    cells_sha256: Digest
    supersedes: Digest | None = None

    @model_validator(mode="after")
    def _has_engine(self) -> Submission:
        if self.version > 1 and self.code.engine is None:
            raise ValueError("code must name the engine that ran it")
        return self

    @model_validator(mode="after")
    def _has_one_form_of_tuning(self) -> Submission:
        if self.tuning and self.tunings:
            raise ValueError("either tuning or tunings can be present")
        return self

    @property
    def studies(self) -> tuple[Tuning, ...]:
        """All tunings of the entry; empty if its parameters were not tuned."""
        return self.tunings or ((self.tuning,) if self.tuning else ())

    @property
    def searches(self) -> tuple[Search, ...]:
        """The studies of the suite among the tunings of the entry."""
        return tuple(tuning.search for tuning in self.studies if tuning.search)

    @property
    def replayable(self) -> bool:
        """True if the cells can be run again."""
        return self.track != "reported" and self.code.engine is not None


class Cell(Document):
    """A line of `cells.jsonl`: one run.

    Attributes:
        cell: The hash of the experiment.
        stratum, attack: The place in the suite.
        seed: The index of the seed; the suite derives the seed from it.
        algo: The algorithm of the suite that was attacked, in the track attack; None in the other tracks.
        status: The status; a cell that is not `ok` scores 0, and has no return.
        verdict: The verdict of the run on learning and consensus.
        value: The last evaluation return, mean over honest agents; `return` in JSON.
        curve: The evaluation returns; None where one is not finite.
        dates: The numbers of trajectories after which they were measured; empty in cells older than this field.
        opening: Numbers of the first round, which must be the same on another machine up to rounding.
        disagreement: The disagreement of the honest agents at the end.
        trajectories, steps: Numbers of trajectories and of steps of the run.
        num_malformed: Number of malformed messages, which validation removed.
        messages, bytes: Numbers of messages and bytes sent by all agents; None in cells older than these fields.
        trace: The sha256 of `trace.jsonl`.
        seconds: Seconds of the training loop.
        reason: Why the cell is not `ok`.
    """

    cell: Hash
    stratum: Slug
    attack: Spec
    seed: Annotated[int, Field(strict=True, ge=0, le=9999)]
    algo: Spec | None = None
    status: Literal["ok", "failed", "diverged", "timeout"]
    verdict: Literal["ok", "not_learning", "no_consensus", "not_finite", "diverged"] | None = None
    value: Annotated[Decimal | None, Field(alias="return")] = None
    curve: Annotated[tuple[Decimal | None, ...], Field(max_length=64)] = ()
    dates: Annotated[tuple[Count, ...], Field(max_length=64)] = ()
    opening: Annotated[dict[Word, Decimal], Field(max_length=10)] = {}
    disagreement: Decimal | None = None
    trajectories: Count = 0
    steps: Count = 0
    num_malformed: Count = 0
    messages: Count | None = None
    bytes: Count | None = None
    trace: Digest | None = None
    seconds: Decimal | None = None
    reason: Line | None = None

    @model_validator(mode="after")
    def _has_increasing_dates(self) -> Cell:
        one_each = len(self.dates) == len(self.curve)
        if self.dates and not (one_each and all(a < b for a, b in itertools.pairwise((0, *self.dates)))):
            raise ValueError("dates must be positive and increase, one for each point of the curve")
        return self

    @property
    def place(self) -> tuple[str, str, str | None, int]:
        """The place of the cell in the suite: stratum, attack, attacked algorithm, index of the seed."""
        return self.stratum, self.attack, self.algo, self.seed


_Model = TypeVar("_Model", bound=Document)


def validate(model: type[_Model], data: Any, name: str) -> _Model:
    """Validate data, and return it as a document or a part of one.

    Args:
        model: The class of the document.
        data: The parsed data.
        name: The name of the document in findings.

    Raises:
        Refused: The data does not fit; there is a finding for every error, with its path.

    Example:
        >>> validate(Method, {"algo": "decbyzpg"}, "method").algo
        'decbyzpg'
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Refused(
            [Finding("schema", f"{name} {_path(e['loc'])}", _message(dict(e))) for e in error.errors()]
        ) from None


def _path(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in location if part != "[key]")
    return "$" + "".join(parts)


def _message(error: Mapping[str, Any]) -> str:
    """Return the message of a pydantic error with the value that was refused."""
    value = error["input"]
    got = f", got {ascii(value)[:60]}" if isinstance(value, str | int | float | bool | None) else ""
    if error["type"] == "extra_forbidden":
        return "is not a key of this document"
    return f"{validation_text(error)}{got if error['type'] != 'missing' else ''}"


def read_submission(content: bytes) -> Submission:
    """Parse `submission.json`, of this schema or an older one.

    Raises:
        Refused: The content is not a submission, or was written by a newer byzbench.
    """
    data = parse_document(content, "submission.json")
    if isinstance(data, dict) and "schema" in data:
        try:
            data = migrate("submission", data, "it") | {"schema": data["schema"]}
        except CorruptRecord as error:
            raise Refused([Finding("schema", "submission.json $.schema", str(error))]) from None
    return validate(Submission, data, "submission.json")


def read_cells(content: bytes) -> tuple[Cell, ...]:
    """Parse `cells.jsonl`, and return the cells in the order of lines.

    Lines have no schema number, so that they may have the keys of any schema.

    Raises:
        Refused: A line is not a cell; there are findings for the first ten such lines.
    """
    findings, cells, num_refused = [], [], 0
    for number, line in enumerate(content.split(b"\n")[: -1 if content.endswith(b"\n") else None], 1):
        name = f"cells.jsonl:{number}"
        try:
            cells.append(validate(Cell, _cell_of_today(parse_document(line, name), name), name))
        except Refused as error:
            findings += error.findings
            num_refused += 1
            if num_refused == 10:
                break
    if findings:
        raise Refused(findings)
    return tuple(cells)


def _cell_of_today(data: Any, name: str) -> Any:
    if not isinstance(data, dict) or "schema" in data:
        return data  # `validate` refuses it
    return {key: value for key, value in migrate("cell", data, name).items() if key != "schema"}


def encode_document(part: Document, *, lines: bool = False) -> bytes:
    """Return a document as JSON, with keys in the order of the schema and without values that are None.

    Args:
        part: The document.
        lines: True for one line without blanks, False for an indented text.

    Example:
        >>> encode_document(Method(algo="decbyzpg"), lines=True)
        b'{"algo":"decbyzpg"}\\n'
    """
    data = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False) if lines else json.dumps(data, indent=2)
    return f"{text}\n".encode()


def sha256_of(*contents: bytes) -> str:
    """Return the sha256 of several texts, each preceded by its length, so that other parts give another digest.

    Example:
        >>> sha256_of(b"ab", b"c") == sha256_of(b"a", b"bc")
        False
    """
    sha256 = hashlib.sha256()
    for content in contents:
        sha256.update(f"{len(content)}\n".encode() + content)
    return sha256.hexdigest()
