"""A run beside three others: without the attack, plain averaging under the attack, and one agent alone.

All of them are ordinary runs of the store with the same task, seeds and budget. They are compared by the area under the
evaluation curve, which is the mean evaluation return over the budget.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from byzbench import registry
from byzbench.core import Aggregator, Agreement
from byzbench.errors import UserError
from byzbench.experiments.defaults import recommendation
from byzbench.experiments.experiment import Experiment
from byzbench.reports.estimators import Interval
from byzbench.reports.labels import component_label
from byzbench.reports.scoring import LEARNS
from byzbench.reports.sheets import Table
from byzbench.reports.statistics import difference_interval, mean_interval
from byzbench.reports.summary import rounded

AS_ASKED, CLEAN = "as asked", "without attack"
AVERAGING, ALONE = "plain averaging under the attack", "one agent alone"

_NO_ATTACK = "no attack was given"
_NO_BYZANTINE = "there is no Byzantine agent"
_NO_MESSAGES = "agents send no messages"


@dataclass(frozen=True)
class Companion:
    """One row of a comparison before it has run.

    Attributes:
        name: The row.
        experiments: One for each seed; none where the row is undefined.
        reason: Why it is undefined, else empty.
    """

    name: str
    experiments: tuple[Experiment, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class ComparisonRow:
    """One row of a comparison.

    Attributes:
        name: `as asked`, `without attack`, `plain averaging under the attack` or `one agent alone`.
        reason: Why there are no runs, or why one failed; else empty.
        runs: Folders, one for each seed.
        evaluation: Mean over seeds of the evaluation return at the end.
        areas: Area under the evaluation curve for each seed.
        retention: Share of the improvement over the random policy without an attack that is left under the attack.
        versus_alone: Area minus that of one agent alone, paired by seed.
        verdicts: How many runs have each verdict.
    """

    name: str
    reason: str = ""
    runs: tuple[str, ...] = ()
    evaluation: float | None = None
    areas: tuple[float | None, ...] = ()
    retention: float | None = None
    versus_alone: Interval | None = None
    verdicts: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Comparison:
    """Finished comparison.

    Attributes:
        experiment: The run as asked, of the first seed.
        seeds: Of all rows.
        rows: In the order of the table.
        parameters: For the method and for one agent alone a line with their parameters and the origin of these.
        notes: Sentences on what limits the result.
    """

    experiment: Experiment
    seeds: tuple[int, ...]
    rows: tuple[ComparisonRow, ...]
    parameters: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as data."""
        todo = self.experiment
        return {
            "agents": todo.agents,
            "byzantine": todo.byzantine,
            "trajectories": todo.trajectories,
            "seeds": list(self.seeds),
            "reference": dict(todo.task.reference),
            "rows": [{**asdict(row), "verdicts": dict(row.verdicts or {})} for row in self.rows],
            "parameters": list(self.parameters),
            "notes": list(self.notes),
        }


def companions(experiments: Sequence[Experiment]) -> list[Companion]:
    """Return the rows of a comparison, the run as asked first.

    Args:
        experiments: The run as asked, one for each seed.

    Returns:
        Four rows. A row that is undefined, or would be another row again, has a reason in place of experiments.

    Example:
        >>> rows = companions([Experiment.create("decbyzpg", "ipm", agents=5)])
        >>> [registry.name_of(row.experiments[0].aggregator) for row in rows]
        ['rfa', 'rfa', 'mean', 'mean']
        >>> companions([Experiment.create("decbyzpg", agents=5)])[1].reason
        'no attack was given'
    """
    return [
        Companion(AS_ASKED, tuple(experiments)),
        _companion(CLEAN, experiments, _without_attack),
        _companion(AVERAGING, experiments, _averaging),
        _companion(ALONE, experiments, _alone),
    ]


def _companion(
    name: str, experiments: Sequence[Experiment], variant: Callable[[Experiment], Experiment | str]
) -> Companion:
    """Return a row of the variants of experiments, or of the reason why there are none."""
    variants = []
    for experiment in experiments:
        try:
            result = variant(experiment)
        except UserError as error:
            result = str(error)
        if isinstance(result, str):
            return Companion(name, reason=result)
        variants.append(result)
    return Companion(name, tuple(variants))


