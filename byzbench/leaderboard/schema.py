"""A submission: what was run, by which code, and what came of every cell. Nothing in it is an aggregate.

Numbers that enter a digest travel as texts, each the `repr` of a float, so that no tool that rewrites JSON can change
them. Components are texts as users write them, `rfa(iterations=3)`, of a small alphabet: no path and no module fits in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from byzbench.leaderboard.documents import Finding, Refused, parse

SCHEMA = 1
FILES = ("submission.json", "cells.jsonl", "NOTES.md")
LIMITS = {"submission.json": 20_000, "cells.jsonl": 2**20, "NOTES.md": 20_000}
"""Bytes. Three files, one megabyte: no archives, no weights, no images, no HTML."""

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
    """A component of another distribution, and the digest of its code."""

    kind: Word
    name: Word
    distribution: Word
    version: Word
    sha256: Digest


class Code(Part):
    """Which code ran.

    Attributes:
        sha256: of all of it: harness, plug-ins and their data, over all cells.
        harness: of byzbench alone.
        commit: where the harness came from a checkout.
    """

    byzbench: Word
    sha256: Digest
    harness: Digest
    plugins: Annotated[tuple[Plugin, ...], Field(max_length=10)] = ()
    commit: Annotated[str, _text(40, r"^[0-9a-f]{40}$")] | None = None


class Environment(Part):
    """What else decides about bits: versions by distribution, the CPU's instructions, the threads."""

    versions: Annotated[dict[Word, Word], Field(max_length=20)]
    cpu: Word
    threads: Annotated[int, Field(strict=True, ge=1, le=1)]


class Tuning(Part):
    """How parameters were found; an entry without it is shown as untuned.

    Attributes:
        study: the hash of its question: components, ranges, seeds, attacks, budget of a run.
        trials_sha256: of its finished trials. trials: how many they are.
        seeds, attacks: what they were judged on. No seed of the suite can be among them: those follow from what was
            found.
    """

    study: Annotated[str, _text(64, r"^[0-9a-f]{16,64}$")]
    trials_sha256: Annotated[str, _text(64, r"^[0-9a-f]{16,64}$")]
    trials: Annotated[int, Field(strict=True, ge=1, le=100_000)]
    seeds: Annotated[tuple[Count, ...], Field(min_length=1, max_length=1000)]
    attacks: Annotated[tuple[Spec, ...], Field(max_length=100)]


class Submission(Part):
    """`submission.json`.

    Attributes:
        suite, suite_sha256: the name of a frozen suite, and of which bytes.
        cells_sha256: of `cells.jsonl`.
        supersedes: the digest of the submission whose place this one takes; that one stays, and stays visible.
    """

    version: Annotated[int, Field(alias="schema", strict=True, ge=SCHEMA, le=SCHEMA)]
    track: Track
    suite: Slug
    suite_sha256: Digest
    entry: About
    method: Method
    code: Code
    environment: Environment
    tuning: Tuning | None = None
    cells_sha256: Digest
    supersedes: Digest | None = None


class Cell(Part):
    """A line of `cells.jsonl`: one run.

    Attributes:
        cell: the hash of the experiment.
        stratum, attack, seed: its place in the suite; `seed` is an index, from which the seed that is run follows.
        algo: the suite's algorithm that was attacked, in the track of attacks.
        status: a cell that is not `ok` scores 0, and has no return.
        value: `return` in JSON: the last evaluation return, the mean over honest agents.
        curve: the evaluation returns at every twentieth of the budget; None where one is not finite.
        opening: numbers of the first round, which another machine must find again.
        disagreement: of the honest agents at the end.
        trace: sha256 of `metrics.jsonl`.
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
    opening: Annotated[dict[Word, Decimal], Field(max_length=10)] = {}
    disagreement: Decimal | None = None
    trajectories: Count = 0
    steps: Count = 0
    screened: Count = 0
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
    """`submission.json`."""
    return validate(Submission, parse(content, "submission.json"), "submission.json")


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
