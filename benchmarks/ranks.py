"""How often a leaderboard's brackets and ranks are right: makes docs/ranks.md.

    python benchmarks/ranks.py [--trials 200]

Entries are drawn, not run, by a fixed seed for each row. Some minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from byzbench.leaderboard.scoring import Runs, Score, pairs_apart, score
from byzbench.reports.statistics import iqm

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

SCORES: dict[str, Draw] = {
    "normal, 0.5 ± 0.1": lambda rng, shape: rng.normal(0.5, 0.1, shape),
    "skewed: 0.9 less gamma, shape 2, scale 0.1": lambda rng, shape: 0.9 - rng.gamma(2, 0.1, shape),
    "half at 0.1 ± 0.02, half at 0.9 ± 0.02": lambda rng, shape: (
        rng.choice([0.1, 0.9], shape) + rng.normal(0, 0.02, shape)
    ),
    "half fail at 0, half at 1": lambda rng, shape: rng.choice([0.0, 1.0], shape),
}
WORLDS = ((1, 1, 0.0), (1, 6, 0.0), (1, 6, 0.2), (4, 6, 0.0))
"""Strata, attacks, and how much more all but the first attack leave."""
SEEDS = (5, 10)
BETTER = ((1, 0.1), (1, 0.2), (4, 0.1), (4, 0.2))
"""Strata, and how much better the first entry is."""
ROWS = 10
"""Entries of the larger board."""
POPULATION = 4_000_000

PAGE = """# How often ranks are right

Made by `python benchmarks/ranks.py --trials {trials}`: entries are drawn from distributions of scores that are known,
and scored and ranked as [leaderboards](leaderboards.md) do. Runs of two entries on one seed share nothing here,
so that the paired test gains nothing by pairing.

## Equal entries

{trials} pairs of equal entries a row, each pair alone on a board. The bracket is to cover the truth, the interquartile
mean of the population under the worst attack, in 95 %, and the two are to share a rank in 95 %; the standard error of
95 % of {trials} pairs is {error:.1f} %.

| scores of runs | seeds | strata | attacks | bracket covers | its width | share a rank |
|---|--:|--:|---|--:|--:|--:|
{equal}

The worst row covers in {least_cover:.1f} %, and shares in {least_share:.1f} %. Of ten equal entries on a board (normal
scores, ten seeds, six equal attacks, {boards} boards) {many:.1f} % of the pairs share a rank.

## A better one among them

Ten seeds, normal scores ± 0.1, six equal attacks, under each of which one entry leaves more. In how many of 100 trials
it is ranked apart from its only rival ({trials} boards), and from each of {others} others that are equal ({boards}
boards):

| better by | strata | alone with the other | from each of {others} |
|--:|--:|--:|--:|
{better}
"""


def drawn(draw: Draw, rng: np.random.Generator, seeds: int, strata: int, attacks: int, lead: float) -> Score:
    """The score of an entry; attacks after the first leave `lead` more."""
    rows = draw(rng, (strata, attacks, seeds)) + lead * (np.arange(attacks) > 0)[:, None]
    names = tuple(map(str, range(strata))), tuple(map(str, range(attacks)))
    return score(Runs(*names, np.full((strata, seeds), 0.95), rows.clip(0, 1)))


def told_apart(scores: list[Score]) -> set[tuple[int, int]]:
    """Pairs of places, in order of scores, that are ranked apart."""
    return pairs_apart(sorted(scores, key=lambda one: -one.worst.value))


def equal(trials: int) -> list[tuple[str, int, int, str, float, float, float]]:
    """A row a setting; the last three in per cent, in scores and in per cent."""
    rows = []
    for name, draw in SCORES.items():
        truth = float(iqm(draw(np.random.default_rng(1), (POPULATION,)).clip(0, 1)))
        for seeds in SEEDS:
            for strata, attacks, lead in WORLDS:
                rng = np.random.default_rng(0)
                pairs = [[drawn(draw, rng, seeds, strata, attacks, lead) for _ in range(2)] for _ in range(trials)]
                ends = np.array([one.bracket for pair in pairs for one in pair], float)
                covered = (ends[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= ends[:, 1])
                shared = sum(not told_apart(pair) for pair in pairs)
                said = f"{attacks}, one leads by {lead}" if lead else str(attacks)
                width = float(np.ptp(ends, 1).mean())
                rows.append((name, seeds, strata, said, 100 * covered.mean(), width, 100 * shared / trials))
    return rows


def normal_scores(rng: np.random.Generator, strata: int, more: float = 0.0) -> Score:
    return drawn(lambda r, shape: more + r.normal(0.5, 0.1, shape), rng, 10, strata, 6, 0.0)


def alone(more: float, strata: int, trials: int) -> float:
    """Per cent of boards of two on which the better one is ranked apart, and first."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(trials):
        better, other = normal_scores(rng, strata, more), normal_scores(rng, strata)
        found += better.worst.value > other.worst.value and bool(told_apart([better, other]))
    return 100 * found / trials


def among_many(more: float, strata: int, boards: int) -> float:
    """Per cent of the better one's pairs with others, on boards of `ROWS`, that are ranked apart as they should."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(boards):
        better = normal_scores(rng, strata, more)
        scores = [better, *(normal_scores(rng, strata) for _ in range(ROWS - 1))]
        place = sorted(scores, key=lambda one: -one.worst.value).index(better)
        found += sum(above == place for above, _ in told_apart(scores))
    return 100 * found / boards / (ROWS - 1)


def main() -> None:
    """Draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    trials, boards = given.trials, max(given.trials // 10, 1)

    rows = equal(trials)
    rng = np.random.default_rng(0)
    apart = sum(len(told_apart([normal_scores(rng, 1) for _ in range(ROWS)])) for _ in range(boards))
    page = PAGE.format(
        trials=trials,
        boards=boards,
        others=ROWS - 1,
        error=100 * (0.95 * 0.05 / trials) ** 0.5,
        equal="\n".join(
            f"| {name} | {seeds} | {strata} | {said} | {covered:.1f} % | {width:.2f} | {shared:.1f} % |"
            for name, seeds, strata, said, covered, width, shared in rows
        ),
        least_cover=min(row[4] for row in rows),
        least_share=min(row[6] for row in rows),
        many=100 - 100 * apart / boards / (ROWS * (ROWS - 1) / 2),
        better="\n".join(
            f"| {more} | {strata} | {alone(more, strata, trials):.0f} | {among_many(more, strata, boards):.0f} |"
            for strata, more in BETTER
        ),
    )
    (given.docs / "ranks.md").write_text(page)


if __name__ == "__main__":
    main()
