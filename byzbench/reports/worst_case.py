"""Search for the worst attack of a fixed ensemble.

The ensemble has a version and no parameters, so that two results can be compared. The search has two stages:

1. Selection: every member runs on the selection seeds. The one with the lowest mean evaluation return is chosen.
2. Reporting: the chosen attack and the runs without an attack run on other seeds, and only these are reported.

The minimum of many noisy means is biased downwards. Fresh seeds remove this bias. Byzantine agents are present in both
stages; without an attack they follow the protocol.

Every run is an experiment of its own in the store. An interrupted search resumes, and a finished run is not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from byzbench import registry
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.curves import LEARNING
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.verdict import SEVERITY
from byzbench.records.files import read_bytes
from byzbench.reports import probes
from byzbench.reports.estimators import Interval
from byzbench.reports.statistics import difference_interval, mean_interval
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

STANDARD = "standard-v1"

Ensemble = Mapping[str, Sequence[str]]
"""Attacks as written on the command line, by the knowledge that they need; the least first."""

STANDARD_V1: Ensemble = {
    "blind": ("non_finite(on=both)", "silence(on=both)", "large_noise(relative=False)"),
    "local": ("sign_flip", "random_action", "reward_flip"),
    "colluding": ("avg_zero", "alie(z=1.5)", "ipm", "min_max", "mimic"),
    "equivocating": ("split_brain(alie(z=1.5))", "dissensus"),
    "time-coupled": ("rop",),
    "adaptive": ("optimal_ipm", "optimal_alie", "agr_tailored"),
}

ALSO = "also"
"""The key of attacks that a user adds to an ensemble."""

CLEAN = "none"
SELECTION, REPORTING = 1000, 2000
"""The first selection seed and the first reporting seed."""

MARGIN = 0.1
"""A blind attack beats the adaptive ones if it does more harm on every seed, and on average by this share of the gain
of the clean runs over the random policy."""

FLAGS = {
    "attack inert": "An attack changed nothing: its runs are, byte for byte, those without an attack.",
    "blind beats adaptive": "An attack without knowledge did more harm than those that optimise against the rule.",
    "random defence": "A rule is random: the same messages can have different aggregates.",
    "hidden state": "A rule is stateful: its value depends on messages of earlier rounds.",
    "scale dependence": "A rule does not satisfy F(s x) = s F(x): it depends on the scale of its inputs.",
    "non-finite survived": "NaN messages did no harm: runs ended finite, and no worse than without an attack.",
}
"""Meaning of each raised flag."""

CellCallback = Callable[[str, CellOutcome], None]
"""A callback that gets the label and the outcome of a run."""


@dataclass(frozen=True)
class AttackTrial:
    """Result of one attack on the selection seeds.

    Attributes:
        needs: The knowledge that the attack needs, a key of the ensemble.
        returns: The evaluation return of each seed; a run that is not finite at its end has the random policy's.
        mean: The mean of these; None where there are none.
        inert: Whether the metrics of every seed equal those of the run without an attack.
        why: Why there are no returns: the attack does not exist, is undefined here, or a run failed.
    """

    needs: str
    returns: tuple[float, ...] = ()
    mean: float | None = None
    inert: bool = False
    why: str = ""


@dataclass(frozen=True)
class SearchFlag:
    """Result of one check of the search, with its reason."""

    raised: bool
    why: str


@dataclass(frozen=True)
class WorstCaseResult:
    """Result of a worst-case search.

    Attributes:
        attack: The worst attack of the ensemble.
        clean, attacked, loss: Mean evaluation return on the reporting seeds without an attack, under the worst one, and
            the mean paired difference, with intervals.
        verdicts: The verdict of the attacked run of each reporting seed.
        tried: The result of every attack on the selection seeds, in order; the first is the one without an attack.
        flags: The checks, by the keys of `FLAGS`.
        notes: Remarks for the reader, one line each.
    """

    attack: str
    clean: Interval
    attacked: Interval
    loss: Interval
    verdicts: tuple[str, ...]
    tried: Mapping[str, AttackTrial]
    flags: Mapping[str, SearchFlag]
    notes: tuple[str, ...]


def extend_ensemble(ensemble: Ensemble, attacks: Sequence[str]) -> Ensemble:
    """Return an ensemble with further attacks, which are tried last; those that it has are not added again.

    Raises:
        UserError: One of them is not an attack.

    Example:
        >>> extend_ensemble({"blind": ("sign_flip",)}, ["sign_flip", "ipm"])
        {'blind': ('sign_flip',), 'also': ('ipm',)}
    """
    known = [registry.parse_spec(attack) for members in ensemble.values() for attack in members]
    further: list[str] = []
    for attack in attacks:
        registry.make("attack", attack)
        spec = registry.parse_spec(attack)
        if spec.name == CLEAN:
            raise InvalidParameter(f"every search also runs without an attack: remove {attack!r}")
        if spec not in known:
            known.append(spec)
            further.append(attack)
    return {**ensemble, ALSO: tuple(further)} if further else ensemble


class WorstCaseSearch:
    """Worst-case search over an ensemble of attacks on one experiment.

    Attributes:
        clean: The experiments without an attack, one for each selection seed.
        skipped: Attacks that cannot run here, each with the reason.
        size: The number of runs of the search.
    """

    def __init__(
        self,
        point: Mapping[str, Any],
        selection: Sequence[int] = range(SELECTION, SELECTION + 3),
        reporting: Sequence[int] = range(REPORTING, REPORTING + 5),
        *,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        ensemble: Ensemble = STANDARD_V1,
    ) -> None:
        """Plan the runs of the search.

        Args:
            point: The experiment by flag, without an attack.
            selection: Seeds to choose the attack on.
            reporting: Seeds to report the attack on, disjoint from the selection seeds.
            parameters: Further parameters by kind, none of attacks.
            ensemble: The attacks.

        Raises:
            UserError: The experiment cannot run, even without an attack.
        """
        if shared := sorted(set(selection) & set(reporting)):
            raise InvalidParameter(f"selection and reporting seeds must be disjoint, got {shared} in both")
        if "attack" in point or "attack" in map(registry.kind_of, parameters or {}):
            raise InvalidParameter(
                "the ensemble fixes the attacks and their parameters: remove --attack and its parameters"
            )
        self._point, self._parameters = dict(point), parameters
        self._selection, self._reporting, self._ensemble = tuple(selection), tuple(reporting), ensemble
        self.clean = self._cells(CLEAN, self._selection)
        if not self.clean[0].byzantine:
            raise InvalidParameter(f"no agent of K={self.clean[0].agents} is Byzantine (f=0); give --byzantine")
        self.skipped: dict[str, str] = {}
        self._todo = {}
        for attack in self.members:
            try:
                self._todo[attack] = self._cells(attack, self._selection)
            except UserError as error:
                self.skipped[attack] = str(error)
        self.size = len(self._selection) * (1 + len(self._todo)) + 2 * len(self._reporting)

    @property
    def members(self) -> dict[str, str]:
        """Attacks in order, each with the knowledge that it needs."""
        return {attack: needs for needs, attacks in self._ensemble.items() for attack in attacks}

    def _cells(self, attack: str, seeds: Iterable[int]) -> list[Experiment]:
        return [
            Experiment.create(**self._point, attack=attack, seed=seed, parameters=self._parameters) for seed in seeds
        ]

    def run(self, out: Path, executor: Executor, callback: CellCallback | None = None) -> WorstCaseResult:
        """Run the search; runs that the store has are not repeated.

        Args:
            out: The folder of the store.
            executor: The executor that runs the cells.
            callback: A callback that gets the label and the outcome of every run that is over.

        Returns:
            The worst attack with its report.

        Raises:
            UserError: A run without an attack or under the worst attack failed, or no attack could run.
        """

        def outcomes(group: Mapping[str, Sequence[Experiment]]) -> dict[str, list[CellOutcome]]:
            return _run(group, out, executor, callback)

        selected = outcomes({CLEAN: self.clean})
        clean_returns = self._scores(selected[CLEAN])
        for attacks in self._ensemble.values():
            selected |= outcomes({attack: self._todo[attack] for attack in attacks if attack in self._todo})
        tried = {CLEAN: AttackTrial("", clean_returns, float(np.mean(clean_returns)))}
        tried |= {attack: self._tried(attack, selected.get(attack, []), out) for attack in self.members}
        means = {attack: trial.mean for attack, trial in tried.items() if attack != CLEAN and trial.mean is not None}
        if not means:
            raise UserError(
                "no attack of the ensemble could run: " + "; ".join(trial.why for trial in tried.values() if trial.why)
            )
        worst = min(means, key=lambda attack: means[attack])
        reported = outcomes({attack: self._cells(attack, self._reporting) for attack in (CLEAN, worst)})
        clean, attacked = (np.array(self._scores(reported[attack])) for attack in (CLEAN, worst))
        bounds = self._random, self.clean[0].task.reference_score("solved")
        loss = difference_interval(clean - attacked, bounds[1] - bounds[0])
        return WorstCaseResult(
            attack=worst,
            clean=mean_interval(clean, bounds),
            attacked=mean_interval(attacked, bounds),
            loss=loss,
            verdicts=tuple(outcome.result["verdict"]["name"] for outcome in reported[worst]),
            tried=tried,
            flags=dict(self._flags(tried, selected)),
            notes=tuple(self._notes(float(clean.mean()), loss)),
        )

    def _scores(self, outcomes: Sequence[CellOutcome]) -> tuple[float, ...]:
        """Return the evaluation returns at the end of runs, with the random policy's for a run that is not finite.

        Raises:
            UserError: A run failed.
        """
        for outcome in outcomes:
            if outcome.status == "failed":
                raise UserError(f"a run failed: {outcome.error}")
        returns = (outcome.result["evaluation"].get("evaluation") for outcome in outcomes)
        return tuple(self._random if value is None else float(value) for value in returns)

    @property
    def _random(self) -> float:
        return self.clean[0].task.reference_score("random")

    def _tried(self, attack: str, outcomes: Sequence[CellOutcome], out: Path) -> AttackTrial:
        needs = self.members[attack]
        if attack in self.skipped:
            return AttackTrial(needs, why=self.skipped[attack])
        try:
            scores = self._scores(outcomes)
        except UserError as error:
            return AttackTrial(needs, why=str(error))
        pairs = zip(self._todo[attack], self.clean, strict=True)
        inert = all(_metrics(out, attacked) == _metrics(out, clean) for attacked, clean in pairs)
        return AttackTrial(needs, scores, float(np.mean(scores)), inert)

    def _flags(
        self, tried: Mapping[str, AttackTrial], outcomes: Mapping[str, Sequence[CellOutcome]]
    ) -> Iterator[tuple[str, SearchFlag]]:
        inert = [attack for attack, trial in tried.items() if trial.inert]
        yield "attack inert", SearchFlag(bool(inert), ", ".join(inert) or "every attack changed something")
        yield "blind beats adaptive", self._blindness(tried)
        n, f = self.clean[0].inboxes[0]
        rules = {f"{registry.name_of(rule)} ({topic})": rule for topic, rule in self.clean[0].defences.items()}
        for name, probe in (
            ("random defence", probes.draws),
            ("hidden state", probes.remembers),
            ("scale dependence", probes.depends_on_scale),
        ):
            reasons = {rule: probe(rules[rule], n, f) for rule in rules}
            raised = [f"{rule} {why}" for rule, why in reasons.items() if why]
            yield (
                name,
                SearchFlag(
                    bool(raised), "; ".join(raised) or f"not {' nor '.join(rules) or 'tested: there is no rule'}"
                ),
            )
        yield "non-finite survived", _survival(outcomes)

    def _blindness(self, tried: Mapping[str, AttackTrial]) -> SearchFlag:
        worst: dict[str, tuple[float, str]] = {}
        for attack, trial in tried.items():
            if trial.mean is not None and (trial.needs not in worst or trial.mean < worst[trial.needs][0]):
                worst[trial.needs] = trial.mean, attack
        if not {"blind", "adaptive"} <= worst.keys():
            return SearchFlag(False, "no blind or no adaptive attack could run")
        (low, blind), (high, adaptive) = worst["blind"], worst["adaptive"]
        learned = max(worst[""][0] - self._random, 0.0)
        on_every_seed = all(b < a for b, a in zip(tried[blind].returns, tried[adaptive].returns, strict=True))
        return SearchFlag(
            on_every_seed and high - low > MARGIN * learned, f"{blind} leaves {low:.1f}, {adaptive} {high:.1f}"
        )

    def _notes(self, clean: float, loss: Interval) -> Iterator[str]:
        task = self.clean[0].task
        threshold = self._random + LEARNING * (task.reference_score("solved") - self._random)
        if clean < threshold:
            yield (
                f"without an attack the return is {clean:.1f}, below {threshold:.1f}: the method did not learn, so no "
                "attack can be measured; give it more trajectories"
            )
        elif loss.low is not None and loss.low <= 0:
            yield "the interval of the loss includes 0: no attack of the ensemble did significant harm"
        yield from self.clean[0].notes()


def _run(
    group: Mapping[str, Sequence[Experiment]], out: Path, executor: Executor, callback: CellCallback | None
) -> dict[str, list[CellOutcome]]:
    """Run the cells of some attacks and return their outcomes; two attacks with the same experiment share its run."""
    cells = {cell.hash: cell for experiments in group.values() for cell in experiments}
    labels = {
        cell.hash: f"{attack} · seed {cell.seed}" for attack, experiments in group.items() for cell in experiments
    }
    on_cell = (lambda cell, outcome: callback(labels[cell], outcome)) if callback else None
    outcomes = run_sweep(SweepPlan("worst", cells, {}), out, executor, callback=on_cell).outcomes
    return {attack: [outcomes[cell.hash] for cell in experiments] for attack, experiments in group.items()}


def _metrics(out: Path, cell: Experiment) -> bytes:
    return read_bytes(out / cell.hash / "metrics.jsonl")


def _survival(outcomes: Mapping[str, Sequence[CellOutcome]]) -> SearchFlag:
    """Check whether runs under NaN messages end as well as the runs of the same seeds without an attack."""
    attacks = [attack for attack in outcomes if registry.parse_spec(attack).name == "non_finite"]
    if not attacks:
        return SearchFlag(False, "no attack of this kind could run")
    for attack in attacks:
        for outcome, clean in zip(outcomes[attack], outcomes[CLEAN], strict=True):
            if outcome.status == "failed":
                return SearchFlag(False, f"a run under {attack} failed: {outcome.error}")
            verdict, clean_verdict = (each.result["verdict"]["name"] for each in (outcome, clean))
            if verdict == "diverged" or SEVERITY.index(verdict) > SEVERITY.index(clean_verdict):
                return SearchFlag(False, f"a run under {attack} ended {verdict}, and {clean_verdict} without it")
    num_rejected = sum(each.result["num_malformed"] for attack in attacks for each in outcomes[attack])
    return SearchFlag(True, f"{num_rejected:,} malformed messages were rejected")
