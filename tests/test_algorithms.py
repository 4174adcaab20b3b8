from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest
import torch

from byzbench import registry
from byzbench.core import Algorithm, Attack, ByzantineMessages, Communication, EnvHooks, ThreatModel
from byzbench.core.gossip import GossipAlgorithm
from byzbench.core.page import PageAlgorithm
from byzbench.errors import BrokenPlugin, UndeclaredKnowledge, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.metrics import classify_run
from byzbench.experiments.runner import federate, lockstep
from byzbench.testing import algorithms
from byzbench.testing.algorithms import AlgorithmCase, compare_rows
from byzbench.testing.rows import run_as_block, run_by_rows

ALGORITHMS = list(registry.origins("algorithm"))
GRAPHS = {
    Communication.DECENTRALIZED: ["complete", "ring"],
    Communication.SERVER: ["star"],
    Communication.SINGLE_AGENT: ["complete"],
    Communication.NONE: ["ring"],
}
HOMES = [(name, graph) for name in ALGORITHMS for graph in GRAPHS[registry.find("algorithm", name).communication]]
ATTACKS = ["none", "large_noise", "sign_flip", "random_action"]
TWINS = {n for n in ALGORITHMS if issubclass(registry.find("algorithm", n), GossipAlgorithm)} - {
    "clipped_gossip",
    "bridge",
}
"""They share their body with one of those two, and are tried with the slow tests."""
ONCE = [pytest.param(n, marks=pytest.mark.slow if n in TWINS else ()) for n in ALGORITHMS]

DEARER = ("clipped_gossip", "bridge", "mdpgt", "learn")
"""Tried on one graph by the fast tests, with one attack."""


def quick(algo, graph, attack):
    """Return True if the fast tests compare rows with the block."""
    if algo == "decbyzpg":
        return graph == "ring" or attack == "large_noise"
    return attack == "sign_flip" and algo not in TWINS and (algo not in DEARER or graph == "ring")


