"""The preset `official`: what the released code of DecByzPG does where it is not its pseudo-code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import byzbench
from byzbench import Experiment, registry
from byzbench.core.page import draw_official_parameters, draw_official_uniform
from byzbench.errors import InvalidParameter
from byzbench.experiments.runner import federate, lockstep
from byzbench.records.run_folder import RunFolder
from byzbench.rl.gradients import importance_weights, product_weights
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import CategoricalPolicy
from byzbench.testing.rows import run_as_block

FAMILY = ["decbyzpg", "byzpg", "dec_page_pg", "fed_page_pg", "page_pg", "solo"]
SMALL = {"N": 6, "B": 3, "p": 0.5}


def test_the_initial_policy_is_the_one_that_its_constructors_make() -> None:
    sizes = (4, 16, 16, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(i, o) for i, o in ((4, 16), (16, 16), (16, 2))]
        for parameter in (p for layer in layers for p in layer.parameters()):
            bound = 1 / parameter.size(-1) ** 0.5
            parameter.data.uniform_(-bound, bound)
    theta = draw_official_parameters(sizes).unsqueeze(0)
    x = torch.randn(1, 7, 4, generator=torch.Generator().manual_seed(1))
    policy = CategoricalPolicy(FeedForward(sizes), squashed=True)
    expected = x[0]
    for layer in layers:
        expected = layer(expected).tanh()
    torch.testing.assert_close(policy.logits(policy.layers(theta), x)[0], expected)


def test_the_coin_is_the_global_stream_of_seed_zero() -> None:
    legacy = np.random.RandomState(0)
    drawn = [bool(legacy.choice([True, False], p=[0.2, 0.8])) for _ in range(300)]
    assert [draw_official_uniform(t) < 0.2 for t in range(1, 301)] == drawn


@pytest.mark.slow
def test_official_streams_are_the_same_for_all_seeds_but_for_the_environments() -> None:
    def trace(seed: int, streams: str) -> tuple[torch.Tensor, list[float], torch.Tensor]:
        parameters = {"algo": {**SMALL, "streams": streams}}
        experiment = Experiment.create("page_pg", seed=seed, trajectories=60, parameters=parameters)
        federation, _ = federate(experiment)
        state = experiment.algorithm.start(federation)
        federation.begin(0, 0.0)
        batch = federation.sample(state["theta"], 2)
        coins = [metrics["large_batch"] for metrics in run_as_block(experiment, 12).metrics]
        return state["theta"], coins, batch.observations[:, 0]

    (theta, coins, starts), (other_theta, other_coins, other_starts) = (trace(s, "official") for s in (0, 1))
    assert torch.equal(theta, other_theta)
    assert coins == other_coins
    assert not torch.equal(starts, other_starts)
    (theta, coins, _), (other_theta, other_coins, _) = (trace(s, "independent") for s in (0, 1))
    assert not torch.equal(theta, other_theta)
    assert coins != other_coins


def test_product_weights_underflow_where_log_weights_do_not() -> None:
    experiment = Experiment.create("page_pg", parameters={"algo": SMALL})
    federation, _ = federate(experiment)
    federation.begin(0, 0.0)
    theta = federation.theta0
    batch = federation.sample(theta, 200)
    policy, lengths = federation.policy, batch.mask.sum(1)[0]
    torch.testing.assert_close(importance_weights(policy, theta, theta, batch), torch.ones(1, 200).double())
    products = product_weights(policy, theta, theta, batch)[0]
    likelihood = 0.5 ** lengths.double()  # near enough: the first policy is close to indifferent
    assert products.dtype == torch.float32
    assert (products[likelihood > 1e-5] > 0.99).all()
    assert (products[likelihood < 1e-13] < 0.05).all()
    assert (lengths > 45).any()


def test_the_snapshot_after_the_step_makes_the_correction_void() -> None:
    """v_t = v_{t-1} + (1 - omega) g: with omega near 1, and no agreement to move anything, nothing is left."""
    parameters = {"algo": {**SMALL, "snapshot": "after_step", "optimizer": "sgd", "lr": 1e-3}}
    experiment = Experiment.create("page_pg", seed=1, parameters=parameters)
    trace = run_as_block(experiment, 8)
    small = [t for t, metrics in enumerate(trace.metrics) if not metrics["large_batch"]]
    assert small
    for t in small:
        before, after = trace.states[t - 1]["reference"], trace.states[t]["reference"]
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    for state in trace.states:
        assert torch.equal(state["previous"], state["theta"])


@pytest.mark.parametrize("name", FAMILY)
def test_the_preset_sets_every_quirk_and_the_user_wins_over_it(name: str) -> None:
    algorithm = Experiment.create(name, preset="official").algorithm
    settings = {
        k: getattr(algorithm, k) for k in ("reference", "snapshot", "weights", "logits", "optimizer", "streams")
    }
    assert settings == {
        "reference": "local",
        "snapshot": "after_step",
        "weights": "product",
        "logits": "tanh",
        "optimizer": "adam",
        "streams": "official",
    }
    assert algorithm.squashed
    custom = Experiment.create(f"{name}:logits=linear", preset="official", parameters={"algo": {"weights": "log"}})
    assert (custom.algorithm.logits, custom.algorithm.weights, custom.algorithm.snapshot) == (
        "linear",
        "log",
        "after_step",
    )  # type: ignore[attr-defined]
    assert Experiment.create(name, preset="paper").algorithm == registry.make("algorithm", name)


def test_the_preset_brings_the_rules_of_the_code() -> None:
    official = Experiment.create("decbyzpg", preset="official")
    assert official.aggregator == registry.make("aggregator", "rfa(nu=0.1, relative=False, steps=8, start=zero)")
    assert official.agreement == registry.make("agreement", "mda(stop=observer, cap=100000)")
    assert Experiment.create("decbyzpg", preset="official", aggregator="median").aggregator == registry.make(
        "aggregator", "median"
    )
    with pytest.raises(InvalidParameter, match="its presets: recommended, paper, official"):
        Experiment.create("decbyzpg", preset="offical")
    with pytest.raises(InvalidParameter, match="no preset 'official'; its presets: recommended, paper"):
        Experiment.create("gpomdp", preset="official")


@pytest.mark.parametrize("attack", ["none", "large_noise(relative=False)"])
def test_the_observer_measures_what_everybody_sent(attack: str) -> None:
    """Without equivocation: sqrt(K) times the diameter of the narrowest K - f vectors, with those of attackers."""
    experiment = Experiment.create("decbyzpg", attack, agents=7, byzantine=1, preset="official")
    federation, _ = federate(experiment)
    federation.begin(0, 0.0)
    x = torch.randn(7, federation.theta0.shape[1], generator=torch.Generator().manual_seed(0))
    inbox = lockstep(federation.exchange("parameters", x))
    width = experiment.agreement.width(federation, inbox)  # type: ignore[attr-defined]
    assert width.shape == (7,)
    assert len(width.unique()) == 1
    if attack == "none":
        torch.testing.assert_close(width[0], 7**0.5 * federation.width(inbox)[0])
    else:
        sent = inbox.base[inbox.senders].double()
        apart = [torch.linalg.matrix_norm(sent[:, i] - sent[:, j], 2) for i in range(7) for j in range(i)]
        honest = [
            a
            for a, (i, j) in zip(apart, ((i, j) for i in range(7) for j in range(i)), strict=True)
            if not {i, j} & set(experiment.members.byzantine_ids)
        ]
        torch.testing.assert_close(width[0], torch.stack(honest).max())


RELEASED = json.loads((Path(__file__).parent / "golden" / "official_runs.json").read_text())["runs"]


def training_return(run: str, marks: list[int]) -> list[float]:
    """Mean over the last 100 trajectories before each mark, as the recorded runs have it."""
    returns: list[float] = []
    for line in RunFolder(Path(run)).metrics():
        returns += [line["return"]] * (line["trajectories"] - len(returns))
    return [float(np.mean(returns[mark - 100 : mark])) for mark in marks]


@pytest.mark.slow
@pytest.mark.parametrize(("agents", "byzantine"), [(1, 0), (5, 1), (13, 3)])
def test_it_meets_the_runs_of_the_released_code(agents: int, byzantine: int, tmp_path: Path) -> None:
    """CartPole: within three standard deviations where six runs were recorded, within 30 % where there are fewer."""
    recorded = [
        dict(zip(r["trajectories"], r["training_return"], strict=True))
        for r in RELEASED
        if (r["env"], r["agents"], r["byzantine"]) == ("CartPole", agents, byzantine)
    ]
    marks = [m for m in (1000, 2000, 3000, 4000) if any(m in run for run in recorded)]
    known = [np.array([run[m] for run in recorded if m in run]) for m in marks]
    options = {"attack": "avg_zero", "agents": agents, "byzantine": byzantine} if byzantine else {}
    ours = [
        training_return(
            str(
                byzbench.run(
                    algo="decbyzpg" if byzantine else "page_pg",
                    preset="official",
                    trajectories=marks[-1],
                    seed=seed,
                    out=tmp_path,
                    **options,
                ).run
            ),
            marks,
        )
        for seed in range(5)
    ]
    for mean, theirs in zip(np.mean(ours, axis=0), known, strict=True):
        tolerance = 3 * theirs.std(ddof=1) if len(theirs) >= 6 else 0.3 * theirs.mean()
        assert abs(mean - theirs.mean()) < tolerance
