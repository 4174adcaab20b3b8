"""A submission: what was run, by which code, and what came of every cell. Nothing in it is an aggregate.

Numbers of cells are texts, each the `repr` of a float, so that no tool that rewrites JSON can change them. Components
are texts as users write them, `rfa(iterations=3)`, and descriptions with every parameter's value. Both are of a small
alphabet: no path and no module fits in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from byzbench.canonical import SCHEMA
from byzbench.errors import CorruptRecord
from byzbench.experiments.migrations import migrate
from byzbench.identity import ComponentIdentity, RunIdentity
from byzbench.leaderboard.documents import Finding, Refused, parse

FILES = ("submission.json", "cells.jsonl", "NOTES.md")
LIMITS = {"submission.json": 200_000, "cells.jsonl": 2**20, "NOTES.md": 20_000}
"""Bytes. Three files of text: no archives, no weights, no images, no HTML."""

Track = Literal["defence", "attack", "adaptive", "reported"]
Division = Literal["decentralised", "server"]
Knowledge = Literal["local", "coordinated", "omniscient"]
"""What the adversary sees, each with what stands before it: its own vectors; all liars', and the graph; anything."""


def _link(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or "." not in (parts.hostname or "") or parts.username or parts.password:
        raise ValueError("a link starts with https:// and a host, and has no user name in it")
    return text


def _decimal(text: str) -> str:
    # The pattern of `Decimal` has no letters but e: nan and inf do not come here, and 1e999 reads as inf.
    if repr(float(text)) != text:
        raise ValueError("a number is written as Python prints the float, for example '187.25'")
    return text


def _text(most: int, pattern: str | None = None) -> Any:
    return StringConstraints(min_length=1, max_length=most, pattern=pattern, strict=True)


def _trimmed(text: str) -> str:
    if text != text.strip():
        raise ValueError("has blanks at its ends")
    return text


Name = Annotated[str, _text(80), AfterValidator(_trimmed)]
Line = Annotated[str, _text(300), AfterValidator(_trimmed)]
Word = Annotated[str, _text(40, r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$")]
Slug = Annotated[str, _text(39, r"^[a-z0-9][a-z0-9-]*$")]
Link = Annotated[str, _text(200, r"^[!#-;=?-\[\]_a-z~]+$"), AfterValidator(_link)]
Spec = Annotated[str, _text(160, r"^[A-Za-z_][A-Za-z0-9_.,=()+ -]*$")]
"""A component: without quotes, slashes or colons, so that neither a file nor a module can be named."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_VALUE = re.compile(r"[A-Za-z0-9_.,=()+ -]{0,160}")


def _component(value: Any) -> dict[str, Any]:
    """Return a described component if its names, values and sizes are such as components have."""
    if not isinstance(value, dict) or set(value) != {"name", "parameters"} or not isinstance(value["parameters"], dict):
        raise ValueError("a component has a name and parameters, and nothing else")
    names = [value["name"], *value["parameters"]]
    if len(names) > 60 or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ValueError("a component has a name, and at most 59 parameters with names, of letters, digits and _")
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
"""A component as `byzbench.registry.describe` has it: its name and the value of every parameter."""
Axis = Annotated[str, _text(40, r"^[a-z][a-z_]*$")]
Positive = Annotated[int, Field(strict=True, ge=1)]
Digest = Annotated[str, _text(64, r"^[0-9a-f]{64}$")]
Hash = Annotated[str, _text(16, r"^[0-9a-f]{16}$")]
Decimal = Annotated[str, _text(30, r"^-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$"), AfterValidator(_decimal)]
Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]


class Part(BaseModel):
    """A part of a document: unknown keys are refused, and nothing is coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class About(Part):
    """Who enters.

    Attributes:
        slug: the name of its folder.
        license: of the code, by its SPDX identifier.
        conflicts: interests that a reader should know of.
    """

    name: Name
    slug: Slug
    authors: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]
    paper: Link | None = None
    license: Word
    conflicts: Line | None = None


class Method(Part):
    """What is judged, as `byzbench run` takes it; what is left out is the default.

    Attributes:
        algo, preset, aggregator, agreement: the defence. An attack's is the suite's, and it has none here.
        attack: of the tracks attack and adaptive.
        against: the slug of the entry that an adaptive attack is aimed at.
    """

    algo: Spec | None = None
    preset: Word | None = None
    aggregator: Spec | None = None
    agreement: Spec | None = None
    attack: Spec | None = None
    against: Slug | None = None

    @property
    def options(self) -> dict[str, str]:
        """The options of `Experiment.create` that it sets."""
        return self.model_dump(exclude_none=True, exclude={"against"})


class Plugin(Part):
    """A component of another distribution. The digest of its code stands among the components."""

    kind: Word
    name: Word
    distribution: Word
    version: Word


class ComponentVersion(Part):
    """A component of the runs: see `byzbench.identity.ComponentIdentity`."""

    version: Positive
    digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})?$", strict=True)]
    data: Hash | None = None