def tiny(algo, attack="none", topology=None, *, parameters=None, attacked_by=None, **options):
    """An experiment of five agents, one of them an attacker, with rounds of six and of three episodes."""
    options = {"agents": 5, "byzantine": 1, "seed": 1, "trajectories": 60, **options}
    if registry.find("algorithm", algo).communication == Communication.SINGLE_AGENT:
        options |= {"agents": 1, "byzantine": 0}
    method = registry.find("algorithm", algo)
    if issubclass(method, GossipAlgorithm) and attack in ("large_noise", "sign_flip"):
        attack = f"{attack}(on=parameters)"
    has = {f.name for f in fields(method)} - (set() if issubclass(method, PageAlgorithm) else {"weights"})
    has -= {"res_nharpg": {"optimizer"}, "fed_ppo": {"clip"}}.get(algo, set())  # of another kind there
    sizes = {
        k: v for k, v in {"N": 6, "B": 3, "p": 0.5, "lr": 0.01, "epochs": 2, **(parameters or {})}.items() if k in has
    }
    experiment = Experiment.create(algo, attack, topology, parameters={"algorithm": sizes}, **options)
    return replace(experiment, attack=attacked_by) if attacked_by else experiment


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "algo, graph, attack",
    [
        pytest.param(*home, attack, marks=() if quick(*home, attack) else pytest.mark.slow)
        for home in HOMES
        for attack in ATTACKS
    ],
)
def test_rows_equal_the_block(algo, graph, attack):
    trace = compare_rows(tiny(algo, attack, graph))
    assert not torch.equal(trace.states[-1]["theta"], trace.states[0]["theta"])
    if issubclass(registry.find("algorithm", algo), PageAlgorithm):
        assert {m["large_batch"] for m in trace.metrics} == {0.0, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize(
    "parameters",
    [
        {"optimizer": "sgd", "p": 1.0},
        {"optimizer": "sgd", "reference": "local", "lr_schedule": "inverse_sqrt"},
        {"reference": "local", "lr_schedule": "linear", "p": 0.2},
        {"reference": "local", "snapshot": "after_step", "weights": "product", "logits": "tanh", "streams": "official"},
        {"corrected": True, "gradient_at": "own", "heterogeneous": True, "agg_on": "differences", "clip": 10.0},
    ],
)
def test_rows_equal_the_block_whatever_the_parameters(algo, parameters):
    compare_rows(tiny(algo, "sign_flip", parameters=parameters), rounds=4)


@pytest.mark.parametrize(
    "options",
    [
        {"aggregator": "bucketing+median"},
        {"aggregator": "dnc"},
        {"agreement": "rb_tm"},
        {"agreement": "mean"},
        {"agreement": "gossip+balance"},
        {"agreement": "gossip+ubar"},
    ],
    ids=str,
)
def test_rows_equal_the_block_with_other_rules(options):
    compare_rows(tiny("decbyzpg", "large_noise", **options), rounds=4)


@dataclass(frozen=True)
class Nosy(Algorithm):
    """Breaks the promise: every agent steps towards the mean of all rows, which nobody told it."""

    def start(self, fed):
        return {"theta": fed.theta0 + fed.agents.unsqueeze(1)}

    async def round(self, fed, state):
        return {"theta": state["theta"] - 0.5 * (state["theta"] - state["theta"].mean(0))}, {}


@dataclass(frozen=True)
class Loner(Nosy):
    """Breaks the promise: one agent does not come to the exchange."""

    async def round(self, fed, state):
        if fed.agents[0] > 0:
            await fed.exchange("gradient", state["theta"])
        return state, {}


def test_the_rows_driver_finds_what_is_not_row_local():
    nosy = replace(tiny("decbyzpg"), algorithm=Nosy())
    assert not same(run_as_block(nosy, 1).states[0], run_by_rows(nosy, 1).states[0])
    with pytest.raises(BrokenPlugin, match="1 have ended the round"):
        run_by_rows(replace(nosy, algorithm=Loner()), 1)


def beginnings(algo, *args, **options):
    """Paired are the initial policy, the coins, and every agent's first returns."""
    trace = run_as_block(tiny(algo, *args, **options), 6)
    federation, _ = federate(tiny(algo, *args, **options))
    return federation.theta0, [m["large_batch"] for m in trace.metrics], trace.returns[0]


VARIATIONS = [
    {"attack": "large_noise"},
    {"attack": "sign_flip"},
    {"attack": "random_action"},
    {"topology": "ring"},
    {"aggregator": "median"},
    {"agreement": "rb_tm"},
    {"algo": "dec_page_pg"},
    {"algo": "byzpg"},
    {"byzantine": 0},
]


@pytest.mark.parametrize("change", VARIATIONS, ids=str)
def test_randomness_is_paired(change):
    options = {"algo": "decbyzpg", **change}
    theta, coins, returns = beginnings("decbyzpg")
    theta_too, coins_too, returns_too = beginnings(**options)
    honest = ~tiny("decbyzpg").members.byzantine
    comparable = honest if change.get("attack") == "random_action" else torch.ones(5, dtype=torch.bool)
    assert torch.equal(theta, theta_too)
    assert coins == coins_too
    assert torch.equal(returns[comparable], returns_too[comparable])
    assert torch.equal(returns, returns_too) == bool(comparable.all())


def test_another_seed_changes_every_draw():
    theta, coins, returns = beginnings("decbyzpg", seed=1)
    theta_too, coins_too, returns_too = beginnings("decbyzpg", seed=2)
    assert not torch.isclose(theta, theta_too).any()
    assert coins != coins_too
    assert (returns != returns_too).all()
    assert len(set(returns.tolist())) > 1


def test_every_agent_batch_and_rule_draws_afresh_and_every_round_repeats():
    federation, _ = federate(tiny("decbyzpg"))
    rule, x = registry.make("aggregator", "bucketing+median"), torch.randn(5, 9, generator=torch.Generator())

    def draws(round):
        federation.begin(round, 0.0)
        theta, inbox = federation.theta0, lockstep(federation.exchange("x", x))
        starts = [federation.sample(theta, 2).observations[:, 0] for _ in range(2)]
        return torch.cat([start.flatten(1) for start in starts]), [federation.combine(rule, inbox)[0] for _ in range(6)]

    (starts, values), (again, values_again), (other, _) = draws(0), draws(0), draws(1)
    assert len(starts.unique(dim=0)) == len(starts)
    assert len(torch.stack(values)[:, 0].unique(dim=0)) > 1
    assert torch.equal(starts, again)
    assert torch.equal(torch.stack(values), torch.stack(values_again))
    assert not (starts == other).any()


@pytest.mark.parametrize(
    "check", [c for c in algorithms.CHECKS if c is not algorithms.rows_do_not_depend_on_other_rows]
)
@pytest.mark.parametrize("algo", ONCE)
def test_every_algorithm_passes_every_check(algo, check):
    """Rows are compared above."""
    attack = "none" if check in algorithms.FORM else "large_noise(on=both)"
    check(registry.make("algorithm", algo), AlgorithmCase(attack, rounds=2))


@dataclass(frozen=True)
class FixedMessages(Attack):
    """Sends what `content(count, dimension)` returns, on some topics; knows what it declares."""

    content: Callable = field(default=lambda count, dimension: torch.zeros(count, dimension))
    topics: tuple[str, ...] = ("gradient", "parameters")
    known: tuple[str, ...] = ("byzantine",)
    equivocates: bool = False
    look: tuple[str, ...] = ()

    @property
    def threat(self):
        return ThreatModel(
            knowledge=frozenset(self.known),
            surface=frozenset({"messages", "environment"}),
            equivocates=self.equivocates,
        )

    def targets(self, topic):
        return topic in self.topics

    def craft_messages(self, context, memory, rng):
        for name in self.look:
            getattr(context, name)
        count = len(context.edges) if self.equivocates else context.num_byzantine if "byzantine" in self.known else 1
        return ByzantineMessages(self.content(count, DIMENSION)), memory

    def hook_environment(self, context, memory, rng):
        assert context.num_episodes in (3, 6)
        return EnvHooks(), memory


DIMENSION = federate(tiny("decbyzpg"))[0].policy.dimension


@pytest.mark.parametrize("secret", ["own", "byzantine", "honest", "graph", "edges"])
def test_an_attacker_sees_what_its_threat_declares_and_nothing_else(secret):
    for declared in ("own", "byzantine", "honest", "graph", "edges"):
        equivocates = declared == "edges"
        known = () if equivocates else (declared,)
        fixed = FixedMessages(
            known=known, equivocates=equivocates, look=(secret, "round", "num_agents", "num_byzantine", "task", "topic")
        )
        experiment = tiny("decbyzpg", attacked_by=fixed)
        if secret == declared:
            run_as_block(experiment, 1)
        else:
            with pytest.raises(UndeclaredKnowledge, match=f"read context.{secret}; its threat declares"):
                run_as_block(experiment, 1)


@pytest.mark.parametrize("unknown", ["episodes", "memory", "_federation", "rewards"])
def test_an_attacker_sees_nothing_that_does_not_exist(unknown):
    with pytest.raises(UndeclaredKnowledge, match=f"context.{unknown}"):
        run_as_block(tiny("decbyzpg", attacked_by=FixedMessages(look=(unknown,))), 1)


def test_an_attacker_who_does_not_collude_sees_itself_only():
    observed = []

    @dataclass(frozen=True)
    class Recorder(FixedMessages):
        def craft_messages(self, context, memory, rng):
            observed.append(context.own)
            return ByzantineMessages(-context.own), memory

    for known in (("own",), ("own", "byzantine")):
        experiment = tiny("decbyzpg", byzantine=2, agreement="none", attacked_by=Recorder(known=known))
        run_as_block(experiment, 1)
    assert [len(own) for own in observed] == [1, 1, 2]
    assert torch.equal(torch.cat(observed[:2]), observed[2])
    assert not torch.equal(observed[0], observed[1])


RUBBISH = {
    "nan": lambda n, d: torch.full((n, d), torch.nan),
    "one infinite coordinate": lambda n, d: torch.cat([torch.zeros(n, d - 1), torch.full((n, 1), -torch.inf)], 1),
    "beyond float32": lambda n, d: torch.full((n, d), 1e300, dtype=torch.float64),
    "too short": lambda n, d: torch.zeros(n, d - 1),
    "too long": lambda n, d: torch.zeros(n, d + 1),
    "too few": lambda n, d: torch.zeros(n + 1, d),
    "a matrix each": lambda n, d: torch.zeros(n, d, 1),
    "empty": lambda n, d: torch.zeros(0, 0),
    "integers": lambda n, d: torch.zeros(n, d, dtype=torch.int64),
    "complex": lambda n, d: torch.zeros(n, d, dtype=torch.complex64),
    "text": lambda n, d: ["gradient"] * n,
    "bytes": lambda n, d: b"\x80\x04",
    "numbers": lambda n, d: [0.5] * n,
    "an object array": lambda n, d: [np.array([object()] * d)] * n,
    "an infinite array": lambda n, d: [np.full(d, np.inf)] * n,
    "a dictionary": lambda n, d: {"vectors": torch.zeros(n, d)},
}
SILENCE = {"nothing": lambda n, d: [None] * n, "not even a list": lambda n, d: None}


def first_inbox(experiment):
    """The inbox of round 0's first exchange, as an algorithm meets it."""
    federation, _ = federate(experiment)
    federation.begin(0, 0.0)
    meet = federation.gather if experiment.algorithm.communication == Communication.SERVER else federation.exchange
    return lockstep(meet("gradient", federation.theta0)), federation.counters


@pytest.mark.parametrize("algo, graph", [("decbyzpg", "complete"), ("byzpg", "star")])
@pytest.mark.parametrize("content", [*RUBBISH, *SILENCE])
@pytest.mark.parametrize(
    "equivocates", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["alike", "equivocating"]
)
def test_rubbish_exposes_its_sender_and_silence_does_not(algo, graph, content, equivocates):
    fixed = FixedMessages(content={**RUBBISH, **SILENCE}[content], equivocates=equivocates)
    experiment = tiny(algo, topology=graph, agents=7, byzantine=2, attacked_by=fixed)
    inbox, counters = first_inbox(experiment)
    honest = torch.ones(1, dtype=torch.bool) if graph == "star" else ~experiment.members.byzantine
    exposed = content in RUBBISH
    assert set(inbox.n[honest].tolist()) == {5}
    assert set(inbox.f[honest].tolist()) == {0 if exposed else 2}
    due = 2 if graph == "star" else 2 * 6
    assert (counters.num_malformed, counters.num_silent) == ((due, 0) if exposed else (0, due))
    total = 7 if graph == "star" else 7 * 6
    assert counters.messages == total - (0 if exposed else due)

    trace = run_as_block(experiment, 4)
    assert all(state["theta"].isfinite().all() for state in trace.states)
    assert (trace.states[-1]["theta"] != trace.states[0]["theta"]).any()
    assert trace.counters.num_malformed % due == 0
    assert trace.counters.num_silent % due == 0
    assert (trace.counters.num_malformed > 0) == exposed


def test_senders_of_malformed_messages_are_excluded_and_others_are_not():
    """On a ring: the neighbours of the Byzantine agent receive two of three vectors, the others all."""
    experiment = tiny("decbyzpg", topology="ring", attacked_by=FixedMessages(content=RUBBISH["nan"]))
    inbox, counters = first_inbox(experiment)
    (attacker,) = experiment.members.byzantine_ids
    near = torch.zeros(5, dtype=torch.bool)
    near[[(attacker - 1) % 5, (attacker + 1) % 5]] = True
    far = ~near & ~experiment.members.byzantine
    assert inbox.n[near].tolist() == [2, 2]
    assert inbox.f[near].tolist() == [0, 0]
    assert inbox.n[far].tolist() == [3, 3]
    assert inbox.f[far].tolist() == [1, 1]
    assert counters.num_malformed == 2
    assert not (inbox.senders == attacker)[inbox.mask].any()


def test_reliable_broadcast_delivers_one_vector_to_all():
    experiment = tiny("decbyzpg", "large_noise", byzantine=2)
    federation, _ = federate(experiment)
    federation.begin(0, 0.0)
    honest = ~experiment.members.byzantine

    def kinds(reliable):
        return len(
            lockstep(federation.exchange("x", federation.theta0, reliable=reliable)).select(honest).distinct()[0]
        )

    assert kinds(reliable=False) == 3
    assert kinds(reliable=True) == 1
    # Each of five vectors goes to four others, each of whom echoes it twice, as does its sender, to four others.
    assert federation.counters.messages == 5 * 4 + 5 * (4 + 2 * 5 * 4)


def test_more_rubbish_than_allowed_for_leaves_f_at_zero():
    experiment = tiny("decbyzpg", byzantine=2, assumed_byzantine=1, attacked_by=FixedMessages(content=RUBBISH["nan"]))
    inbox, _ = first_inbox(experiment)
    assert set(inbox.f.tolist()) == {0}


def test_a_gossiping_agent_keeps_its_own_vector_where_the_rule_is_undefined():
    """Two of five silent: trimming two from each end of three leaves nothing."""
    silent = FixedMessages(content=SILENCE["nothing"])
    parameters = {"optimizer": "sgd", "p": 1.0, "reference": "aggregated"}
    experiment = tiny("decbyzpg", byzantine=2, aggregator="trimmed_mean", parameters=parameters, attacked_by=silent)
    trace, spared = (
        run_as_block(experiment, 2),
        run_as_block(tiny("decbyzpg", aggregator="trimmed_mean", byzantine=2), 2),
    )
    honest = ~experiment.members.byzantine
    theta0 = federate(experiment)[0].theta0
    state = trace.states[0]
    step = (state["theta"] - theta0)[honest]
    torch.testing.assert_close(step, 0.01 * state["reference"][honest], rtol=1e-3, atol=1e-6)
    assert (step[0] != step[1]).any()
    assert trace.counters.num_undefined >= 2 * 2 * 3
    assert spared.counters.num_undefined == 0
    assert all(s["theta"].isfinite().all() for s in trace.states)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "normalized", "clipped"])