def _attack_is_absent(experiment: Experiment) -> str:
    """Return why no attack reaches anybody, or nothing."""
    if registry.name_of(experiment.attack) == "none":
        return _NO_ATTACK
    if not experiment.byzantine:
        return _NO_BYZANTINE
    return _NO_MESSAGES if not experiment.algorithm.communication.sends_messages else ""


def _without_attack(experiment: Experiment) -> Experiment | str:
    return _attack_is_absent(experiment) or _with(experiment, attack=registry.make("attack", "none"))


def _averaging(experiment: Experiment) -> Experiment | str:
    if reason := _attack_is_absent(experiment):
        return reason
    changes = {kind: averaging_rule(rule) for kind, rule in experiment.rules}
    other = _with(experiment, **changes)
    return "the method as asked averages" if other.hash == experiment.hash else other


def averaging_rule(rule: Aggregator | Agreement) -> Aggregator | Agreement:
    """Return plain averaging in the form of a rule.

    Gossip by any rule becomes gossip by the weighted mean, an agreement that iterates a rule becomes the one that
    iterates the mean, a rule that starts from the receiver's own vector becomes the weighted mean, another the mean. An
    agreement that exchanges nothing stays.

    Args:
        rule: An aggregator or an agreement.

    Example:
        >>> averaging_rule(registry.make("aggregator", "bucketing+rfa"))
        Mean()
        >>> averaging_rule(registry.make("agreement", "gossip(exchanges=2)+ios"))
        Gossip(rule=WeightedMean(), exchanges=2)
    """
    if isinstance(rule, Aggregator):
        return registry.make("aggregator", "weighted_mean" if rule.traits.self_centered else "mean")
    inner = {f.name for f in fields(rule)}
    if "rule" in inner:
        return replace(rule, rule=registry.make("aggregator", "weighted_mean"))  # type: ignore[call-arg]
    if registry.name_of(rule) == "none":
        return rule
    mean = registry.make("agreement", "mean")
    shared = {f.name: getattr(rule, f.name) for f in fields(mean) if f.name in inner}
    return replace(mean, **shared)


def _alone(experiment: Experiment) -> Experiment | str:
    """Return the same agents that learn by themselves, with the recommended parameters of `solo`."""
    if registry.name_of(experiment.algorithm) == "solo":
        return "this is the run as asked"
    return Experiment.create(
        "solo",
        topology=experiment.topology,
        env=experiment.task,
        placement=experiment.placement,
        coin=experiment.coin,
        agents=experiment.agents,
        byzantine=experiment.byzantine,
        trajectories=experiment.trajectories,
        evaluations=experiment.evaluations,
        evaluation_episodes=experiment.evaluation_episodes,
        seed=experiment.seed,
        device=experiment.device,
    )


def _with(experiment: Experiment, **changes: Any) -> Experiment:
    """Return an experiment with other components, checked like a new one."""
    described = {kind: registry.describe(component) for kind, component in changes.items()}
    return Experiment.from_description({**experiment.describe(), **described})


def compare(rows: Sequence[Companion], results: Mapping[str, Mapping[str, Any]]) -> Comparison:
    """Return the comparison of runs that are finished.

    Args:
        rows: What `companions` returned.
        results: By hash of an experiment its `Result.to_json`; of a run that failed, `{"error": ...}`.
    """
    first = rows[0].experiments[0]
    areas = {row.name: [_area(results[e.hash]) for e in row.experiments] for row in rows}
    alone = areas[ALONE] or (areas[AS_ASKED] if registry.name_of(first.algorithm) == "solo" else [])
    random, solved = (first.task.reference.get(name) for name in ("random", "solved"))
    compared_rows = []
    for row in rows:
        row_areas = areas[row.name]
        attacked = row.name in (AS_ASKED, AVERAGING) and not _attack_is_absent(first)
        compared = row_areas is not alone and row.name != ALONE
        compared_rows.append(
            replace(
                _row(row, [results[e.hash] for e in row.experiments]),
                areas=tuple(row_areas),
                retention=retention(row_areas, areas[CLEAN], random, solved) if attacked and row_areas else None,
                versus_alone=compare_areas(row_areas, alone, random, solved) if compared else None,
            )
        )
    seeds = tuple(experiment.seed for experiment in rows[0].experiments)
    lines = [parameter_line(row.experiments[0]) for row in (rows[0], rows[3]) if row.experiments]
    return Comparison(first, seeds, tuple(compared_rows), tuple(lines), tuple(_notes(first, compared_rows)))


