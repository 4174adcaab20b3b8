"""Channels, coins and agreements: encoded messages, delays, draws and guarantees."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from byzbench.core import Agreement, Channel, Coin, MessageFormat
from tests.golden.parts import Cases, Inputs, build, described_part, shipped
from tests.golden.summaries import digest_of, short, summary

VARIANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "channel": {
        "byte_budget": ("byte_budget:bytes=32", "byte_budget:bytes=9,feedback=False,on=both"),
        "delay": (
            "delay:mean=1",
            "delay:law=constant,mean=2",
            "delay:law=heavy_tailed,mean=0.7,cap=4",
            "delay:mean=0",
            "delay:mean=3,cap=2",
        ),
        "loss": ("loss:rate=0.4",),
        "quantise": ("quantise:bits=2,norm=euclidean", "quantise:bits=7,feedback=False", "quantise(bits=3)+top_k"),
        "random_k": ("random_k:share=0.4", "random_k:share=0.4,feedback=False"),
        "sign": ("sign:feedback=False,on=both",),
        "top_k": ("top_k:share=0.4", "top_k:share=0.01,feedback=False"),
    },
    "coin": {"biased": ("biased:q=0.2,value=0.7",)},
    "agreement": {
        "gossip": ("gossip(exchanges=3)+krum", "gossip+bridge", "gossip+trimmed_mean"),
        "mda": ("mda:reliable=True",),
        "rb_tm": ("rb_tm:reliable=False",),
    },
}


def generated() -> Cases:
    """Yield a case for every component and variant."""
    for kind, variants in VARIANTS.items():
        for name, key in shipped(kind):
            for written in (name, *variants.get(name, ())):
                yield f"message {kind} {key}{written.removeprefix(name)}", partial(described_part, kind, written)


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the outputs of a channel, a coin or an agreement."""
    kind, description = next(iter(inputs.items()))
    part = build(kind, description)
    if isinstance(part, Channel):
        return _channel(part)
    if isinstance(part, Coin):
        return _coin(part)
    assert isinstance(part, Agreement)
    return _agreement(part)


def _channel(channel: Channel) -> dict[str, Any]:
    results: dict[str, Any] = {
        "longest": channel.max_delay,
        "covers": [channel.applies_to(t) for t in ("gradient", "parameters")],
    }
    for d in (2, 16, 33, 300):
        packed = channel.pack(MessageFormat(d, 32, 8), d)
        results[f"format {d}"] = [packed.num_values, packed.bits_per_value, packed.extra_bits, packed.bytes]
        memory: dict[str, Any] = {}
        for turn in range(3):
            rng = np.random.default_rng([d, turn])
            x = torch.from_numpy(rng.standard_normal((4, d))).float()
            x[1], x[2, : d // 2] = 0, 0
            encoded, memory = channel.encode(x, memory, rng)
            results[f"encoded {d}, {turn}"] = [summary(encoded), short(memory)]
    for receivers, senders in ((1, 7), (6, 5), (40, 40)):
        late = channel.draw_delays(receivers, senders, np.random.default_rng(receivers))
        results[f"late {receivers}"] = summary(late)
    return results


def _coin(coin: Coin) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for agents in (1, 2, 7, 10):
        tosses = [coin(lambda rng: float(rng.random()), agents, np.random.default_rng(seed)) for seed in range(6)]
        results[f"{agents} agents"] = [summary(torch.stack(tosses)), [list(cost) for cost in coin.cost(agents)]]
    return results


def _agreement(agreement: Agreement) -> dict[str, Any]:
    """Return by n, for f = 0, 1, ..: d if it is defined, g if it has a guarantee, and its contraction."""
    results: dict[str, Any] = {"measure": agreement.measure}
    for n in range(1, 15):
        row = []
        for f in range(min(n, 5)):
            defined = bool(agreement.defined(n, f))
            share = agreement.contraction(n, f) if defined else None
            number = "" if share is None else f"{share:.6g}"
            row.append(f"{'d' * defined}{'g' * bool(agreement.guarantee(n, f))}{number}")
        results[f"n={n}"] = " ".join(row)
    return {"all": digest_of(results)} | {n: results[n] for n in ("measure", "n=7", "n=13")}
