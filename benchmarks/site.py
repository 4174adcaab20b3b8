"""What the site of a large board costs: seconds, memory, and the size of its pages. Prints a table.

    python benchmarks/site.py [--entries 500] [--large]

Entries are of the suite of the tests, 16 cells, or with --large of one of 280 cells: four strata, six attacks, ten
seeds. All entries stand on one board, the hardest case: every pair of them is compared, and every page of an attack
lists them all. Reading submissions, scoring, and writing the pages are timed apart; peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from byzbench.leaderboard import suites
from byzbench.leaderboard.frozen import freeze_suite
from byzbench.leaderboard.site.build import site, write_site
from byzbench.leaderboard.site.collection import collect_entries
from byzbench.leaderboard.suites import suite

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


ATTACKS = ("large_noise", "sign_flip", "ipm", "alie(z=1.5, on=both)", "mimic", "min_max")
STRATUM = """
[[stratum]]
name = "cartpole-{trajectories}"
division = "decentralised"
env = "cartpole"
topology = "complete"
agents = 13
byzantine = 3
trajectories = {trajectories}
low = 1.0
high = 500.0
random = 22.3
reference = 475.0
"""


def small(home: Path, stack: ExitStack) -> str:
    """Put the suite of the tests in place of the frozen ones until the stack closes, and return its name."""
    from synthetic_entries import SUITE, serve_suites

    (home / "package").mkdir()
    stack.enter_context(serve_suites(home / "package"))
    return SUITE.name


def large(home: Path) -> str:
    """Put a large suite in place of the frozen ones, and return its name."""
    text = 'name = "large-v1"\ntitle = "Large."\nseeds = 10\n[[attack]]\nspec = "none"\n'
    text += "".join(f'[[attack]]\nspec = "{attack}"\nknows = "omniscient"\n' for attack in ATTACKS)
    text += "".join(STRATUM.format(trajectories=1000 * n) for n in range(1, 5))
    (home / "suites").mkdir()
    (home / "suites" / "large-v1.toml").write_text(text)
    suites.files = lambda package: home
    freeze_suite(suite("large-v1"))
    return "large-v1"


def submit(root: Path, name: str, count: int) -> None:
    """Entries that nobody ran, from a method that fails to one that solves the task."""
    from synthetic_entries import write_entry

    rng, todo = np.random.default_rng(0), suite(name)
    for i in range(count):
        harm = {a.spec: float(rng.uniform(0, 0.6)) if a.knows else 0.0 for a in todo.attacks}
        write_entry(root, todo, f"entry-{i}", skill=float(rng.uniform(0.3, 1.1)), harm=harm, seed=i)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=500)
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        root, home = Path(scratch) / "submissions", Path(scratch)
        name = large(home) if args.large else small(home, stack)
        submit(root, name, args.entries)
        start, processor = time.perf_counter(), time.process_time()
        catalogue, findings = collect_entries(root)
        assert not findings
        read = time.perf_counter()
        pages = dict(site(catalogue))
        write_site(pages, home / "site")
        end, used = time.perf_counter(), time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    board = max((path for path in pages if path.startswith("boards/")), key=lambda path: len(pages[path]))
    print(f"{len(catalogue.entries)} entries of {name}, {len(catalogue.boards)} boards, {len(pages)} files")
    print(f"read and score   {read - start:6.1f} s")
    print(f"pages            {end - read:6.1f} s")
    print(f"together         {end - start:6.1f} s, of one core {used:.1f} s")
    print(f"peak memory      {peak:6.0f} MiB")
    for path in ("index.html", board, "board.csv", "board.json"):
        print(f"{path:<52} {len(pages[path]) / 1e6:6.3f} MB")
    print(f"{'all files':<52} {sum(map(len, pages.values())) / 1e6:6.3f} MB")


if __name__ == "__main__":
    main()
