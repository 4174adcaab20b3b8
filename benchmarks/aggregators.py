"""How fast the rules are, one thread, beside byzfl's on the same vectors: makes docs/defence-speed.md.

    pip install --no-deps --target /tmp/byzfl byzfl==0.0.11
    OPENBLAS_NUM_THREADS=1 PYTHONPATH=/tmp/byzfl python benchmarks/aggregators.py [--repeats 200] [--docs docs]

Without byzfl its columns stay empty. NumPy would give large products more than one thread.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from byzbench.aggregators.mda import Mda
from byzbench.core import Aggregator, ByzantineMessages, RuleContext
from byzbench.core.inbox import Inbox
from byzbench.core.messages import validate_messages
from byzbench.experiments.diagnostics import diagnose
from byzbench.federation.statistics import AggregationResult
from byzbench.geometry.pairwise_distances import PairwiseDistances
from byzbench.geometry.spread import min_eigenvalue_subset, min_variance_subset
from byzbench.geometry.subsets import min_diameter_subset
from byzbench.registry import make, origins, parse_spec
from byzbench.testing.rules import score_policies

SMALL, LARGE = (13, 3, 386), (50, 12, 100_000)
"""n, f, d."""

SEARCHES = {"mda": min_diameter_subset, "mva": min_variance_subset, "smea": min_eigenvalue_subset}

HEAD = """Made by `{command}`. One core of {cores}, {machine}, torch {torch}, NumPy {numpy}, {thread}; {byzfl}.