def _area(result: Mapping[str, Any]) -> float | None:
    return result.get("evaluation", {}).get("evaluation_auc")


def _row(row: Companion, results: Sequence[Mapping[str, Any]]) -> ComparisonRow:
    """Return the columns that follow from the results of one row alone."""
    failures = [str(result["error"]) for result in results if "error" in result]
    if row.reason or failures:
        return ComparisonRow(row.name, row.reason or f"failed: {failures[0]}")
    ends = [result["evaluation"].get("evaluation") for result in results]
    return ComparisonRow(
        row.name,
        runs=tuple(str(result["run"]) for result in results),
        evaluation=None if None in ends else statistics.fmean(ends),
        verdicts=dict(Counter(result["verdict"]["name"] for result in results)),
    )


def retention(
    attacked: Sequence[float | None], clean: Sequence[float | None], random: float | None, solved: float | None
) -> float | None:
    """Return the sum over seeds of (attacked - random) / the sum of (clean - random).

    Args:
        attacked: Area under the evaluation curve under the attack, one for each seed.
        clean: The same without it, in the same order of seeds.
        random: Return of the random policy; None if it is not known.
        solved: Return of the solved task; None if it is not known.

    Returns:
        The share; None where a value is missing, or where runs without an attack do not learn: their mean makes less
        than `LEARNS` of the way from `random` to `solved`, or no way at all where `solved` is not known.

    Example:
        >>> retention([70.0, 50.0], [120.0, 120.0], 20.0, 220.0)
        0.4
        >>> retention([30.0], [30.0], 20.0, 220.0)
    """
    if random is None or None in (*attacked, *clean) or not clean or len(attacked) != len(clean):
        return None
    gained = [value - random for value in clean if value is not None]
    left = [value - random for value in attacked if value is not None]
    least = 0.0 if solved is None else LEARNS * (solved - random)
    return sum(left) / sum(gained) if statistics.fmean(gained) > max(0.0, least) else None