def test_nobody_moves_where_the_servers_rule_is_undefined(optimizer):
    silent = FixedMessages(content=SILENCE["nothing"])
    parameters = {"optimizer": optimizer}
    experiment = tiny("byzpg", byzantine=2, aggregator="trimmed_mean", parameters=parameters, attacked_by=silent)
    federation, _ = federate(experiment)
    start = experiment.algorithm.start(federation)
    trace = run_as_block(experiment, 3)
    assert all(same(state, start) for state in trace.states)
    assert trace.counters.num_undefined == 3

    @dataclass(frozen=True)
    class Later(FixedMessages):
        def craft_messages(self, context, memory, rng):
            return ByzantineMessages([None, None]) if context.round == 1 else ByzantineMessages(
                context.byzantine
            ), memory

    states = run_as_block(replace(experiment, attack=Later()), 3).states
    assert same(states[1], states[0])
    assert (states[0]["theta"] != start["theta"]).any()
    assert (states[2]["theta"] != states[1]["theta"]).any()


@pytest.mark.parametrize("content", ["nan", "nothing"])
def test_an_inbox_may_be_empty(content):
    """A Byzantine agent between two others on a ring receives nothing; the run continues, and honest agents learn."""
    fixed = FixedMessages(content={**RUBBISH, **SILENCE}[content])
    experiment = tiny("decbyzpg", topology="ring", byzantine=4, assumed_byzantine=1, attacked_by=fixed)
    inbox, _ = first_inbox(experiment)
    assert (inbox.n == 0).any()
    honest = ~experiment.members.byzantine
    trace = run_as_block(experiment, 3)
    assert trace.states[-1]["theta"].isfinite().all()
    assert (trace.states[-1]["theta"] != trace.states[0]["theta"])[honest].any()


