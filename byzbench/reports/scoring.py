"""Score of an entry: the mean over strata of the worst case over attacks of the mean over seeds.

    score of a cell = max(0, (auc - random) / (reference - random))
    worst case      = min over attacks of the mean over seeds          (of a stratum)
    score           = mean over strata of the worst case

`auc` is the area under the curve of evaluation returns (`byzbench.experiments.curves.area_under_curve`); `random` and
`reference` are constants of the stratum, so that no entry moves the score of another. `byzbench.reports.ordering`
compares entries; docs/scoring.md has what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from byzbench.reports.estimators import Interval, bounded_interval, crossfit, ratio_interval, seed_cvar
from byzbench.reports.paired_tests import MIN_SEEDS, certainly_better, holm, paired_t

LEARNS = 0.3
"""Clean score that an interval must exceed for a retention to be defined."""


@dataclass(frozen=True)
class Retention:
    """Share of the clean improvement over random that remains under an attack.

    Attributes:
        value: sum over seeds of (attacked - random) / sum of (clean - random); None if the latter is not positive.
        low, high: its two-sided 95 % interval; None below three seeds and where it is not bounded.
        defined: Whether the interval of the clean mean score is above `LEARNS`; other values are shown in grey.
    """

    value: float | None
    low: float | None
    high: float | None
    defined: bool

    def __str__(self) -> str:
        """Return the value with its interval, in brackets where it is not defined."""
        if self.value is None:
            return "–"
        text = str(Interval(self.value, self.low, self.high))
        return text if self.defined else f"[{text}]"


@dataclass(frozen=True)
class StratumRuns:
    """Runs of an entry in one stratum; position i of every array is the same seed.

    Attributes:
        name: The stratum.
        random: Mean return of the random policy.
        reference: Mean clean AUC of the reference row, larger than `random`.
        clean: Raw AUC without an attack, [n]. A value that is not finite is a failed or diverged run.
        attacked: The same by attack, [n] each; may be empty for a method that no attack reaches.
    """

    name: str
    random: float
    reference: float
    clean: np.ndarray
    attacked: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if not self.reference > self.random:
            raise ValueError(f"{self.name}: the reference {self.reference} is not above random, {self.random}")
        shapes = {np.shape(values) for values in (self.clean, *self.attacked.values())}
        if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape[0] < 1:
            raise ValueError(f"{self.name}: all cells need the same number of seeds, at least one")

    @cached_property
    def attacks(self) -> tuple[str, ...]:
        """Names of the attacks, sorted."""
        return tuple(sorted(self.attacked))

    @cached_property
    def clean_scores(self) -> np.ndarray:
        """Scores without an attack, [n]."""
        return cell_scores(self.clean, self.random, self.reference)

    @cached_property
    def attacked_scores(self) -> np.ndarray:
        """Scores under each of `attacks`, [A, n].

        Raises:
            ValueError: There is no attack.
        """
        if not self.attacked:
            raise ValueError(f"{self.name}: a worst case needs at least one attack")
        return cell_scores([self.attacked[name] for name in self.attacks], self.random, self.reference)

    @cached_property
    def worst_index(self) -> int:
        """Position in `attacks` of the attack with the lowest mean score; of equal ones the first."""
        return int(self.attacked_scores.mean(-1).argmin())


@dataclass(frozen=True)
class EntryRuns:
    """All runs of an entry: one `StratumRuns` for each stratum, on the same seeds."""

    strata: tuple[StratumRuns, ...]

    def __post_init__(self) -> None:
        if len({len(stratum.clean) for stratum in self.strata}) != 1:
            raise ValueError("an entry needs one stratum or more, all with the same number of seeds")
        if len({stratum.name for stratum in self.strata}) != len(self.strata):
            raise ValueError("the strata of an entry need different names")

    @property
    def num_seeds(self) -> int:
        """Number of seeds, n."""
        return len(self.strata[0].clean)

    @cached_property
    def seed_scores(self) -> np.ndarray:
        """Mean over strata of the score under the worst attack of the stratum, [n]; its mean is the score."""
        return np.mean([stratum.attacked_scores[stratum.worst_index] for stratum in self.strata], axis=0)


@dataclass(frozen=True)
class StratumScore:
    """Scores of an entry in one stratum.

    Attributes:
        name: The stratum.
        worst: Lowest mean score over attacks.
        worst_attack: The attack with that mean.
        tied: Attacks that cannot be distinguished from the worst one (paired over seeds, Holm), itself included.
        harmful: Attacks with a lower score than the clean runs of the same seeds (paired, one-sided, Holm).
        crossfit: Worst case with the attack chosen on one half of the seeds and scored on the other; None below four.
        cvar: Mean of the worst fifth of seeds under the worst attack.
        clean: Mean score without an attack.
        means: Mean score by attack.
        retention: By attack.
    """

    name: str
    worst: Interval
    worst_attack: str
    tied: frozenset[str]
    harmful: frozenset[str]
    crossfit: float | None
    cvar: float
    clean: Interval
    means: Mapping[str, float]
    retention: Mapping[str, Retention]

    @property
    def named_attack(self) -> str | None:
        """Worst attack if it did harm, else None."""
        return self.worst_attack if self.worst_attack in self.harmful else None


@dataclass(frozen=True)
class EntryScore:
    """Scores of an entry over all its strata; `worst` is what entries are sorted by.

    Attributes:
        worst, crossfit, cvar, clean: Means over strata of the values of the same name.
        mean: Mean over strata of the mean over attacks.
        strata: The scores in each stratum.
        num_seeds: n.
    """

    worst: Interval
    crossfit: float | None
    cvar: float
    clean: Interval
    mean: float
    strata: tuple[StratumScore, ...]
    num_seeds: int

    def mean_retention(self) -> tuple[float | None, int, int]:
        """Average the retentions that are defined.

        Returns:
            Their mean (None if there is none), how many they are, and how many retentions there are in all.
        """
        retentions = [retention for stratum in self.strata for retention in stratum.retention.values()]
        values = [retention.value for retention in retentions if retention.defined and retention.value is not None]
        return (float(np.mean(values)) if values else None), len(values), len(retentions)


def cell_scores(auc: ArrayLike, random: float, reference: float) -> np.ndarray:
    """Normalise raw AUC to scores, max(0, (auc - random) / (reference - random)); values above 1 are kept.

    Args:
        auc: Raw AUC, any shape. A value that is not finite (a failed or diverged run) has score 0.
        random: Return that has score 0.
        reference: AUC that has score 1.

    Returns:
        Scores of the same shape.

    Example:
        >>> cell_scores([10.0, 60.0, 135.0, float("nan")], random=20.0, reference=120.0).tolist()
        [0.0, 0.4, 1.15, 0.0]
    """
    return np.maximum(_improvements(auc, random, reference), 0.0)


def score_entry(entry: EntryRuns) -> EntryScore:
    """Compute all scores of an entry.

    The interval of a worst case is that of `bounded_interval`.

    Args:
        entry: Its runs, with at least one attack in each stratum.

    Returns:
        The scores; no intervals below three seeds.

    Raises:
        ValueError: A stratum has no attack.

    Example:
        >>> runs = StratumRuns("star", 0.0, 100.0, np.array([90.0, 80, 85]), {"ipm": np.array([20.0, 10, 15])})
        >>> score = score_entry(EntryRuns((runs,)))
        >>> print(f"{score.worst.value:.2f} {score.clean.value:.2f} {score.strata[0].named_attack}")
        0.15 0.85 ipm
    """
    strata = tuple(_score_stratum(stratum) for stratum in entry.strata)
    attacked = [stratum.attacked_scores for stratum in entry.strata]
    return EntryScore(
        worst=bounded_interval(attacked),
        crossfit=crossfit(attacked),
        cvar=float(np.mean([stratum.cvar for stratum in strata])),
        clean=bounded_interval([stratum.clean_scores[None] for stratum in entry.strata]),
        mean=float(np.mean([scores.mean() for scores in attacked])),
        strata=strata,
        num_seeds=entry.num_seeds,
    )


def _improvements(auc: ArrayLike, random: float, reference: float) -> np.ndarray:
    """Return (auc - random) / (reference - random), 0 where the AUC is not finite."""
    values = np.asarray(auc, float)
    return (np.where(np.isfinite(values), values, random) - random) / (reference - random)


def _score_stratum(runs: StratumRuns) -> StratumScore:
    scores, worst = runs.attacked_scores, runs.worst_index
    clean = bounded_interval([runs.clean_scores[None]])
    better = certainly_better(scores)[:, worst]
    return StratumScore(
        name=runs.name,
        worst=bounded_interval([scores]),
        worst_attack=runs.attacks[worst],
        tied=frozenset(name for name, apart in zip(runs.attacks, better, strict=True) if not apart),
        harmful=_harmful(runs),
        crossfit=crossfit([scores]),
        cvar=seed_cvar(scores[worst]),
        clean=clean,
        means=dict(zip(runs.attacks, scores.mean(-1).tolist(), strict=True)),
        retention={name: _retention(runs, name, clean) for name in runs.attacks},
    )


def _harmful(runs: StratumRuns) -> frozenset[str]:
    """Return the attacks under which scores are lower than those of the clean runs of the same seeds."""
    if len(runs.clean) < MIN_SEEDS:
        return frozenset()
    harm, error = paired_t(runs.clean_scores - runs.attacked_scores)
    rejected = holm(special.stdtr(len(runs.clean) - 1, -harm / error))
    return frozenset(name for name, certain in zip(runs.attacks, rejected, strict=True) if certain)


def _retention(runs: StratumRuns, attack: str, clean: Interval) -> Retention:
    attacked, unattacked = (_improvements(x, runs.random, runs.reference) for x in (runs.attacked[attack], runs.clean))
    value = float(attacked.mean() / unattacked.mean()) if unattacked.mean() > 0 else None
    low, high = ratio_interval(attacked, unattacked)
    return Retention(value, low, high, low is not None and clean.low is not None and clean.low > LEARNS)
