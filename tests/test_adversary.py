"""Knowledge of adversaries, and attacks that need much: a clone of the rule, the graph, the history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

import byzbench
from byzbench.aggregators.krum import Krum
from byzbench.aggregators.mda import Mda
from byzbench.aggregators.mean import Mean
from byzbench.aggregators.median import Median
from byzbench.aggregators.rfa import Rfa
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.attacks.dissensus import Dissensus
from byzbench.attacks.isolation import Isolation
from byzbench.attacks.mda_fooling import MdaFooling
from byzbench.attacks.normalized import Normalized
from byzbench.attacks.rop import Rop
from byzbench.attacks.selfish import Selfish
from byzbench.attacks.spectral_heterogeneity import SpectralHeterogeneity, _slowest
from byzbench.attacks.weight_search import WeightSearch
from byzbench.coins.biased import BiasedCoin
from byzbench.coins.shared import SharedCoin
from byzbench.coins.split import SplitCoin
from byzbench.core import Aggregator, Attack, ByzantineMessages, EnvHooks, MessageAttack, Setting, State, ThreatModel
from byzbench.core.context import AttackContext
from byzbench.core.oracle_attack import maximise
from byzbench.errors import BrokenPlugin, InvalidParameter, UndeclaredKnowledge, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.adversary import Adversary
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.federation import SimulatedFederation
from byzbench.federation.rule_oracle import ClonedRule
from byzbench.randomness import Streams
from byzbench.registry import make, name_of
from byzbench.testing.attacks import CHECKS, GameCase

D = 386


@dataclass(frozen=True)
class Probe(MessageAttack):
    """Calls a function with its context and sends what it returns; the honest vectors if that is None."""

    act: Callable[[AttackContext], Tensor | None] = lambda context: None
    sees: frozenset[Any] = frozenset({"byzantine"})
    equivocates: bool = False
    calls: int = 0

    def __post_init__(self) -> None:
        """Nothing to validate."""

    @property
    def threat(self) -> ThreatModel:
        surface: frozenset[Any] = frozenset({"messages", "environment"})
        return ThreatModel(self.sees, surface, self.equivocates, self.calls)

    def targets(self, topic: str) -> bool:
        return True

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        crafted = self.act(context)
        return ByzantineMessages(context.byzantine if crafted is None else crafted), memory

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        self.act(context)
        return EnvHooks(), memory


def set_up(
    attack: Any = "none", *, members: CommunicationGraph | None = None, algo: str = "decbyzpg", **options: Any
) -> tuple[SimulatedFederation, Adversary, Experiment]:
    """Return a federation of 7 agents, 2 of them Byzantine, before its first round."""
    todo = Experiment.create(algo, "none", **{"agents": 7, "byzantine": 2, **options})
    todo = replace(todo, attack=make("attack", attack))  # type: ignore[arg-type]
    if members is not None:
        todo.__dict__["members"] = members
    federation, adversary = federate(todo)
    federation.begin(0, 0.0)
    return federation, adversary, todo


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def rng(seed: int = 0) -> np.random.Generator:
    return Streams(seed).generator("attack")


def context_of(attack: Attack, **secrets: Any) -> AttackContext:
    """Return a context with given secrets, of which the attack can read what it declares."""
    rows = len(secrets["honest"]), len(secrets["byzantine"])
    facts = {"round": 3, "num_agents": sum(rows), "num_byzantine": rows[1], "topic": "gradient", "task": None}
    return AttackContext(attack.threat, facts, secrets)


def crafted_by(attack: Attack, **secrets: Any) -> Tensor:
    """Return the one vector that all Byzantine agents send."""
    crafted = torch.as_tensor(attack.craft_messages(context_of(attack, **secrets), {}, rng())[0].vectors)  # type: ignore[arg-type]
    assert (crafted == crafted[0]).all()
    return crafted[0]


def clone(rule: Aggregator, honest: Tensor, attackers: int, calls: int = 10_000) -> ClonedRule:
    """Return the rule at a server that assumes the true f."""
    h = len(honest)
    byzantine_index = torch.cat([torch.full((h,), -1), torch.arange(attackers)])
    inbox = torch.cat([honest, honest[:1].expand(attackers, -1)])
    return ClonedRule(rule, inbox, byzantine_index, attackers, receiver=h + attackers, calls=calls, rng=rng)


# What a view shows.

EVERYTHING = {
    "own": {"own"},
    "byzantine": {"byzantine"},
    "honest": {"honest"},
    "graph": {"graph", "byzantine_ids", "honest_ids", "mixing"},
    "coin": {"coin"},
    "history": {"history"},
    "policy": {"policy", "theta"},
    "rollouts": {"rollouts"},
    "rule": {"rule", "byzantine"},
}
SECRETS = set().union(*EVERYTHING.values()) | {"edges"}


@pytest.mark.parametrize("knowledge", EVERYTHING)
@pytest.mark.parametrize("equivocates", [False, True])
def test_a_view_shows_what_is_declared_and_nothing_else(knowledge: str, equivocates: bool) -> None:
    shown = EVERYTHING[knowledge] | ({"edges"} if equivocates else set())
    sees = frozenset({knowledge} | ({"byzantine"} if knowledge == "rule" else set()))
    topics = []

    def look(context: AttackContext) -> None:
        for name in SECRETS:
            if name in shown:
                getattr(context, name)
            else:
                with pytest.raises(UndeclaredKnowledge, match=f"context.{name}; its threat declares"):
                    getattr(context, name)
        topics.append(context.topic)

    class Looks(Probe):
        def craft_messages(
            self, context: AttackContext, memory: State, rng: np.random.Generator
        ) -> tuple[ByzantineMessages, State]:
            look(context)
            rows = len(context.edges) if equivocates else 2 if "byzantine" in sees else 1
            return ByzantineMessages(torch.zeros(rows, D)), memory

    attack = Looks(sees=sees, equivocates=equivocates, calls=1)
    federation, _, _ = set_up(attack)
    lockstep(federation.exchange("gradient", federation.theta0))
    lockstep(federation.exchange("parameters", federation.theta0))
    assert set(topics) == {"gradient", "parameters"}


def test_outside_an_exchange_there_is_no_vector_to_see() -> None:
    known = frozenset({"byzantine", "honest", "history", "rule", "rollouts", "graph", "coin"})
    federation, adversary, _ = set_up(Probe(sees=known, calls=1))
    observed = []

    def look(context: AttackContext) -> None:
        assert (len(context.byzantine_ids), len(context.honest_ids), context.coin) == (2, 5, None)
        for name in ("byzantine", "honest", "history", "rule", "rollouts"):
            with pytest.raises(UndeclaredKnowledge):
                getattr(context, name)
        observed.append(context.num_episodes)

    federation._adversary = Adversary(
        Probe(look, known, calls=1), adversary._members, adversary._task, federation.policy, Streams(0)
    )
    federation._adversary.make_hooks([0], 5, 1, federation.theta0[:1])
    assert observed == [5]


def test_a_clone_needs_the_messages_of_all_byzantine_agents() -> None:
    with pytest.raises(BrokenPlugin, match="byzantine"):
        ThreatModel(knowledge=frozenset({"rule"}))


def test_what_is_seen_is_a_copy() -> None:
    known = frozenset({"own", "byzantine", "honest", "history", "graph", "coin", "rule"})
    looks: list[dict[str, Any]] = []

    def vandalise(context: AttackContext) -> None:
        looks.append(
            {
                "mixing": context.mixing.clone(),
                "honest": context.honest.clone(),
                "edges": set(map(tuple, context.graph.edges)),
                "coin": None if context.coin is None else context.coin.clone(),
                "history": None if context.history is None else context.history.clone(),
                "value": context.rule(torch.zeros(2, D)),
            }
        )
        for part in (
            context.mixing,
            context.honest,
            context.own,
            context.byzantine_ids,
            context.honest_ids,
            context.coin,
            context.history,
        ):
            if part is not None:
                part.zero_()
        context.graph.remove_node(0)
        context.graph.graph["server"] = 3

    class Vandal(Probe):
        def hook_environment(
            self, context: AttackContext, memory: State, rng: np.random.Generator
        ) -> tuple[EnvHooks, State]:
            return EnvHooks(), memory

        def craft_messages(
            self, context: AttackContext, memory: State, rng: np.random.Generator
        ) -> tuple[ByzantineMessages, State]:
            vandalise(context)
            return ByzantineMessages(torch.zeros(2, D)), memory

    federation, _, todo = set_up(Vandal(sees=known, calls=3), aggregator="centered_clipping", topology="ring")
    x, before = draw(7, D).float(), nx.Graph(todo.members.graph)
    lockstep(federation.common("coin", lambda rng: 1.0))
    for _ in range(3):
        inbox = lockstep(federation.exchange("gradient", x.clone()))
        honest = [a for a in range(7) if a not in todo.members.byzantine_ids]
        assert torch.equal(inbox.base[honest], x[honest])
        federation.aggregate(inbox, {})
    assert nx.utils.graphs_equal(before, todo.members.graph)
    assert todo.members.server is None
    for name in ("mixing", "honest", "coin"):
        assert torch.equal(looks[0][name], looks[1][name]), name
    assert torch.equal(looks[1]["history"], looks[2]["history"])
    assert torch.equal(looks[1]["value"], looks[2]["value"])
    assert looks[0]["edges"] == looks[1]["edges"] == set(before.edges)


def test_the_coin_is_this_rounds_and_the_attackers_own() -> None:
    tossed: list[Tensor | None] = []
    federation, _, todo = set_up(Probe(lambda context: tossed.append(context.coin), frozenset({"byzantine", "coin"})))
    federation._coin = SplitCoin()
    attackers = list(todo.members.byzantine_ids)
    for round in range(4):
        federation.begin(round, 0.0)
        federation.sample(federation.theta0, 1)
        assert tossed.pop() is None
        values = lockstep(federation.common("coin", lambda rng: float(rng.random())))
        federation.sample(federation.theta0, 1)
        lockstep(federation.exchange("gradient", federation.theta0))
        assert all(torch.equal(coin, values[attackers]) for coin in tossed if coin is not None)
        assert len(tossed) == 2
        tossed.clear()


@pytest.mark.parametrize("topology", ["complete", "ring"])
def test_history_is_what_the_rule_made_of_the_last_exchange_at_the_attackers(topology: str) -> None:
    past: list[Tensor | None] = []
    probe = Probe(lambda context: past.append(context.history), frozenset({"byzantine", "history"}))
    federation, adversary, todo = set_up(probe, topology=topology, aggregator="median")
    attackers = list(todo.members.byzantine_ids)
    made: dict[str, list[Tensor]] = {"gradient": [], "parameters": []}
    for turn in range(3):
        for topic in made:
            inbox = lockstep(federation.exchange(topic, draw(7, D, seed=turn).float()))
            rule = todo.aggregator if topic == "gradient" else Mean()
            value = federation.aggregate(inbox, {})[0] if topic == "gradient" else federation.combine(rule, inbox)[0]
            observed = past.pop()
            assert (observed is None) == (turn == 0)
            assert observed is None or torch.equal(observed, made[topic][-1])
            made[topic].append(value[attackers])
        adversary.load_state_dict(load(save(adversary.state_dict())))
    assert set(adversary.state_dict()) == {"seen.history.gradient", "seen.history.parameters"}


def test_every_agent_receives_from_the_server() -> None:
    past: list[Tensor | None] = []
    probe = Probe(lambda context: past.append(context.history), frozenset({"byzantine", "history"}))
    federation, _, _ = set_up(probe, algo="byzpg", aggregator="median")
    for turn in range(2):
        inbox = lockstep(federation.gather("gradient", draw(7, D, seed=turn).float()))
        value, _ = federation.aggregate(inbox, {})
    federation._adversary.record_aggregation(
        "gradient", replace(federation.statistics.aggregation, value=value * torch.nan)
    )  # type: ignore[type-var, arg-type]
    lockstep(federation.gather("gradient", draw(7, D).float()))
    assert past[0] is None
    assert past[2] is not None
    assert torch.equal(past[2], value.expand(2, -1))


# The clone.

RULES = [
    ("decbyzpg", {"aggregator": "trimmed_mean"}),
    ("decbyzpg", {"aggregator": "krum", "topology": "random_regular(degree=4)", "agents": 9}),
    ("decbyzpg", {"aggregator": "centered_clipping(radius=3)"}),
    ("decbyzpg", {"aggregator": "centered_clipping(radius=3)", "topology": "ring"}),
    ("decbyzpg", {"aggregator": "monna", "topology": "ring"}),
    ("decbyzpg", {"aggregator": "ios", "topology": "ring"}),
    ("decbyzpg", {"aggregator": "self_centered_clipping(radius=oracle)", "topology": "random_regular", "agents": 9}),
    ("decbyzpg", {"aggregator": "nnm+rfa"}),
    ("byzpg", {"aggregator": "trimmed_mean"}),
    ("byzpg", {"aggregator": "centered_clipping(radius=3)"}),
    ("byzpg", {"aggregator": "krum"}),
]


def test_cloned(algo: str, options: dict[str, Any], bad: bool) -> None:
    """The clone predicts the output for the messages that are then sent, whatever it was queried with before."""
    foreseen: list[tuple[int, Tensor]] = []

    def act(context: AttackContext) -> Tensor:
        crafted_messages = 3 * draw(2, D, seed=context.round).float()
        if bad and context.round == 2:
            crafted_messages[0, 0] = torch.inf
        batch = torch.stack([crafted_messages, draw(2, D, seed=99).float()])
        value = context.rule(batch)
        torch.testing.assert_close(value[0], context.rule(crafted_messages), rtol=1e-6, atol=1e-6)
        foreseen.append((context.rule.receiver, value[0]))
        return crafted_messages

    probe = Probe(act, frozenset({"byzantine", "rule"}), calls=3)
    federation, adversary, todo = set_up(probe, algo=algo, **options)
    agents, attackers = todo.agents, set(todo.members.byzantine_ids)
    state: State = {}
    for round in range(4):
        federation.begin(round, 0.0)
        x = draw(agents, D, seed=100 + round).float()
        meet = federation.gather if algo == "byzpg" else federation.exchange
        value, state = federation.aggregate(lockstep(meet("gradient", x)), state)
        receiver, expected = foreseen.pop()
        assert receiver not in attackers
        assert (receiver == agents) == (algo == "byzpg")
        torch.testing.assert_close(value[0 if algo == "byzpg" else receiver], expected, rtol=1e-5, atol=1e-5)
        adversary.load_state_dict(load(save(adversary.state_dict())))


test_cloned = pytest.mark.parametrize("algo, options", RULES)(  # type: ignore[assignment]
    pytest.mark.parametrize("bad", [False, True])(test_cloned)
)


def test_the_clone_of_an_agreement_meets_its_rule() -> None:
    foreseen = []

    def act(context: AttackContext) -> Tensor:
        crafted_messages = draw(2, D, seed=7).float()
        foreseen.append(context.rule(crafted_messages))
        return crafted_messages

    probe = Probe(act, frozenset({"byzantine", "rule"}), calls=1)
    federation, adversary, _ = set_up(probe, agreement="mda", aggregator="mean")
    inbox = lockstep(federation.exchange("parameters", draw(7, D).float()))
    value, _ = federation.combine(Mda(), inbox)
    torch.testing.assert_close(value[adversary._victim], foreseen[0])
    assert not torch.allclose(inbox.base.mean(0), foreseen[0])


def test_the_clone_mixes_with_the_graphs_weights() -> None:
    """On agents of different degrees, where weights distinguish neighbours."""
    graph, foreseen = nx.lollipop_graph(4, 3), []

    def act(context: AttackContext) -> Tensor:
        crafted_messages = draw(1, D, seed=7).float()
        foreseen.append((context.rule.receiver, context.rule(crafted_messages)))
        return crafted_messages

    probe = Probe(act, frozenset({"byzantine", "rule"}), calls=1)
    federation, _, _ = set_up(probe, members=CommunicationGraph(graph, 7, (3,), 1), byzantine=1, aggregator="ios")
    value, _ = federation.aggregate(lockstep(federation.exchange("gradient", draw(7, D).float())), {})
    receiver, expected = foreseen[0]
    assert receiver == 0
    torch.testing.assert_close(value[receiver], expected)


def test_the_clone_is_at_the_receiver_with_most_byzantine_neighbours() -> None:
    graph = nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (3, 5)])
    _, adversary, _ = set_up(members=CommunicationGraph(graph, 6, (2, 4), 2), agents=6)
    assert adversary._victim == 3
    assert set_up(members=CommunicationGraph(nx.cycle_graph(6), 6, (0, 3), 2), agents=6)[1]._victim == 1


def test_a_random_rules_clone_has_draws_of_its_own() -> None:
    foreseen: list[Tensor] = []

    def act(context: AttackContext) -> Tensor:
        crafted_messages = 9 * draw(2, D, seed=7).float()
        foreseen.extend([context.rule(crafted_messages), context.rule(crafted_messages)])
        return crafted_messages

    probe = Probe(act, frozenset({"byzantine", "rule"}), calls=2)
    federation, _, _ = set_up(probe, aggregator="bucketing+median", agents=13, byzantine=2)
    same = 0
    for round in range(6):
        federation.begin(round, 0.0)
        value, _ = federation.aggregate(lockstep(federation.exchange("gradient", draw(13, D).float())), {})
        first, second = foreseen
        foreseen.clear()
        assert torch.equal(first, second)
        same += torch.allclose(value[0], first)
    assert same < 6


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_the_budget_of_calls(shape: tuple[int, ...]) -> None:
    tries = int(np.prod(shape))

    def act(context: AttackContext) -> None:
        assert context.rule(draw(*shape, 2, D)).shape == (*shape, D)
        for _ in range(4 - tries):
            context.rule(draw(2, D))
        with pytest.raises(UndeclaredKnowledge, match="calls=4 an exchange"):
            context.rule(draw(2, D))

    probe = Probe(act, frozenset({"byzantine", "rule"}), calls=4)
    federation, _, _ = set_up(probe)
    for _ in range(2):  # the budget is renewed
        lockstep(federation.exchange("gradient", federation.theta0))


def test_an_undefined_rule_is_foreseen_too() -> None:
    """Krum is for three vectors or more: of the third, one try is heard and one is no vector."""
    x, message = draw(2, 4), draw(1, 4, seed=1)
    tries = torch.stack([torch.full((1, 4), torch.nan), message])
    for own, returned in ((1, x[1]), (-1, x[1] * torch.nan)):
        byzantine_index = torch.tensor([-1, -1, 0])
        defence = ClonedRule(Krum(), torch.cat([x, message]), byzantine_index, 0, receiver=0, calls=2, rng=rng, own=own)
        first, second = defence(tries)
        torch.testing.assert_close(first, returned, equal_nan=True)
        assert torch.equal(second, Krum()(torch.cat([x, message]))[0])


def test_a_rule_that_tries_policies_out_cannot_be_cloned() -> None:
    options = {"agreement": "gossip+ubar", "agents": 7}
    with pytest.raises(Undefined, match=r"'optimal_ipm' needs a clone .* Ubar, the rule for the topic parameters"):
        Experiment.create("decbyzpg", "optimal_ipm(on=both)", **options)
    Experiment.create("decbyzpg", "optimal_ipm", **options)
    Experiment.create("decbyzpg", "ipm(on=both)", **options)


# The search.


def counted(gain: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], list[float]]:
    tried: list[float] = []

    def count(t: Tensor) -> Tensor:
        tried.extend(t.tolist())
        return gain(t)

    return count, tried


@pytest.mark.parametrize("calls", [40, 41, 57, 120, 1000])
@pytest.mark.parametrize("both", [False, True])
def test_the_search_uses_its_budget_and_no_more(calls: int, both: bool) -> None:
    gain, tried = counted(lambda t: -(t - 0.37).abs())
    best, worth = maximise(gain, calls, both)
    assert len(tried) == calls
    assert best in tried
    assert worth == pytest.approx(-abs(best - 0.37))
    assert both or min(tried) >= 0


@pytest.mark.parametrize("peak", [0.02, 0.37, 3.7, 80, -0.02, -0.37, -3.7, -80])
def test_the_search_finds_a_peak_on_either_side(peak: float) -> None:
    best, worth = maximise(lambda t: 1 - (t / peak - 1).abs(), 120)
    assert worth > 0.999
    assert best == pytest.approx(peak, rel=1e-3)


def test_the_search_finds_the_edge_of_a_cliff_and_passes_over_nothing() -> None:
    assert maximise(lambda t: t.where(t < 2.345, 0.0), 120)[0] == pytest.approx(2.345, abs=1e-3)
    assert maximise(lambda t: (-t).where(t > -1.15, torch.nan), 120)[0] == pytest.approx(-1.15, abs=1e-3)
    # Of what is worth the same, the smallest: noise in the last digits decides nothing.
    flat = maximise(lambda t: t.abs().clamp(max=1) * (1 + 1e-9 * torch.sin(1e6 * t)), 120)[0]
    assert 1 - 1e-5 < abs(flat) < 1.5


def test_the_search_climbs_as_byzfl_does() -> None:
    gain, tried = counted(lambda t: -(t - 65).abs())
    maximise(gain, 40)
    # 0, 10, 30 and 70 are each better than the one before; 150 is not, and the step of 80 shrinks by a fifth each time.
    assert tried[:5] == [0, 10, 30, 70, 150]
    expected = [70 + 80 * 0.8**k for k in range(1, 16)]
    assert tried[5:20] == pytest.approx(expected)


def byzfl(damage: Callable[[float], float]) -> float:
    """The damage that ByzFL's search reaches: 20 evaluations, start 0, delta 10, ratio 0.8."""
    best, reached, delta, left = 0.0, damage(0.0), 10.0, 19
    while left:
        trial, left = damage(best + delta), left - 1
        if trial <= reached:
            delta *= 0.8
            break
        best, reached, delta = best + delta, trial, 2 * delta
    for _ in range(left):
        trial = damage(best + delta)
        if trial > reached:
            best, reached = best + delta, trial
        delta *= 0.8
    return reached


