"""Command `byzbench bench`: compare aggregation rules on random vectors, without training."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from byzbench.cli import options
from byzbench.cli.output import write_json

if TYPE_CHECKING:
    from byzbench.experiments.bench import RuleBenchmark, Trial


def bench(
    what: Annotated[Literal["aggregators"], typer.Argument(help="The kind of components to compare.")],
    rules: Annotated[
        list[str] | None, typer.Option("--aggregator", help=f"Aggregators to compare; default: all. {options.AXIS}.")
    ] = None,
    attacks: Annotated[
        list[str] | None, typer.Option("--attack", "-x", help=f"Attacks on messages to apply. {options.AXIS}.")
    ] = None,
    agents: Annotated[int, typer.Option(help="n, the number of vectors in an inbox.")] = 13,
    byzantine: Annotated[int, typer.Option(help="f, the number of Byzantine vectors among them.")] = 3,
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="d, the dimension of a vector.")] = 386,
    signal: Annotated[
        float, typer.Option(help="Norm of the honest mean, in units of the honest standard deviation.")
    ] = 1.0,
    rounds: Annotated[int, typer.Option(help="Number of random inboxes.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Compare aggregators on random vectors: error under each attack, and time. Smallest worst error first.

    Examples:
        byzbench bench aggregators
        byzbench bench aggregators --aggregator krum,rfa --attack alie
    """
    from byzbench.experiments import bench as trials

    trial = trials.Trial(agents, byzantine, dimension, signal, rounds, seed)
    attack_names = options.components(attacks) or list(trials.ATTACKS)
    outcomes = trials.benchmark_rules(options.components(rules), attack_names, trial)
    if as_json:
        write_json([{name: _finite(value) for name, value in asdict(outcome).items()} for outcome in outcomes])
        return
    _print(outcomes, attack_names, trial)


def _print(outcomes: list[RuleBenchmark], attacks: list[str], trial: Trial) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    n, f, d = trial.agents, trial.byzantine, trial.dimension
    title = f"||aggregate - honest mean|| / honest std   n={n}, f={f}, d={d}, signal {trial.signal:g}"
    table = Table(title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("aggregator", no_wrap=True)
    for head in (*attacks, "worst", "ms", "kappa"):
        table.add_column(head, justify="right", min_width=4, overflow="fold")
    for outcome in (outcome for outcome in outcomes if not outcome.why):
        kappa = "" if outcome.kappa is None else f"{outcome.kappa:.3g}"
        errors = [_short(outcome.errors[attack]) for attack in attacks]
        table.add_row(
            f"{outcome.rule}{'' if outcome.guarantee else ' *'}",
            *errors,
            _short(outcome.worst),
            f"{outcome.milliseconds:.3g}",
            kappa,
        )
    console.print(table)
    if any(not outcome.guarantee and not outcome.why for outcome in outcomes):
        console.print(f"* no guarantee for n={n}, f={f}")
    for outcome in (outcome for outcome in outcomes if outcome.why):
        console.print(f"not run: {outcome.rule}: {outcome.why}", markup=False, soft_wrap=True)


def _short(number: float) -> str:
    return f"{number:.2f}" if number < 100 else f"{number:.0e}"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
