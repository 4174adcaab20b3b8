"""The worst of a fixed ensemble of attacks: what a user is told who asks how bad it can get.

The ensemble has a version and no parameters, so that two answers can be compared. All of its members run on some seeds;
the one that leaves least of the evaluation return is chosen; and that one, with the run without an attack, is reported
on other seeds. A minimum over many noisy numbers is too low, and so is no estimate of anything; on fresh seeds there is
no choice left to flatter the attack. In both the liars are there: without an attack they follow the protocol.

The records are the state: every run is an experiment of its own in the store. What was interrupted goes on where it
stopped, and what is finished is not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from byzbench import registry
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.cells import Outcome
from byzbench.experiments.executors import Executor
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.files import read_bytes
from byzbench.experiments.metrics import LEARNING, SEVERITY
from byzbench.experiments.suite import Plan
from byzbench.experiments.sweep import sweep
from byzbench.reports import probes
from byzbench.reports.estimators import Interval
from byzbench.reports.statistics import difference_interval, mean_interval

STANDARD = "standard-v1"

Ensemble = Mapping[str, Sequence[str]]
"""Attacks as written, by what they need to know; the cheapest first."""

STANDARD_V1: Ensemble = {
    "blind": ("non_finite(on=both)", "silence(on=both)", "large_noise(relative=False)"),
    "local": ("sign_flip", "random_action", "reward_flip"),
    "colluding": ("avg_zero", "alie(z=1.5)", "ipm", "min_max", "mimic"),
    "equivocating": ("split_brain(alie(z=1.5))", "dissensus"),
    "time-coupled": ("rop",),
    "adaptive": ("optimal_ipm", "optimal_alie", "agr_tailored"),
}

CLEAN = "none"
SELECTION, REPORTING = 1000, 2000
"""The first seeds of either kind."""

MARGIN = 0.1
"""A blind attack beats the adaptive ones if it does more harm on every seed, and by this share of what is learned."""

FLAGS = {
    "attack inert": "An attack changed nothing: its runs are, byte for byte, those without an attack.",
    "blind beats adaptive": "An attack that knows nothing did more harm than those that try the rule out.",
    "random defence": "A rule draws: the same messages can have two outcomes.",
    "hidden state": "A rule remembers: what it makes of a message depends on earlier ones.",
    "scale dependence": "A rule is not F(s x) = s F(x): it knows how long a vector should be.",
    "non-finite survived": "NaN messages did no harm: runs ended finite, and no worse than without an attack.",
}

Watcher = Callable[[str, Outcome], None]


@dataclass(frozen=True)
class Tried:
    """A member on the selection seeds.

    Attributes:
        needs: the heading under which the ensemble has it.
        returns: evaluation return of each seed; a run that is not finite at its end counts as random play.
        mean: of these; None where there are none.
        inert: every seed's metrics are those of the run without an attack.
        why: why there are no returns: no such attack, undefined here, or a run that failed.
    """

    needs: str
    returns: tuple[float, ...] = ()
    mean: float | None = None
    inert: bool = False
    why: str = ""


@dataclass(frozen=True)
class Flag:
    """Whether something is so, and by what that was judged."""

    raised: bool
    why: str


@dataclass(frozen=True)
class Found:
    """The answer.

    Attributes:
        attack: the worst member.
        clean, attacked, loss: Mean evaluation return on the reporting seeds without an attack, under the worst one, and
            the mean paired difference, with intervals.
        verdicts: of the attacked runs, one a reporting seed.
        tried: every member, in order; the first is the run without an attack.
        flags: see `FLAGS`.
        notes: what a reader should know.
    """

    attack: str
    clean: Interval
    attacked: Interval
    loss: Interval
    verdicts: tuple[str, ...]
    tried: Mapping[str, Tried]
    flags: Mapping[str, Flag]
    notes: tuple[str, ...]


class Contest:
    """All runs of the ensemble at one point of the product, checked and not yet run.

    Attributes:
        clean: without an attack, by selection seed.
        skipped: members that cannot run here, each with the reason.
        size: how many runs there will be.
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
        """Plan the runs.

        Args:
            point: the experiment by flag, without an attack.
            selection: seeds to choose the attack on.
            reporting: seeds to report it on, none of them the same.
            parameters: further parameters by kind, none of attacks.
            ensemble: of attacks.

        Raises:
            UserError: the experiment cannot run without an attack either.
        """
        if both := sorted(set(selection) & set(reporting)):
            raise InvalidParameter(f"seeds to choose on and to report on must be different, got {both} in both")
        if "attack" in point or "attack" in map(registry.kind_of, parameters or {}):
            raise InvalidParameter("the attacks and their parameters are the ensemble's; give neither")
        self._point, self._parameters = dict(point), parameters
        self._selection, self._reporting, self._ensemble = tuple(selection), tuple(reporting), ensemble
        self.clean = self._cells(CLEAN, self._selection)
        if not self.clean[0].byzantine:
            raise InvalidParameter(f"nobody lies among K={self.clean[0].agents} with f=0; give --byzantine")
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
        """Attacks in order, and under which heading each stands."""
        return {attack: needs for needs, attacks in self._ensemble.items() for attack in attacks}

    def _cells(self, attack: str, seeds: Iterable[int]) -> list[Experiment]:
        return [
            Experiment.create(**self._point, attack=attack, seed=seed, parameters=self._parameters) for seed in seeds
        ]

    def run(self, out: Path, executor: Executor, watch: Watcher | None = None) -> Found:
        """Run what the store does not have, one heading after the other, and judge.

        Args:
            out: the store.
            executor: who runs cells.
            watch: called with the label and the outcome of every run that is over.

        Raises:
            UserError: a run without an attack failed, or one under the worst attack, or no member could be tried.
        """

        def outcomes(group: Mapping[str, Sequence[Experiment]]) -> dict[str, list[Outcome]]:
            return _run(group, out, executor, watch)

        found = outcomes({CLEAN: self.clean})
        calm = self._scores(found[CLEAN])
        for attacks in self._ensemble.values():
            found |= outcomes({attack: self._todo[attack] for attack in attacks if attack in self._todo})
        tried = {CLEAN: Tried("", calm, float(np.mean(calm)))}
        tried |= {attack: self._tried(attack, found.get(attack, []), out) for attack in self.members}
        ranked = {attack: t.mean for attack, t in tried.items() if attack != CLEAN and t.mean is not None}
        if not ranked:
            raise UserError(
                "no attack of the ensemble could be tried: " + "; ".join(t.why for t in tried.values() if t.why)
            )
        worst = min(ranked, key=lambda attack: ranked[attack])
        fresh = outcomes({attack: self._cells(attack, self._reporting) for attack in (CLEAN, worst)})
        unhurt, hurt = (np.array(self._scores(fresh[attack])) for attack in (CLEAN, worst))
        bounds = self._random, self.clean[0].task.worth("solved")
        loss = difference_interval(unhurt - hurt, bounds[1] - bounds[0])
        return Found(
            attack=worst,
            clean=mean_interval(unhurt, bounds),
            attacked=mean_interval(hurt, bounds),
            loss=loss,
            verdicts=tuple(o.result["verdict"]["name"] for o in fresh[worst]),
            tried=tried,
            flags=dict(self._flags(tried, found)),
            notes=tuple(self._notes(float(unhurt.mean()), loss)),
        )

    def _scores(self, outcomes: Sequence[Outcome]) -> tuple[float, ...]:
        """Evaluation returns at the end of runs.

        Raises:
            UserError: one of them failed.
        """
        for outcome in outcomes:
            if outcome.status == "failed":
                raise UserError(f"a run failed: {outcome.error}")
        found = (outcome.result["evaluation"].get("evaluation") for outcome in outcomes)
        return tuple(self._random if value is None else float(value) for value in found)

    @property
    def _random(self) -> float:
        return self.clean[0].task.worth("random")

    def _tried(self, attack: str, outcomes: Sequence[Outcome], out: Path) -> Tried:
        needs = self.members[attack]
        if attack in self.skipped:
            return Tried(needs, why=self.skipped[attack])
        try:
            scores = self._scores(outcomes)
        except UserError as error:
            return Tried(needs, why=str(error))
        pairs = zip(self._todo[attack], self.clean, strict=True)
        inert = all(_metrics(out, one) == _metrics(out, other) for one, other in pairs)
        return Tried(needs, scores, float(np.mean(scores)), inert)

    def _flags(
        self, tried: Mapping[str, Tried], outcomes: Mapping[str, Sequence[Outcome]]
    ) -> Iterator[tuple[str, Flag]]:
        inert = [attack for attack, t in tried.items() if t.inert]
        yield "attack inert", Flag(bool(inert), ", ".join(inert) or "every attack changed something")
        yield "blind beats adaptive", self._blindness(tried)
        n, f = self.clean[0].inboxes[0]
        rules = {f"{registry.name_of(rule)} ({topic})": rule for topic, rule in self.clean[0].defences.items()}
        for name, probe in (
            ("random defence", probes.draws),
            ("hidden state", probes.remembers),
            ("scale dependence", probes.depends_on_scale),
        ):
            said = {rule: probe(rules[rule], n, f) for rule in rules}
            found = [f"{rule} {why}" for rule, why in said.items() if why]
            yield name, Flag(bool(found), "; ".join(found) or f"not {' nor '.join(rules) or 'without a rule'}")
        yield "non-finite survived", _survival(outcomes)

    def _blindness(self, tried: Mapping[str, Tried]) -> Flag:
        worst: dict[str, tuple[float, str]] = {}
        for attack, t in tried.items():
            if t.mean is not None and (t.needs not in worst or t.mean < worst[t.needs][0]):
                worst[t.needs] = t.mean, attack
        if not {"blind", "adaptive"} <= worst.keys():
            return Flag(False, "not both kinds could be tried")
        (low, blind), (high, adaptive) = worst["blind"], worst["adaptive"]
        learned = max(worst[""][0] - self._random, 0.0)
        every = all(b < a for b, a in zip(tried[blind].returns, tried[adaptive].returns, strict=True))
        return Flag(every and high - low > MARGIN * learned, f"{blind} leaves {low:.1f}, {adaptive} {high:.1f}")

    def _notes(self, clean: float, loss: Interval) -> Iterator[str]:
        task = self.clean[0].task
        floor = self._random + LEARNING * (task.worth("solved") - self._random)
        if clean < floor:
            yield (
                f"without an attack the return is {clean:.1f}, below {floor:.1f}: nothing was learned that liars could "
                "undo; give it more trajectories"
            )
        elif loss.low is not None and loss.low <= 0:
            yield "the interval of the loss includes 0: no member of the ensemble did harm that can be told from chance"
        yield from self.clean[0].notes()