@pytest.mark.parametrize("rule", [Mean(), Median(), TrimmedMean(), Krum()], ids=name_of)
@pytest.mark.parametrize("inputs", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_tailored_attacks_do_at_least_the_damage_of_byzfls(rule: Aggregator, inputs: int) -> None:
    better = 0
    for seed in range(inputs):
        noise = np.random.default_rng(seed)
        honest = torch.from_numpy(noise.standard_t(3, (8, 4)) + noise.standard_normal(4))
        mean, std = honest.mean(0), honest.std(0)

        def damage(message: Tensor, honest: Tensor = honest, mean: Tensor = mean) -> float:
            return float((rule(torch.cat([honest, message.expand(3, -1)]), 3)[0] - mean).norm())

        theirs = {
            "optimal_alie": byzfl(lambda t, m=mean, s=std, d=damage: d(m + t * s)),
            "optimal_ipm": byzfl(lambda t, m=mean, d=damage: d(-t * m)),
        }
        theirs["agr_tailored"] = max(theirs.values())
        for name, bound in theirs.items():
            attack: Any = make("attack", name)
            defence = clone(rule, honest, 3, attack.threat.query_budget)
            ours = damage(crafted_by(attack, honest=honest, byzantine=honest[:3], rule=defence))
            assert ours >= bound * (1 - 2e-6), (name, seed)
            better += ours > 1.01 * bound
    assert (better > 0) == (not isinstance(rule, Mean))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [Median(), TrimmedMean(), Krum()], ids=name_of)
