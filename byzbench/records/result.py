"""Result of a run, or of several that differ in their seeds, with its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from byzbench.canonical import SCHEMA


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run.

    Attributes:
        name: The verdict: `ok`, `not_learning`, `no_consensus`, `not_finite` or `diverged`.
        number: The number that decided, if any.
        threshold: The threshold with which it was compared, if any.
        meaning: The explanation in one sentence.
    """

    name: str
    number: float | None
    threshold: float | None
    meaning: str


SEVERITY = ("ok", "not_learning", "no_consensus", "not_finite", "diverged")
"""The verdicts from the best to the worst."""


@dataclass(frozen=True)
class Result:
    """The result of a finished run, or of several that differ in their seeds.

    Attributes:
        run: The run folder, or the folders of several runs.
        verdict: The verdict; of several runs, the worst.
        final: The final training return as {mean, low, high, n}, with a 95 % interval over n >= 3 seeds.
        trajectories: The number of trajectories per agent.
        steps: The number of environment steps of all agents.
        steps_per_second: The speed of the training loop, without evaluations and compilation.
        disagreement: The diameter of the honest agents' parameters at the end.
        messages: The number of messages sent.
        bytes: The number of bytes sent.
        num_malformed: The number of malformed messages.
        evaluation: The last evaluation of the honest agents' policies: see `byzbench.experiments.evaluation`.
        versions: The versions of the code that ran.
        trace: The sha256 of `trace.jsonl`; empty for runs that are older than traces.
        diagnostics: The graph diagnostics.
        notes: Remarks for the reader.
        aggregation: The diagnostics of the aggregation, the mean over rounds: see
            `byzbench.experiments.diagnostics`; `error` is in units of the honest spread.
        assumptions: The measured assumption constants: see `byzbench.experiments.assumptions`.
        traffic: The messages and bytes by topic, and the most bytes that one agent sent.
        clock: The virtual `seconds` at the end, the mean share of time in which honest agents do not compute
            (`idle_share`), and of asynchronous agents the mean and largest age of messages in rounds (`staleness`,
            `staleness_max`); empty without a clock.
        seconds: The seconds of `training`, `evaluation` and `compilation`; empty for older runs.
        digests: The sha256 of `experiment.json`, `metrics.jsonl` and `timing.jsonl`; see `byzbench.records.seals`.
        seal: The sha256 of `result.json` with `BLANK` in the place of this digest.
    """

    run: str | list[str]
    verdict: Verdict
    final: dict[str, float | int | None]
    trajectories: int
    steps: int
    steps_per_second: float
    disagreement: float | None
    messages: int
    bytes: int
    num_malformed: int
    evaluation: dict[str, float | None]
    versions: dict[str, str]
    trace: str = ""
    diagnostics: dict[str, float | int | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    aggregation: dict[str, float | None] = field(default_factory=dict)
    assumptions: dict[str, float | None] = field(default_factory=dict)
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)
    clock: dict[str, float | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    seal: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints, in which `final` is named `return`."""
        data = {"schema": SCHEMA, "seal": self.seal, **asdict(self)}
        data["return"] = data.pop("final")
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Create a result from an object of `to_json`.

        Raises:
            ValueError: The object is invalid.
        """
        values = {key: value for key, value in data.items() if key != "schema"}
        values["final"] = values.pop("return", None)
        return TypeAdapter(cls).validate_python(values)


def pool(results: Sequence[Result]) -> Result:
    """Combine the results of runs that differ in their seeds.

    Returns:
        Their means and sums, the worst verdict, and a 95 % interval of Student's t for three or more seeds.
    """
    if len(results) == 1:
        return results[0]
    finals = [r.final["mean"] for r in results if r.final["mean"] is not None]
    mean, low, high = _interval(finals)
    if len(finals) < len(results):
        mean = low = high = None
    worst = max(results, key=lambda r: SEVERITY.index(r.verdict.name))
    disagreements = [r.disagreement for r in results]
    return replace(
        worst,
        run=[str(r.run) for r in results],
        final={"mean": mean, "low": low, "high": high, "n": len(results)},
        trajectories=sum(r.trajectories for r in results) // len(results),
        steps=sum(r.steps for r in results),
        steps_per_second=sum(r.steps for r in results) / sum(r.steps / r.steps_per_second for r in results),
        disagreement=None if None in disagreements else max(d for d in disagreements if d is not None),
        messages=sum(r.messages for r in results),
        bytes=sum(r.bytes for r in results),
        num_malformed=sum(r.num_malformed for r in results),
        diagnostics={k: max((r.diagnostics[k] or 0) for r in results) for k in worst.diagnostics},
        notes=_pool_notes(results),
        aggregation={k: mean_of(r.aggregation.get(k) for r in results) for k in worst.aggregation},
        assumptions={k: mean_of(r.assumptions.get(k) for r in results) for k in worst.assumptions},
        traffic={
            topic: {k: sum(r.traffic.get(topic, {}).get(k, 0) for r in results) for k in sent}
            for topic, sent in worst.traffic.items()
        },
        clock={name: mean_of(r.clock.get(name) for r in results) for name in worst.clock},
        seconds={part: sum(r.seconds.get(part, 0.0) for r in results) for part in worst.seconds},
        digests={},
        seal="",
    )


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None without any.

    Example:
        >>> mean_of([1.0, None, 3.0])
        2.0
    """
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _pool_notes(results: Sequence[Result]) -> list[str]:
    """Return the distinct notes; of notes that agree up to a colon, and differ by seed after it, the longest one."""
    longest: dict[str, str] = {}
    for note in (note for result in results for note in result.notes):
        subject = note.partition(": ")[0]
        longest[subject] = max(longest.get(subject, ""), note, key=len)
    return list(longest.values())


def _interval(values: Sequence[float | int]) -> tuple[float | None, float | None, float | None]:
    """Return the mean and Student's 95 % interval, without an interval for fewer than three values."""
    if not values:
        return None, None, None
    mean = sum(values) / len(values)
    if len(values) < 3:
        return mean, None, None
    from scipy import stats

    half_width = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return mean, mean - half_width, mean + half_width