@pytest.mark.parametrize("algo", ONCE)
def test_a_run_that_leaves_the_numbers_is_diverged_and_not_a_crash(algo):
    experiment = tiny(algo, parameters={"lr": 1e40, "optimizer": "sgd"})
    trace = run_as_block(experiment, 3)
    verdict = classify_run(100.0, trace.states[-1]["theta"], ~experiment.members.byzantine, experiment.task)
    if algo == "fed_ppo":  # its messages are where agents would go: what is no number is not heard, and nobody moves
        assert all(torch.equal(state["theta"], trace.states[0]["theta"]) for state in trace.states)
        assert trace.counters.num_malformed > 0
        return
    assert not trace.states[-1]["theta"].isfinite().all()
    assert verdict.name == "diverged"


def test_an_attacker_reaches_the_policy_of_its_own_group_alone():
    plain, attacked = (tiny("ensemble_frl", attack, aggregator="mean") for attack in ("none", "large_noise"))
    (attacker,) = attacked.members.byzantine_ids
    ends = [run_as_block(todo, 3).states[-1]["theta"].unflatten(1, (5, -1)) for todo in (plain, attacked)]
    changed = (ends[0] != ends[1]).any(2)
    assert (changed == (torch.arange(5) == attacker % 5)).all()
    assert (ends[0] == ends[0][:1]).all(), "everybody holds the whole ensemble"
    assert len(ends[0][0].unique(dim=0)) == 5


