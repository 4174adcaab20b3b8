"""Aggregators: values, weights and states on fixed sets of vectors, one receiver and several."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Aggregator, RuleOutput
from byzbench.errors import InexactSearch
from byzbench.testing.rules import call
from tests.golden.parts import Cases, Inputs, build, described_part, shipped
from tests.golden.summaries import digest_of, short, summary

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "aksel": ("aksel:keep=n-f",),
    "arc": ("arc+median", "arc+centered_clipping", "arc+balance"),
    "balance": ("balance:gamma=2.0,alpha=0.3,decay=2.0,horizon=2",),
    "bridge": ("bridge:keep_own=False", "bridge:screen=median", "bridge:screen=krum", "bridge:screen=bulyan"),
    "bucketing": ("bucketing(s=3)+median", "bucketing+krum", "bucketing+centered_clipping"),
    "bulyan": ("bulyan:theta=n-2f-2", "bulyan:compat=authors", "bulyan:compat=krum"),
    "centered_clipping": (
        "centered_clipping:radius=0.5,steps=3,start=zero",
        "centered_clipping:radius=2.0,start=own",
    ),
    "clipping": ("clipping(radius=0.7)+rfa",),
    "cva": ("cva+median", "cva+centered_clipping"),
    "dnc": ("dnc:steps=2,dimensions=3,c=2.0",),
    "fedpg_filter": ("fedpg_filter:fallback=none",),
    "geometric_median": ("geometric_median:tolerance=0.001",),
    "gts": ("gts:step=0.5", "gts:compat=official"),
    "krum": ("krum:power=1", "krum:neighbours=n-f-1", "krum:power=4"),
    "monna": ("monna:keep=n-2f", "monna:pivot=2"),
    "multi_krum": (
        "multi_krum:mode=iterative",
        "multi_krum:mode=iterative,m=3",
        "multi_krum:m=3",
        "multi_krum:m=n-f",
        "multi_krum:power=4,m=n-f-1",
    ),
    "nnm": ("nnm+rfa", "nnm+krum", "nnm+monna", "nnm+median", "nnm+balance"),
    "rfa": ("rfa:nu=0.5,steps=3,start=mean", "rfa:nu=0.1,relative=False,steps=8,start=zero"),
    "self_centered_clipping": (
        "self_centered_clipping:radius=second",
        "self_centered_clipping:radius=fixed,tau=0.8",
        "self_centered_clipping:radius=oracle",
    ),
    "signguard": (
        "signguard:fraction=0.9,quantile=0.3,lower=0.5,upper=2.0",
        "signguard:compat=official,fraction=0.9",
    ),
    "ubar": ("ubar:rho=0.4,alpha=0.2",),
    "w_msr": ("w_msr:weights=mixing",),
}
"""Variants of a rule as users write them."""


def generated() -> Cases:
    """Yield a case for every rule and variant."""
    for name, key in shipped("aggregator"):
        for written in (name, *VARIANTS.get(name, ())):
            yield f"rule {key}{written.removeprefix(name)}", partial(described_part, "aggregator", written)


def sets() -> Iterator[tuple[str, Tensor, int]]:
    """Yield a label, vectors [n, d] and a bound f."""
    for n, f, d, scale, dtype in (
        (5, 1, 2, 1.0, torch.float64),
        (7, 1, 3, 1.0, torch.float64),
        (6, 0, 3, 1.0, torch.float64),
        (9, 2, 5, 1e-6, torch.float64),
        (13, 3, 8, 1.0, torch.float32),
        (13, 2, 40, 1e3, torch.float32),
    ):
        x = scale * torch.from_numpy(np.random.default_rng([n, f, d]).standard_normal((n, d)))
        yield f"{n},{f},{d}", x.to(dtype), f
        if f and d < 40:
            far = x.clone()
            far[:f] += 50 * scale
            yield f"{n},{f},{d} far", far.to(dtype), f
    rng = np.random.default_rng(11)
    yield "ties", torch.from_numpy(rng.integers(-1, 2, (13, 3)).astype(np.float64)), 3
    equal = torch.from_numpy(rng.standard_normal((9, 4)))
    equal[3:6] = equal[2]
    yield "equal rows", equal, 2
    yield "wide", torch.from_numpy(rng.standard_normal((7, 4500)).astype(np.float32)), 1
    yield "one block", torch.from_numpy(rng.standard_normal((9, 1200)).astype(np.float32)), 2


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the outputs of a rule on every set, for several receivers, and in consecutive calls."""
    rule = build("aggregator", inputs["aggregator"])
    assert isinstance(rule, Aggregator)
    results: dict[str, Any] = {"facts": _facts(rule)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InexactSearch)
        for label, x, f in sets():
            if bool(rule.defined(len(x), f)):
                results[label] = _call(rule, x, f)
        if bool(rule.defined(9, 2)):
            results["receivers"] = _receivers(rule)
            results["consecutive calls"] = _calls(rule)
        if rule.traits.self_centered and bool(rule.defined(8, 2)):
            results["own vector invalid"] = _without_own(rule)
    return results


