"""Methods whose agents exchange parameters: rounds by hand, special cases, and the effect of robust rules."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch

from byzbench import registry
from byzbench.core import Communication
from byzbench.core.page import PageAlgorithm
from byzbench.errors import InvalidParameter
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, federate, lockstep, one_thread
from byzbench.rl.gradients import gpomdp, importance_weights

K, LR = 5, 1e-3
COMPLETE = torch.full((K, K), 1 / K, dtype=torch.float64)


def experiment(algo, topology="complete", attack="none", byzantine=0, assumed_byzantine=1, **options):
    """Five agents, two episodes a round, plain steps; by default none is Byzantine, and f = 1 is assumed."""
    sizes = {"N": 2, "lr": LR, "optimizer": "sgd", **options.pop("parameters", {})}
    return Experiment.create(
        algo,
        attack,
        topology,
        agents=K,
        byzantine=byzantine,
        assumed_byzantine=assumed_byzantine,
        trajectories=1000,
        seed=3,
        parameters={"algorithm": sizes},
        **options,
    )


def rounds(todo, count):
    """The state after each round."""
    federation, _ = federate(todo)
    state, states = todo.algorithm.start(federation), []
    for round in range(count):
        federation.begin(round, 0.0)
        state, _ = lockstep(todo.algorithm.round(federation, state))
        states.append(state)
    return states, federation


def gradient(todo, round, theta, before=None):
    """Return the gradients of agents at theta in a round, and at another point by the same episodes."""
    federation, _ = federate(todo)
    federation.begin(round, 0.0)
    batch = federation.sample(theta.float(), 2)
    value = gpomdp(federation.policy, theta.float(), batch, federation.discount).double()
    if before is None:
        return value
    omega = importance_weights(federation.policy, before.float(), theta.float(), batch)
    return value, gpomdp(federation.policy, before.float(), batch, federation.discount, omega).double()


def start(todo):
    return federate(todo)[0].theta0.double()


def nearest(x, i):
    """The others, nearest to x_i first."""
    return sorted((j for j in range(K) if j != i), key=lambda j: float((x[j] - x[i]).norm()))


def clip(z, radius):
    return z * min(1.0, float(radius / z.norm()))


def clipped_gossip(x, i):
    """b = 1/5, so tau^2 is the sum of the three nearest squares: what all less b weigh."""
    near = nearest(x, i)
    radius = sum((x[j] - x[i]).square().sum() for j in near[:3]).sqrt()
    return x[i] + sum(clip(x[j] - x[i], radius) for j in near) / K


def nna(x, i):
    return x[[i, *nearest(x, i)[:3]]].mean(0)


def ios(x, i):
    gaps = (x - x.mean(0)).norm(dim=1)
    gaps[i] = -1
    return x[[j for j in range(K) if j != int(gaps.argmax())]].mean(0)


def cs_plus(x, i):
    near = nearest(x, i)
    return x[i] + sum(clip(x[j] - x[i], (x[near[1]] - x[i]).norm()) for j in near) / K


def gts(x, i):
    return x[i] + sum(x[j] - x[i] for j in nearest(x, i)[:3]) / K


def balance(x, i):
    """Two steps from one point, nobody is as far as a third of its length."""
    return 0.5 * x[i] + 0.5 * x[nearest(x, i)].mean(0)


def bridge(x, i):
    return (x[i] + x[nearest(x, i)].sort(0).values[1:3].sum(0)) / 3


def w_msr(x, i):
    """In each coordinate, without the largest if the own is not, and without the smallest likewise."""
    ordered = x.sort(0).values
    total, count = ordered[1:-1].sum(0), torch.full_like(x[i], 3.0)
    for extreme in (ordered[0], ordered[-1]):
        total = total + torch.where(x[i] == extreme, extreme, 0.0)
        count = count + (x[i] == extreme)
    return total / count


def screened(rule, x):
    return torch.stack([rule(x, i) for i in range(K)])


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("rule", [clipped_gossip, nna, ios, cs_plus, gts, balance], ids=lambda r: r.__name__)
def test_a_step_then_gossip_by_hand(rule, corrected):
    todo = experiment(rule.__name__, parameters={"momentum": 0.6, "corrected": corrected})
    states, _ = rounds(todo, 2)
    first = start(todo)
    momentum = gradient(todo, 0, first)
    theta = screened(rule, first + LR * momentum)
    torch.testing.assert_close(states[0]["theta"].double(), theta, rtol=0, atol=1e-6)
    fresh, old = gradient(todo, 1, states[0]["theta"], first)
    momentum = 0.4 * fresh + 0.6 * (momentum + (fresh - old if corrected else 0))
    there = states[0]["theta"].double() + LR * momentum
    theta = screened(rule, there)
    torch.testing.assert_close(states[1]["theta"].double(), theta, rtol=0, atol=1e-5)
    assert (theta - there).norm() > 1e-2  # the rule did something


@pytest.mark.parametrize("gradient_at", ["own", "screened"])
@pytest.mark.parametrize("rule", [bridge, w_msr], ids=lambda r: r.__name__)
def test_gossip_then_a_step_by_hand(rule, gradient_at):
    todo = experiment(rule.__name__, parameters={"gradient_at": gradient_at})
    states, _ = rounds(todo, 2)
    theta = start(todo) + LR * gradient(todo, 0, start(todo))  # all said the same
    torch.testing.assert_close(states[0]["theta"].double(), theta, rtol=0, atol=1e-6)
    there = screened(rule, states[0]["theta"].double())
    at = states[0]["theta"] if gradient_at == "own" else there
    torch.testing.assert_close(states[1]["theta"].double(), there + LR * gradient(todo, 1, at), rtol=0, atol=1e-5)
    assert (there - theta).norm() > 1e-2


def test_the_sources_order_is_the_default():
    assert Experiment.create("bridge").algorithm.gradient_at == "own"
    assert Experiment.create("w_msr").algorithm.gradient_at == "screened"


def mda(x):
    subsets = list(combinations(range(K), K - 1))
    return x[list(min(subsets, key=lambda s: max((x[i] - x[j]).norm() for i, j in combinations(s, 2))))].mean(0)


def test_learn_by_hand():
    todo = experiment("learn")
    states, federation = rounds(todo, 1)
    theta = start(todo)[0] + LR * mda(gradient(todo, 0, start(todo)))  # all hear the same, and so agree
    torch.testing.assert_close(states[0]["theta"].double(), theta.expand(K, -1), rtol=0, atol=1e-6)
    assert federation.counters.messages == 2 * K * (K - 1)


def test_learn_agrees_on_gradients_as_often_as_a_logarithm_grows():
    """Gradients and parameters once a round, and in round t gradients ceil(log2(t + 1)) times more."""
    more = [0, 1, 2, 2, 3, 3]
    states, federation = rounds(experiment("learn", "ring", parameters={"heterogeneous": True}), len(more))
    assert federation.counters.messages == (2 * len(more) + sum(more)) * 2 * K
    plain, _ = rounds(experiment("learn", "ring"), len(more))
    assert torch.equal(states[0]["theta"], plain[0]["theta"])
    assert not torch.equal(states[1]["theta"], plain[1]["theta"])


def test_mdpgt_by_hand_on_a_ring():
    todo = experiment("mdpgt", "ring", parameters={"beta": 0.3})
    states, _ = rounds(todo, 2)
    mixing = sum(torch.eye(K, dtype=torch.float64).roll(shift, 0) for shift in (-1, 0, 1)) / 3
    first = start(todo)
    estimate = gradient(todo, 0, first)
    tracked = mixing @ estimate
    torch.testing.assert_close(states[0]["theta"].double(), first + LR * tracked, rtol=0, atol=1e-6)
    theta = states[0]["theta"].double()
    fresh, old = gradient(todo, 1, theta, first)
    follows = 0.3 * fresh + 0.7 * (estimate + fresh - old)
    tracked = mixing @ (tracked + follows - estimate)
    torch.testing.assert_close(states[1]["theta"].double(), mixing @ theta + LR * tracked, rtol=0, atol=1e-5)


def test_what_mdpgt_tracks_is_the_mean_of_all_estimates():
    for state in rounds(experiment("mdpgt", "random_regular(degree=2)"), 4)[0]:
        torch.testing.assert_close(state["tracked"].mean(0), state["estimate"].mean(0), rtol=1e-4, atol=1e-3)
    assert not torch.isclose(state["tracked"], state["estimate"]).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "algo, parameters, rules",
    [
        ("mdpgt", {"beta": 1.0}, {}),
        ("learn", {}, {"aggregator": "mean", "agreement": "mean"}),
        (
            "decbyzpg",
            {"p": 1.0, "baseline": "none", "lr_schedule": "constant"},
            {"aggregator": "mean", "agreement": "mean"},
        ),
    ],
)
def test_on_the_complete_graph_with_averaging_methods_are_federated_gpomdp(algo, parameters, rules, optimizer):
    plain = {"optimizer": optimizer}
    federated, _ = rounds(experiment("gpomdp", "star", parameters=plain), 4)
    states, _ = rounds(experiment(algo, parameters={**plain, **parameters}, **rules), 4)
    for one, other in zip(states, federated, strict=True):
        torch.testing.assert_close(one["theta"], other["theta"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("algo", ["clipped_gossip", "nna", "ios", "gts", "cs_plus"])
def test_without_attackers_to_expect_a_gossip_rule_is_averaging(algo):
    """Then the round is that of federated GPOMDP with plain steps."""
    federated, _ = rounds(experiment("gpomdp", "star"), 3)
    states, _ = rounds(experiment(algo, assumed_byzantine=0, parameters={"momentum": 0.0}), 3)
    for one, other in zip(states, federated, strict=True):
        torch.testing.assert_close(one["theta"], other["theta"], rtol=0, atol=2e-6)


NOISE = "large_noise(relative=False, on={})"


def moved(algo, on, count=2, **options):
    """Return the distance that honest agents move in some rounds beside an attacker with large messages."""
    todo = experiment(algo, attack=NOISE.format(on), byzantine=1, **options)
    states, _ = rounds(todo, count)
    return float((states[-1]["theta"] - states[0]["at"])[~todo.members.byzantine].norm(dim=1).max())


@pytest.mark.parametrize("algo", ["clipped_gossip", "nna", "ios", "cs_plus", "gts", "balance", "bridge", "w_msr"])
def test_an_attacker_moves_nobody_who_screens(algo):
    assert moved(algo, "parameters") < 1
    assert moved(algo, "parameters", agreement="gossip+weighted_mean") > 1000


def test_mdpgt_is_robust_where_it_screens():
    """An attacker in the tracker moves those who screen the iterate alone, and the other way round."""
    for on, saving in (("gradient", "tracker"), ("parameters", "iterate")):
        far = {preset: moved("mdpgt", on, preset=preset) for preset in ("paper", "iterate", "tracker", "both")}
        assert all((far[preset] < 1) == (preset in (saving, "both")) for preset in far), far


def test_an_attack_on_gradients_alone_is_noted_where_parameters_are_exchanged():
    assert not experiment("nna", attack="sign_flip(on=parameters)", byzantine=1).notes()[1:]
    (_, note) = experiment("nna", attack="sign_flip", byzantine=1).notes()
    assert note == (
        "attack 'sign_flip' crafts no messages about parameters, which is all that agents of nna exchange: "
        "try -p attack.on=parameters"
    )
    assert experiment("nna", aggregator="krum", assumed_byzantine=0).notes() == [
        "nna has no use for an aggregator: 'krum' changes nothing"
    ]


def byzpg(rule="rfa", count=4, attack="none", **parameters):
    sizes = {"p": 1e-9, "B": 2, "agg_on": "differences", **parameters}
    todo = experiment("byzpg", "star", attack, byzantine=int(attack != "none"), aggregator=rule, parameters=sizes)
    return rounds(todo, count)[0]


def test_differences_are_vectors_to_a_rule_that_moves_with_its_inputs():
    for one, other in zip(byzpg(), byzpg(agg_on="vectors"), strict=True):
        torch.testing.assert_close(one["theta"], other["theta"], rtol=0, atol=1e-5)
    # The least in length are others where the common part is taken away.
    assert not torch.isclose(byzpg("cge")[-1]["theta"], byzpg("cge", agg_on="vectors")[-1]["theta"], atol=1e-5).all()


def test_a_clipped_difference_is_no_longer_than_the_step_allows():
    free, long, short = (byzpg("mean", clip=clip) for clip in (None, 1e9, 0.5))
    assert torch.equal(long[-1]["theta"], free[-1]["theta"])
    for before, after in pairwise(short):
        change = (after["reference"] - before["reference"])[0].norm()
        step = (before["theta"] - before["previous"])[0].norm()
        assert 0 < change <= 0.5 * step * (1 + 1e-4) + 1e-4
    assert (free[1]["reference"] - free[0]["reference"])[0].norm() > (before["theta"] - before["previous"])[0].norm()


def test_differences_need_a_reference_that_the_server_knows():
    with pytest.raises(InvalidParameter, match="the server knows no other"):
        experiment("byzpg", "star", parameters={"agg_on": "differences", "reference": "local"})


PEERS = [
    name
    for name in registry.origins("algorithm")
    if registry.find("algorithm", name).communication == Communication.DECENTRALIZED
]
GRAPHS = [name for name in registry.origins("topology") if name not in ("star", "from_file")]
"""A star has a server at its centre; a file is one of the others, written down."""
PLACEMENTS = ["first", "min_cut"]
"""Attackers at one end, and where they cut the honest agents off from each other, if two can."""


def trains_on(algo, graph, placement, trajectories, batch):
    """Runs beside two of sixteen who cancel what neighbours learn from each other, and ends with numbers."""
    sizes = {"N": batch, **({"B": 2} if issubclass(registry.find("algorithm", algo), PageAlgorithm) else {})}
    todo = Experiment.create(
        algo,
        "dissensus(on=both)",
        graph,
        placement=placement,
        agents=16,
        byzantine=2,
        trajectories=trajectories,
        seed=1,
        preset="paper",
        parameters={"algorithm": sizes},
    )
    training = Training(todo)
    first = training.state["theta"]
    with one_thread():
        while not training.is_finished:
            line = lockstep(training.advance())
    theta = training.state["theta"][~todo.members.byzantine]
    assert theta.isfinite().all()
    assert (theta != first[~todo.members.byzantine]).any(1).all()
    assert line["disagreement"] is not None
    return todo.diagnostics["honest_components"]


SOME = [
    (PEERS[i % len(PEERS)], GRAPHS[i % len(GRAPHS)], PLACEMENTS[i % 2]) for i in range(max(len(PEERS), len(GRAPHS)))
]


@pytest.mark.parametrize("algo, graph, placement", SOME)
def test_methods_live_on_graphs(algo, graph, placement):
    trains_on(algo, graph, placement, 8, 4)


@pytest.mark.slow
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_method_trains_on_every_graph(graph):
    pieces = [trains_on(algo, graph, PLACEMENTS[i % 2], 100, 25) for i, algo in enumerate(PEERS)]
    assert max(pieces) > 1 or graph not in ("path", "ring", "binary_tree", "dumbbell")
    assert min(pieces) == 1 or graph in ("binary_tree", "barabasi_albert")  # whose first are their hubs
