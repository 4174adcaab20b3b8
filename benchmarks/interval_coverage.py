"""How often the intervals of reports hold what they say: makes docs/coverage.md.

    python benchmarks/interval_coverage.py [--repeats 20000]

Every number comes from fixed seeds. About a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from byzbench.reports.statistics import improvement, interval, iqm, ties

Sampler = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Ends = tuple[np.ndarray, np.ndarray]

SEEDS = (3, 5, 10, 20)
BETWEEN = (6, 7, 8, 9, 15, 50)
ROWS = (2, 4, 8, 16)
HOLDS = (92.0, 98.0)
BOUNDS = (0.0, 500.0)
RESAMPLES = 2000
POPULATION = 4_000_000


def bimodal(q: float) -> Sampler:
    """Runs that fail with probability q, at 20 ± 5, and else solve the task, at 490 ± 8."""

    def sample(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.where(rng.random(shape) < q, rng.normal(20, 5, shape), rng.normal(490, 8, shape)).clip(*BOUNDS)

    return sample


RETURNS: dict[str, Sampler] = {
    "normal, 300 ± 40": lambda rng, shape: rng.normal(300, 40, shape).clip(*BOUNDS),
    "lognormal, σ = 1": lambda rng, shape: rng.lognormal(0, 1, shape),
    "gamma, shape 2": lambda rng, shape: rng.gamma(2, 1, shape),
    "500 − 20 gamma, shape 1.5": lambda rng, shape: 500 - rng.gamma(1.5, 20, shape),
    "495 ± 10, at most 500": lambda rng, shape: rng.normal(495, 10, shape).clip(max=500),
    "Student's t, 2 degrees": lambda rng, shape: rng.standard_t(2, shape),
    **{f"fails in {q:.0%}": bimodal(q) for q in (0.1, 0.2, 0.3, 0.4, 0.5)},
}
BOUNDED = [name for name in RETURNS if name.startswith(("normal", "fails"))]

RIVALS: dict[str, tuple[Sampler, Sampler]] = {
    "equal, normal": (RETURNS["normal, 300 ± 40"], RETURNS["normal, 300 ± 40"]),
    "normal, one deviation apart": (
        lambda rng, shape: rng.normal(1, 1, shape),
        lambda rng, shape: rng.normal(size=shape),
    ),
    "normal, two deviations apart": (
        lambda rng, shape: rng.normal(2, 1, shape),
        lambda rng, shape: rng.normal(size=shape),
    ),
    "fails in 20 % against 50 %": (bimodal(0.2), bimodal(0.5)),
    "normal, five times the spread": (
        lambda rng, shape: rng.normal(0, 5, shape),
        lambda rng, shape: rng.normal(size=shape),
    ),
}


PAGE = """# Coverage

How many of 100 intervals of 95 % hold what they estimate: {repeats:,} samples of n seeds a cell, with a standard error
up to {error:.2f}. Made by `python benchmarks/interval_coverage.py --repeats {repeats}`.

## The headline

*interval* is that of `byzbench.reports.statistics.estimate`, for the interquartile mean. Beside it the percentile
bootstrap of the interquartile mean, and Student's interval of the mean; each is held to the population's value of its
own statistic. Bold: outside 92 to 98.

{headline}

**What holds.** Of the {cells} cells of 5, 10 and 20 seeds, {inside} lie within 92 to 98 %. The others are:

{outside}

Above 98 lies only what allows nothing between: with runs that fail or solve, at 10 seeds, an interval holds the truth
after 7 failures, or it does not. Below 92 lies what cannot hold.

**What cannot hold.** If runs fail with a probability q somewhat above a quarter, failures move the interquartile mean,
yet n seeds show none of them with probability (1 - q)^n: in 17 % of samples of 5 and 3 % of samples of 10 at q=0.3, in
8 % of samples of 5 at q=0.4. Such a sample looks like one of a method that never fails. To hold the truth there, an
interval has to reach far below every return seen, and then it does so for a method that never fails as well. More seeds
help, or the bounds below.

**Three to six seeds.** The interval is the range. It holds the median of all possible runs in 75, 87.5, 93.75 and
96.9 % of samples, however they are distributed, and the estimate states that level instead of 95 %.

**Other numbers of seeds.** At seven, runs that fail in 20 % fall a little short; elsewhere some cells pass 98 %.

{between}

**The price.** At 3, 5, 10 and 20 seeds of normal returns the median width is {widths} times that of
Student's interval.

## With known bounds

`estimate(..., bounds=(0, 500))` lets failures count that no seed has shown. Coverage, then the median width.

{bounded}

## The probability of improvement

`improvement` of n runs over n others, {few:,} samples a cell. Three runs are too few for 95 %, and where one side
spreads five times as far as the other, some percent are lost.

{improvement}

## Equal rows that do not share a rank

How many of 100 tables of k equal rows `ties` splits, {fewer:,} tables a cell. It is made for 5 or less. Of 16 rows that
fail in 50 %, one that solved all of 5 seeds and one that failed them all may well be there, and look like a difference.

{ties}
"""


def bootstrap(x: np.ndarray) -> Ends:
    """The percentile bootstrap of the interquartile mean of x [repeats, n]; repeats share their resamples."""
    n = x.shape[1]
    chosen = np.sort(np.random.default_rng(n).integers(0, n, (RESAMPLES, n)), axis=1)
    weights = 2 * np.diff(np.clip(np.arange(n + 1) / n, 0.25, 0.75))
    shares = (np.eye(n)[chosen] * weights[:, None]).sum(1)  # of each sorted return in each resample's statistic
    parts = [
        np.quantile(part @ shares.T, [0.025, 0.975], axis=1) for part in np.array_split(np.sort(x), len(x) // 500 + 1)
    ]
    low, high = np.concatenate(parts, axis=1)
    return low, high


def student(x: np.ndarray) -> Ends:
    """Student's interval of the mean of x [repeats, n]."""
    half = stats.t.ppf(0.975, x.shape[1] - 1) * x.std(axis=1, ddof=1) / np.sqrt(x.shape[1])
    return x.mean(1) - half, x.mean(1) + half