def test_the_clone_of_a_server_with_groups_is_at_the_worst_of_them():
    observed = []

    @dataclass(frozen=True)
    class OracleUser(FixedMessages):
        @property
        def threat(self):
            return ThreatModel(knowledge=frozenset({"byzantine", "rule"}), query_budget=1)

        def craft_messages(self, context, memory, rng):
            observed.append((context.rule(7 * context.byzantine), context.byzantine))
            return ByzantineMessages(7 * context.byzantine), memory

    todo = replace(tiny("ensemble_frl", agents=10, byzantine=3, aggregator="mean"), attack=OracleUser())
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    value, _ = federation.aggregate(lockstep(federation.gather("gradient", x, 5)), {})
    groups = [attacker % 5 for attacker in todo.members.byzantine_ids]
    worst = max(range(5), key=groups.count)
    torch.testing.assert_close(observed[0][0], value[worst])


def test_more_groups_than_agents_are_one_line():
    with pytest.raises(Undefined, match="has 5 groups, and there are only 3 agents"):
        Experiment.create("ensemble_frl", agents=3)


def ppo(env, *, parameters=None, **options):
    options = {"agents": 3, "byzantine": 0, "trajectories": 12, "seed": 3, **options}
    parameters = {"N": 2, "epochs": 2, "minibatch_size": 50, "lr": 0.01, **(parameters or {})}
    return Experiment.create("fed_ppo", env=env, parameters={"algorithm": parameters}, **options)


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_agents_who_improve_side_by_side_do_not_touch_each_other(env):
    """They may have unlike many steps; and BLAS rounds a product with one column in its own way, the critic's last."""
    trace = compare_rows(ppo(env, parameters={"minibatch_size": 16 if env == "cartpole" else 100}), rounds=2)
    assert (len(trace.states[-1]["adam.t"].unique()) > 1) == (env == "cartpole")


