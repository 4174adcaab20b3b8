"""Each conformance test of `byzbench.testing` rejects a component that lacks the property."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

from byzbench import registry
from byzbench.algorithms.gpomdp import Gpomdp
from byzbench.channels.top_k import TopK
from byzbench.coins.shared import SharedCoin
from byzbench.core import (
    Agreement,
    AgreementReport,
    Algorithm,
    Component,
    Placement,
    PolicyFamily,
    Scenario,
    Task,
    Topology,
)
from byzbench.errors import InvalidParameter, Undefined
from byzbench.placements.first import First
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import CategoricalPolicy
from byzbench.rl.transition_table import ExactReturns
from byzbench.schedules.asynchronous import Asynchronous
from byzbench.tasks.cartpole import CartPole
from byzbench.tasks.riverswim import RiverSwim
from byzbench.testing import (
    agreements,
    algorithms,
    channels,
    coins,
    placements,
    policies,
    scenarios,
    schedules,
    tasks,
    topologies,
)
from byzbench.testing.interfaces import signature_fault
from byzbench.testing.kits import kit_of
from byzbench.topologies.ring import Ring


@dataclass(frozen=True)
class Counting:
    """Remember the number of calls in the component, which no component may do."""

    counter: list[int] = field(default_factory=list)

    def count(self) -> int:
        self.counter.append(1)
        return len(self.counter)


@dataclass(frozen=True)
class ShiftedNodes(Ring):
    def __call__(self, agents, round, rng):
        return nx.relabel_nodes(super().__call__(agents, round, rng), lambda agent: agent + 1)


@dataclass(frozen=True)
class NoGraph(Topology):
    def __call__(self, agents, round, rng):
        return Ring()(0, round, rng)


@dataclass(frozen=True)
class TwoParts(Topology):
    def __call__(self, agents, round, rng):
        return nx.empty_graph(agents)


@dataclass(frozen=True)
class OtherEdges(Counting, Topology):
    def __call__(self, agents, round, rng):
        graph = nx.path_graph(agents)
        graph.add_edge(0, self.count() % agents) if agents > 2 else None
        graph.remove_edges_from(list(nx.selfloop_edges(graph)))
        return graph


@dataclass(frozen=True)
class OtherRounds(Topology):
    def __call__(self, agents, round, rng):
        return nx.star_graph(agents - 1) if round else nx.path_graph(agents)


@dataclass(frozen=True)
class Twice(Placement):
    def __call__(self, graph, f, rng):
        return [0] * f


@dataclass(frozen=True)
class OtherAgents(Counting, Placement):
    def __call__(self, graph, f, rng):
        agents = len(graph) - ("server" in graph.graph)
        return [(self.count() + k) % agents for k in range(f)] if f < 2 else First()(graph, f, rng)


@dataclass(frozen=True)
class CutsEdges(Placement):
    def __call__(self, graph, f, rng):
        graph.remove_edges_from(list(graph.edges)[:1])
        return First()(graph, f, rng)


@dataclass(frozen=True)
class JoinsTheFirst(Placement):
    joins: ClassVar[bool] = True

    def join(self, graph, f, rng):
        joined = graph.copy()
        joined.add_nodes_from(range(len(graph), len(graph) + f))
        return joined

    def __call__(self, graph, f, rng):
        return First()(graph, f, rng)


@dataclass(frozen=True)
class Number(SharedCoin):
    def __call__(self, draw, agents, rng):
        return draw(rng)


@dataclass(frozen=True)
class OtherDraws(Counting, SharedCoin):
    def __call__(self, draw, agents, rng):
        return super().__call__(draw, agents, rng) + self.count()


@dataclass(frozen=True)
class LateDraw(SharedCoin):
    def __call__(self, draw, agents, rng):
        rng.random()
        return super().__call__(draw, agents, rng)


@dataclass(frozen=True)
class FreeOfCharge(SharedCoin):
    def cost(self, agents):
        return [(agents, -1)]


@dataclass(frozen=True)
class Doubles(TopK):
    def encode(self, x, memory, rng):
        return x.double(), memory


@dataclass(frozen=True)
class RemembersAList(TopK):
    def encode(self, x, memory, rng):
        return x, {"seen": [1]}


@dataclass(frozen=True)
class OtherMessages(Counting, TopK):
    def encode(self, x, memory, rng):
        return x + self.count(), memory


@dataclass(frozen=True)
class NoBytes(TopK):
    def pack(self, form, d):
        return type(form)(0, 0)


@dataclass(frozen=True)
class TooLate(TopK):
    def draw_delays(self, receivers, senders, rng):
        return np.full((receivers, senders), 3)


@dataclass(frozen=True)
class Infinite(TopK):
    def encode(self, x, memory, rng):
        return x / 0, memory


@dataclass(frozen=True)
class NoDiscount(CartPole):
    discount: ClassVar[float] = 0.0


class Walks:
    """Walks on a line with faults: a reset keeps the position, or the rows share one generator."""

    def __init__(self, agents: int, count: int, fault: str) -> None:
        self.count, self.fault, self.x = count, fault, np.zeros(agents * count)

    def reset(self, generators):
        draws = [rng.uniform(-1, 1, self.count) for rng in generators]
        if self.fault == "shared":
            draws = [draws[0] + draw for draw in draws]
        if self.fault == "number":
            draws = [draw + self.count for draw in draws]
        keeps = self.fault == "kept" and len(self.x) == len(np.concatenate(draws))
        self.x, self.t = np.concatenate(draws) + (self.x if keeps else 0), 0
        return self.observe()

    def observe(self):
        return np.stack([self.x, np.full_like(self.x, self.t)], 1).astype(np.float64 if self.fault == "form" else "f4")

    def step(self, actions):
        self.x, self.t = self.x + 0.4 * actions - 0.2, self.t + 1
        over = self.t >= (8 if self.fault == "short" else 20)
        never = np.zeros(len(self.x), bool)
        return self.observe(), -np.abs(self.x), never, never | over


@dataclass(frozen=True)
class Walk(Task):
    fault: str = ""
    observation_size: ClassVar[int] = 2
    action_space: ClassVar[Any] = Discrete(2)
    horizon: ClassVar[int] = 20
    discount: ClassVar[float] = 0.99

    def make(self, agents, count):
        return Walks(agents, count, self.fault)


@dataclass(frozen=True)
class Cut(Walk):
    horizon: ClassVar[int] = 30


@dataclass(frozen=True)
class ScaledTwice(CartPole):
    def scale_dynamics(self, environments, factors):
        super().scale_dynamics(environments, {name: factor * 1.1 for name, factor in factors.items()})


@dataclass(frozen=True)
class FaultyExact(RiverSwim):
    """A task whose exact values are of another river, or depend on other rows, or whose gradients are wrong."""

    fault: str = ""

    def exact(self, policy, theta, dynamics=None):
        law = RiverSwim(gamma=0.85) if self.fault == "law" else RiverSwim()
        returns, gradients = law.exact(policy, theta, dynamics)
        if self.fault == "gradient":
            gradients = gradients + 2e-6
        if self.fault == "rows":
            returns = returns + 1e-12 * returns.mean()
        return ExactReturns(returns, gradients)


@dataclass(frozen=True)
class Moves(Agreement):
    """Change the vectors without a message."""

    fault: str = ""
    counter: list[int] = field(default_factory=list)

    def contraction(self, n, f):
        return 0.5 if self.fault == "bound" else None

    async def agree(self, fed, theta, state):
        widths = torch.zeros(len(theta), dtype=torch.float32 if self.fault == "report" else torch.float64)
        report = AgreementReport(torch.ones(len(theta)).long(), widths, widths)
        self.counter.append(1)
        if self.fault == "form":
            theta = theta.double()
        if self.fault == "bytes":
            theta = theta + len(self.counter)
        if self.fault == "equal":
            theta = theta + torch.arange(len(theta)).unsqueeze(1)
        if self.fault == "box":
            theta = 2 * theta
        return theta, report, state


@dataclass(frozen=True)
class Steps(Gpomdp):
    fault: str = ""
    counter: list[int] = field(default_factory=list)

    def gradient(self, fed, theta, batch, weights=None, log_probs=None):
        return super().gradient(fed, theta, batch, weights, log_probs) * (1.1 if self.fault == "biased" else 1)

    async def round(self, fed, state):
        self.counter.append(1)
        if self.fault == "episodes":
            return {"theta": state["theta"] + 1}, {}
        if self.fault == "modified":
            state["theta"] += 1
        state, metrics = await super().round(fed, state)
        if self.fault == "form":
            return {**state, "count": len(self.counter)}, metrics
        if self.fault in ("bytes", "hidden"):
            shift = len(self.counter) if self.fault == "bytes" else (fed.round and 1)
            return {**state, "theta": state["theta"] + shift}, metrics
        if self.fault == "rows":
            return {**state, "theta": state["theta"] - 0.5 * (state["theta"] - state["theta"].mean(0))}, metrics
        return state, metrics


@dataclass(frozen=True)
class Remembers(Gpomdp):
    """Keep the last round in the component: the same bytes in two runs, and others after a resumption."""

    memory: dict[str, int] = field(default_factory=dict)

    def start(self, fed):
        self.memory["rounds"] = 0
        return super().start(fed)

    async def round(self, fed, state):
        self.memory["rounds"] = self.memory.get("rounds", 0) + 1
        state, metrics = await super().round(fed, state)
        return {**state, "theta": state["theta"] + self.memory["rounds"]}, metrics


@dataclass(frozen=True)
class FaultyNetwork(FeedForward):
    """A network with a fault that a check of policy families finds."""

    fault: str = ""

    def initial(self, rng):
        theta = torch.rand(self.dimension, generator=torch.default_generator)
        return theta.double() if self.fault == "form" else theta

    def outputs(self, layers, observations):
        outputs = super().outputs(layers, observations)
        if self.fault == "gradient":
            return outputs.detach() + 0 * outputs
        return outputs * len(observations) if self.fault == "rows" else outputs


@dataclass(frozen=True)
class Nowhere(PolicyFamily):
    def network(self, inputs, outputs, states):
        raise InvalidParameter("it supports nothing")


@dataclass(frozen=True)
class FaultyPolicy(PolicyFamily):
    fault: str = ""

    def network(self, inputs, outputs, states):
        return FaultyNetwork((inputs, 3, outputs), fault=self.fault)

    def build(self, task, squash_logits=False):
        policy = super().build(task, squash_logits)
        if not isinstance(policy, CategoricalPolicy):
            return policy
        return {"sum": Unnormalised, "space": Beyond}.get(self.fault, CategoricalPolicy)(policy.network)


class Unnormalised(CategoricalPolicy):
    def log_probabilities(self, layers, observations, actions):
        return super().log_probabilities(layers, observations, actions) + 1


class Beyond(CategoricalPolicy):
    def to_env_actions(self, actions):
        return super().to_env_actions(actions) + 100


@dataclass(frozen=True)
class FaultyScenario(Scenario):
    fault: str = ""

    def check(self, setting):
        if self.fault == "undefined":
            raise Undefined("it is not defined")

    def start(self, task, num_agents, generator):
        rows = num_agents + (self.fault != "form")
        others = num_agents if self.fault == "number" else 0
        return {"x": torch.tensor([float(generator(agent).random()) + others for agent in range(rows)])}

    def transform_rewards(self, state, batch):
        if self.fault == "rewards":
            return batch.rewards.double()
        if self.fault == "draws":
            return batch.rewards * float(np.random.default_rng().random())
        return batch.rewards


@dataclass(frozen=True)
class Poisoned(FaultyScenario):
    def transform_rewards(self, state, batch):
        return batch.rewards * torch.nan if batch.horizon > 100 else batch.rewards


@dataclass(frozen=True)
class Backwards(Asynchronous):
    def draw_speeds(self, agents, rng):
        return -super().draw_speeds(agents, rng)


@dataclass(frozen=True)
class OtherTimes(Asynchronous):
    def batch_seconds(self, steps, speed, rng):
        return steps * np.random.default_rng().random()


@dataclass(frozen=True)
class SlowIsFast(Asynchronous):
    def batch_seconds(self, steps, speed, rng):
        return float(steps * speed)


@dataclass(frozen=True)
class EarlyBytes(Asynchronous):
    def link_seconds(self, size, messages, rng):
        return np.full(messages, 1.0 - size)


@dataclass(frozen=True)
class OneMore(Asynchronous):
    def quorum_of(self, n, f, at_server=False):
        return n + 1


REJECTED: list[tuple[Callable[[Any, Any], None], Component]] = [
    (topologies.nodes_are_the_agents, ShiftedNodes()),
    (topologies.some_size_has_a_graph, NoGraph()),
    (topologies.agents_are_connected, TwoParts()),
    (topologies.same_generator_gives_same_edges, OtherEdges()),
    (topologies.graph_changes_only_if_it_varies, OtherRounds()),
    (placements.selects_f_distinct_agents, Twice()),
    (placements.same_generator_gives_same_agents, OtherAgents()),
    (placements.graph_is_not_modified, CutsEdges()),
    (placements.joined_agents_are_the_last, JoinsTheFirst()),
    (coins.every_agent_obtains_a_number, Number()),
    (coins.same_generator_gives_same_values, OtherDraws()),
    (coins.first_draw_is_that_of_a_shared_coin, LateDraw()),
    (coins.cost_is_a_list_of_messages, FreeOfCharge()),
    (schedules.every_agent_has_a_positive_speed, Backwards()),
    (schedules.same_generator_gives_same_times, OtherTimes()),
    (schedules.batches_take_finite_time, SlowIsFast()),
    (schedules.messages_take_finite_time, EarlyBytes()),
    (schedules.quorums_can_be_met, OneMore()),
    (channels.decoded_vectors_keep_their_form, Doubles()),
    (channels.channel_memory_has_a_row_for_each_sender, RemembersAList()),
    (channels.same_generator_gives_same_messages, OtherMessages()),
    (channels.messages_have_a_size, NoBytes()),
    (channels.delays_are_within_their_limit, TooLate()),
    (channels.a_federation_exchanges_messages_through_it, Infinite()),
    (tasks.declares_its_sizes, NoDiscount()),
    (tasks.steps_have_the_declared_form, Walk("form")),
    (tasks.every_row_is_one_whole_episode, Cut("short")),
    (tasks.first_episodes_do_not_depend_on_their_number, Walk("number")),
    (tasks.same_seed_gives_same_episodes, Walk("kept")),
    (tasks.interrupted_episodes_leave_nothing, Walk("kept")),
    (tasks.agents_do_not_share_an_environment, Walk("shared")),
    (tasks.constants_are_scaled_from_their_originals, ScaledTwice()),
    (tasks.exact_gradients_are_finite_differences, FaultyExact(fault="gradient")),
    (tasks.exact_rows_do_not_depend_on_other_rows, FaultyExact(fault="rows")),
    (tasks.exact_values_are_means_of_episodes, FaultyExact(fault="law")),
    (agreements.agreed_vectors_keep_their_form, Moves("form")),
    (agreements.agreement_report_has_a_row_for_each_agent, Moves("report")),
    (agreements.same_experiment_gives_same_agreement, Moves("bytes")),
    (agreements.equal_vectors_are_agreed_on, Moves("equal")),
    (agreements.agreed_vectors_stay_in_the_box, Moves("box")),
    (agreements.contraction_holds_under_attacks, Moves("bound")),
    (algorithms.rounds_return_a_state_and_metrics, Steps(fault="form")),
    (algorithms.old_state_is_not_modified, Steps(fault="modified")),
    (algorithms.episodes_are_charged, Steps(fault="episodes")),
    (algorithms.same_experiment_gives_same_states, Steps(fault="bytes")),
    (algorithms.state_is_all_that_it_remembers, Remembers()),
    (algorithms.rows_do_not_depend_on_other_rows, Steps(fault="rows")),
    (algorithms.first_estimates_are_unbiased, Steps(fault="biased")),
    (policies.it_supports_a_task, Nowhere()),
    (policies.its_sizes_are_those_of_the_task, FaultyPolicy("form")),
    (policies.initial_parameters_are_drawn_from_the_generator, FaultyPolicy("draws")),
    (policies.gradients_are_finite_differences, FaultyPolicy("gradient")),
    (policies.an_agent_is_the_same_alone_and_among_others, FaultyPolicy("rows")),
    (policies.probabilities_of_actions_sum_to_one, FaultyPolicy("sum")),
    (policies.actions_are_in_the_space, FaultyPolicy("space")),
    (scenarios.it_is_defined_on_a_task, FaultyScenario("undefined")),
    (scenarios.draws_keep_their_form, FaultyScenario("form")),
    (scenarios.rewards_keep_their_form, FaultyScenario("rewards")),
    (scenarios.same_generators_give_same_draws, FaultyScenario("draws")),
    (scenarios.an_agent_does_not_depend_on_others, FaultyScenario("number")),
    (scenarios.a_federation_trains_in_it, Poisoned()),
]


@pytest.mark.parametrize("check, component", REJECTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_component_without_the_property_is_rejected(check: Callable[..., None], component: Component) -> None:
    kit = kit_of(component.kind)

    def run_all_cases() -> None:
        for case in kit.cases:
            check(component, case)

    with pytest.raises(AssertionError) as rejected:
        run_all_cases()
    assert str(rejected.value).partition("\nassert")[0].count("\n") == 0


def test_every_check_rejects_some_component() -> None:
    rejecting = {check for check, _ in REJECTED}
    for kind in registry.KINDS:
        if kind not in ("attack", "aggregator"):  # see test_attacks.py and test_aggregators.py
            assert set(kit_of(kind).checks.values()) <= rejecting


@pytest.mark.parametrize("kind", registry.KINDS)
def test_built_in_components_have_the_signatures_of_their_kinds(kind: str) -> None:
    for name in registry.origins(kind):
        cls = registry.find(kind, name)
        component = object.__new__(cls)
        assert signature_fault(component) is None, name


@dataclass(frozen=True)
class Synchronous(Algorithm):
    def start(self, fed):
        return {}

    def round(self, fed, state):
        return state, {}


@dataclass(frozen=True)
class Renamed(Topology):
    def __call__(self, count, step, generator):
        return nx.path_graph(count)


def test_positional_arguments_may_have_any_name_and_coroutines_must_be_coroutines() -> None:
    assert signature_fault(Renamed()) is None
    assert signature_fault(Synchronous()) == "round must be declared with `async def`"
