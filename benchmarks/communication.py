"""Measure the cost of communication, and learning over unreliable channels; make docs/communication.md.

    python benchmarks/communication.py [--jobs 2] [--seeds 3] [--largest 100]

CartPole. A run that is already in `runs/` is not repeated. With `--largest 100` about half an hour on two quiet cores.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _cells import TUNED, options, results
from matplotlib.figure import Figure

from byzbench.experiments.experiment import Experiment
from byzbench.reports.figures import reached
from byzbench.reports.plots import curve, trace

TARGET = 400.0
SIZES = (5, 13, 32, 100)
PROTOCOLS: dict[str, dict[str, Any]] = {
    "byzpg, star": {"algo": "byzpg"},
    "decbyzpg, complete, none": {"algo": "decbyzpg", "agreement": "none"},
    "decbyzpg, complete, mda": {"algo": "decbyzpg", "agreement": "mda"},
    "decbyzpg, complete, rb_tm": {"algo": "decbyzpg", "agreement": "rb_tm"},
}
CODES = ("perfect", "top_k(share=0.1)", "top_k(share=0.01)", "random_k(share=0.1)", "quantise(bits=4)", "sign")
BUDGETS = (0.3, 1.0, 3.0)
"""Megabytes that one agent may send."""

CHANNELS = {"faultless": "perfect", "20 % loss and geometric delays": "loss(rate=0.2)+delay(mean=0.25)"}

PAGE = """# What communication costs

Made by `{command}`.

CartPole, {seeds} seeds, the [tuned](tuning.md) parameters; no agent is Byzantine, and protocols assume the largest f
that they tolerate, f < K / 4. A vector has d = 386 numbers, {vector:,} bytes. Messages and bytes are those that
one agent sends, the mean over agents; a server's are divided among them. Echoes of reliable broadcast carry the vector.

## With a server, and without

A round costs 2 K vectors with a server, K (K - 1) (1 + kappa) without, where kappa is the number of exchanges of its
agreement; each vector of an exchange by reliable broadcast of n agents is sent 1 + 2 n times. Tests hold the counts to
that. The common coin is dealt in a set-up and costs nothing. *To 400*: until the training return, averaged over the
last tenth of the trajectories so far, has reached it, within {trajectories:,}.

{protocols}

## Fewer bytes a message

DecByzPG, K = 13, complete graph, no agreement, so that only gradients are sent. Evaluation return of the last
policy that was evaluated before one agent had sent so many bytes; `-`: none was.

{codes}

## Unreliable channels

![Learning over unreliable channels](communication.png)

DecByzPG with its defaults, K = 13, f = 3, complete graph, {long:,} trajectories; every fifth message is lost, and
others are late by a geometric number of rounds, {delay} on average. Training return averaged over the last
twentieth of the budget, at its end, over {seeds} seeds: {ends}.
"""


def cells(args: argparse.Namespace) -> dict[tuple[str, str, int], Experiment]:
    """All runs, by part, row and seed."""
    experiments = {}
    for seed in range(args.seeds):
        shared: dict[str, Any] = {"preset": "paper", "seed": seed, "trajectories": args.trajectories}
        for k in (k for k in SIZES if k <= args.largest):
            for name, rules in PROTOCOLS.items():
                experiments["protocols", f"{name}|{k}", seed] = Experiment.create(
                    agents=k, parameters=TUNED, **rules, **shared
                )
        for code in CODES:
            experiments["codes", code, seed] = Experiment.create(
                agreement="none", channel=code, parameters=TUNED, **shared
            )
        for name, channel in CHANNELS.items():
            experiments["channels", name, seed] = Experiment.create(
                channel=channel, seed=seed, trajectories=args.long, preset="paper"
            )
    return experiments


def main() -> None:
    """Run what is missing, then write."""
    parser = options(__doc__, trajectories=2500)
    parser.add_argument("--largest", type=int, default=32, help="the most agents")
    parser.add_argument("--long", type=int, default=8000, help="trajectories over unreliable channels")
    args = parser.parse_args()
    folders: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for (part, row, _), result in results("communication", cells(args), args).items():
        folders[part][row].append(Path(str(result.run)))
    end_returns = {
        name: np.mean([curve(f, "return", np.array([args.long]))[0] for f in folders["channels"][name]])
        for name in CHANNELS
    }
    picture(folders["channels"], args)
    page = PAGE.format(
        command=f"python benchmarks/communication.py --seeds {args.seeds} --largest {args.largest}",
        seeds=args.seeds,
        vector=4 * 386,
        trajectories=args.trajectories,
        long=args.long,
        delay=0.25,
        protocols=protocols(folders["protocols"]),
        codes=codes(folders["codes"]),
        ends="; ".join(f"{name} {value:.0f}" for name, value in end_returns.items()),
    )
    (args.docs / "communication.md").write_text(page)


def protocols(folders: Mapping[str, list[Path]]) -> str:
    """The table of what rounds cost, and learning."""
    lines = [
        "| protocol | K | messages a round | kB a round | trajectories to 400 | MB to 400 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row, runs in folders.items():
        name, k = row.split("|")
        messages, kilobytes, when, megabytes = [], [], [], []
        for folder in runs:
            at, sent = trace(folder, "bytes")
            messages.append(trace(folder, "messages")[1][-1] / len(sent) / int(k))
            kilobytes.append(sent[-1] / len(sent) / int(k) / 1e3)
            time, arrived = reached(folder, TARGET)
            if arrived:
                when.append(time)
                megabytes.append(np.interp(time, at[1:], sent) / int(k) / 1e6)
        never = f" ({len(runs) - len(when)} of {len(runs)} never)" if len(when) < len(runs) else ""
        reach = f"{np.mean(when):,.0f}{never} | {np.mean(megabytes):,.2f}" if when else "never | -"
        lines.append(f"| {name} | {k} | {np.mean(messages):,.1f} | {np.mean(kilobytes):,.1f} | {reach} |")
    return "\n".join(lines)


def codes(folders: Mapping[str, list[Path]]) -> str:
    """The table of returns at fixed bytes."""
    lines = ["| code | bytes a message | " + " | ".join(f"return at {b:g} MB" for b in BUDGETS) + " |"]
    lines.append("|---|--:|" + "--:|" * len(BUDGETS))
    for code, runs in folders.items():
        returns, size = [], 0.0
        for folder in runs:
            spent, sent = trace(folder, "bytes")
            size = sent[-1] / trace(folder, "messages")[1][-1]
            at, values = trace(folder, "evaluation")
            used = np.interp(at[1:], spent[1:], sent) / 13 / 1e6
            returns.append([values[used <= b][-1] if (used <= b).any() else np.nan for b in BUDGETS])
        shown = ["-" if np.isnan(column).any() else f"{column.mean():.0f}" for column in np.array(returns).T]
        lines.append(f"| `{code}` | {size:,.0f} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def picture(folders: Mapping[str, list[Path]], args: argparse.Namespace) -> None:
    """Learning curves with and without faults."""
    grid = np.linspace(args.long / 200, args.long, 200)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for (name, runs), colour in zip(folders.items(), ("#1f5fa8", "#c0504d"), strict=True):
        curves = np.stack([curve(folder, "return", grid) for folder in runs])
        axes.plot(grid, curves.mean(0), color=colour, label=name)
        axes.fill_between(grid, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0)
    axes.axhline(TARGET, color="0.6", lw=0.8, ls=":")
    axes.set(xlabel="trajectories per agent", ylabel="training return", xlim=(0, args.long), ylim=(0, 510))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(args.docs / "communication.png", dpi=150)


if __name__ == "__main__":
    main()
