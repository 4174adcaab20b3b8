"""Compare the numbers of two commits: 20 runs that cover all kinds, by the code of a commit and by the code here.

    python benchmarks/same_numbers.py 6a6c210 [--mask-avx512] [--pinned]

Prints a line for each run, and exits with 1 if the return or the steps of any round differ. Both sides run in processes
of their own with the same environment. `--mask-avx512` hides these instructions from both; `--pinned` also hides AVX2
and FMA from torch and NumPy. Descriptions travel in their canonical form, so that a commit from before a rename reads
them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from byzbench import Experiment
from byzbench.canonical import canonical

ROOT = Path(__file__).resolve().parent.parent

SMALL: dict[str, Any] = {
    "preset": "paper",
    "agents": 9,
    "byzantine": 2,
    "trajectories": 60,
    "parameters": {"algo": {"N": 12, "B": 3}},
}
OPEN: dict[str, Any] = {"preset": "paper", "agents": 9, "byzantine": 2, "trajectories": 40}
FEW: dict[str, Any] = {
    "preset": "paper",
    "agents": 5,
    "byzantine": 1,
    "trajectories": 24,
    "parameters": {"algo": {"N": 8, "B": 2}},
}
CELLS: tuple[dict[str, Any], ...] = (
    {**SMALL, "algo": "decbyzpg", "attack": "alie(z=1.5)", "topology": "ring"},
    {**SMALL, "algo": "decbyzpg", "attack": "split_brain(alie(z=1.5,on=both))", "topology": "small_world"},
    {**SMALL, "algo": "decbyzpg", "attack": "avg_zero", "preset": "official"},
    {**SMALL, "algo": "decbyzpg", "attack": "rop", "aggregator": "nnm+trimmed_mean", "agreement": "rb_tm"},
    {**SMALL, "algo": "decbyzpg", "attack": "min_max", "aggregator": "bucketing(s=2)+krum", "channel": "quantise"},
    {
        **SMALL,
        "algo": "decbyzpg",
        "attack": "ipm",
        "channel": "loss(rate=0.1)",
        "placement": "degree",
        "coin": "biased",
    },
    {
        **SMALL,
        "algo": "decbyzpg",
        "attack": "sleeper(sign_flip)",
        "topology": "random_regular(degree=6)",
        "relay": True,
    },
    {**SMALL, "algo": "dec_page_pg", "attack": "large_noise", "topology": "time_varying(ring)", "mixing": "max_degree"},
    {**SMALL, "algo": "byzpg", "attack": "agr_tailored", "aggregator": "median", "assumed_byzantine": 1},
    {**SMALL, "algo": "fedpg_br", "attack": "fedpg_attack"},
    {**OPEN, "algo": "clipped_gossip", "attack": "dissensus", "topology": "dumbbell", "placement": "min_cut"},
    {**OPEN, "algo": "nna", "attack": "alie(z=1.5,on=both)", "topology": "erdos_renyi"},
    {**OPEN, "algo": "mdpgt", "attack": "silence", "topology": "torus", "channel": "delay"},
    {**OPEN, "algo": "learn", "attack": "mimic", "topology": "complete"},
    {**OPEN, "algo": "solo", "attack": "none", "parameters": {"algo": {"N": 8, "B": 2}}},
    {**OPEN, "algo": "fed_ppo", "attack": "reward_flip", "env": "pendulum", "trajectories": 24},
    {**OPEN, "algo": "gpomdp(N=8)", "attack": "random_action", "scenario": "heterogeneous+normalized(episodes=2)"},
    {
        **FEW,
        "algo": "decbyzpg",
        "attack": "learned",
        "scenario": "nonstationary(physics='length=2')+reward_noise(scale=0.5)",
    },
    {
        **FEW,
        "algo": "decbyzpg",
        "attack": "observation_noise",
        "env": "acrobot",
        "scenario": "churn(absent='3:0.5-1')",
        "trajectories": 12,
    },
    {**OPEN, "algo": "gpomdp(N=8)", "attack": "sign_flip", "env": "pettingzoo(id='mpe2/simple_spread_v3')"},
)

RUN = """
import json, pathlib, sys
import byzbench
from byzbench import Experiment, run
modern = lambda described, schema: described
if (pathlib.Path(byzbench.__file__).parent / "canonical.py").exists():  # an older tree may find that of a newer one
    import byzbench.canonical
    modern = getattr(byzbench.canonical, "to_current", None) or byzbench.canonical.modern  # its name in older trees
for number, described in enumerate(json.load(sys.stdin)):
    result = run(Experiment.from_description(modern(described, 1)), out=sys.argv[1])
    text = (pathlib.Path(str(result.run)) / "metrics.jsonl").read_text()
    print(json.dumps([[line["return"], line["steps"]] for line in map(json.loads, text.splitlines())]), flush=True)
"""


def numbers(tree: Path, described: list[dict[str, Any]], hidden: dict[str, str]) -> list[list[Any]]:
    """Return the return and the steps of every round of each run, by the code in a tree.

    Args:
        tree: a checkout.
        described: the runs, in canonical form.
        hidden: variables of the environment.
    """
    environment = {**os.environ, **hidden, "PYTHONPATH": str(tree), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "-c", RUN, out],
            input=json.dumps(described),
            env=environment,
            cwd=out,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"{tree}: {done.stderr.strip().splitlines()[-1]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def masked(avx512: bool, pinned: bool) -> dict[str, str]:
    """Return the variables that hide instructions from torch, NumPy and the C library."""
    if not (avx512 or pinned):
        return {}
    wide = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
    return {
        "ATEN_CPU_CAPABILITY": "default" if pinned else "avx2",
        "NPY_DISABLE_CPU_FEATURES": f"{wide} AVX2 FMA3" if pinned else wide,
        "ONEDNN_MAX_CPU_ISA": "SSE41" if pinned else "AVX2",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512DQ,-AVX512BW" + (",-AVX2,-FMA" if pinned else ""),
    }


def main() -> None:
    """Compare, print, and exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--mask-avx512", action="store_true", help="hide AVX-512 from both sides")
    parser.add_argument("--pinned", action="store_true", help="hide AVX2 and FMA too")
    args = parser.parse_args()
    hidden = masked(args.mask_avx512, args.pinned)
    described = [canonical(Experiment.create(**cell).describe()) for cell in CELLS]
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "then"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, args.commit], check=True)
        try:
            then, now = (numbers(place, described, hidden) for place in (tree, ROOT))
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)
    moved = 0
    for cell, before, after in zip(CELLS, then, now, strict=True):
        name = " · ".join(str(cell.get(axis)) for axis in ("algo", "attack", "topology", "env") if cell.get(axis))
        moved += before != after
        print(f"{'same' if before == after else 'MOVED'}  {len(before)} rounds  {name}")
    print(f"{len(CELLS) - moved} of {len(CELLS)} runs have the same return and steps in every round")
    sys.exit(1 if moved else 0)


if __name__ == "__main__":
    main()
