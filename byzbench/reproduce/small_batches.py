"""The setting that the findings share: small batches on CartPole, where attacks of Byzantine agents do harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from byzbench import registry
from byzbench.records.run_folder import RunFolder
from byzbench.reports.estimators import CONFIDENCE, Interval, ratio_interval
from byzbench.reports.paired_tests import MIN_SEEDS
from byzbench.reports.statistics import mean_interval
from byzbench.reproduce.study import MeasuredRow, Options, Study

AGENTS, BYZANTINE, TRAJECTORIES = 13, 3, 300
SETTING: Options = {
    "agents": AGENTS,
    "byzantine": BYZANTINE,
    "trajectories": TRAJECTORIES,
    "evaluations": 15,
    "evaluation_episodes": 3,
    "preset": "paper",
}
"""What all runs share: the budget of the small board (docs/smoke-v2.md), on CartPole."""
DESCRIPTION = (
    f"CartPole, complete graph, K = {AGENTS}, f = {BYZANTINE}, {TRAJECTORIES} trajectories per agent. The *score* of a "
    "run is the area under the curve of the honest agents' mean evaluation return, 0 for a random policy and 1 for a "
    "solved task (475) from the first trajectory on."
)
_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class ScoreStudy(Study):
    """Study whose runs are measured by their score, and whose searches choose the highest mean score.

    Attributes:
        text: What the page says before the tables, in Markdown.
    """

    text: str

    @property
    def introduction(self) -> str:
        """Return the text."""
        return self.text

    def measure(self, folder: Path) -> float:
        """Return the score of a run."""
        return area_score(folder)

    def score(self, runs: Sequence[float]) -> tuple[float, ...]:
        """Return the mean score of a candidate."""
        return (float(np.mean(runs)),)


def area_score(folder: Path) -> float:
    """Return the area under the evaluation curve of a run: 0 for a random policy and 1 for a solved task.

    Args:
        folder: The folder of the run.
    """
    area = float((RunFolder(folder).result() or {})["evaluation"]["evaluation_auc"])
    reference = registry.make("task", "cartpole").reference
    return round((area - reference["random"]) / (reference["solved"] - reference["random"]), 4)


def scores(row: MeasuredRow) -> np.ndarray:
    """Return the scores of the runs of a row, float64 [n], by seed."""
    return np.array(row.runs, float)


def mean_score(row: MeasuredRow) -> Interval:
    """Return the mean score of a row, with an interval that allows for a failure that no seed has shown."""
    return mean_interval(scores(row), bounds=(0.0, 1.0))


def retained(attacked: MeasuredRow, clean: MeasuredRow) -> Interval | None:
    """Return the share of the clean score that is left under an attack, by pairs of seeds; None without a clean score.

    Args:
        attacked: The runs under the attack.
        clean: The runs of the same seeds without it.
    """
    left, whole = scores(attacked), scores(clean)
    return Interval(left.mean() / whole.mean(), *ratio_interval(left, whole)) if whole.mean() > 0 else None


def bootstrap_interval(runs: np.ndarray, statistic: Callable[[np.ndarray], float]) -> Interval:
    """Return a statistic of rows of runs, with its 95 % percentile interval over draws of the common seeds.

    Args:
        runs: float64 [..., n], n seeds.
        statistic: Function of such an array.

    Example:
        >>> interval = bootstrap_interval(np.array([[0.2, 0.4, 0.6]]), lambda runs: runs.mean())
        >>> print(f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})")
        0.40 (0.20 to 0.60)
    """
    rng, n = np.random.default_rng(0), runs.shape[-1]
    value = float(statistic(runs))
    if n < MIN_SEEDS:
        return Interval(value)
    drawn = [statistic(runs[..., rng.integers(n, size=n)]) for _ in range(_DRAWS)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
