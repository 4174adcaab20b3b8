"""How far one exchange of an agreement brings honest agents together, beside its bound: makes docs/agreement.md.

python benchmarks/contraction.py [--seeds 20] [--tries 20000]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from byzbench.core import Agreement
from byzbench.registry import make
from byzbench.testing.agreements import contracted, equivocating, worst_found

SIZES = ((5, 1), (7, 1), (9, 2), (13, 3))
AGREEMENTS = ("mda", "rb_tm(reliable=False)")

PAGE = """# How fast agreements agree

Made by `python benchmarks/contraction.py --seeds {seeds} --tries {tries}`.

The share of the honest agents' spread that one exchange leaves on a complete graph of n agents, f of which send each
receiver another vector: of their diameter for `mda`, of the longest edge of their bounding box for the trimmed mean.
*Bound* is the bound of the theory. *Attacks* is the most that any equivocating attack left of random Gaussian vectors
over {seeds} seeds, and *which* names it. *Search* is the most that was found by {tries} random honest vectors and
Byzantine messages on a line, and a random search from the best of them: a lower bound of the worst case. Reliable
broadcast is off; with it nothing is left.

| agreement | n | f | bound | search | attacks | which |
|---|--:|--:|--:|--:|--:|---|
{table}
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tries", type=int, default=20_000)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    lines = []
    for name in AGREEMENTS:
        agreement = make("agreement", name)
        assert isinstance(agreement, Agreement)
        for n, f in SIZES:
            bound = agreement.contraction(n, f)
            assert bound is not None
            left = {a: [contracted(name, a, n, f, s) or 0.0 for s in range(args.seeds)] for a in equivocating()}
            attack = max(left, key=lambda a: max(left[a]))
            search = worst_found(agreement.rule, n, f, np.random.default_rng(0), args.tries)
            most = max(left[attack])
            lines.append(f"| `{name}` | {n} | {f} | {bound:.3f} | {search:.3f} | {most:.3f} | `{attack}` |")
            print(lines[-1], flush=True)
            assert max(search, most) <= bound + 1e-6, "a bound does not hold"
    page = PAGE.format(seeds=args.seeds, tries=args.tries, table="\n".join(lines))
    (args.docs / "agreement.md").write_text(page)


if __name__ == "__main__":
    main()