def test_the_tailored_damage_is_near_that_of_a_dense_grid(rule: Aggregator) -> None:
    short = []
    for seed in range(10):
        honest = draw(8, 4, seed=seed) + 0.3
        mean, std = honest.mean(0), honest.std(0)
        defence = clone(rule, honest, 3, 10**6)
        crafted_messages = mean + torch.linspace(-20, 20, 8001, dtype=torch.float64).unsqueeze(1) * std
        most = float((defence(crafted_messages.unsqueeze(1).expand(-1, 3, -1)) - mean).norm(dim=1).max())
        attack: Any = make("attack", "optimal_alie")
        message = crafted_by(attack, honest=honest, byzantine=honest[:3], rule=defence)
        short.append(float((defence(message.expand(3, -1)) - mean).norm()) / most)
    assert min(short) > 0.98


@pytest.mark.parametrize(
    "rule", [Krum(), *(pytest.param(rule, marks=pytest.mark.slow) for rule in (Mda(), Rfa()))], ids=name_of
)
def test_a_search_of_weights_goes_beyond_the_lines(rule: Aggregator) -> None:
    """It begins where `agr_tailored` ends with half of the calls; with as many, it does better more often than not."""
    gains = []
    for seed in range(4):
        honest = draw(10, 30, seed=seed) + draw(30, seed=100 + seed)
        damage = {}
        for written in ("agr_tailored(calls=120)", "agr_tailored(calls=240)", "weight_search(calls=240)"):
            attack: Any = make("attack", written)
            defence = clone(rule, honest, 3, attack.calls)
            message = crafted_by(attack, honest=honest, byzantine=honest[:3], rule=defence)
            damage[written] = float((clone(rule, honest, 3)(message.expand(3, -1)) - honest.mean(0)).norm())
        half, lines, full = damage.values()
        assert full >= half * (1 - 1e-9)
        gains.append(full / lines)
    assert np.mean(gains) > 1.01


