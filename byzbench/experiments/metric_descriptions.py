"""Descriptions of all numbers that a run writes: the metrics dictionary.

The page of the documentation is made from these descriptions, and a test compares them with the files of runs. A
plug-in may log further metrics, under names of its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["higher", "lower", ""]

EVALUATED = "rounds with an evaluation"
AGGREGATED = "methods that aggregate messages"
AGREED = "methods with an agreement"
MIXED = "agreements that apply a rule"
WEIGHTED = "rounds of methods with importance weights, where a batch was weighted"
EXACT = "tasks with exact returns"


@dataclass(frozen=True)
class MetricDescription:
    """Description of one number, or of one other value, that a run writes.

    Attributes:
        name: The key. A dot leads into an object: `evaluation.evaluation_auc`.
        meaning: The meaning, as a noun phrase.
        unit: The unit; empty for a number without one.
        when: The runs or rounds that have it; empty for all.
        better: Whether a `higher` or a `lower` value is better; empty where neither is.
        shape: The form of the value.
    """

    name: str
    meaning: str
    unit: str = ""
    when: str = ""
    better: Better = ""
    shape: str = "number"


_M = MetricDescription

_RETURN = "undiscounted return"
_BUDGET = (
    _M("trajectories", "the largest number of episodes that an honest agent or the server has sampled", "episodes"),
    _M("steps", "the steps of all agents and the server in these episodes", "environment steps"),
)


def _evaluated(greedy: bool) -> tuple[MetricDescription, ...]:
    """Return the returns of evaluations with sampled, or with the likeliest, actions."""
    name, how = ("evaluation_greedy", "the likeliest") if greedy else ("evaluation", "sampled")
    parts = {
        "": "the mean over honest agents",
        "_worst": "that of the worst honest agent",
        "_cvar": "the mean over the worst fifth of the honest agents",
    }
    return tuple(
        _M(name + suffix, f"return of evaluation episodes with {how} actions, {over}", _RETURN, EVALUATED, "higher")
        for suffix, over in parts.items()
    )


def _applied(rule: str, when: str) -> tuple[MetricDescription, ...]:
    """Return what `byzbench.experiments.diagnostics.diagnose` measures of a rule."""
    linear = f"{when}, with a linear rule"
    kind = {"aggregate": "aggregator", "agreement": "agreement"}[rule]
    return (
        _M(f"{rule}_error", "distance from the rule's output to the honest mean of its inbox", "norm", when, "lower"),
        _M(f"{rule}_spread", "root mean square distance of honest vectors from their mean", "norm", when),
        _M(
            f"{rule}_robustness_constant",
            "largest constant c of a (delta, c)-robust aggregator that this round shows",
            "",
            when,
            "lower",
        ),
        _M(
            f"{rule}_byzantine_pull",
            "displacement of the output towards the Byzantine mean: 0 at the honest mean, 1 at the Byzantine one",
            "",
            when,
            "lower",
        ),
        _M(f"{rule}_byzantine_weight", "share of Byzantine vectors in the weights", "share", linear, "lower"),
        _M(f"{rule}_precision", "share of Byzantine vectors among the rejected ones", "share", linear, "higher"),
        _M(f"{rule}_recall", "share of rejected vectors among the Byzantine ones", "share", linear, "higher"),
        _M(
            f"{kind}_not_finite",
            "share of honest agents to which the rule returned a vector that is not finite",
            "share",
            "rounds in which it is above zero",
            "lower",
        ),
    )


_CLOCK = (
    _M("seconds", "virtual time", "virtual seconds", "schedules with a clock"),
    _M(
        "idle_share",
        "share of the virtual time in which honest agents do not compute",
        "share",
        "schedules with a clock",
        "lower",
    ),
    _M("staleness", "mean age of the messages that were used", "rounds", "asynchronous schedules"),
    _M("staleness_max", "largest age of a message that was used", "rounds", "asynchronous schedules"),
)

_WEIGHTS = (
    _M("importance_weight_max", "largest importance weight of an episode", "", WEIGHTED, "lower"),
    _M(
        "relative_effective_sample_size",
        "smallest (sum w)^2 / (n sum w^2) of the n importance weights w of an honest agent",
        "share",
        WEIGHTED,
        "higher",
    ),
    _M(
        "importance_weight_constant",
        "largest ||g - g^w||^2 / ||theta - theta'||^2 of an honest agent, with the gradient g of a batch at theta "
        "and its importance-weighted gradient g^w at theta'",
        "",
        f"{WEIGHTED}, in the PAGE family",
    ),
)

_MOMENTS = (
    _M(
        "gradient_variance",
        "unbiased estimate of sigma^2, the variance of the gradient of one episode",
        "squared norm",
        EVALUATED,
    ),
    _M(
        "gradient_dissimilarity",
        "unbiased estimate of zeta^2, the mean squared distance of the agents' gradients from their mean; it can be "
        "negative",
        "squared norm",
        EVALUATED,
    ),
)

METRICS: tuple[MetricDescription, ...] = (
    _M("round", "number of the round, from 0; of asynchronous agents, of the line"),
    *_BUDGET,
    _M("return", "return of the last batch of training, the mean over honest agents", _RETURN, "", "higher"),
    _M("return_worst", "that of the worst honest agent", _RETURN, "", "higher"),
    _M("return_cvar", "that of the worst fifth of the honest agents, the mean", _RETURN, "", "higher"),
    *_evaluated(greedy=False),
    *_evaluated(greedy=True),
    _M(
        "evaluation_certificate",
        "number of members of an ensemble whose change could not alter its action, the mean over observations",
        "members",
        f"{EVALUATED}, of ensembles on tasks with discrete actions",
        "higher",
    ),
    _M(
        "evaluation_certified_distance",
        "largest distance by which a minority of an ensemble could move its action, the mean over observations",
        "norm of actions",
        f"{EVALUATED}, of ensembles on tasks with continuous actions",
        "lower",
    ),
    _M("disagreement", "largest distance between the parameters of two honest agents", "norm", "", "lower"),
    _M("messages", "messages that all agents and the server have sent so far", "messages", "", "lower"),
    _M("bytes", "bytes of these messages", "bytes", "", "lower"),
    _M("num_malformed", "messages so far that were not finite or of another shape or type", "messages"),
    _M("num_silent", "messages so far that were expected and did not come", "messages"),
    _M("num_undefined", "uses so far of a rule for which the inbox was too small", "uses", "", "lower"),
    *_applied("aggregate", AGGREGATED),
    *_applied("agreement", MIXED),
    _M("num_exchanges", "largest number of exchanges of an honest agent in the agreement", "exchanges", AGREED),
    _M(
        "inbox_diameter_before",
        "largest diameter of an honest agent's first inbox in the agreement, of its n - f closest vectors",
        "norm",
        AGREED,
    ),
    _M("inbox_diameter_after", "that of its last inbox", "norm", AGREED, "lower"),
    _M(
        "contraction",
        "factor by which an exchange changed the spread of the honest parameters, the geometric mean",
        "",
        AGREED,
        "lower",
    ),
    _M("contraction_bound", "bound of this factor, null where none holds", "", AGREED),
    _M("gradient_norm", "largest norm of an honest message to the aggregator", "norm", AGGREGATED),
    *_MOMENTS,
    *_WEIGHTS,
    _M("large_batch", "1 in rounds with a large batch, 0 in those with a small one", "", "the PAGE family"),
    _M("inner_steps_planned", "steps that the server drew for the round", "steps", "SVRG"),
    _M("inner_steps_taken", "steps that the budget left of them", "steps", "SVRG"),
    _M("no_majority", "1 in rounds in which the rule found no majority of close vectors", "", "fedpg_filter", "lower"),
    _M("exact_return", "discounted return of the policies, the mean over honest agents", "return", EXACT, "higher"),
    _M("exact_gradient_norm", "norm of the mean of their gradients", "norm", EXACT, "lower"),
    _M("exact_gradient_dissimilarity", "mean squared distance of their gradients from the mean", "squared norm", EXACT),
    _M("estimator_error", "mean distance of the gradient estimates from the exact gradient", "norm", EXACT, "lower"),
    *_CLOCK,
)
"""The keys of a line of `metrics.jsonl`. Every value is one number for the whole round, or null if it is not finite."""

TRACE: tuple[MetricDescription, ...] = (
    _M("index", "number of the line, from 0"),
    _M("time", "virtual time: the number of the round without a clock", "rounds or virtual seconds"),
    *_BUDGET,
    _M("return", "return of the last batch of training, the mean over honest agents", _RETURN, "", "higher"),
    _M("state", "sha256 of the state of all honest agents", shape="string"),
)
"""The keys of a line of `trace.jsonl`."""

TIMING: tuple[MetricDescription, ...] = (
    _M("round", "number of the round, from 0"),
    _M("seconds", "measured time of training in the round, without compilation", "s", "", "lower"),
    _M("evaluation_seconds", "measured time of its evaluation", "s", EVALUATED, "lower"),
    _M("compilation_seconds", "measured time of the compilation of kernels", "s", "rounds with a compilation", "lower"),
)
"""The keys of a line of `timing.jsonl`."""


def result_descriptions() -> tuple[MetricDescription, ...]:
    """Return descriptions of the keys of `result.json`, with those of its attributes from the docstring of `Result`.

    Example:
        >>> [key.better for key in result_descriptions() if key.name == "evaluation.evaluation_auc"]
        ['higher']
    """
    from byzbench.experiments.result import Result

    inside: dict[str, list[MetricDescription]] = {}
    for part in _inside_result():
        inside.setdefault(part.name.partition(".")[0], []).append(part)
    rows = [_M("schema", "number of the form of the file")]
    for name, text in described_attributes(Result).items():
        key = "return" if name == "final" else name
        unit, better, shape = _RESULT.get(key, ("", "", "object" if key in inside else "number"))
        rows.append(_M(key, text, unit, "", better, shape))
        rows += inside.get(key, [])
    return tuple(rows)


_RESULT: Mapping[str, tuple[str, Better, str]] = {
    "run": ("", "", "string"),
    "trajectories": ("episodes", "", "number"),
    "steps": ("environment steps", "", "number"),
    "steps_per_second": ("environment steps / s", "higher", "number"),
    "disagreement": ("norm", "lower", "number"),
    "messages": ("messages", "lower", "number"),
    "bytes": ("bytes", "lower", "number"),
    "num_malformed": ("messages", "", "number"),
    "versions": ("", "", "object of strings"),
    "trace": ("", "", "string"),
    "notes": ("", "", "list of strings"),
    "digests": ("", "", "object of strings"),
    "seal": ("", "", "string"),
}
"""Unit, better direction and form of keys of `result.json`, other than numbers without a unit and objects."""


_DIAGNOSTICS = {
    "local_weight": ("largest share of Byzantine agents in the closed neighbourhood of an honest agent", "share"),
    "gossip_weight": ("largest sum of mixing weights of Byzantine agents at an honest one", "share"),
    "influence": ("weight of Byzantine agents in 30 rounds of gossip", "share"),
    "beyond_bound": ("honest agents with more Byzantine neighbours than their bound", "agents"),
    "honest_components": ("connected components of the graph of honest agents", "components"),
    "connected_share": ("share of all placements that leave the honest agents connected", "share"),
}
"""Meaning and unit of the graph diagnostics in `result.json`."""


def _inside_result() -> Iterable[MetricDescription]:
    """Yield descriptions of the keys of objects in `result.json`."""
    yield _M("verdict.name", "ok, not_learning, no_consensus, not_finite or diverged", shape="string")
    yield _M("verdict.number", "number that decided")
    yield _M("verdict.threshold", "threshold with which it was compared")
    yield _M("verdict.meaning", "explanation in one sentence", shape="string")
    final = "return of the last episodes of training, at most 500 of each agent and a quarter of the budget"
    yield _M("return.mean", f"{final}, the mean over honest agents and seeds", _RETURN, "", "higher")
    for bound in ("low", "high"):
        yield _M(f"return.{bound}", "bound of its 95 % interval over seeds", _RETURN, "three or more seeds")
    yield _M("return.n", "number of seeds", "seeds")
    for key in METRICS:
        if key.name.startswith("evaluation"):
            yield _inside(key, "evaluation", when=key.when.removeprefix(EVALUATED).removeprefix(", "))
    area = "area under the curve of `evaluation` over trajectories, divided by the budget"
    yield _M("evaluation.evaluation_auc", area, _RETURN, "", "higher")
    for name, (meaning, unit) in _DIAGNOSTICS.items():
        yield _M(f"diagnostics.{name}", meaning, unit)
    for key in METRICS:
        if key.name.startswith("aggregate_") and key.name != "aggregate_spread":
            name = key.name.removeprefix("aggregate_")
            unit = "honest spreads" if name == "error" else key.unit
            yield _inside(replace(key, name=name, unit=unit), "aggregation", f"{key.meaning}, the mean over rounds")
    norms = "of the largest norm of an honest message to the aggregator"
    yield _M("assumptions.gradient_norm_max", f"maximum over rounds {norms}", "norm", AGGREGATED)
    yield _M("assumptions.gradient_norm_p99", f"99 % quantile over rounds {norms}", "norm", AGGREGATED)
    for key in _MOMENTS:
        yield _inside(key, "assumptions", f"{key.meaning}; the mean over evaluations", "")
    for key in _WEIGHTS:
        yield _inside(key, "assumptions", f"{key.meaning}; over all rounds")
    yield _M("traffic.TOPIC.messages", "messages of a topic: gradient, parameters, direction, coin", "messages")
    yield _M("traffic.TOPIC.bytes", "bytes of these messages", "bytes", "", "lower")
    yield _M("traffic.TOPIC.max_bytes_per_agent", "most bytes that one agent sent", "bytes", "", "lower")
    for key in _CLOCK:
        reduced = {"staleness": "; the mean over rounds", "staleness_max": "; over all rounds"}.get(key.name, "")
        yield _inside(key, "clock", f"{key.meaning}{reduced or ', at the end'}")
    for part in ("training", "evaluation", "compilation"):
        yield _M(f"seconds.{part}", f"measured time of {part}", "s", "", "lower")


def _inside(
    key: MetricDescription, group: str, meaning: str | None = None, when: str | None = None
) -> MetricDescription:
    """Return the description of a metric as a key of an object in `result.json`."""
    return replace(
        key, name=f"{group}.{key.name}", meaning=meaning or key.meaning, when=key.when if when is None else when
    )


def described_attributes(cls: type) -> dict[str, str]:
    """Return the descriptions of attributes in the docstring of a class, without their full stops.

    Example:
        >>> described_attributes(MetricDescription)["shape"]
        'The form of the value'
    """
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2].split("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).removesuffix(".") for name, text in entries}