def test_a_unit_of_returns_undoes_a_scale_of_rewards():
    """Advantages are measured by their own deviation, and the critic starts from nothing: only the unit matters."""
    plain = run_as_block(ppo("cartpole", parameters={"return_scale": 4.0}), 3).states[-1]
    scaled = run_as_block(
        ppo("cartpole", scenario="reward_scale:factor=8", parameters={"return_scale": 32.0}), 3
    ).states[-1]
    other = run_as_block(ppo("cartpole", scenario="reward_scale:factor=8", parameters={"return_scale": 4.0}), 3).states[
        -1
    ]
    torch.testing.assert_close(scaled["theta"], plain["theta"])
    torch.testing.assert_close(scaled["critic"], plain["critic"])
    assert not torch.allclose(other["critic"], plain["critic"])


@pytest.mark.parametrize("trajectories, share", [(8, 0.75), (4, 0.5)])
def test_the_step_size_of_ppo_falls_with_the_budget(trajectories, share):
    """Two episodes are spent before the second round, whose one step is in proportion to its size."""

    def second_step(schedule):
        once = {"lr_schedule": schedule, "epochs": 1, "minibatch_size": 10_000}
        todo = ppo("cartpole", trajectories=trajectories, aggregator="mean", parameters=once)
        first, second = run_as_block(todo, 2).states
        return second["theta"] - first["theta"]

    torch.testing.assert_close(second_step("linear"), share * second_step("constant"), rtol=1e-3, atol=1e-6)
