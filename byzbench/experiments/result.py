"""Result of a run, or of several that differ in their seeds, with its verdict."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from byzbench.canonical import SCHEMA
from byzbench.errors import InvalidParameter, suggest
from byzbench.experiments.episodes import render_episode
from byzbench.experiments.trained_policy import TrainedPolicy
from byzbench.experiments.verdict import SEVERITY, Verdict, mean_of
from byzbench.records.run_folder import RunFolder


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a finished run, or of several that differ in their seeds.

    The attributes are the keys of `result.json`, where `final` is named `return`. What a run leaves in its folder is
    read by `curve`, `policy` and `render`.

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

    @property
    def folder(self) -> Path:
        """Return the run folder.

        Raises:
            InvalidParameter: The result is that of several runs.
        """
        if not isinstance(self.run, str):
            raise InvalidParameter(f"this is the result of {len(self.run)} runs, each with a folder of its own")
        return Path(self.run)

    def curve(self, metric: str = "return") -> tuple[list[int], list[float | None]]:
        """Return the learning curve: trajectories per agent, and a metric of the rounds that have it.

        Args:
            metric: A column of metrics.jsonl: `return` of training, `evaluation` of the policies, and others.

        Raises:
            InvalidParameter: No round has this metric.
            CorruptRecord: The log of the run is missing or damaged.
        """
        lines = RunFolder(self.folder).metrics()
        with_metric = [line for line in lines if metric in line]
        if not with_metric:
            known = sorted({key for line in lines for key in line})
            raise InvalidParameter(f"no metric {metric!r}. {suggest(metric, known)}Metrics: {', '.join(known)}.")
        return [line["trajectories"] for line in with_metric], [line[metric] for line in with_metric]

    def policy(self, agent: int | None = None) -> TrainedPolicy:
        """Return the trained policy of an agent, which acts, is a torch module, and can be saved.

        Args:
            agent: The id of the agent; None for the first honest one.
        """
        return TrainedPolicy.of_run(self.folder, agent)

    def render(self, path: str | Path | None = None, *, agent: int | None = None, seed: int = 0) -> Path:
        """Render an episode of an agent's policy with its likeliest actions as a GIF.

        Args:
            path: The file; None for `episode.gif` in the run folder.
            agent: The id of the agent; None for the first honest one.
            seed: The seed of the initial state.

        Returns:
            The file.
        """
        file = self.folder / "episode.gif" if path is None else Path(path)
        render_episode(self.folder, file, agent=agent, seed=seed)
        return file

    def __repr__(self) -> str:
        values = [f"{name} {_number(value)}" for name, value in self._numbers().items()]
        return f"Result({', '.join([self.verdict.name, *values])}, {self.run!r})"

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        rows = {"verdict": f"{self.verdict.name}: {self.verdict.meaning}"}
        rows |= {name: _number(value) for name, value in self._numbers().items()}
        rows |= {"trajectories": f"{self.trajectories:,}", "run": str(self.run)}
        cells = (f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
        return f"<table>{''.join(cells)}</table>"

    def _numbers(self) -> dict[str, float | None]:
        """Return the two returns at the end."""
        return {"return": self.final["mean"], "evaluation": self.evaluation.get("evaluation")}


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


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
