"""Measure which lines of components, federation, learning and geometry the golden traces and vectors run.

    pip install coverage && python benchmarks/golden_coverage.py [--gaps] [--write]

Lines that run as machine code only do not count as run: those of compiled kernels and of the simulations of tasks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import coverage

CHECKOUT = Path(__file__).resolve().parents[1]
COMPONENTS = ("aggregators", "agreements", "placements", "channels", "coins", "tasks")
ENGINE = ("core", "federation", "rl", "geometry")
PACKAGES = ["algorithms", "attacks", "topologies", *(f"byzbench/{name}" for name in COMPONENTS + ENGINE)]


def run_all() -> list[str]:
    """Run every case of the golden file, and return the names of those that end with an error."""
    from tests.golden import groups
    from tests.golden.store import read

    golden, failed = read(), []
    for name, entry in golden["entries"].items():
        inputs = dict(entry["inputs"])
        if "experiment" in inputs:
            inputs["experiment"] = {**golden["base"], **inputs["experiment"]}
        try:
            groups.outputs(name, inputs)
            groups.components(inputs)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    return failed


def ranges(lines: list[int]) -> str:
    """Return line numbers with consecutive ones as ranges."""
    parts: list[list[int]] = []
    for line in lines:
        if parts and line == parts[-1][-1] + 1:
            parts[-1].append(line)
        else:
            parts.append([line])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def write(lines: list[str]) -> None:
    """Put lines between the marks in docs/identity.md."""
    page = CHECKOUT / "docs" / "identity.md"
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- coverage -->")
    after = rest.partition("<!-- /coverage -->")[2]
    text = "\n".join(["<!-- coverage -->", "", *lines, "", "<!-- /coverage -->"])
    page.write_text(f"{before}{text}{after}", encoding="utf-8")


def main() -> int:
    """Print the share of lines by package, and with --gaps the lines that no case runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaps", action="store_true", help="list the lines that no case runs")
    parser.add_argument("--write", action="store_true", help="put the table and the gaps into docs/identity.md")
    options = parser.parse_args()
    sys.path.insert(0, str(CHECKOUT))
    measured = coverage.Coverage(data_file=None, source=[str(CHECKOUT / package) for package in PACKAGES])
    measured.exclude("if TYPE_CHECKING:")
    measured.start()
    from tests.golden.checkout import use_checkout

    use_checkout()
    failed = run_all()
    measured.stop()
    print(*failed, sep="\n")
    total = ran = 0
    table, gaps = [], []
    for package in PACKAGES:
        here = there = 0
        for path in sorted((CHECKOUT / package).glob("*.py")):
            _, lines, _, missing, _ = measured.analysis2(str(path))
            here, there = here + len(lines), there + len(lines) - len(missing)
            if missing:
                gaps.append(f"{package}/{path.name}: {ranges(missing)}")
        table.append(f"{package:24} {there:5} of {here:5} lines  {there / max(here, 1):6.1%}")
        total, ran = total + here, ran + there
    table.append(f"{'all':24} {ran:5} of {total:5} lines  {ran / total:6.1%}")
    print(*table, *(gaps if options.gaps else ()), sep="\n")
    if options.write:
        write(["```text", *table, "```", "", "No case runs these lines:", "", "```text", *gaps, "```"])
    return 1 if failed or ran < 0.9 * total else 0


if __name__ == "__main__":
    sys.exit(main())
