"""`byzbench bench`: what tells one rule from another before anything is trained."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from byzbench.cli import options

if TYPE_CHECKING:
    from byzbench.experiments.bench import Outcome, Trial


def bench(
    what: Annotated[Literal["aggregators"], typer.Argument(help="The zoo to compare.")],
    rules: Annotated[
        list[str] | None, typer.Option("--aggregator", help=f"Rules; default: all. {options.AXIS}.")
    ] = None,
    attacks: Annotated[
        list[str] | None, typer.Option("--attack", "-x", help=f"Attacks on messages. {options.AXIS}.")
    ] = None,
    agents: Annotated[int, typer.Option(help="n, vectors in an inbox.")] = 13,
    byzantine: Annotated[int, typer.Option(help="f, how many of them lie.")] = 3,
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Coordinates of a vector.")] = 386,
    signal: Annotated[float, typer.Option(help="Length of the honest mean, in units of the honest spread.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="How many times all is drawn.")] = 20,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Compare rules on random vectors: error under each attack, and time. Least worst error first."""
    from byzbench.experiments import bench as trials

    trial = trials.Trial(agents, byzantine, dimension, signal, rounds, seed)
    named = options.components(attacks) or list(trials.ATTACKS)
    found = trials.bench(options.components(rules), named, trial)
    if as_json:
        typer.echo(json.dumps([{k: _finite(v) for k, v in asdict(outcome).items()} for outcome in found]))
        return
    _print(found, named, trial)


def _print(found: list[Outcome], attacks: list[str], trial: Trial) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    n, f, d = trial.agents, trial.byzantine, trial.dimension
    title = f"||value - honest mean|| / honest spread   n={n}, f={f}, d={d}, signal {trial.signal:g}"
    table = Table(title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("aggregator", no_wrap=True)
    for head in (*attacks, "worst", "ms", "kappa"):
        table.add_column(head, justify="right", min_width=4, overflow="fold")
    for o in (o for o in found if not o.why):
        kappa = "" if o.kappa is None else f"{o.kappa:.3g}"
        errors = [_short(o.errors[attack]) for attack in attacks]
        table.add_row(
            f"{o.rule}{'' if o.guarantee else ' *'}", *errors, _short(o.worst), f"{o.milliseconds:.3g}", kappa
        )
    console.print(table)
    if any(not o.guarantee and not o.why for o in found):
        console.print(f"* no guarantee for n={n}, f={f}")
    for o in (o for o in found if o.why):
        console.print(f"not tried: {o.rule}: {o.why}", markup=False, soft_wrap=True)


def _short(number: float) -> str:
    return f"{number:.2f}" if number < 100 else f"{number:.0e}"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