def test_a_search_of_weights_among_many_agents_tries_some() -> None:
    """Of 150 honest vectors each with two signs, 120 calls are for 60; the budget is kept to the last."""
    honest, attack = draw(150, 5), WeightSearch(calls=241)
    defence = clone(Mean(), honest, 3, attack.calls)
    message = crafted_by(attack, honest=honest, byzantine=honest[:3], rule=defence)
    assert message.isfinite().all()
    assert defence._left <= 1


def test_agr_tailored_by_hand() -> None:
    """Of -1, 1, 1, 3 and one attacker the median is 1; between -1 and 3 the attacker can move the trimmed mean."""
    honest = torch.tensor([[-1.0], [1.0], [1.0], [3.0]], dtype=torch.float64)
    attack: Any = make("attack", "agr_tailored(direction=std)")
    for rule, damage in ((Median(), 0.0), (TrimmedMean(), 2 / 3)):
        defence = clone(rule, honest, 1)
        message = crafted_by(attack, honest=honest, byzantine=honest[:1], rule=defence)
        # The trimmed mean of -1, 1, 1, 3, m keeps the middle three: 1, 1 and m clipped to [-1, 3].
        assert float((defence(message.expand(1, -1)) - 1).abs()) == pytest.approx(damage, abs=1e-6)