def covered(ends: Ends, truth: float) -> float:
    """How many of 100 intervals hold the truth; equal up to rounding is held, as at a ceiling."""
    return 100 * float(np.mean((ends[0] <= truth + 1e-9) & (ends[1] >= truth - 1e-9)))


def measure(repeats: int) -> tuple[dict[tuple[str, str, int], float], dict[int, float]]:
    """Coverage by (rule, returns, n); by n, the median width over that of Student's interval on normal returns."""
    found, width = {}, {}
    for index, (name, sample) in enumerate(RETURNS.items()):
        population = sample(np.random.default_rng(index), (POPULATION,))
        middle, mean = float(iqm(population)), float(population.mean())
        for n in BETWEEN:
            x = sample(np.random.default_rng([index, n]), (repeats, n))
            found["interval", name, n] = covered(interval(x), middle)
        for n in SEEDS:
            x = sample(np.random.default_rng([index, n]), (repeats, n))
            ours, theirs = interval(x), student(x)
            found["interval", name, n] = covered(ours, middle)
            found["bootstrap", name, n] = covered(bootstrap(x), middle)
            found["student", name, n] = covered(theirs, mean)
            if name in BOUNDED:
                bounded = interval(x, bounds=BOUNDS)
                found["bounded", name, n] = covered(bounded, middle)
                found["width", name, n] = float(np.median(bounded[1] - bounded[0]))
            if name.startswith("normal"):
                width[n] = float(np.median(ours[1] - ours[0]) / np.median(theirs[1] - theirs[0]))
    return found, width


def measure_improvement(repeats: int) -> dict[tuple[str, int], float]:
    """Coverage of the probability of improvement by (rivals, n)."""
    found = {}
    for index, (name, (better, worse)) in enumerate(RIVALS.items()):
        rng = np.random.default_rng(index)
        truth = float((better(rng, (POPULATION,)) > worse(rng, (POPULATION,))).mean())
        for n in SEEDS:
            pairs = zip(better(rng, (repeats, n)), worse(rng, (repeats, n)), strict=True)
            ends = np.array([(e.low, e.high) for e in (improvement(x, y) for x, y in pairs)]).T
            found[name, n] = covered((ends[0], ends[1]), truth)
    return found


def measure_ties(repeats: int) -> dict[tuple[str, int, int], float]:
    """How often k equal rows do not all share rank 1, in percent, by (returns, n, k)."""
    found = {}
    for name in ("normal, 300 ± 40", "fails in 50%"):
        for n in (5, 10):
            for k in ROWS:
                x = RETURNS[name](np.random.default_rng([n, k]), (repeats, k, n))
                split = [max(ties({str(i): row for i, row in enumerate(rows)}).values()) > 1 for rows in x]
                found[name, n, k] = 100 * float(np.mean(split))
    return found


def mark(value: float) -> str:
    """A cell; bold outside of what has to hold."""
    return f"{value:.1f}" if HOLDS[0] <= round(value, 1) <= HOLDS[1] else f"**{value:.1f}**"


def table(heads: list[str], rows: dict[str, list[str]]) -> str:
    """A table with a name in front of every row."""
    lines = [heads, ["---"] * len(heads), *([name, *cells] for name, cells in rows.items())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(repeats: int) -> str:
    """The text of docs/coverage.md."""
    found, width = measure(repeats)
    few, fewer = max(repeats // 10, 1), max(repeats // 40, 1)
    better, splits = measure_improvement(few), measure_ties(fewer)
    cells = [(name, n) for name in RETURNS for n in SEEDS[1:]]
    out = [(name, n) for name, n in cells if "*" in mark(found["interval", name, n])]
    rules = ("interval", "bootstrap", "student")
    return PAGE.format(
        repeats=repeats,
        error=50 / np.sqrt(repeats),
        headline=table(
            ["returns", *(f"{rule}, n={n}" for rule in rules for n in SEEDS)],
            {name: [mark(found[rule, name, n]) for rule in rules for n in SEEDS] for name in RETURNS},
        ),
        inside=len(cells) - len(out),
        cells=len(cells),
        outside="\n".join(f"- {name}, n={n}: {found['interval', name, n]:.1f}" for name, n in out),
        between=table(
            ["returns", *(f"interval, n={n}" for n in BETWEEN)],
            {name: [mark(found["interval", name, n]) for n in BETWEEN] for name in RETURNS},
        ),
        widths=", ".join(f"{width[n]:.2f}" for n in SEEDS),
        bounded=table(
            ["returns", *(f"n={n}" for n in SEEDS), *(f"width, n={n}" for n in SEEDS)],
            {
                name: [f"{found['bounded', name, n]:.1f}" for n in SEEDS]
                + [f"{found['width', name, n]:.0f}" for n in SEEDS]
                for name in BOUNDED
            },
        ),
        few=few,
        improvement=table(
            ["rivals", *(f"n={n}" for n in SEEDS)],
            {name: [mark(better[name, n]) for n in SEEDS] for name in RIVALS},
        ),
        fewer=fewer,
        ties=table(
            ["returns", *(f"k={k}" for k in ROWS)],
            {f"{name}, n={n}": [f"{splits[name, n, k]:.1f}" for k in ROWS] for name, n, _ in splits},
        ),
    )


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20_000)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    text = page(given.repeats)
    given.docs.mkdir(exist_ok=True)
    (given.docs / "coverage.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
