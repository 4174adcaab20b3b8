"""Federation: inboxes, graph diagnostics, messages in flight, message validation and cloned rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Aggregator, ByzantineMessages, Communication, RuleContext, RuleOutput, State
from byzbench.core.messages import validate_messages
from byzbench.errors import UndeclaredKnowledge
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread
from byzbench.federation.graph_diagnostics import expensive_diagnostics, fast_diagnostics, guaranteed
from byzbench.federation.rule_oracle import ClonedRule, cloneable
from tests.golden.cases import PEERS, SERVER, Options
from tests.golden.parts import Cases, Inputs
from tests.golden.running import described_inputs, experiment_of
from tests.golden.summaries import short, summary

EXPERIMENTS: Mapping[str, Options] = {
    "complete": {**PEERS, "byzantine": 2, "assumed_byzantine": 3},
    "relayed torus": {**PEERS, "topology": "torus", "agents": 9, "byzantine": 1, "relay": True},
    "relayed directed": {**PEERS, "topology": "erdos_renyi:p=0.8,directed=True", "byzantine": 1, "relay": True},
    "sparse": {**PEERS, "topology": "grid:columns=3", "agents": 10, "mixing": "max_degree"},
    "directed": {**PEERS, "topology": "ring:directed=True", "aggregator": "mean", "agreement": "none"},
    "star": {**SERVER, "agents": 6},
    "attached": {**PEERS, "topology": "ring", "placement": "attach:links=2", "agents": 9, "byzantine": 3},
    "away": {**PEERS, "scenario": "churn:absent='0:0-0.5'", "trajectories": 4},
    "late": {**PEERS, "channel": "delay(mean=1)+quantise(bits=3, on=both)", "trajectories": 6},
    "clone": {**PEERS, "attack": "optimal_ipm:calls=40", "aggregator": "bulyan", "byzantine": 1},
    "server clone": {**SERVER, "attack": "optimal_ipm:calls=40", "aggregator": "krum"},
    "changed rewards": {**PEERS, "attack": "reward_flip", "scenario": "reward_noise:scale=0.3"},
    "changed actions": {**PEERS, "attack": "action_flip", "scenario": "heterogeneous"},
    "changed dynamics": {**PEERS, "attack": "dynamics", "scenario": "nonstationary:physics='length=2'"},
}


def generated() -> Cases:
    """Yield a case for every experiment, and for every function."""
    for name, options in EXPERIMENTS.items():
        yield f"federation {name}", partial(described_inputs, options)
    yield from ((f"federation {name}", dict) for name in FUNCTIONS)


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the inboxes of an experiment, graph diagnostics, and three resumed exchanges; or a function's outputs."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]()
    todo = experiment_of(inputs["experiment"])
    members = todo.members
    results: dict[str, Any] = {
        "byzantine": list(members.byzantine_ids),
        "cheap": summary(fast_diagnostics(members)),
        "dear": summary(_nine(expensive_diagnostics(members))),
        "notes": len(todo.notes()),
        "inboxes": todo.inboxes,
    }
    for part in ("senders", "mask", "bounds", "mixing", "broadcasts", "hops"):
        results[part] = summary(getattr(members, part))
    results |= {
        "own": summary(members.own_columns),
        "lies": summary(members.byzantine_edges),
        "first_lies": summary(members.first_byzantine_edges),
        "others": summary(members.from_others),
    }
    for groups in (1, 2, 3):
        results[f"groups {groups}"] = summary(list(members.partition(groups)))
    if members.server is None:
        rules = {"majority": lambda n, f: n >= 2 * f + 1, "third": lambda n, f: n > 3 * f}
        results["guaranteed"] = guaranteed(members, rules)
    results["resumed"] = _resumed(todo)
    if "environment" in todo.attack.threat.surface:
        results["sampled apart"] = _sampled(todo)
    return results


def _sampled(todo: Experiment) -> Any:
    """Return episodes of some agents, then of others, as of a federation that runs agents apart."""
    federation, results = federate(todo)[0], []
    federation.begin(1, 0.7)
    (first, *_, last), honest = todo.members.byzantine_ids, int((~todo.members.byzantine).nonzero()[0])
    with one_thread():
        for agents, count in (([first, honest], 2), ([honest], 1), ([last], torch.tensor([2])), (None, 1)):
            theta = federation.theta0 if agents is None else federation.theta0[agents]
            episodes = federation.sample(theta, count, agents)
            counters = federation.counters
            counts = [episodes.count, federation.statistics.returns, counters.trajectories, counters.steps]
            results.append([summary(episodes.returns), short(episodes.rewards), *map(short, counts)])
            results.append(short(federation.draw("name", lambda rng: rng.random(), agents)))
    return results


def _nine(facts: Mapping[str, float | int | None]) -> dict[str, Any]:
    return {name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in facts.items()}


def _resumed(todo: Experiment) -> Any:
    """Return three exchanges, each in a new federation with the messages in flight and the memory of the one before."""
    in_flight: State = {}
    memory: State = {}
    results = []
    with one_thread():
        for round in range(3):
            federation, adversary = federate(todo)
            if round:
                federation.network.load_state_dict(in_flight)
                adversary.load_state_dict(memory)
            federation.begin(round, round / 3)
            x = torch.from_numpy(np.random.default_rng(round).standard_normal((todo.agents, 20))).float()
            if todo.algorithm.communication == Communication.SERVER:
                inbox = lockstep(federation.gather("gradient", x))
            else:
                inbox = lockstep(federation.exchange("gradient", x, reliable=round == 2))
            value, state = federation.aggregate(inbox, {})
            in_flight, memory = federation.network.state_dict(), adversary.state_dict()
            sent = federation.counters.by_topic()
            results.append(summary([value, inbox.mask, inbox.f, inbox.age, in_flight, memory, state, sent]))
    return results


def screening() -> dict[str, Any]:
    """Return the validated results of messages of all forms, with malformed and missing ones."""
    good, bad = torch.arange(3.0), torch.tensor([1.0, torch.nan, 2.0])
    cases = {
        "vectors": ByzantineMessages(torch.stack([good, 2 * good])),
        "double": ByzantineMessages(torch.stack([good, -good]).double()),
        "not finite": ByzantineMessages(torch.stack([good, bad])),
        "silent": ByzantineMessages(torch.stack([good, bad]), torch.tensor([False, True])),
        "list": ByzantineMessages([good, good.numpy()]),
        "wrong types": ByzantineMessages(["hello", None]),
        "shapes": ByzantineMessages([good[:2], good.unsqueeze(0)]),
        "types": ByzantineMessages([good.long(), np.arange(3)]),
        "too few": ByzantineMessages([good]),
        "no list": ByzantineMessages(3),  # type: ignore[arg-type]
        "huge": ByzantineMessages([good * 1e38, (good.double() * 1e39).numpy()]),
        "bad silence": ByzantineMessages(torch.stack([good, good]), torch.tensor([True])),
    }
    return {name: summary(vars(validate_messages(messages, 2, 3))) for name, messages in cases.items()}


@dataclass(frozen=True)
class SumOfInputs(Aggregator):
    """A rule whose value depends on all that it is given."""

    required_inputs: ClassVar[frozenset[str]] = frozenset({"honest"})

    def defined(self, n: int, f: int) -> bool:
        return n >= 2 * f + 3

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        assert context.honest is not None
        assert context.own is not None
        assert context.rng is not None
        value = (x * context.mask_of(x).unsqueeze(-1)).sum(-2) + f.unsqueeze(-1)
        value += (x * context.honest.unsqueeze(-1)).sum(-2) / 2 + 0.1 * context.own.unsqueeze(-1)
        value += float(context.rng.random()) + context.state["offset"]
        if context.weights is not None:
            value += (context.weights.unsqueeze(-1) * x).sum(-2)
        return RuleOutput(value, None, {})


@dataclass(frozen=True)
class EvaluatingRule(SumOfInputs):
    """A rule that evaluates policies."""

    required_inputs: ClassVar[frozenset[str]] = frozenset({"evaluator"})


def cloned_rule() -> dict[str, Any]:
    """Return the values of a cloned rule on crafted messages, malformed ones included."""
    inbox = torch.from_numpy(np.random.default_rng(1).standard_normal((7, 4))).float()
    byzantine_index = torch.tensor([-1, 0, -1, -1, 1, -1, -1])
    crafted = torch.from_numpy(np.random.default_rng(2).standard_normal((5, 2, 4))).float()
    crafted[1, 0, 2] = torch.nan
    crafted[2] = torch.inf
    results: dict[str, Any] = {}
    for bound, own in ((1, 3), (2, 3), (3, 3), (2, -1), (3, -1)):
        clone = ClonedRule(
            SumOfInputs(),
            inbox,
            byzantine_index,
            bound,
            receiver=own if own >= 0 else 7,
            calls=12,
            rng=lambda: np.random.default_rng(3),
            own=own,
            weights=torch.linspace(0, 1, 7) if own >= 0 else None,
            state={"offset": torch.arange(4.0)},
        )
        values = [clone(crafted), clone(crafted[3:]), clone(crafted.reshape(5, 1, 2, 4))]
        results[f"bound {bound}, own {own}"] = summary([*values, clone.receiver, clone.calls])
        try:
            clone(crafted)
        except UndeclaredKnowledge:
            results[f"bound {bound}, own {own}, once more"] = "refused"
    rules = {"sum": SumOfInputs(), "judging": EvaluatingRule()}
    results["cloneable"] = {name: cloneable({"gradient": rule}) is None for name, rule in rules.items()}
    return results


FUNCTIONS: Mapping[str, Callable[[], dict[str, Any]]] = {"cloned rule": cloned_rule, "screening": screening}
