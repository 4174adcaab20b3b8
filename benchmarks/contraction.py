"""How far agreements bring honest agents together, beside their bounds: makes docs/agreement.md.

python benchmarks/contraction.py [--seeds 20] [--tries 20000]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from byzbench.agreements.mda import MdaAgreement
from byzbench.core import Agreement
from byzbench.registry import make
from byzbench.testing.agreements import contracted, equivocating, worst_found

SIZES = ((5, 1), (7, 1), (9, 2), (13, 3))
AGREEMENTS = ("mda", "rb_tm(reliable=False)")
KAPPA = MdaAgreement().cap

PAGE = """# How fast agreements agree

Made by `python benchmarks/contraction.py --seeds {seeds} --tries {tries}`.

The share of the honest agents' spread that one exchange leaves on a complete graph of n agents, f of which send each
receiver another vector: of their diameter for `mda`, of the longest edge of their bounding box for the trimmed mean.
*Bound* is the bound of the theory. *Attacks* is the most that any equivocating attack left of random Gaussian vectors
over {seeds} seeds, and *which* names it. *Search* is the most that was found by {tries} random honest vectors and
Byzantine messages on a line, and a random search from the best of them: a lower bound of the worst case. *All* is the
most that any attack left after all {kappa} exchanges of an agreement, beside that power of the bound; about 1e-7 is
rounding to float32. Reliable broadcast is off; with it nothing is left.

| agreement | n | f | bound | search | attacks | which | bound of all | all | which |
|---|--:|--:|--:|--:|--:|---|--:|--:|---|
{table}
"""


def worst_attack(agreement: Agreement, n: int, f: int, seeds: int, exchanges: int | None) -> tuple[float, str]:
    """Return the most that an equivocating attack left of the honest spread over some seeds, and the attack."""
    left = {
        attack: max(contracted(agreement, attack, n, f, seed, exchanges=exchanges) or 0.0 for seed in range(seeds))
        for attack in equivocating()
    }
    attack = max(left, key=lambda name: left[name])
    return left[attack], attack


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
            search = worst_found(agreement.rule, n, f, np.random.default_rng(0), args.tries)
            most, attack = worst_attack(agreement, n, f, args.seeds, 1)
            most_of_all, last = worst_attack(agreement, n, f, args.seeds, None)
            whole = bound**KAPPA
            figures = (
                f"{bound:.3f} | {search:.3f} | {most:.3f} | `{attack}` | {whole:.2g} | {most_of_all:.2g} | `{last}`"
            )
            lines.append(f"| `{name}` | {n} | {f} | {figures} |")
            print(lines[-1], flush=True)
            assert max(search, most) <= bound + 1e-6, "a bound does not hold"
            assert most_of_all <= whole + 1e-6, "a bound of all exchanges does not hold"
    page = PAGE.format(seeds=args.seeds, tries=args.tries, kappa=KAPPA, table="\n".join(lines))
    (args.docs / "agreement.md").write_text(page)


if __name__ == "__main__":
    main()
