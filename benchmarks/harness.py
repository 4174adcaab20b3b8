"""What the harness costs: sweeps by executor, and listing a store. Prints a table; with --write, docs/harness.md.

    python benchmarks/harness.py [--seeds 4] [--runs 3000] [--write]

The same cells by every executor, into fresh stores, one after the other in this order. A cell's overhead is what the
sweep took beyond the time its cells trained, spread over the cells and the cores. Ray's start is counted apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from byzbench.canonical import hash_of
from byzbench.records.run_folder import RunFolder
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, SweepPlan, plan_sweep
from byzbench.sweeps.sweep import run_sweep

GRID: dict[str, Any] = {
    "algo": ["decbyzpg", "dec_page_pg"],
    "preset": "paper",
    "attack": ["alie(z=1.5)", "sign_flip", "avg_zero", "none"],
    "topology": ["complete", "ring"],
    "agents": 13,
    "trajectories": 600,
}


def measure(name: str, todo: SweepPlan, out: Path, trivial: SweepPlan) -> tuple[float, float, int]:
    """Seconds that a sweep takes once its executor is warm, seconds of training inside it, and its width."""
    with make_executor(name, out) as workers:
        run_sweep(trivial, out, workers)
        start = time.perf_counter()
        summary = run_sweep(todo, out, workers)
        seconds, width = time.perf_counter() - start, workers.width
    assert not summary.failed, next(iter(summary.failed.values())).error
    lines = [RunFolder(out / cell.hash).metrics("timing.jsonl") for cell in todo.cells.values()]
    return seconds, sum(line["seconds"] for log in lines for line in log), width


def listing(runs: int, out: Path, folder: Path) -> float:
    """Seconds that `byzbench runs` takes, Python's start included, on a store of so many runs."""
    record = json.loads((folder / "experiment.json").read_text())
    for seed in range(runs):
        record["experiment"]["seed"] = seed
        target = out / hash_of(record["experiment"])
        target.mkdir(parents=True)
        (target / "experiment.json").write_text(json.dumps(record, indent=2))
        shutil.copy(folder / "result.json", target)
    command = [sys.executable, "-m", "byzbench", "runs", "--out", str(out), "--status", "finished"]
    return min(_timed(command) for _ in range(3))


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3000)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    todo = plan_sweep(SweepGrid.of({**GRID, "seeds": args.seeds}))
    small = plan_sweep(SweepGrid.of({"preset": "paper", "agents": 3, "byzantine": 0, "trajectories": 1, "seeds": 8}))
    rows, serial = [], 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("serial", "process", "ray"):
            out = Path(scratch) / name
            seconds, trained, width = measure(name, todo, out, small)
            serial = serial or seconds
            cores = 1 if name == "serial" else 2
            overhead = 1000 * (seconds * cores - trained) / len(todo.cells)
            rows.append(f"| {name} | {seconds:.1f} | {serial / seconds:.2f} | {overhead:.0f} |")
            print(rows[-1], width, file=sys.stderr)
        folder = next(path.parent for path in (Path(scratch) / "serial").glob("*/result.json"))
        seconds = listing(args.runs, Path(scratch) / "large", folder)
    command = f"python benchmarks/harness.py --seeds {args.seeds} --runs {args.runs}"
    page = [
        "# What the harness costs",
        "",
        f"Made by `{command} --write`, on two cores.",
        "",
        f"{len(todo.cells)} cells, K=13, {GRID['trajectories']} trajectories: the same cells by every executor, once",
        "it is warm. The overhead of a cell is the time of the cores that was not spent in training loops: reading and",
        "checking, evaluation, checkpoints, records, and the way there and back. What an executor adds to a cell is",
        "the difference from serial's.",
        "",
        "| executor | seconds | against serial | overhead of a cell, ms |",
        "|---|---|---|---|",
        *rows,
        "",
        f"`byzbench runs --status finished` on {args.runs:,} runs: {seconds:.2f} s, Python's start included.",
        "",
    ]
    print("\n".join(page))
    if args.write:
        Path("docs/harness.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
