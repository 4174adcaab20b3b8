"""Test whether methods learn the same at two engines: rows of smoke-v2 and the rows that supersede them, in pairs.

    python benchmarks/engines.py

Makes docs/engines.md from the submissions of this checkout; nothing is run.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from scipy import stats

from byzbench.leaderboard.entries import Entry, read_entry
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.suites import CLEAN, Stratum, Suite, suite

CHECKOUT = Path(__file__).resolve().parents[1]
MARGIN, POWER = 0.1, 0.9
"""The margin of equivalence, in units of the score; the power of all tests together."""

HEAD = """# The same learning at engines 1 and 2

Made by `python benchmarks/engines.py`.

An engine may round differently, so that runs of equal seeds part after some rounds. Below are all rows of {name} that
were run again at engine 2, on the same {seeds} seeds. The difference of a seed is that of the scores (areas under the
curve, 1 is the reference): *clean* without an attack, which is the cheapest cell, and *all* the mean over the attacks
that count in the stratum, and none. Two one-sided t tests at 5 % each: a row is equivalent (`=`) if the 90 % interval
of the mean difference is within +-{margin}. *needed* is the number of seeds at which all {tests} clean tests together
would have a power of {power} if nothing differs, from the spread that was measured; where it is above {seeds}, a
missing `=` shows a lack of seeds, and no difference.

"""


def pairs(of: Suite) -> list[tuple[Entry, Entry]]:
    """Rows of a suite with the rows that supersede them."""
    folder = CHECKOUT / "leaderboards" / "submissions" / of.name / "defence"
    entries = [read_entry(path) for path in sorted(folder.iterdir())]
    by_digest = {entry.digest: entry for entry in entries}
    found = [(by_digest[e.submission.supersedes], e) for e in entries if e.submission.supersedes in by_digest]
    return [(a, b) for a, b in found if a.submission.code.engine != b.submission.code.engine]


def differences(of: Suite, stratum: Stratum, before: Entry, after: Entry) -> np.ndarray:
    """The differences of scores, float64 [attacks, seeds]; the first attack is none."""
    attacks = [CLEAN, *(a.spec for a in of.attacks if a.role == "worst_case" and a.spec != CLEAN)]
    attacks = [spec for spec in attacks if (stratum.name, spec, None, 0) in after.cells_by_key]
    scale = unit(of, stratum, 2) - stratum.random
    return np.array([after.areas(of, stratum, a) - before.areas(of, stratum, a) for a in attacks]) / scale


def interval(values: np.ndarray) -> tuple[str, bool]:
    """The mean of values [seeds] with its 90 % interval as text, and whether the interval is within the margin."""
    half = stats.t.ppf(0.95, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    mean = float(values.mean())
    inside = abs(mean) + half < MARGIN
    return f"{mean:+.3f} +- {half:.3f} {'=' if inside else ' '}", inside


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    of = suite("smoke-v2")
    found = [(a, b, s) for a, b in pairs(of) for s in of.strata if (s.name, CLEAN, None, 0) in a.cells_by_key]
    quantile = stats.norm.ppf(0.95) + stats.norm.ppf(1 - (1 - POWER ** (1 / len(found))) / 2)
    lines = [f"{'row':24}{'stratum':22}{'clean':20}{'needed':>8}  all"]
    for before, after, stratum in found:
        values = differences(of, stratum, before, after)
        needed = max(2, math.ceil((quantile * values[0].std(ddof=1) / MARGIN) ** 2))
        slug = before.submission.entry.slug
        lines.append(
            f"{slug:24}{stratum.name:22}{interval(values[0])[0]:20}{needed:8}  {interval(values.mean(0))[0]}".rstrip()
        )
    head = HEAD.format(
        name=of.name,
        seeds=of.seeds,
        margin=MARGIN,
        tests=len(found),
        power=POWER,
    )
    page = CHECKOUT / "docs" / "engines.md"
    page.write_text(head + "```text\n" + "\n".join(lines) + "\n```\n", encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