class Code(Part):
    """Which code ran.

    Attributes:
        byzbench: its version.
        engine: `byzbench.identity.ENGINE`; None in submissions that are older than engines.
        components: by kind and name, for example `attack alie`, over all cells.
        plugins: those of them that are not part of byzbench.
        source: the digest of all source files of byzbench. commit: where they came from a checkout. Both are
            information.
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
        """Return what this code says of the components of another identity, or of those of them that it has."""
        parts = {
            name: ComponentIdentity(part.version, part.digest, part.data or "")
            for name, part in self.components.items()
            if name in other.components
        }
        return RunIdentity(other.experiment, self.engine or 0, parts)


class Environment(Part):
    """What else decides about bits: versions by distribution, the CPU's instructions and type, the threads."""

    versions: Annotated[dict[Word, Word], Field(max_length=20)]
    cpu: Word
    processor: Word | None = None
    threads: Annotated[int, Field(strict=True, ge=1, le=1)]


class Search(Part):
    """The study of a suite by which parameters were found: see `byzbench.leaderboard.suite_study`.

    Attributes:
        method: what was tuned, as written.
        ranges: by `kind.field`: [low, high, log] of a range that was searched, or the values of a choice.
        sampler_seed: of the search.
        episodes, steps: what all its runs took, summed over agents.
        best: the best value so far, after each complete trial.
        again: the value of the winner on fresh seeds. default: that of the method as written, on the same.
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


class Tuning(Part):
    """How parameters were found; an entry without it is shown as untuned.

    Attributes:
        study: the hash of its question: components, ranges, seeds, attacks, budget of a run.
        search: the study, where it is one of the suite's own.
        trials_sha256: of its finished trials. trials: how many they are.
        seeds, attacks: what they were evaluated on. None of the seeds is one of the suite's.
    """

    study: Annotated[str, _text(64, r"^[0-9a-f]{16,64}$")]
    trials_sha256: Annotated[str, _text(64, r"^[0-9a-f]{16,64}$")]
    trials: Annotated[int, Field(strict=True, ge=1, le=100_000)]
    seeds: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0, lt=2**63)], ...], Field(min_length=1, max_length=1000)
    ]
    attacks: Annotated[tuple[Spec, ...], Field(max_length=100)]
    search: Search | None = None


class Submission(Part):
    """`submission.json`.

    Attributes:
        version: the schema number under which it was written. The rest is as it would be written today, but for
            `method` and `resolved`, which keep the names that components and parameters had then.
        suite, suite_sha256: the name of a frozen suite, and of which bytes.
        method: what the entrant wrote.
        resolved: by stratum, by axis: what that came to, every parameter's value. Replays are built from it.
        cells_sha256: of `cells.jsonl`.
        supersedes: the digest of the submission whose place this one takes; that one stays, and stays visible.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=1, le=SCHEMA)]
    track: Track
    suite: Slug
    suite_sha256: Digest
    entry: About
    method: Method
    resolved: Annotated[dict[Slug, Annotated[dict[Axis, Described], Field(max_length=20)]], Field(max_length=100)] = {}
    code: Code
    environment: Environment
    tuning: Tuning | None = None
    cells_sha256: Digest
    supersedes: Digest | None = None

    @model_validator(mode="after")
    def _has_engine(self) -> Submission:
        if self.version > 1 and self.code.engine is None:
            raise ValueError("code names the engine that ran it")
        return self

    @property
    def replayable(self) -> bool:
        """Whether its cells can be run again."""
        return self.track != "reported" and self.code.engine is not None