Medians of processor time, since the machine is shared; the calls of both libraries take turns. Ratios are more reliable
than absolute times. Inputs are Gaussian, float32 for byzbench. byzfl gets the same numbers in the form that suits it
best: the least of its times on a float64 array, a float32 array and a torch tensor counts, and this form is named.
Rules of byzfl that change their input get a copy, and stateful ones a fresh instance. Pre-aggregators precede the same
rule on both sides, rfa takes eight steps on both, and centred clipping one, of radius 10."""

NARROW = """*Over* is byzbench less byzfl; *whole round* is validation, the rule and the round's diagnostics in a row,
less byzfl's rule alone: the yardstick is that no rule is more than 60 us over. Validation alone takes
{validation:.0f} us, the diagnostics {diagnosis:.0f} us. *13 receivers* are inboxes that all differ, as when Byzantine
agents equivocate, in one call."""

EXACT = """An answer is exact unless the search was stopped by its cap. `mda` looks for the subset of least diameter,
`mva` of least variance, `smea` of least largest eigenvalue; *hostile* distances are constructed to make the
search long."""


def race(calls: Mapping[str, Callable[[], object]], repeats: int, seconds: float = 3.0) -> dict[str, float]:
    """Median microseconds of each call, taking turns, until `repeats` or the time is over.

    Of this thread's processor time: others may be at work on the machine. Quick calls come ten to a turn.
    """
    begin = time.thread_time()
    for call in calls.values():
        call()
    turn = min(repeats, 10 if time.thread_time() - begin < seconds / 50 else 1)
    spent: dict[str, list[float]] = {name: [] for name in calls}
    while len(next(iter(spent.values()), [])) < repeats:
        for name, call in calls.items():
            for _ in range(turn):
                start = time.thread_time()
                call()
                spent[name].append(time.thread_time() - start)
        if time.thread_time() - begin > seconds:
            break
    return {name: 1e6 * median(times) for name, times in spent.items()}


def rival() -> ModuleType | None:
    """The byzfl that can be imported, if any."""
    # It imports these for its data sets and pictures; the rules do without.
    for name in ("torchvision", "torchvision.transforms", "torchvision.datasets", "seaborn"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = MagicMock()
    try:
        return importlib.import_module("byzfl")
    except ImportError:
        return None


def theirs(byzfl: ModuleType, name: str, n: int, f: int) -> Callable[[Any], Any] | None:
    """The rule of byzfl that is the same as ours of this name with its defaults, or nearest to it."""

    def copied(x: Any) -> Any:
        return x.clone() if isinstance(x, Tensor) else x.copy()

    trimmed, rfa = byzfl.TrMean(f=f), byzfl.GeometricMedian(nu=0.1, T=8)
    rules: dict[str, Callable[[Any], Any]] = {
        "mean": byzfl.Average(),
        "median": byzfl.Median(),
        "trimmed_mean": trimmed,
        "meamed": byzfl.Meamed(f=f),
        "rfa": rfa,
        "krum": byzfl.Krum(f=f),
        "multi_krum": byzfl.MultiKrum(f=f),
        "centered_clipping": lambda x: byzfl.CenteredClipping(L=1, tau=10.0)(x),
        "monna": byzfl.MoNNA(f=f, idx=0),
        "caf": byzfl.CAF(f=f),
        "nnm": lambda x: trimmed(byzfl.NNM(f=f)(x)),
        "clipping": lambda x: trimmed(byzfl.Clipping(c=2.0)(copied(x))),
        "arc": lambda x: trimmed(byzfl.ARC(f=f)(copied(x))),
        "bucketing": lambda x: rfa(byzfl.Bucketing(s=2)(x)),
    }
    # These list all subsets.
    if n <= 20:
        rules |= {"mda": byzfl.MDA(f=f), "smea": byzfl.SMEA(f=f)}
    return rules.get(name)


def gaussian(n: int, d: int = 386, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))).float()


def inputs(rule: Aggregator, f: int, x: Tensor) -> RuleContext:
    """Return the inputs of a rule beside the vectors, for receivers whose own vectors are different columns."""
    batch, n = x.shape[:-2], x.shape[-2]
    own = torch.arange(n)[: batch[0]] if batch else torch.tensor(0)
    asked = {"honest": torch.arange(n).expand(*batch, n) >= f, "evaluator": score_policies}
    return RuleContext(
        mask=torch.ones(*batch, n, dtype=torch.bool),
        own=own,
        weights=torch.full((*batch, n), 1 / n, dtype=torch.float64),
        rng=np.random.default_rng(0),
        **{name: asked[name] for name in rule.required_inputs},
    )


def whole_round(rule: Aggregator, x: Tensor, f: int) -> Callable[[], object]:
    """Return what a round does with the messages of one receiver: validation, the rule, the diagnostics."""
    (n, d), bound = x.shape, torch.tensor([f])
    senders, own, usable, attackers = (
        torch.arange(n)[None],
        torch.tensor([-1]),
        torch.tensor([True]),
        torch.arange(n) < f,
    )
    context = inputs(rule, f, x[None])
    mask = context.mask_of(x[None])

    def call() -> object:
        inbox = Inbox(validate_messages(ByzantineMessages(x), n, d).vectors, senders, senders, mask, own, bound, None)
        value, weights, state = rule.aggregate(inbox.base[None], bound, context)
        return diagnose(AggregationResult(inbox, value, weights, usable, state), attackers)

    return call


def fixed_costs() -> dict[str, float]:
    """Microseconds of validation and of the diagnostics of a linear rule."""
    n, f, d = SMALL
    x, shares = gaussian(n), torch.full((1, n), 1 / n, dtype=torch.float64)
    everyone = torch.arange(n)[None]
    inbox = Inbox(x, everyone, everyone, shares > 0, torch.tensor([-1]), torch.tensor([f]), None)
    seen = AggregationResult(inbox, x.mean(0, keepdim=True), shares, torch.tensor([True]), {})
    return race(
        {
            "validation": partial(validate_messages, ByzantineMessages(x), n, d),
            "diagnosis": partial(diagnose, seen, torch.arange(n) < f),
        },
        300,
    )


def contest(
    byzfl: ModuleType | None, name: str, shape: tuple[int, int, int], repeats: int
) -> tuple[dict[str, float], str]:
    """Microseconds of our rule, `byzfl`, and on the small shape `round` and `receivers`; and what byzfl likes best."""
    n, f, d = shape
    rule = make("aggregator", parse_spec(name))
    assert isinstance(rule, Aggregator)
    x, bound = gaussian(n, d), torch.tensor(f)
    given = inputs(rule, f, x)
    calls: dict[str, Callable[[], object]] = {"byzbench": lambda: rule.aggregate(x, bound, given)}
    if shape == SMALL:
        many = torch.stack([gaussian(n, d, seed) for seed in range(n)])
        each = inputs(rule, f, many)
        calls["round"] = whole_round(rule, x, f)
        calls["receivers"] = lambda: rule.aggregate(many, bound.expand(n), each)
    other = theirs(byzfl, name, n, f) if byzfl else None
    if other:
        for kind, value in {"float64": x.double().numpy(), "float32": x.numpy(), "torch": x}.items():
            calls[kind] = partial(other, value)
    times = race(calls, repeats)
    likes = min(set(times) & {"float64", "float32", "torch"}, key=times.__getitem__, default="")
    if likes:
        times["byzfl"] = times[likes]
    return times, likes


def tables(byzfl: ModuleType | None, repeats: int) -> Iterator[str]:
    """The rules at both shapes, a line at a time."""
    for shape in (SMALL, LARGE):
        n, f, d = shape
        yield from ("", f"## n={n}, f={f}, d={d:,}", "")
        if shape == SMALL:
            yield from (NARROW.format(**fixed_costs()), "")
            yield "| rule | byzbench, us | byzfl, us | on | over, us | whole round, us over | 13 receivers, us |"
            yield "|---|---|---|---|---|---|---|"
        else:
            yield from ("| rule | byzbench, ms | byzfl, ms | on | byzfl / byzbench |", "|---|---|---|---|---|")
        for name in origins("aggregator"):
            if not make("aggregator", parse_spec(name)).defined(n, f):
                yield f"| {name} | undefined here |" + " |" * (5 if shape == SMALL else 3)
                continue
            t, likes = contest(byzfl, name, shape, repeats if shape == SMALL else 7)
            ours, other = t["byzbench"], t.get("byzfl")
            if shape == SMALL:
                over = ("", "", "", "") if other is None else (f"{other:.0f}", likes, f"{ours - other:+.0f}", "")
                if other is not None:
                    over = (*over[:3], f"{t['round'] - other:+.0f}")
                yield f"| {name} | {ours:.0f} | " + " | ".join(over) + f" | {t['receivers']:.0f} |"
            else:
                beside = ("", "", "") if other is None else (f"{other / 1e3:.1f}", likes, f"{other / ours:.1f}")
                yield f"| {name} | {ours / 1e3:.1f} | " + " | ".join(beside) + " |"


def conflicting(graph: nx.Graph, n: int) -> np.ndarray:
    """Distances of n points: sqrt(5) along the edges of the graph, 2 elsewhere.

    There are such points if no eigenvalue of the graph is beyond 4: squared distances 4 + A have the Gram matrix
    (4 I - A) / 2 across the ones.
    """
    squares = np.full((n, n), 4.0)
    squares[: len(graph), : len(graph)] += nx.to_numpy_array(graph)
    np.fill_diagonal(squares, 0)
    return np.sqrt(squares)


def shrunk(n: int, inner: int, by: float) -> np.ndarray:
    """Distances of n Gaussian points, `inner` of which are a little closer to the origin."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((n, 20))
    points[rng.permutation(n)[:inner]] *= by
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def hostile() -> Iterator[tuple[str, np.ndarray, int]]:
    """Label, distances of 100 points, and how many of them to leave out."""
    cycles = nx.disjoint_union_all([nx.cycle_graph(5)] * 20)
    yield "20 five-cycles, n=100 f=60", conflicting(cycles, 100), 60
    yield "20 five-cycles, n=100 f=30", conflicting(cycles, 100), 30
    yield "5 Petersen graphs, n=100 f=30", conflicting(nx.disjoint_union_all([nx.petersen_graph()] * 5), 100), 30
    yield "10 Petersen graphs, n=100 f=60", conflicting(nx.disjoint_union_all([nx.petersen_graph()] * 10), 100), 60
    yield "cubic graph on 52, n=100 f=30", conflicting(nx.random_regular_graph(3, 52, seed=0), 100), 30
    yield "all tied, n=100 f=30", conflicting(nx.empty_graph(100), 100), 30
    yield "all in one point, n=100 f=30", np.zeros((100, 100)), 30
    yield "71 points 1 % nearer, n=100 f=30", shrunk(100, 71, 0.99), 30
    yield "71 points 10 % nearer, n=100 f=30", shrunk(100, 71, 0.9), 30


