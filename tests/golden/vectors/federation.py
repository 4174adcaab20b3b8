"""Federation: inboxes, graph diagnostics, messages in flight, message validation and cloned rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from byzbench.contracts import Speech
from byzbench.errors import UndeclaredKnowledge
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread
from byzbench.federation.defence import Defence, cloneable
from byzbench.federation.exposure import cheap, dear, guaranteed
from byzbench.federation.screening import screen
from tests.golden.cases import PEERS, SERVER, Options
from tests.golden.parts import Inputs
from tests.golden.running import described, experiment_of
from tests.golden.summaries import summary

EXPERIMENTS: Mapping[str, Options] = {
    "complete": {**PEERS, "byzantine": 2, "declared": 3},
    "relayed torus": {**PEERS, "topology": "torus", "agents": 9, "byzantine": 1, "relay": True},
    "relayed directed": {**PEERS, "topology": "erdos_renyi:p=0.8,directed=True", "byzantine": 1, "relay": True},
    "sparse": {**PEERS, "topology": "grid:columns=3", "agents": 10, "mixing": "max_degree"},
    "directed": {**PEERS, "topology": "ring:directed=True", "aggregator": "mean", "agreement": "none"},
    "star": {**SERVER, "agents": 6},
    "attached": {**PEERS, "topology": "ring", "placement": "attach:links=2", "agents": 9, "byzantine": 3},
    "away": {**PEERS, "env": "cartpole:hidden=[2],absent='0:0-0.5'", "trajectories": 4},
    "late": {**PEERS, "channel": "delay(mean=1)+quantise(bits=3, on=both)", "trajectories": 6},
    "clone": {**PEERS, "attack": "optimal_ipm:calls=40", "aggregator": "bulyan", "byzantine": 1},
    "server clone": {**SERVER, "attack": "optimal_ipm:calls=40", "aggregator": "krum"},
}


def generated() -> Iterator[tuple[str, Inputs]]:
    """Yield a case for every experiment, and for every function."""
    for name, options in EXPERIMENTS.items():
        yield f"federation {name}", {"experiment": described(Experiment.create(**options))}
    yield from ((f"federation {name}", {}) for name in FUNCTIONS)


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the inboxes of an experiment, graph diagnostics, and three resumed exchanges; or a function's outputs."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]()
    todo = experiment_of(inputs["experiment"])
    members = todo.members
    results: dict[str, Any] = {
        "byzantine": list(members.liars),
        "cheap": summary(cheap(members)),
        "dear": summary(_nine(dear(members))),
        "notes": len(todo.notes()),
        "inboxes": todo.inboxes,
    }
    for part in ("senders", "mask", "own", "bounds", "mixing", "lies", "first_lies", "others", "broadcasts", "hops"):
        results[part] = summary(getattr(members, part))
    for groups in (1, 2, 3):
        results[f"groups {groups}"] = summary(list(members.parted(groups)))
    if members.server is None:
        rules = {"majority": lambda n, f: n >= 2 * f + 1, "third": lambda n, f: n > 3 * f}
        results["guaranteed"] = guaranteed(members, rules)
    results["resumed"] = _resumed(todo)
    return results


def _nine(facts: Mapping[str, float | int | None]) -> dict[str, Any]:
    return {name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in facts.items()}


def _resumed(todo: Experiment) -> Any:
    """Return three exchanges, each in a new federation with the messages in flight and the memory of the one before."""
    mail, memory, results = {}, {}, []
    with one_thread():
        for round in range(3):
            federation, adversary = federate(todo)
            if round:
                federation.mail, adversary.memory = mail, memory
            federation.begin(round, round / 3)
            x = torch.from_numpy(np.random.default_rng(round).standard_normal((todo.agents, 20))).float()
            if todo.algorithm.needs == "server":
                inbox = lockstep(federation.gather("gradient", x))
            else:
                inbox = lockstep(federation.exchange("gradient", x, reliable=round == 2))
            value, state = federation.aggregate(inbox, {})
            mail, memory = federation.mail, adversary.memory
            sent = federation.ledger.by_topic()
            results.append(summary([value, inbox.mask, inbox.f, inbox.age, mail, memory, state, sent]))
    return results


def screening() -> dict[str, Any]:
    """Return valid, malformed and missing messages of speeches of all forms."""
    good, bad = torch.arange(3.0), torch.tensor([1.0, torch.nan, 2.0])
    speeches = {
        "vectors": Speech(torch.stack([good, 2 * good])),
        "double": Speech(torch.stack([good, -good]).double()),
        "not finite": Speech(torch.stack([good, bad])),
        "silent": Speech(torch.stack([good, bad]), torch.tensor([False, True])),
        "list": Speech([good, good.numpy()]),
        "wrong types": Speech(["hello", None]),
        "shapes": Speech([good[:2], good.unsqueeze(0)]),
        "types": Speech([good.long(), np.arange(3)]),
        "too few": Speech([good]),
        "no list": Speech(3),  # type: ignore[arg-type]
        "huge": Speech([good * 1e38, (good.double() * 1e39).numpy()]),
        "bad silence": Speech(torch.stack([good, good]), torch.tensor([True])),
    }
    return {name: summary(vars(screen(speech, 2, 3))) for name, speech in speeches.items()}


def clones() -> dict[str, Any]:
    """Return the values of cloned rules on crafted messages, malformed ones included."""
    from byzbench import registry

    inbox = torch.from_numpy(np.random.default_rng(1).standard_normal((7, 4))).float()
    seats = torch.tensor([-1, 0, -1, -1, 1, -1, -1])
    crafted = torch.from_numpy(np.random.default_rng(2).standard_normal((3, 2, 4))).float()
    crafted[1, 0, 2] = torch.nan
    crafted[2] = torch.inf
    results: dict[str, Any] = {}
    for written in ("krum", "bulyan", "trimmed_mean", "gts", "self_centered_clipping:radius=oracle"):
        rule = registry.build("aggregator", written)
        for bound, own in ((2, 3), (1, -1)):
            if own < 0 and rule.self_centred:  # type: ignore[attr-defined]
                continue
            clone = Defence(
                rule,  # type: ignore[arg-type]
                inbox,
                seats,
                bound,
                receiver=own if own >= 0 else 7,
                calls=4,
                rng=lambda: np.random.default_rng(3),
                own=own,
                weights=torch.full((7,), 1 / 7, dtype=torch.float64) if own >= 0 else None,
            )
            results[f"{written} {bound}"] = summary(clone(crafted))
            try:
                clone(crafted)
            except UndeclaredKnowledge:
                results[f"{written} {bound} again"] = "refused"
    results["cloneable"] = [
        cloneable({"gradient": registry.build("aggregator", name)}) is None for name in ("mean", "ubar")
    ]  # type: ignore[dict-item]
    return results


FUNCTIONS: Mapping[str, Callable[[], dict[str, Any]]] = {"clones": clones, "screening": screening}