def test_the_normalized_attack_turns_what_can_be_turned() -> None:
    honest = draw(8, 5) + 2
    secrets = {"honest": honest, "byzantine": honest[:3]}
    for direction, rule, least in (("unit", Mean(), 1.99), ("sign", Mean(), 1.99), ("std", TrimmedMean(), 0.1)):
        attack = Normalized(direction=direction)  # type: ignore[arg-type]
        defence = clone(rule, honest, 3, attack.calls)
        message = crafted_by(attack, **secrets, rule=defence)
        free = clone(rule, honest, 3)
        before, after = free(honest[:3]), free(message.expand(3, -1))
        assert float((before / before.norm() - after / after.norm()).norm()) > least


def test_the_normalized_attack_does_not_mind_the_scale() -> None:
    honest = draw(8, 5) + 1
    crafted_messages = []
    for scale in (1.0, 1024.0):
        x = scale * honest
        crafted_messages.append(
            crafted_by(Normalized(), honest=x, byzantine=x[:3], rule=clone(TrimmedMean(), x, 3)) / scale
        )
    torch.testing.assert_close(crafted_messages[0], crafted_messages[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("direction", ["std", "unit", "sign"])
def test_mda_takes_all_the_foolers_in_and_not_one_step_farther(direction: Any) -> None:
    attack = MdaFooling(direction=direction)
    for seed in range(30):
        honest = draw(10, 6, seed=seed)
        message = crafted_by(attack, honest=honest, byzantine=honest[:3])
        chosen = Mda()(torch.cat([honest, message.expand(3, -1)]), 3)[1]
        assert chosen is not None
        assert (chosen[-3:] > 0).all()
        subset = chosen[:-3] > 0
        centre = honest[subset].mean(0)
        diameter = torch.cdist(honest[subset], honest[subset]).max()
        low, high = 0.0, 4 * float(diameter)
        for _ in range(60):
            middle = (low + high) / 2
            far = (centre + middle * (message - centre) / (message - centre).norm() - honest[subset]).norm(dim=1).max()
            low, high = (middle, high) if far <= diameter else (low, middle)
        assert float((message - centre).norm()) == pytest.approx(low, rel=2e-6)
        beyond = centre + 1.001 * (message - centre)
        assert (torch.cat([honest[subset], beyond[None]]) - beyond).norm(dim=1).max() > diameter


def test_mda_fooling_needs_an_honest_pair() -> None:
    MdaFooling().check(Setting(8, 3))
    with pytest.raises(Undefined, match="K >= 2f"):
        MdaFooling().check(Setting(7, 3))


def test_rop_stands_where_the_rule_was_at_a_right_angle_to_where_it_goes() -> None:
    honest, past = draw(8, 50) + 1, draw(2, 50, seed=1) - 3
    mean, last = honest.mean(0), past.mean(0)
    spread = (honest - mean).square().sum(1).mean().sqrt()
    secrets = {"honest": honest, "byzantine": honest[:2], "history": past}
    push = crafted_by(Rop(z=0.5), **secrets) - last
    ahead = 0.9 * last + 0.1 * mean
    assert float(push.norm()) == pytest.approx(0.5 * float(spread))
    assert float(push @ ahead) == pytest.approx(0, abs=1e-9)
    ones = torch.ones(50, dtype=torch.float64)
    torch.testing.assert_close(
        push / push.norm(), torch.nn.functional.normalize(ones - (ones @ ahead) / (ahead @ ahead) * ahead, dim=0)
    )
    back = crafted_by(Rop(pi=0.0, lam=0.0, angle=180.0), **secrets) - mean
    torch.testing.assert_close(back, -spread * mean / mean.norm())
    first = crafted_by(Rop(lam=0.3), **{**secrets, "history": None})
    assert float((first - mean) @ mean) == pytest.approx(0, abs=1e-9)


# The graph.

GRAPHS = {
    "complete": (nx.complete_graph(6), (1, 4)),
    "cycle": (nx.cycle_graph(6), (0, 2)),
    "star": (nx.star_graph(5), (0, 3)),
    "lollipop": (nx.lollipop_graph(4, 3), (3, 5)),
    "random": (nx.gnp_random_graph(12, 0.4, seed=3), (2, 7, 9)),
}


def gossiped(
    attack: Attack, graph: nx.Graph, attackers: tuple[int, ...], *, uniform: bool = False
) -> tuple[Tensor, Tensor, CommunicationGraph]:
    """Honest vectors that hear an attacker, before and after a plain gossip step, in a real federation."""
    members = CommunicationGraph(graph, len(graph), attackers, 1)
    federation, _, _ = set_up(attack, members=members, agents=len(graph), byzantine=len(attackers), agreement="mean")
    x = draw(len(graph), D).float()
    inbox = lockstep(federation.exchange("parameters", x))
    weights = inbox.mask.double() / inbox.n.unsqueeze(1) if uniform else inbox.weights
    assert weights is not None
    after = (weights.unsqueeze(1) @ inbox.base[inbox.senders].double()).squeeze(1)
    touched = [a for a in range(len(graph)) if a not in attackers and set(graph[a]) & set(attackers)]
    assert touched
    return x[touched].double(), after[touched], members


@pytest.mark.parametrize("name", GRAPHS)
def test_dissensus_leaves_each_victim_with_its_own_vector(name: str) -> None:
    graph, attackers = GRAPHS[name]
    for attack in (Dissensus(), Isolation()):
        before, after, _ = gossiped(attack, graph, attackers)
        torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    before, after, _ = gossiped(Isolation(weights="uniform"), graph, attackers, uniform=True)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    honest_before, honest_after, _ = gossiped(make("attack", "none"), graph, attackers)  # type: ignore[arg-type]
    assert not torch.allclose(honest_after, honest_before, atol=1e-2)


def test_dissensus_repels() -> None:
    """With epsilon = 2 a victim moves away from its honest neighbours by its step towards them."""
    graph, attackers = GRAPHS["complete"]
    before, after, _ = gossiped(Dissensus(epsilon=2.0), graph, attackers)
    between = torch.full((4, 4), 1 / 6, dtype=torch.float64)
    pull = between @ before - between.sum(1, keepdim=True) * before
    torch.testing.assert_close(after, before - pull, rtol=0, atol=1e-5)


def test_freeze_leads_the_others_away_once_its_victim_stops() -> None:
    """It tells the victim, agent 1 of an attacker 0, to join the others, and the others to come or to go."""
    members = CommunicationGraph(nx.complete_graph(4), 4, (0,), 1)
    federation, _, _ = set_up(make("attack", "freeze"), members=members, agents=4, byzantine=1)  # type: ignore[arg-type]
    x, messages = torch.tensor([[0.0], [9.0], [1.0], [1.0]]).expand(4, D), []
    for moved in (0.0, 1.0, 0.0):
        x = x + moved * torch.tensor([[0.0], [1.0], [0.0], [0.0]])
        inbox = lockstep(federation.exchange("parameters", x))
        messages.append(inbox.base[inbox.senders[1:, 0]][:, 0])
    expected = torch.tensor([[1.0, 8.992, 8.992], [1.0, 9.991, 9.991], [1.0, -7.991, -7.991]])
    torch.testing.assert_close(torch.stack(messages), expected)


@pytest.mark.parametrize(
    "attack", [Dissensus(on="gradient"), SpectralHeterogeneity(on="gradient"), Selfish(on="gradient")], ids=name_of
)
def test_a_server_and_other_byzantine_agents_receive_honest_vectors(attack: Attack) -> None:
    federation, _, _ = set_up(attack, algo="byzpg")
    x = draw(7, D).float()
    assert torch.equal(lockstep(federation.gather("gradient", x)).base, x)
    federation, _, todo = set_up(attack)
    inbox = lockstep(federation.exchange("gradient", x))
    first, second = todo.members.byzantine_ids
    assert torch.equal(inbox.base[inbox.senders[first, second]], x[second])
    honest = next(a for a in range(7) if a not in todo.members.byzantine_ids)
    assert not torch.equal(inbox.base[inbox.senders[honest, second]], x[second])


def test_the_slowest_mode_is_the_fiedler_vector() -> None:
    graph = nx.barbell_graph(4, 1)
    graph.add_edges_from([(9, a) for a in range(9)])
    members = CommunicationGraph(graph, 10, (9,), 1)
    modes: list[Tensor] = []
    probe = Probe(lambda context: modes.append(_slowest(context)), frozenset({"byzantine", "graph"}))
    federation, _, _ = set_up(probe, members=members, agents=10, byzantine=1)
    lockstep(federation.exchange("gradient", federation.theta0))
    joined = nx.to_numpy_array(nx.barbell_graph(4, 1), nodelist=range(9))
    values, vectors = np.linalg.eigh(np.diag(joined.sum(0)) - joined)
    assert abs(values[0]) < 1e-9 < values[1] - 1e-3
    assert modes[0].shape == (9, 1)
    assert abs(float(modes[0][:, 0] @ torch.from_numpy(vectors[:, 1]))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_spectral_heterogeneity_widens_a_split(name: str) -> None:
    """Each honest neighbour hears its own vector and a multiple of the mode; gossip then leaves a wider split."""
    graph, attackers = GRAPHS[name]
    attack = SpectralHeterogeneity()
    members = CommunicationGraph(graph, len(graph), attackers, 1)
    spread = {}
    for attacked in (make("attack", "none"), attack):
        options = {"members": members, "agents": len(graph), "byzantine": len(attackers), "agreement": "mean"}
        federation, adversary, _ = set_up(attacked, **options)
        x = draw(len(graph), D).float()
        inbox = lockstep(federation.exchange("parameters", x))
        value, _ = federation.combine(Mean(), inbox)
        honest = [a for a in range(len(graph)) if a not in attackers]
        spread[attacked] = float((value[honest] - value[honest].mean(0)).norm())
    modes = adversary.state_dict()["modes"]
    assert torch.allclose(modes.T @ modes, torch.eye(modes.shape[1], dtype=torch.float64))
    torch.testing.assert_close(modes.sum(0), torch.zeros(modes.shape[1], dtype=torch.float64))
    assert spread[attack] > 1.05 * min(spread.values())
    messages_to = {}
    for row, receiver, column in members.byzantine_edges.tolist():
        if receiver not in attackers:
            messages_to[receiver] = (inbox.base[inbox.senders[receiver, column]] - x[receiver]).double()
            assert members.byzantine_ids[row] in graph[receiver]
    pushes = torch.stack(list(messages_to.values()))
    assert torch.linalg.matrix_rank(pushes, rtol=1e-4) == 1


def test_spectral_heterogeneity_in_one_dimension_of_many() -> None:
    """On a complete graph every mode is slowest; the one of the widest spread is the first principal component."""
    x = draw(8, 30)
    x[:, 0] *= 10
    attack = SpectralHeterogeneity()
    mixing = torch.full((9, 9), 1 / 9, dtype=torch.float64)
    secrets: dict[str, Any] = {
        "honest": x,
        "byzantine": x[:1],
        "honest_ids": torch.arange(8),
        "byzantine_ids": torch.tensor([8]),
    }
    secrets |= {"mixing": mixing, "edges": np.array([[0, a] for a in range(8)]), "rule": clone(Mean(), x, 1)}
    context = context_of(attack, **secrets)
    crafted, _ = attack.craft_messages(context, {}, rng())
    push = torch.as_tensor(crafted.vectors) - x  # type: ignore[arg-type]
    first = torch.linalg.svd(x - x.mean(0)).U[:, 0]
    # The server is no neighbour, so lam is 1: the push is the centred matrix's first singular part.
    torch.testing.assert_close(push, torch.outer(first, first @ x))


def by_brute_force(
    rule: str, own: float, honest: list[float], num_byzantine: int, cost: Callable[[float], float]
) -> float:
    """The least cost over what copies of one value can do to the rule."""
    cut = {"median": (len(honest) + num_byzantine - 1) // 2, "trimmed_mean": 1}[rule]
    candidates = np.linspace(min(honest) - 1, max(honest) + 1, 4001)
    inputs = np.column_stack([np.tile(honest, (len(candidates), 1)), *([candidates] * num_byzantine)])
    reached = np.sort(inputs)[:, cut : inputs.shape[1] - cut].mean(1)
    return min(map(cost, reached))


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 1.0, 2.0])
def test_selfish_messages_cost_the_least_of_all(rule: Any, lam: float) -> None:
    attack = Selfish(rule=rule, lam=lam)
    cut = {"median": 4, "trimmed_mean": 1}[rule]
    for seed in range(5):
        honest = draw(8, 3, seed=seed)
        candidate = attack._word(honest[2:3], honest, 1, 1)[0]
        alone = attack._aggregate(honest, 1)
        value = torch.cat([honest, candidate[None]]).sort(0).values[cut : 9 - cut].mean(0)
        for j in range(3):
            own, other = float(honest[2, j]), float(alone[j])

            def cost(y: float, own: float = own, other: float = other) -> float:
                return (y - own) ** 2 - lam * (y - other) ** 2

            least = by_brute_force(rule, own, honest[:, j].tolist(), 1, cost)
            assert cost(float(value[j])) == pytest.approx(least, abs=2e-3)


def test_selfish_against_a_mean_by_hand() -> None:
    """Own 0 among 0, 1, 5: the honest mean is 2. lam = 0.5 wants (0 - 1) / 0.5 = -2, so the sum of 4 must be -8."""
    honest = torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64)
    assert float(Selfish(rule="mean", lam=0.5)._word(honest[:1], honest, 1, 1)) == pytest.approx(-14)
    assert float(Selfish(rule="mean")._word(honest[:1], honest, 1, 1)) == pytest.approx(-6)  # lam = 0: it keeps its own
    assert float(Selfish(rule="mean", lam=1.0)._word(honest[:1], honest, 2, 2)) == pytest.approx((5 * -5 - 6) / 2)


# Attacks that hold another.


def test_split_brain_sends_each_half_the_mirror_image_of_the_other_halfs_message() -> None:
    federation, _, todo = set_up("split_brain(alie(z=1.5))", agents=9, byzantine=2)
    x = draw(9, D).float()
    inbox = lockstep(federation.exchange("gradient", x))
    attackers = list(todo.members.byzantine_ids)
    honest = [a for a in range(9) if a not in attackers]
    clean, centre = x[attackers].double(), x[honest].double().mean(0)
    message = clean.mean(0) - 1.5 * clean.std(0, correction=0)
    for place, receiver in enumerate(honest):
        for attacker in attackers:
            arrived = inbox.base[inbox.senders[receiver, attacker]].double()
            torch.testing.assert_close(arrived, message if place < 4 else 2 * centre - message, rtol=1e-5, atol=1e-5)
    other = inbox.base[inbox.senders[attackers[0], attackers[1]]].double()
    torch.testing.assert_close(other, message, rtol=1e-5, atol=1e-5)


def test_split_brain_passes_on_silence_malformed_and_equivocating_messages() -> None:
    for inner in ("silence(q=1)", "large_noise", "sign_flip", "non_finite"):
        federation, _, _ = set_up(f"split_brain({inner})", agents=9, byzantine=2)
        inbox = lockstep(federation.exchange("gradient", draw(9, D).float()))
        arrived = {"silence(q=1)": 7, "non_finite": 7}.get(inner, 9)
        assert int(inbox.n.min()) <= arrived
    with pytest.raises(Undefined, match="sends none of its own"):
        Experiment.create(attack="split_brain(random_action)", agents=7, byzantine=2)


@dataclass(frozen=True)
class Counts(MessageAttack):
    """Says how often it has been asked, and acts on it."""

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(frozenset({"byzantine"}), frozenset({"messages", "environment"}))

    def start(self, context: AttackContext) -> State:
        return {"asked": torch.tensor(0)}

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        count = memory["asked"] + 1
        return ByzantineMessages(torch.full_like(context.byzantine, float(count))), {"asked": count}

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        return EnvHooks(action=lambda t, actions: np.zeros_like(actions)), memory


def struck(attack: str, rounds: int, coin: Callable[[int], float] | None = None) -> list[int]:
    """For each round 0, or how often the inner attack had been asked when it struck; with a restart after each."""
    outer: Any = replace(make("attack", attack), inner=Counts())  # type: ignore[type-var]
    federation, adversary, todo = set_up(outer)
    attacker = todo.members.byzantine_ids[0]
    x, strikes = draw(7, D).float(), []
    for round in range(rounds):
        federation.begin(round, 0.0)
        if coin is not None:
            lockstep(federation.common("coin", lambda rng, round=round: coin(round)))
        hooks = adversary.make_hooks([0], 1, 1, federation.theta0[:1])
        assert hooks is not None
        inbox = lockstep(federation.exchange("gradient", x))
        crafted = inbox.base[attacker]
        truth = torch.equal(crafted, x[attacker])
        assert (hooks._hooks.action is None) == truth
        strikes.append(0 if truth else int(crafted[0]))
        adversary.load_state_dict(load(save(adversary.state_dict())))
    return strikes


def test_a_sleeper_wakes() -> None:
    assert struck("sleeper(alie(z=1.5), after=3)", 6) == [0, 0, 0, 1, 2, 3]
    assert struck("sleeper(alie(z=1.5), after=0)", 2) == [1, 2]


def test_coin_aware_waits_for_its_batches() -> None:
    coin = [0.0, 0.0, 1.0, 0.0, 1.0].__getitem__
    # The first batch is large whatever the coin shows.
    assert struck("coin_aware(strike=large)", 5, coin) == [1, 0, 2, 0, 3]
    assert struck("coin_aware(strike=small)", 5, coin) == [0, 1, 0, 2, 0]
    assert struck("coin_aware(strike=large)", 3) == [1, 2, 3]
    assert struck("coin_aware(strike=small)", 3) == [0, 0, 0]


def test_markov_comes_and_goes_at_its_rates() -> None:
    strikes = np.array(struck("markov(on=0.3, off=0.6)", 600)) > 0
    begun, ended = strikes[1:][~strikes[:-1]].mean(), (~strikes[1:])[strikes[:-1]].mean()
    assert begun == pytest.approx(0.3, abs=0.08)
    assert ended == pytest.approx(0.6, abs=0.12)
    assert struck("markov(on=1, off=0)", 3) == [1, 2, 3]
    assert struck("markov(on=1, off=1)", 4) == [1, 0, 2, 0]
    for bad in ("markov(on=0)", "markov(off=1.5)"):
        with pytest.raises(InvalidParameter):
            make("attack", bad)


def test_all_attackers_come_and_go_together_and_once_a_round() -> None:
    federation, _, todo = set_up("markov(sign_flip(on=both), on=0.5, off=0.5)", agents=13, byzantine=3)
    attackers = list(todo.members.byzantine_ids)
    x = draw(13, D).float()
    on = 0
    for round in range(30):
        federation.begin(round, 0.0)
        crafted_messages = [
            lockstep(federation.exchange(t, x)).base[attackers] for t in ("gradient", "parameters", "gradient")
        ]
        turned = torch.stack([crafted != x[attackers] for crafted in crafted_messages])
        assert turned.all() or not turned.any()
        on += bool(turned.all())
    assert 5 < on < 25


def test_memories_nest() -> None:
    federation, adversary, _ = set_up("sleeper(markov(mimic, on=1, off=0), after=1)", agents=9)
    assert set(adversary.state_dict()) == {"inner.strikes", "inner.round"}
    for round in range(2):
        federation.begin(round, 0.0)
        lockstep(federation.exchange("gradient", draw(9, D).float()))
    own_keys = {"inner.strikes", "inner.round"}
    assert own_keys < set(adversary.state_dict())
    assert {name.rpartition("gradient.")[0] for name in set(adversary.state_dict()) - own_keys} == {"inner.inner."}


WRAPPED = [
    "sleeper(alie(z=1.5), after=1)",
    "sleeper(random_action, after=1)",
    "sleeper(split_brain(mimic), after=2)",
    "markov(sign_flip, on=0.7, off=0.3)",
    "markov(random_action, on=0.9)",
    "coin_aware(sleeper(mimic, after=1), strike=small)",
    "split_brain(sign_flip)",
    "split_brain(large_noise, about=colluders)",
    "split_brain(optimal_ipm)",
    "isolation(weights=uniform, on=both)",
    "selfish(rule=median)",
    "selfish(rule=mean, on=gradient)",
    "optimal_alie(on=both, calls=40)",
    "agr_tailored(direction=sign)",
    "normalized(direction=std)",
    "rop(on=both, pi=0.3)",
]
DEAR = {
    "agr_tailored(direction=sign)",
    "normalized(direction=std)",
    "optimal_alie(on=both, calls=40)",
    "selfish(rule=median)",
    "split_brain(optimal_ipm)",
}
"""The slowest cases, tried with the slow tests; another variant or the attack itself is with the fast ones."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in DEAR else ()) for name in WRAPPED]
)
def test_variants_keep_the_rules_of_all_attacks(name: str) -> None:
    for check in CHECKS:
        check(make("attack", name), GameCase(1, 30.0))  # type: ignore[arg-type]


def test_only_those_equivocate_who_must() -> None:
    names = ["dissensus", "isolation", "spectral_heterogeneity", "selfish", "freeze", "split_brain"]
    names += ["sleeper(large_noise)"]
    quiet = ["optimal_alie", "agr_tailored", "normalized", "rop", "mda_fooling", "markov", "coin_aware", "sleeper"]
    assert all(make("attack", name).threat.equivocates for name in names)  # type: ignore[attr-defined]
    assert not any(make("attack", name).threat.equivocates for name in quiet)  # type: ignore[attr-defined]


# Coins.


def toss(coin: Any, seed: int, agents: int = 10) -> Tensor:
    return coin(lambda rng: float(rng.random()), agents, rng(seed))


def test_a_biased_coin_is_the_shared_one_or_the_adversarys() -> None:
    forced = 0
    for seed in range(400):
        honest, value = toss(SharedCoin(), seed), toss(BiasedCoin(q=0.25, value=7), seed)
        assert (value == value[0]).all()
        assert value[0] in (honest[0], 7)
        forced += int(value[0] == 7)
    assert 60 < forced < 140
    assert torch.equal(toss(BiasedCoin(q=0), 3), toss(SharedCoin(), 3))
    assert (toss(BiasedCoin(q=1, value=1), 3) == 1).all()
    with pytest.raises(InvalidParameter):
        BiasedCoin(q=1.5)


@pytest.mark.parametrize("agents", [1, 2, 7, 10])
def test_a_split_coin_shows_two_draws_to_two_halves(agents: int) -> None:
    halves = set()
    for seed in range(30):
        value = toss(SplitCoin(), seed, agents)
        assert value.dtype == torch.float64
        first = value == toss(SharedCoin(), seed, 1)
        assert int((~first).sum()) == agents // 2
        assert len(value.unique()) == min(agents, 2)
        halves.add(tuple(first.tolist()))
    assert agents < 7 or len(halves) > 5


def test_a_trusted_server_draws_its_sizes_without_the_coin(tmp_path: Path) -> None:
    options: dict[str, Any] = {"algo": "fedpg_br", "agents": 4, "byzantine": 1, "trajectories": 60}
    options["parameters"] = {"algorithm": {"N": 6, "B": 3}}
    usual, biased = (byzbench.run(coin=coin, out=tmp_path, **options) for coin in ("shared", "biased(q=1)"))
    assert biased.evaluation == usual.evaluation
    assert biased.steps == usual.steps
    assert "coin" not in biased.traffic


def test_a_split_coin_splits_a_run(tmp_path: Path) -> None:
    options = {"agents": 5, "byzantine": 1, "trajectories": 80, "preset": "paper"}
    split, shared = (byzbench.run(coin=coin, out=tmp_path, **options) for coin in ("split", "shared"))
    assert split.trajectories != shared.trajectories or split.final != shared.final
    assert byzbench.run(coin="biased(q=1)", out=tmp_path, **options).trajectories >= 80


# In real runs.

RUN = [
    ("optimal_alie", {}),
    ("optimal_ipm", {"aggregator": "nnm+trimmed_mean"}),
    ("optimal_ipm(on=both)", {"agreement": "rb_tm", "byzantine": 1}),
    ("agr_tailored", {"aggregator": "krum", "byzantine": 1}),
    ("weight_search(calls=240)", {"aggregator": "krum", "byzantine": 1}),
    ("v_bsa", {}),
    ("fgsm", {}),
    ("dynamics(constant=length, factor=3)", {}),
    ("normalized", {"algo": "byzpg", "aggregator": "median"}),
    ("mda_fooling", {"byzantine": 1}),
    ("rop(on=both)", {"aggregator": "centered_clipping"}),
    ("dissensus", {"agreement": "gossip", "topology": "ring", "byzantine": 1}),
    ("isolation", {"agreement": "mean", "topology": "ring", "byzantine": 1}),
    ("spectral_heterogeneity", {"agreement": "gossip+ios", "topology": "random_regular", "agents": 9}),
    ("selfish", {"agreement": "rb_tm(reliable=False)"}),
    ("freeze(on=both)", {"byzantine": 1}),
    ("split_brain(alie(z=1.5))", {}),
    ("sleeper(optimal_alie(calls=40), after=3)", {}),
    ("markov(random_action, on=0.5)", {}),
    ("coin_aware(sign_flip, strike=small)", {}),
]


@pytest.mark.parametrize("attack, options", RUN)
def test_it_runs_and_hurts_nobody_else(attack: str, options: dict[str, Any], tmp_path: Path) -> None:
    options = {"agents": 7, "byzantine": 2, "trajectories": 20, "parameters": {"algo": {"N": 6, "B": 2}}, **options}
    result = byzbench.run(attack=attack, out=tmp_path, **options)
    assert result.trajectories >= 20
    assert result.num_malformed == 0


def test_what_no_attack_asked_for_is_not_made() -> None:
    """The dense mixing matrix is gigabytes for many agents."""
    federation, adversary = federate(Experiment.create("dec_page_pg", "sign_flip", agents=5, byzantine=1))
    federation.begin(0, 0.0)
    lockstep(federation.exchange("gradient", federation.theta0))
    assert "_mixing" not in vars(adversary)