def _run(
    group: Mapping[str, Sequence[Experiment]], out: Path, executor: Executor, watch: Watcher | None
) -> dict[str, list[Outcome]]:
    """The outcomes of some attacks' cells. Two attacks may be the same experiment, which then runs once."""
    cells = {cell.hash: cell for each in group.values() for cell in each}
    labels = {cell.hash: f"{attack} · seed {cell.seed}" for attack, each in group.items() for cell in each}
    told = (lambda cell, outcome: watch(labels[cell], outcome)) if watch else None
    done = sweep(Plan("worst", cells, {}), out, executor, watch=told).outcomes
    return {attack: [done[cell.hash] for cell in each] for attack, each in group.items()}


def _metrics(out: Path, cell: Experiment) -> bytes:
    return read_bytes(out / cell.hash / "metrics.jsonl")


def _survival(outcomes: Mapping[str, Sequence[Outcome]]) -> Flag:
    """Whether runs under messages that are no numbers end as well as the same seeds do without."""
    tried = [attack for attack in outcomes if registry.parse(attack).name == "non_finite"]
    if not tried:
        return Flag(False, "no such attack was tried")
    for attack in tried:
        for outcome, calm in zip(outcomes[attack], outcomes[CLEAN], strict=True):
            if outcome.status == "failed":
                return Flag(False, f"a run under {attack} failed: {outcome.error}")
            ended, without = (o.result["verdict"]["name"] for o in (outcome, calm))
            if ended == "diverged" or SEVERITY.index(ended) > SEVERITY.index(without):
                return Flag(False, f"a run under {attack} ended {ended}, and {without} without it")
    screened = sum(o.result["screened"] for attack in tried for o in outcomes[attack])
    return Flag(True, f"{screened:,} messages were screened out")