def _facts(rule: Aggregator) -> dict[str, str]:
    """Return by n, for f = 0, 1, ..: d if the rule is defined, g if it has a guarantee, and its kappa."""
    facts = {}
    for n in (*range(1, 13), 13, 16, 20, 23):
        row = []
        for f in range(min(n, 5)):
            defined = bool(rule.defined(n, f))
            kappa = rule.kappa(n, f) if defined else None
            number = "" if kappa is None else f"{kappa:.6g}"
            row.append(f"{'d' * defined}{'g' * bool(rule.guarantee(n, f))}{number}")
        facts[str(n)] = " ".join(row)
    return {"all": digest_of(facts)} | {n: facts[n] for n in ("7", "13")}


def _call(rule: Aggregator, x: Tensor, f: int, **fields: Any) -> Any:
    """Return the value, weights and state of a call at one receiver, whose own vector is the last."""
    n = x.shape[-2]
    mixing = torch.linspace(1, 2, n, dtype=torch.float64)
    fields = {"weights": (mixing / mixing.sum()).expand(x.shape[:-1])} | fields
    return _summary(call(rule, x, f, **fields))


def _receivers(rule: Aggregator) -> Any:
    """Return a call for 2 x 3 receivers with inboxes and bounds of their own."""
    rng = np.random.default_rng(5)
    x = torch.from_numpy(rng.standard_normal((2, 3, 9, 4)))
    mask = torch.ones(2, 3, 9, dtype=torch.bool)
    mask[0, 1, 3] = mask[1, 2, 0] = mask[1, 2, 5] = False
    f = torch.tensor([[1, 1, 0], [2, 1, 1]])
    n = mask.sum(-1)
    if not all(rule.defined(int(a), int(b)) for a, b in zip(n.flatten(), f.flatten(), strict=True)):
        f = torch.zeros(2, 3, dtype=torch.int64)
    honest = {"honest": (torch.arange(9) >= 2).expand(2, 3, 9)} if "honest" in rule.required_inputs else {}
    return _summary(call(rule, x, f, mask=mask, **honest))


def _without_own(rule: Aggregator) -> Any:
    """Return a call for two receivers, of which one has no valid vector of its own."""
    x = torch.from_numpy(np.random.default_rng(13).standard_normal((2, 9, 4)))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 8] = mask[1, 0] = False
    return _call(rule, x, 2 if rule.defined(7, 2) else 0, mask=mask)


def _calls(rule: Aggregator) -> Any:
    """Return three calls, each with the state of the one before."""
    rng, state, results = np.random.default_rng(3), {}, []
    for turn in range(3):
        x = torch.from_numpy(rng.standard_normal((1, 9, 4)) + turn)
        output = call(rule, x, 2, own=torch.tensor([4]), state=state, rng=np.random.default_rng(turn))
        state = output.state
        results.append(_summary(output))
    return results


def _summary(output: RuleOutput) -> Any:
    return [summary(output.value), short(output.weights), short(output.state)]