def planted(n: int, f: int, seed: int) -> Tensor:
    """Attackers that agree, f of them, one and a half standard deviations from the mean in every coordinate."""
    x = gaussian(n, seed=seed)
    x[:f] = x[f:].mean(0) - 1.5 * x[f:].std(0)
    return x


def rows(repeats: int = 20) -> Iterator[tuple[str, float, bool]]:
    """Exact minimum-diameter averaging: label, median milliseconds, and whether the answer is exact."""
    torch.set_num_threads(1)
    yield "the rule on [13, 386], f=3", timed(partial(Mda(), gaussian(13), 3), 20 * repeats), True
    for n, f in ((30, 9), (100, 30)):
        for seed in range(3):
            x = gaussian(n, seed=seed)
            exact = min_diameter_subset(PairwiseDistances.of(x).distances, n - f)[2]
            yield f"the rule on [{n}, 386], f={f}, seed {seed}", timed(partial(Mda(), x, f), repeats), exact
    for label, distances, f in hostile():
        search = partial(min_diameter_subset, distances, len(distances) - f)
        yield label, timed(search, 3), search()[2]


def spread_rows(repeats: int = 5) -> Iterator[tuple[str, float, bool]]:
    """The same for the searches of mva and smea."""
    for name in ("mva", "smea"):
        for kind, draw in (("planted", planted), ("Gaussian", lambda n, f, seed: gaussian(n, seed=seed))):
            for n, f in ((13, 3), (25, 7), (30, 9), (100, 30)):
                search = partial(SEARCHES[name], PairwiseDistances.of(draw(n, f, 0)).squared_distances, n - f)
                yield f"{name}, {kind}, n={n} f={f}", timed(search, repeats), search()[2]
        for label, distances, f in hostile():
            search = partial(SEARCHES[name], distances**2, len(distances) - f)
            yield f"{name}: {label}", timed(search, 1), search()[2]


def timed(call: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of a call; the first one, which fills caches, does not count."""
    return race({"": call}, repeats)[""] / 1e3


def searches() -> Iterator[str]:
    """Yield the time of the subset searches, a line at a time."""
    yield from ("", "## Exact subsets", "", EXACT, "", "| search | ms | exact |", "|---|---|---|")
    for label, milliseconds, exact in (*((f"mda: {label}", *rest) for label, *rest in rows()), *spread_rows()):
        yield f"| {label} | {milliseconds:.2f} | {'yes' if exact else 'no: stopped by its cap'} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="calls that a time at the small size is the median of")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the page goes")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    byzfl = rival()
    head = HEAD.format(
        command="OPENBLAS_NUM_THREADS=1 python benchmarks/aggregators.py",
        cores=os.cpu_count(),
        machine=platform.machine(),
        torch=torch.__version__,
        numpy=np.__version__,
        thread="one thread",
        byzfl="byzfl 0.0.11" if byzfl else "no byzfl",
    )
    lines = []
    for part in (["# The speed of defences", "", head], tables(byzfl, given.repeats), searches()):
        for line in part:
            print(line, flush=True)
            lines.append(line)
    (given.docs / "defence-speed.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
