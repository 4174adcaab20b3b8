"""Check by simulation what scores, intervals and rank ranges claim: writes the tables of docs/scoring.md.

    python benchmarks/score_checks.py [--trials 300]

All numbers come from fixed seeds. About two minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy import special

from byzbench.reports.estimators import bounded_interval, crossfit, ratio_interval
from byzbench.reports.ordering import joining, pair_test, separated
from byzbench.reports.scoring import EntryRuns, StratumRuns, cell_scores

NUM_ATTACKS = 5
DESIGNS = ((2, 8), (3, 10), (2, 12))
"""Numbers of strata and of seeds."""

UNSEEN = (8, 10, 12, 20)
"""Numbers of seeds on which an entry that fails at times is compared with one that never does."""

POPULATION = 200_000
BEGIN, END = "<!-- score_checks: begin -->", "<!-- score_checks: end -->"

Sampler = Callable[[np.random.Generator, tuple[int, ...], np.ndarray], np.ndarray]
"""Scores of a shape [strata, attacks, n], given standard normal effects of seeds [2, n]: one that all entries share,
and one of the entry, that all its cells share."""


@dataclass(frozen=True)
class Truth:
    """A distribution of scores: `attacked` under every attack but the first, `worst` under the first, `clean`."""

    name: str
    clean: Sampler
    attacked: Sampler
    worst: Sampler

    def entry(self, rng: np.random.Generator, num_strata: int, seed_effect: np.ndarray, gain: float = 0.0) -> EntryRuns:
        """Draw the runs of one entry, raw AUC from 0 (random) to 1 (reference)."""
        n = len(seed_effect)
        both = np.stack([seed_effect, rng.standard_normal(n)])
        cells = [
            sample(rng, (num_strata, count, n), both) + gain
            for sample, count in ((self.clean, 1), (self.worst, 1), (self.attacked, NUM_ATTACKS - 1))
        ]
        attacked = np.concatenate(cells[1:], axis=1)
        return EntryRuns(
            tuple(
                StratumRuns(str(s), 0.0, 1.0, cells[0][s, 0], {str(a): row for a, row in enumerate(attacked[s])})
                for s in range(num_strata)
            )
        )


def normal(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray, mean: float) -> np.ndarray:
    return mean + rng.normal(0, 0.1, shape)


def left_skewed(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray, top: float) -> np.ndarray:
    return top - rng.gamma(2, 0.1, shape)


def right_skewed(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray, mean: float) -> np.ndarray:
    return rng.exponential(mean, shape)


def two_modes(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray, q: float) -> np.ndarray:
    """Each run fails with probability q."""
    return np.where(rng.random(shape) < q, 0.02, 0.95) + rng.normal(0, 0.03, shape)


def two_modes_by_seed(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray, q: float) -> np.ndarray:
    """All runs of an entry on a seed fail together, with probability q."""
    failed = effects[1] < special.ndtri(q)
    return np.where(failed, 0.02, 0.95) + rng.normal(0, 0.03, shape)


def at_floor(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray) -> np.ndarray:
    return rng.normal(0, 0.05, shape)


def at_ceiling(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray, top: float) -> np.ndarray:
    return top - np.abs(rng.normal(0, 0.03, shape))


def like_pilot(rng: np.random.Generator, shape: tuple[int, ...], effects: np.ndarray, mean: float) -> np.ndarray:
    """Deviation 0.3 between seeds, which entries share, and about 0.15 within a pair of entries."""
    return mean + 0.3 * effects[0] + 0.1 * effects[1] + rng.normal(0, 0.05, shape)


_PARAMETER: dict[Callable[..., np.ndarray], str] = {
    normal: "mean",
    left_skewed: "top",
    right_skewed: "mean",
    at_ceiling: "top",
    like_pilot: "mean",
}


def truths() -> Iterable[Truth]:
    """Yield the committed list of truths."""
    for name, attacks in (("five equal attacks", 0.0), ("one attack worst", 0.2)):

        def pair(sampler: Callable[..., np.ndarray], worst: float, gap: float = attacks) -> tuple[Sampler, Sampler]:
            key = _PARAMETER[sampler]
            return partial(sampler, **{key: worst + gap}), partial(sampler, **{key: worst})

        yield Truth(f"normal, {name}", partial(normal, mean=0.8), *pair(normal, 0.5))
        yield Truth(f"skewed to 0, {name}", partial(left_skewed, top=1.1), *pair(left_skewed, 0.9))
        yield Truth(f"skewed from 0, {name}", partial(normal, mean=0.8), *pair(right_skewed, 0.15))
        yield Truth(f"ceiling, {name}", partial(at_ceiling, top=1.0), *pair(at_ceiling, 1.0 - attacks))
        yield Truth(f"like the pilot, {name}", partial(like_pilot, mean=0.9), *pair(like_pilot, 0.6))
        for q in (0.1, 0.3, 0.5):
            others = q if not attacks else q / 2
            clean = partial(two_modes, q=q / 3)
            yield Truth(f"runs fail in {q:.0%}, {name}", clean, partial(two_modes, q=others), partial(two_modes, q=q))
    for q in (0.1, 0.3, 0.5):
        by_seed = partial(two_modes_by_seed, q=q)
        yield Truth(f"seeds fail in {q:.0%}, all cells together", partial(two_modes_by_seed, q=q / 3), by_seed, by_seed)
    survivors = partial(two_modes, q=0.9)
    yield Truth("one attacked run in ten survives", partial(normal, mean=0.9), survivors, survivors)
    yield Truth("floor, five equal attacks", partial(normal, mean=0.8), at_floor, at_floor)


@cache
def population(truth: Truth) -> tuple[float, float, float]:
    """Return the true clean score, the true worst case, and the true retention under the first attack."""
    rng = np.random.default_rng(1)
    effects = rng.standard_normal((2, POPULATION))
    clean, worst, other = (f(rng, (1, 1, POPULATION), effects) for f in (truth.clean, truth.worst, truth.attacked))
    lowest = min(float(cell_scores(x, 0.0, 1.0).mean()) for x in (worst, other))
    return float(cell_scores(clean, 0.0, 1.0).mean()), lowest, float(worst.mean() / clean.mean())


def holds(low: float | None, high: float | None, value: float) -> float:
    """Return 1 if an interval holds a value, 0 if not, NaN where there is no interval."""
    return np.nan if low is None or high is None else float(low <= value <= high)


def coverage(truth: Truth, num_strata: int, n: int, trials: int) -> list[float]:
    """Measure an entry of a truth.

    Returns:
        The biases of the worst case and of the cross-fitted one, the coverage of the score's interval and its mean
        width, the coverage of retention (of those that are bounded) and of joining.
    """
    clean, worst, retained = population(truth)
    rng = np.random.default_rng([num_strata, n])
    rows = []
    for _ in range(trials):
        effect = rng.standard_normal(n)
        entry, alone = truth.entry(rng, num_strata, effect), truth.entry(rng, num_strata, effect)
        cells = [stratum.attacked_scores for stratum in entry.strata]
        interval, fitted, benefit = bounded_interval(cells), crossfit(cells), joining(entry, alone).overall
        rows.append(
            (
                interval.value - worst,
                np.nan if fitted is None else fitted - worst,
                holds(interval.low, interval.high, worst),
                np.nan if interval.low is None or interval.high is None else interval.high - interval.low,
                holds(*ratio_interval(entry.strata[0].attacked["0"], entry.strata[0].clean), retained),
                holds(benefit.low, benefit.high, worst - clean),
            )
        )
    return np.nanmean(np.array(rows, float), axis=0).tolist()


def undivided(truth: Truth, num_entries: int, num_strata: int, n: int, boards: int) -> float:
    """Return the share of boards of equal entries on which nothing is separated."""
    rng, whole = np.random.default_rng([num_entries, n]), 0
    for _ in range(boards):
        effect = rng.standard_normal(n)
        whole += not separated([truth.entry(rng, num_strata, effect) for _ in range(num_entries)])
    return whole / boards


def power(truth: Truth, gain: float, n: int, trials: int) -> tuple[float, float]:
    """Return how often an entry that is better by `gain` is told from one other, and from each of five on a board."""
    rng, named, joint = np.random.default_rng(n), 0, 0
    for _ in range(trials):
        effect = rng.standard_normal(n)
        entries = [truth.entry(rng, 2, effect, gain if i == 0 else 0.0) for i in range(6)]
        test = pair_test(entries[0], entries[1])
        named += test.low is not None and test.low > 0
        joint += sum(better == 0 for better, _ in separated(entries))
    return named / trials, joint / trials / 5


def told_apart(q: float, n: int, trials: int) -> float:
    """Return how often a pair of equal true scores is told apart, one of which fails with probability q, one never."""
    rng, separations = np.random.default_rng(n), 0
    steady = 0.02 * q + 0.95 * (1 - q)
    for _ in range(trials):
        rows = two_modes(rng, (n,), np.empty(0), q), rng.normal(steady, 0.03, n)
        one, other = (EntryRuns((StratumRuns("0", 0.0, 1.0, np.ones(n), {"0": row}),)) for row in rows)
        p = pair_test(one, other).p
        separations += p is not None and p < 0.05
    return separations / trials


def tables(trials: int) -> str:
    """Return all tables as Markdown."""
    covered, boards, every = [], [], list(truths())
    least = [1.0] * 4
    for truth in every:
        for num_strata, n in DESIGNS:
            bias, fitted, score, width, retention, benefit = coverage(truth, num_strata, n, trials)
            least[:3] = np.minimum(least[:3], (score, retention, benefit))
            covered.append(
                f"| {truth.name} | {num_strata} | {n} | {bias:+.3f} | {fitted:+.3f} | {score:.1%} | {width:.2f} "
                f"| {retention:.1%} | {benefit:.1%} |"
            )
        shares = [undivided(truth, k, s, n, trials) for k, s, n in ((6, 2, 8), (10, 3, 10))]
        least[3] = min(least[3], *shares)
        boards.append(f"| {truth.name} | {shares[0]:.1%} | {shares[1]:.1%} |")
    pilots = [truth for truth in every if truth.name.startswith("like the pilot")]
    power_rows = [
        f"| {truth.name} | {gain} | {n} | {' | '.join(f'{x:.0%}' for x in power(truth, gain, n, trials))} |"
        for truth in pilots
        for gain in (0.2, 0.4)
        for n in (8, 10, 12, 16)
    ]
    unseen = [
        f"| {q:.0%} | {' | '.join(f'{told_apart(q, n, 10 * trials):.0%}' for n in UNSEEN)} |" for q in (0.1, 0.3, 0.5)
    ]
    return "\n".join(
        [
            f"{trials} trials a row; the standard error of 95 % is {np.sqrt(0.95 * 0.05 / trials):.1%}. The lowest "
            f"coverage is {least[0]:.1%} for scores, {least[1]:.1%} for retention and {least[2]:.1%} for joining; the "
            f"lowest share of boards of equal entries on which nothing is separated is {least[3]:.1%}.",
            "",
            "| truth | strata | seeds | bias of worst | bias of cross-fitted | score covered | width "
            "| retention covered | joining covered |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
            *covered,
            "",
            "| boards of equal entries on which nothing is separated | 6 entries, 2 strata, 8 seeds "
            "| 10 entries, 3 strata, 10 seeds |",
            "|---|--:|--:|",
            *boards,
            "",
            "| separated from the others | better by | seeds | one named pair | each of 5 others, jointly |",
            "|---|--:|--:|--:|--:|",
            *power_rows,
            "",
            f"| equal scores, one entry fails in | {' | '.join(f'told apart at {n} seeds' for n in UNSEEN)} |",
            f"|---|{'--:|' * len(UNSEEN)}",
            *unseen,
        ]
    )


def main() -> None:
    """Measure, print, and write between the marks of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--page", type=Path, default=Path("docs/scoring.md"))
    options = parser.parse_args()
    text = tables(options.trials)
    print(text)
    page = options.page.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    options.page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
