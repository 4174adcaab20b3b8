"""Compute all cases, compare them with the golden file, say what moved, and renew what may be renewed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.golden.checkout import use_checkout

use_checkout()

from byzbench.errors import ByzbenchError  # noqa: E402
from tests.golden.check import Check  # noqa: E402
from tests.golden.renewal import renew  # noqa: E402
from tests.golden.square_roots import use_exact_square_roots  # noqa: E402


def main() -> int:
    """Return the exit status: 0 all is as stored, 1 something moved or must be renewed, 2 it cannot be compared."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, and write nothing")
    parser.add_argument("--only", default="", help="compare only cases whose name contains this; writes nothing")
    parser.add_argument("--report", type=Path, help="write the findings to this file, as JSON")
    options = parser.parse_args()
    start = time.perf_counter()
    use_exact_square_roots()
    try:
        check = Check(options.only)
        lines, passed = (check.lines(), check.passed) if options.check or options.only else renew(check)
    except ByzbenchError as error:
        print(error)
        return 2
    print(*lines, f"{len(check.cases)} cases in {time.perf_counter() - start:.0f} s", sep="\n")
    if options.report:
        options.report.write_text(json.dumps(check.report(), indent=1) + "\n", encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
