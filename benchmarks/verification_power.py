"""How often verification contradicts honest rows, and how often it finds raised ones: a table of docs/leaderboards.md.

    python benchmarks/verification_power.py [--pool build/verification] [--jobs 2] [--trials 1000] [--normal] [--write]

A pool of runs of a method on smoke-v1 stands for all rows. For the test of own seeds, every attacked cell with rewards
that are larger by 0 to 8 units in the last place of a float32, as `verify` runs it and repeats it, and smaller by 1 to
3, as another engine would round; for the two others one attack on 44 fresh seeds, and on its own seeds with the agents
relabelled 10 times each. Verifications are drawn from it, so they are dependent: what is printed is a check of the
levels, and the power at this spread alone. DecByzPG learns little there, so that its curves can be raised by all of
0.2; those of ClippedGossip end at the ceiling of the task, and change more by rounding. Half an hour of two idle cores
fills the pools, which are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard import exchangeability
from byzbench.leaderboard.exchangeability import LEVELS, claim_group, normalised_area
from byzbench.leaderboard.plan import plan_submission
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.replay import CONTROLS, REPEATED, SeedComparison, perturbed, relabelled
from byzbench.leaderboard.schema import Cell, Method
from byzbench.leaderboard.submitting import cell_of
from byzbench.leaderboard.suites import CLEAN, CellKey, Stratum, seed_of, suite
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

PAGE = Path(__file__).parents[1] / "docs" / "leaderboards.md"
MARKS = "<!-- benchmarks/verification_power.py -->\n", "<!-- end -->\n"
ALGORITHMS = {"decbyzpg": "DecByzPG", "clipped_gossip": "ClippedGossip"}
CLAIMS = 3
ATTACK = "alie(z=1.5, on=both)"
FRESH = 44
RELABELLED = 10
DRAWN = 8
"""Cells that are drawn, and runs of the two other tests: the default of `verify`."""
RAISED = (0.0, 0.05, 0.1, 0.2)
"""How much whole curves of all attacked cells are raised, in units of the way from random to the reference."""

NORMAL = ((0.02, 0.05), (0.1, 0.2))
"""Standard deviations of normal areas: between runs that differ by rounding, and between seeds."""

Key = tuple[str, CellKey, int]


def experiments(algorithm: str) -> dict[Key, Experiment]:
    """The runs of a pool: by what they are for, cell and number."""
    entered = plan_submission(suite("smoke-v1"), "defence", Method(algo=algorithm))
    experiments: dict[Key, Experiment] = {}
    for place, cell in entered.cells.items():
        if place.attack != CLEAN:
            experiments |= {("own seeds", place, n): perturbed(cell, n) for n in range(2 * CONTROLS + 1)}
            experiments |= {("claims", place, n): perturbed(cell, -n - 1) for n in range(CLAIMS)}
        if place.attack == ATTACK:
            experiments |= {("relabelled agents", place, n): relabelled(cell, f"power/{n}") for n in range(RELABELLED)}
            if place.seed == 0:
                seeds = [seed_of(entered.suite.sha256, "power", n) for n in range(FRESH)]
                experiments |= {("fresh seeds", place, n): replace(cell, seed=seed) for n, seed in enumerate(seeds)}
    return experiments


def run(todo: dict[Key, Experiment], pool: Path, jobs: int) -> dict[Key, Cell]:
    """The cells of the pool; those that are there are not run again."""
    pool.mkdir(parents=True, exist_ok=True)
    labels = {f"{test} · {place.key} · {n}": cell for (test, place, n), cell in todo.items()}
    with make_executor("process", pool, jobs=jobs) as workers:
        done = run_sweep(
            SweepPlan("power", labels, {}), pool, workers, callback=lambda label, _: print(label, flush=True)
        ).outcomes
    return {
        (test, place, n): cell_of(place.key, cell.hash, done[f"{test} · {place.key} · {n}"], pool / cell.hash)
        for (test, place, n), cell in todo.items()
    }


@dataclass
class Pool:
    """The areas of a pool, as they are and with whole curves raised.

    Attributes:
        own, claims: by attacked cell, of the replay and controls [A, 9], and of the claims [A, CLAIMS].
        seeds, raised_seeds: of one attack, on its own seeds and fresh ones. There is one run of each.
        of_attack: the claims of that attack, [seeds, CLAIMS].
        relabelled: its relabelled runs.
    """

    own: np.ndarray
    claims: np.ndarray
    seeds: np.ndarray
    raised_seeds: np.ndarray
    of_attack: np.ndarray
    relabelled: np.ndarray

    @classmethod
    def of_cells(cls, cells: dict[Key, Cell], by: float) -> Pool:
        """The areas of cells that were run."""

        def areas(test: str, up: float, attack: str | None = None) -> np.ndarray:
            rows: dict[CellKey, list[float]] = {}
            for (name, place, _), cell in cells.items():
                if name == test and attack in (None, place.attack):
                    shown = raised(cell, place.stratum, up)
                    rows.setdefault(place, []).append(
                        normalised_area(shown, place.stratum, unit(suite("smoke-v1"), place.stratum))
                    )
            return np.array([*rows.values()])

        seeds, raised_seeds = (
            np.concatenate([areas("own seeds", up, ATTACK)[:, 0], areas("fresh seeds", up).ravel()]) for up in (0.0, by)
        )
        renamed = areas("relabelled agents", 0.0).ravel()
        own, claims = areas("own seeds", 0.0), areas("claims", by)
        return cls(own, claims, seeds, raised_seeds, areas("claims", by, ATTACK), renamed)

    @classmethod
    def normal(cls, rng: np.random.Generator, rounding: float, spread: float, by: float) -> Pool:
        """Normal areas of a row of 13 seeds and 26 attacked cells.

        Args:
            rng: The generator.
            rounding: The standard deviation between runs of one cell.
            spread: The standard deviation between seeds and between placements.
            by: How much claims are raised.
        """

        def around(centres: np.ndarray, number: int) -> np.ndarray:
            return centres[:, None] + rounding * rng.standard_normal((len(centres), number))

        centres = spread * rng.standard_normal(26)
        own, claims = around(centres, 2 * CONTROLS + 1), by + around(centres, CLAIMS)
        seeds = np.concatenate([centres[:13], spread * rng.standard_normal(FRESH)])
        renamed = spread * rng.standard_normal(DRAWN + REPEATED)
        return cls(own, claims, seeds, seeds + by, claims[:13], renamed)


def raised(cell: Cell, stratum: Stratum, by: float) -> Cell:
    """A cell whose whole curve is raised, as far as returns can be."""
    added = by * (stratum.reference - stratum.random)
    curve = tuple(None if p is None else repr(min(float(p) + added, stratum.high)) for p in cell.curve)
    return cell.model_copy(update={"curve": curve})


def simulate(pool_of: Callable[[np.random.Generator], Pool], trials: int) -> dict[str, float]:
    """The share of verifications, in per cent, that contradict a row whose attacked cells are raised; by test.

    Of the cells of a row some are not attacked: they are drawn with the others, and not raised, so that they carry no
    information on it. Any of the seeds of the pool can be the suite's.
    """
    rng = np.random.default_rng(0)
    contradicted = dict.fromkeys(LEVELS, 0)

    def own_seeds(pool: Pool, drawn: np.ndarray, claims: np.ndarray, runs: list[int]) -> SeedComparison:
        return SeedComparison.of("own seeds", [claim_group([claims[a]], pool.own[a, runs], 1) for a in drawn])

    def other_seeds(test: str, claims: np.ndarray, runs: np.ndarray) -> bool:
        first = SeedComparison.two_sided(test, claims.tolist(), runs[:DRAWN].tolist(), 0)
        repeat = runs[DRAWN:][:REPEATED].tolist()
        return first.suspicious and SeedComparison.two_sided(test, claims.tolist(), repeat, 0).verdict == "mismatch"

    for _ in range(trials):
        pool = pool_of(rng)
        count, size = len(pool.own), len(pool.of_attack)
        drawn = rng.permutation(count + size)[:DRAWN]
        claims = pool.claims[np.arange(count), rng.integers(CLAIMS, size=count)]
        own = own_seeds(pool, drawn[drawn < count], claims, [*range(CONTROLS + 1)])
        order = rng.permutation(len(pool.seeds))
        contradicted["fresh seeds"] += other_seeds(
            "fresh seeds", pool.raised_seeds[order[:size]], pool.seeds[order[size:]]
        )
        of_attack = pool.of_attack[np.arange(size), rng.integers(CLAIMS, size=size)]
        runs = rng.permutation(pool.relabelled)
        contradicted["relabelled agents"] += other_seeds("relabelled agents", of_attack, runs)
        if own.suspicious:  # the repeated test draws all cells of these suites
            repeat = own_seeds(pool, np.arange(count), claims, [0, *range(CONTROLS + 1, 2 * CONTROLS + 1)])
            contradicted["own seeds"] += repeat.verdict == "mismatch"
    return {test: 100 * number / trials for test, number in contradicted.items()}


def table(pools: dict[str, dict[Key, Cell]], trials: int) -> str:
    """The table of the page."""
    heads = ["honest", *(f"raised by {by:g}" for by in RAISED[1:])]
    lines = [
        f"| row | contradicted by | cells | level | {' | '.join(heads)} |",
        f"|---|---|--:|--:|{'--:|' * len(heads)}",
    ]
    pools_of = {name: [fixed(Pool.of_cells(cells, by)) for by in RAISED] for name, cells in pools.items()}
    for rounding, spread in NORMAL:
        name = f"normal, {rounding:g} by rounding, {spread:g} between seeds"
        pools_of[name] = [partial(Pool.normal, rounding=rounding, spread=spread, by=by) for by in RAISED]
    for name, functions in pools_of.items():
        shares_of = [simulate(pool_of, trials) for pool_of in functions]
        for test, level in LEVELS.items():
            shares = " | ".join(f"{by[test]:.2f} %" for by in shares_of)
            lines.append(f"| {name} | {test} | {DRAWN} | {100 * level:g} % | {shares} |")
    for name, cells in pools.items():
        raises = [np.mean(Pool.of_cells(cells, by).claims - Pool.of_cells(cells, 0.0).claims) for by in RAISED[1:]]
        lines.append(f"| {name} | mean raise of areas | | | | {' | '.join(f'{by:.3f}' for by in raises)} |")
    return "\n".join(lines) + "\n"


def fixed(pool: Pool) -> Callable[[np.random.Generator], Pool]:
    """A function that always returns one pool."""
    return lambda _: pool


def main() -> None:
    """Fill the pool, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=Path("build/verification"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--normal", action="store_true", help="only the rows with normal areas, which need no runs")
    parser.add_argument("--write", action="store_true", help="put the table into docs/leaderboards.md")
    args = parser.parse_args()
    exchangeability._DRAWS = 10_000  # a p-value of 0.0001 is small enough, and twenty times as fast
    methods = {} if args.normal else ALGORITHMS
    pools = {name: run(experiments(algo), args.pool / algo, args.jobs) for algo, name in methods.items()}
    made = table(pools, args.trials)
    print(made)
    if args.write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(MARKS[0])
        PAGE.write_text(f"{before}{MARKS[0]}{made}{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