def compare_areas(
    ours: Sequence[float | None],
    theirs: Sequence[float | None],
    random: float | None = None,
    solved: float | None = None,
) -> Interval | None:
    """Return the mean of ours minus theirs over seeds, with Student's interval from three seeds on.

    Args:
        ours: One value for each seed.
        theirs: The same of another row, in the same order of seeds.
        random: Return of the random policy; None if it is not known.
        solved: Return of the solved task. Where both are known the interval has the variance floor of reports.

    Returns:
        The mean; None where a value is missing.

    Example:
        >>> compare_areas([3.0, 5.0], [1.0, 1.0])
        Interval(value=3.0, low=None, high=None)
    """
    if not ours or len(ours) != len(theirs) or None in (*ours, *theirs):
        return None
    differences = [a - b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    if random is None or solved is None:
        return mean_interval(differences)
    return difference_interval(differences, solved - random)


def parameter_line(experiment: Experiment) -> str:
    """Return the learning parameters of an experiment's algorithm and their origin, on one line.

    Args:
        experiment: The experiment.

    Example:
        >>> line = parameter_line(Experiment.create("solo", agents=5, parameters={"algo": {"lr": 0.5}}))
        >>> line.split("; ")[-1]
        'p=1: no variance reduction'
    """
    method, task = experiment.algorithm, experiment.task
    recommended_set, name, env = recommendation(type(method), task), registry.name_of(method), registry.name_of(task)
    recommended = dict(recommended_set.parameters) if recommended_set else {}
    suggested = {**task.suggested, **type(method).suggested.get(env, {})}
    values = {
        key: getattr(method, key)
        for key in {**suggested, **recommended}
        if hasattr(method, key) and (key in suggested or getattr(method, key) != getattr(type(method), key))
    }
    if values.get("p") == 1:
        values.pop("B", None)
    origins: dict[str, list[str]] = {}
    for key, value in values.items():
        if recommended_set and recommended.get(key) == value:
            origin = f"recommended for {env} by: {recommended_set.origin}"
        else:
            origin = f"suggested for {env}" if suggested.get(key) == value else "as given"
        origins.setdefault(origin, []).append(key)
    parts = [f"{name}: " + (", ".join(f"{key}={_plain(value)}" for key, value in values.items()) or "its defaults")]
    parts += [f"{', '.join(keys)} {origin}" if len(origins) > 1 else origin for origin, keys in origins.items()]
    return "; ".join([*parts, *(["p=1: no variance reduction"] if values.get("p") == 1 else [])])


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _notes(experiment: Experiment, rows: Sequence[ComparisonRow]) -> list[str]:
    """Return what limits the result: a graph that no guarantee covers, choices without an effect."""
    lines = [f"{sentence}; {_cost(experiment, rows)}" for sentence in [uncovered(experiment)] if sentence]
    requested, clean = rows[0], rows[1]
    if clean.runs and requested.retention is None:
        lines.append("retention is undefined: without the attack the method hardly learns within this budget")
    return lines + experiment.without_effect()


def uncovered(experiment: Experiment) -> str:
    """Return why no guarantee covers the Byzantine agents on the graph; empty where one may.

    Args:
        experiment: The experiment.

    Example:
        >>> uncovered(Experiment.create("decbyzpg", "alie", "ring"))
        'no guarantee covers f=3 on topology ring: agreement mda needs n > 4f, and an inbox has n=3, f=1'
        >>> uncovered(Experiment.create("decbyzpg", "alie", "complete"))
        ''
    """
    if not experiment.byzantine:
        return ""
    reasons = experiment.graph_gaps()
    for kind, rule in experiment.rules:
        if lacking := [(n, f) for n, f in experiment.inboxes if not rule.guarantee(n, f)]:
            reasons.append(
                f"{kind} {registry.name_of(rule)} needs {rule.requires}, and an inbox has "
                f"n={lacking[0][0]}, f={lacking[0][1]}"
            )
    graph = f"topology {registry.name_of(experiment.topology)}"
    return f"no guarantee covers f={experiment.byzantine} on {graph}: {'; '.join(reasons)}" if reasons else ""


def _cost(experiment: Experiment, rows: Sequence[ComparisonRow]) -> str:
    """Return what the method reaches on the graph without an attack, beside one agent alone."""
    by_name = {row.name: row for row in rows}
    clean = by_name[CLEAN] if by_name[CLEAN].runs else by_name[AS_ASKED]
    alone = _number(by_name[ALONE].evaluation)
    return f"without an attack it ends at {_number(clean.evaluation)} on this graph, one agent alone at {alone}"


def comparison_table(comparison: Comparison) -> Table:
    """Return the table of a comparison.

    Args:
        comparison: The comparison.
    """
    todo = comparison.experiment
    parts = (todo.algorithm, todo.attack, todo.topology, todo.task)
    seeds = f"{len(comparison.seeds)} seeds" if len(comparison.seeds) > 1 else f"seed {comparison.seeds[0]}"
    title = " · ".join(map(component_label, parts)) + f": K={todo.agents}, f={todo.byzantine}, "
    title += f"{todo.trajectories} trajectories, {seeds}"
    head = ["", ">return at the end", ">retention", "against alone", "verdict"]
    cells = [
        [
            row.name,
            _number(row.evaluation),
            "–" if row.retention is None else f"{row.retention:.2f}",
            _versus(row.versus_alone),
            _verdict(row),
        ]
        for row in comparison.rows
    ]
    return Table("comparison", title, comparison.to_json()["rows"], head, cells)


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the lines under the table of a comparison: what its columns mean, the parameters, and the notes.

    Args:
        comparison: The comparison.
    """
    known = comparison.experiment.task.reference
    scale = "".join(f"; {name} {known[name]:g}" for name in ("random", "solved") if name in known)
    return [
        f"return at the end: mean evaluation return of the honest agents{scale}",
        "retention: (attacked - random) / (without attack - random), by the area under the evaluation curve; against "
        "alone: difference of areas",
        *comparison.parameters,
        *(f"note: {note}" for note in comparison.notes),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else rounded(value, 1)


def _versus(difference: Interval | None) -> str:
    if difference is None:
        return "–"
    word = "better" if difference.value > 0 else "worse" if difference.value < 0 else "equal"
    if difference.low is None or difference.high is None:
        return f"{word}, {difference.value:+.1f}"
    if difference.low <= 0 <= difference.high:
        word = "undecided"
    return f"{word}, {difference.value:+.1f} ({difference.low:+.1f} to {difference.high:+.1f})"


def _verdict(row: ComparisonRow) -> str:
    if row.reason:
        return row.reason if row.reason.startswith("failed") else f"not run: {row.reason}"
    counts = row.verdicts or {}
    if row.name == ALONE and set(counts) == {"no_consensus"}:
        return "no consensus sought"
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{name} {count}" for name, count in counts.items())