class Cell(Part):
    """A line of `cells.jsonl`: one run.

    Attributes:
        cell: the hash of the experiment.
        stratum, attack, seed: its place in the suite; `seed` is an index, from which the seed that is run follows.
        algo: the suite's algorithm that was attacked, in the track of attacks.
        status: a cell that is not `ok` scores 0, and has no return.
        value: `return` in JSON: the last evaluation return, the mean over honest agents.
        curve: the evaluation returns; None where one is not finite.
        dates: the trajectories after which they were measured; not in cells that are older than dates.
        opening: numbers of the first round, which another machine must find again.
        disagreement: of the honest agents at the end.
        messages, bytes: what all agents sent; not in cells that are older than dates.
        trace: sha256 of `trace.jsonl`.
        seconds: of the training loop.
        reason: why it is not `ok`.
    """

    cell: Hash
    stratum: Slug
    attack: Spec
    seed: Annotated[int, Field(strict=True, ge=0, le=9999)]
    algo: Spec | None = None
    status: Literal["ok", "failed", "diverged", "timeout"]
    verdict: Literal["ok", "not_learning", "no_consensus", "diverged"] | None = None
    value: Annotated[Decimal | None, Field(alias="return")] = None
    curve: Annotated[tuple[Decimal | None, ...], Field(max_length=64)] = ()
    dates: Annotated[tuple[Count, ...], Field(max_length=64)] = ()
    opening: Annotated[dict[Word, Decimal], Field(max_length=10)] = {}
    disagreement: Decimal | None = None
    trajectories: Count = 0
    steps: Count = 0
    screened: Count = 0
    messages: Count | None = None
    bytes: Count | None = None
    trace: Digest | None = None
    seconds: Decimal | None = None
    reason: Line | None = None

    @property
    def place(self) -> tuple[str, str, str | None, int]:
        """What it is a cell of: stratum, attack, algorithm attacked, seed index."""
        return self.stratum, self.attack, self.algo, self.seed


_Model = TypeVar("_Model", bound=Part)


def validate(model: type[_Model], data: Any, name: str) -> _Model:
    """Data as a part of a document.

    Raises:
        Refused: with a finding for every mistake, each with its path.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Refused(
            [Finding("schema", f"{name} {_path(e['loc'])}", _said(dict(e))) for e in error.errors()]
        ) from None


def _path(location: tuple[int | str, ...]) -> str:
    words = (f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in location if part != "[key]")
    return "$" + "".join(words)


def _said(error: Mapping[str, Any]) -> str:
    value = error["input"]
    shown = f", got {ascii(value)[:60]}" if isinstance(value, str | int | float | bool | None) else ""
    if error["type"] == "extra_forbidden":
        return "is no key of this document"
    return f"{error['msg'].removeprefix('Value error, ')}{shown if error['type'] != 'missing' else ''}"


def read_submission(content: bytes) -> Submission:
    """Return the submission in the bytes of `submission.json`, of this schema or an older one.

    Raises:
        Refused: it is none, or was made by a newer byzbench.
    """
    data = parse(content, "submission.json")
    if isinstance(data, dict) and "schema" in data:
        try:
            data = migrate("submission", data, "it") | {"schema": data["schema"]}
        except CorruptRecord as error:
            raise Refused([Finding("schema", "submission.json $.schema", str(error))]) from None
    return validate(Submission, data, "submission.json")


def read_cells(content: bytes) -> tuple[Cell, ...]:
    """`cells.jsonl`: the cells, in order.

    Raises:
        Refused: with the findings of the first ten lines that have any.
    """
    findings, cells, refused = [], [], 0
    for number, line in enumerate(content.split(b"\n")[: -1 if content.endswith(b"\n") else None], 1):
        name = f"cells.jsonl:{number}"
        try:
            cells.append(validate(Cell, parse(line, name), name))
        except Refused as error:
            findings += error.findings
            refused += 1
            if refused == 10:
                break
    if findings:
        raise Refused(findings)
    return tuple(cells)


def write(part: Part, *, lines: bool = False) -> bytes:
    """A part as JSON: keys in the order of the schema, what is None left out; one line, or indented."""
    data = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False) if lines else json.dumps(data, indent=2)
    return f"{text}\n".encode()


def digest(*contents: bytes) -> str:
    """The sha256 of some texts, in which no byte can pass from one to the next."""
    found = hashlib.sha256()
    for content in contents:
        found.update(f"{len(content)}\n".encode() + content)
    return found.hexdigest()
