"""Scenarios: agents that differ, environments that change, noisy rewards, churn and normalised observations."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_suite import main

from byzbench import registry, run
from byzbench.envs import FederationEnv
from byzbench.errors import Undefined, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, federate, lockstep
from byzbench.federation.scenarios import Scenarios
from byzbench.randomness import Streams
from byzbench.records.run_folder import RunFolder
from byzbench.rl.scales import in_units
from byzbench.testing.rows import run_as_block, run_by_rows


def tiny(scenario="none", algo="decbyzpg", attack="none", **options):
    small = {"agents": 5, "byzantine": 1, "seed": 3, "trajectories": 60, **options}
    parameters = {"algo": {"N": 6, "B": 3, "p": 0.5}}
    return Experiment.create(algo, attack, scenario=scenario, **{"parameters": parameters, **small})


def scenarios(text, seed=0, agents=4):
    return Scenarios(registry.make("scenario", text), registry.make("task", "cartpole"), Streams(seed), agents)


def physics(text, progress=0.0, seed=0, agents=4):
    return scenarios(text, seed, agents).physics(range(agents + 1), progress)


def test_constants_lie_apart_as_far_as_heterogeneity_says():
    task = registry.make("task", "cartpole")
    assert physics("none") == {}
    whole, half = (physics(f"heterogeneous:spread={h}", agents=300) for h in (1.0, 0.5))
    assert set(whole) == set(task.dynamics)
    for name, factors in whole.items():
        logs = np.log2(factors[:-1])
        assert -1 <= logs.min() < -0.95
        assert 0.95 < logs.max() <= 1
        np.testing.assert_allclose(np.log2(half[name][:-1]), logs / 2)
        assert factors[-1] == 1, "a server has the task's own"
    assert not np.allclose(whole["length"], whole["gravity"])
    assert not np.allclose(whole["length"], physics("heterogeneous:spread=1.0", seed=1, agents=300)["length"])


def test_a_shift_comes_at_its_point_of_the_budget_and_on_top_of_heterogeneity():
    text = "nonstationary:physics='length=2 gravity=0.5',at=0.4"
    assert physics(text, 0.39) == {}
    assert {name: set(factors) for name, factors in physics(text, 0.4).items()} == {"length": {2.0}, "gravity": {0.5}}
    both = "heterogeneous(spread=0.5)+nonstationary(physics='length=2')"
    np.testing.assert_allclose(physics(both, 0.5)["length"], 2 * physics(both, 0.4)["length"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("heterogeneous:spread=1.5", "less than or equal to 1"),
        (
            "nonstationary:physics='lenght=2'",
            "task 'cartpole' has no constant 'lenght'. Did you mean 'length'? "
            "Constants: gravity, masscart, masspole, length, force_mag.",
        ),
        ("nonstationary:physics='length=2 length=3'", "physics='length=2 length=3' has a constant twice"),
        ("normalized+reward_noise+normalized(episodes=2)", "normalized is given twice"),
        ("heterogeneous:of=weather", "must be 'physics', 'rewards' or 'starts'"),
        ("heterogenous", "Did you mean 'heterogeneous'?"),
        ("nonstationary:physics='length'", "match pattern"),
        ("nonstationary:physics='length=-1'", "match pattern"),
        ("nonstationary:physics='length=0'", "the factor of length must be above 0"),
        ("nonstationary:physics='length=２'", "match pattern"),
        ("reward_scale:factor=0", "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_one_line(text, message):
    with pytest.raises(UserError) as caught:
        tiny(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_agents_that_differ_play_differently_and_the_rest_of_the_draws_are_the_same():
    plain, apart = (federate(tiny(scenario))[0] for scenario in ("none", "heterogeneous:spread=1.0"))
    batches = []
    for federation in (plain, apart):
        federation.begin(0, 0.0)
        batches.append(federation.sample(federation.theta0, 4))
    assert torch.equal(batches[0].observations[:, 0], batches[1].observations[:, 0])
    assert torch.equal(batches[0].actions[:, 0], batches[1].actions[:, 0])
    assert not torch.equal(batches[0].observations[:, 1], batches[1].observations[:, 1])


@pytest.mark.parametrize(
    "scenario",
    [
        "heterogeneous(spread=0.8)+nonstationary(physics='length=2')",
        "reward_scale+reward_noise(scale=0.5, law=student)",
    ],
)
def test_rows_equal_the_block(scenario):
    block, rows = (drive(tiny(scenario, attack="sign_flip"), 4) for drive in (run_as_block, run_by_rows))
    for one, other in zip(block.states, rows.states, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_agents_are_paid_by_scale_and_noise_while_the_true_return_is_reported():
    scaled, noisy, plain = (
        federate(tiny(scenario))[0]
        for scenario in ("reward_scale", "reward_scale(factor=2)+reward_noise(scale=0.5)", "none")
    )
    results = []
    for federation in (plain, scaled, noisy):
        federation.begin(0, 0.0)
        results.append(federation.sample(federation.theta0, 40))
        assert torch.equal(federation.statistics.returns, plain.statistics.returns)
    truth, tenfold, blurred = (batch.rewards for batch in results)
    assert torch.equal(tenfold, 10 * truth)
    added = (blurred - 2 * truth)[results[0].mask].double()
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    assert abs(float(added.mean())) < 4.5 * 0.5 / len(added) ** 0.5
    assert (blurred[~results[0].mask] == 0).all()


def test_students_noise_has_the_heavier_tail():
    sizes = []
    for tail in ("normal", "student"):
        noisy, mask = scenarios(f"reward_noise:law={tail}", agents=1), torch.ones(1, 500, 20, dtype=torch.bool)
        sizes.append(noisy.transform_rewards(torch.zeros(1, 500, 20), mask, [0], "", 0, 0.0).abs().max())
    assert sizes[0] < 6
    assert sizes[1] > 20


def normalization_of(algo="decbyzpg", attack="none", scenario="normalized:episodes=3", **options):
    training = Training(tiny(scenario, algo, attack, **options))
    lockstep(training.advance())
    return training


def test_agents_see_in_units_of_what_they_measured():
    training = normalization_of("solo", agents=1, byzantine=0)
    federation = federate(training.todo)[0]
    federation.begin(0, 0.0)
    raw = federation.sample(federation.theta0, 3)
    x = raw.observations[raw.mask].double()
    scales = training.federation.scenarios.scales
    torch.testing.assert_close(scales[0, :4].double(), x.mean(0), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(scales[0, 4:].double(), x.std(0, correction=0).log(), atol=1e-6, rtol=1e-4)
    federation.scenarios.scales = scales
    first, again = raw.observations[:, 0], federation.sample(federation.theta0, 3).observations[:, 0]
    observed = torch.from_numpy(in_units(first.flatten(0, 1).numpy(), scales[:1]))
    torch.testing.assert_close(observed, ((first - scales[0, :4]) / scales[0, 4:].exp())[0])
    assert again.std() > 5 * first.std()
    assert training.spent == 3 + 6, "they are charged"


@pytest.mark.parametrize("algo", ["decbyzpg", "byzpg"])
def test_statistics_are_agreed_on_under_attack(algo):
    clean = normalization_of(algo).federation.scenarios.scales
    assert (clean[:-1] == clean[:1]).all()
    robust, naive = (
        normalization_of(algo, "large_noise:scale=1000", aggregator=rule, agreement="none").federation.scenarios.scales[
            0
        ]
        for rule in ("rfa", "mean")
    )
    assert (robust - clean[0]).norm() < 1
    assert (naive - clean[0]).norm() > 10


def test_evaluations_see_the_same_way_and_a_game_of_attackers_is_refused():
    training = normalization_of()
    results = training.evaluate(1)
    training.federation.scenarios.scales = training.federation.scenarios.scales + 1
    assert training.evaluate(1) != results
    assert "statistics" not in tiny().defences
    with pytest.raises(Undefined, match="leave out normalized"):
        FederationEnv(scenario="normalized", agents=5, byzantine=1)


@pytest.mark.parametrize("values", [-1e30, 1e30])
def test_wrong_scales_leave_observations_finite(values):
    observed = np.float32([[0.0, -0.5, 3.0, 1e30]])
    assert np.isfinite(in_units(observed, torch.full((1, 8), values))).all()


def lines_of(training, rounds=40):
    results = []
    while not training.is_finished and len(results) < rounds:
        results.append((training.progress, training.state, lockstep(training.advance())))
    return results


def test_who_is_absent_stands_still_and_comes_back():
    training = Training(tiny("churn:absent='0:0.3-0.6 1:0-0.5'", attack="large_noise"))
    passed, counters = lines_of(training), training.federation.counters
    for agent, start, end in training.federation.scenarios.absences:
        for (progress, before, _), (_, after, _) in pairwise(passed):
            still = torch.equal(before["theta"][agent], after["theta"][agent])
            assert still == (start <= progress < end), (agent, progress)
    assert len(set(counters.trajectories[2:].tolist())) == 1
    assert 0 < counters.trajectories[1] < counters.trajectories[2]


def test_an_absent_agent_changes_inboxes_as_if_it_were_not_in_the_graph():
    todo = tiny("churn:absent='0:0-0.5'")
    federation, _ = federate(todo)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for progress, num_received in ((0.0, [1, 4, 4, 4, 4]), (0.5, [5] * 5)):
        federation.begin(0, progress)
        messages = federation.counters.messages
        inbox = lockstep(federation.exchange("gradient", x))
        assert inbox.n.tolist() == num_received
        assert federation.counters.messages - messages == sum(num_received) - 5
        assert federation.sample(federation.theta0, 2).count.tolist() == [2 * (progress > 0), 2, 2, 2, 2]
        assert federation.counters.num_silent == 0


def test_with_a_server_who_returns_takes_up_what_it_has():
    training = Training(tiny("churn:absent='0:0-0.5 2:0.5-1'", "byzpg"))
    passed = lines_of(training)
    assert all((state["theta"] == state["theta"][:1]).all() for _, state, _ in passed)
    assert passed[0][2]["messages"] == 4 + 5
    assert training.present_agents(1.0).tolist() == [
        a not in (2, *training.todo.members.byzantine_ids) for a in range(5)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["normalized:episodes=3", "churn:absent='0:0-0.5 4:0.7-1'"])
def test_a_run_that_is_resumed_goes_on_as_before(scenario, tmp_path, monkeypatch):
    todo = tiny(scenario, trajectories=30, attack="sign_flip", topology="ring")
    whole = RunFolder(Path(run(todo, out=tmp_path / "whole").run)).metrics()
    monkeypatch.setattr("byzbench.experiments.runner.SAVE_EVERY", -1.0)

    def stop(line):
        if line["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(todo, out=tmp_path / "cut", callback=stop)
    assert RunFolder(Path(run(todo, out=tmp_path / "cut").run)).metrics() == whole
    assert len(whole) > 3
    assert all(line["return"] is not None and line["disagreement"] is not None for line in whole)


def test_a_task_without_constants_takes_no_scenario_that_changes_some():
    for text, message in (
        ("heterogeneous", "task 'lunarlander' has no physical constants that can change; give of=rewards"),
        ("nonstationary:physics='m=2'", "nonstationary: task 'lunarlander' has no physical constants that can change"),
    ):
        with pytest.raises(Undefined, match=message):
            tiny(text, env="lunarlander:backend=envpool")


@pytest.mark.parametrize(
    "text, message",
    [
        ("churn:absent='3'", "match pattern"),
        ("churn:absent='3:0.5-0.2'", "absent=3:0.5-0.2 is no part of the budget"),
        ("churn:absent='3:0-1.5'", "is no part of the budget"),
        ("churn(absent='3:0-0.5')+normalized", "normalized needs all agents at the start, and agent 3 is absent"),
        ("churn:absent='5:0-0.5'", "there is no agent 5; give 0 to 4"),
        ("churn:absent='0:0-1 1:0-1 2:0-1 3:0-1 4:0-1'", "no honest agent is present"),
        ("churn(absent='0:0-0.6 1:0-0.6')+churn(absent='2:0.5-1 3:0.5-1 4:0.5-1')", "no honest agent is present"),
        ("churn:crash=1.0", "no honest agent is present"),
        ("churn:crash=1.5", "less than or equal to 1"),
    ],
)
def test_absences_that_make_no_sense_are_one_line(text, message):
    with pytest.raises(UserError) as caught:
        tiny(text)
    assert message in str(caught.value)


def test_rewards_of_agents_differ_by_a_factor_of_their_own():
    apart, plain = (federate(tiny(text))[0] for text in ("heterogeneous:of=rewards,spread=1.0", "none"))
    for federation in (apart, plain):
        federation.begin(0, 0.0)
    rewards, truth = (federation.sample(federation.theta0, 4).rewards for federation in (apart, plain))
    factors = rewards.sum((1, 2)) / truth.sum((1, 2))
    assert len(factors.unique()) == 5
    assert ((factors > 0.5) & (factors < 2)).all()
    torch.testing.assert_close(rewards, truth * factors[:, None, None])
    assert torch.equal(apart.statistics.returns, plain.statistics.returns)
    both = scenarios("heterogeneous+heterogeneous(of=rewards)")
    assert both.physics(range(4), 0.0).keys() == physics("heterogeneous").keys()


def test_a_drift_moves_factors_from_one_to_their_values():
    text = "nonstationary:at=0.25,physics='length=4',rewards=3.0,drift=0.5"
    rewards, mask = torch.ones(1, 2, 1), torch.ones(1, 2, 1, dtype=torch.bool)
    for progress, length, reward in ((0.0, 1, 1), (0.25, 1, 1), (0.5, 2, 2), (0.75, 4, 3), (1.0, 4, 3)):
        assert physics(text, progress).get("length", np.ones(1))[0] == length
        assert (scenarios(text).transform_rewards(rewards, mask, [0], "", 0, progress) == reward).all()


def test_agents_join_late_and_leave_early_by_streams_of_their_own():
    drawn = scenarios("churn:join=0.4,leave=0.3", agents=500).absences
    late, early = ({a: (start, end) for a, start, end in drawn if first == (start == 0)} for first in (True, False))
    assert 0.3 < len(late) / 500 < 0.5
    assert 0.2 < len(early) / 500 < 0.4
    assert all(late[a][1] <= early[a][0] for a in late.keys() & early.keys())
    assert {end for _, end in early.values()} == {1.0}
    few = scenarios("churn:join=0.4,leave=0.3", agents=50).absences
    assert set(few) == {absence for absence in drawn if absence[0] < 50}
    training = Training(tiny("churn:join=0.5,leave=0.5", agents=9, byzantine=0))
    assert len({len(training.federation.scenarios.inactive_agents(at)) for at in (0.0, 0.3, 0.6, 0.9)}) > 1
    lines_of(training)
    assert training.is_finished


def test_parts_of_one_kind_draw_from_streams_of_their_own():
    zeros, mask = torch.zeros(1, 50, 20), torch.ones(1, 50, 20, dtype=torch.bool)
    one, two = (
        scenarios(text, agents=1).transform_rewards(zeros, mask, [0], "", 0, 0.0)
        for text in ("reward_noise", "reward_noise+reward_noise")
    )
    assert float((two - one).double().std()) == pytest.approx(1, rel=0.15)
    assert abs(float(torch.corrcoef(torch.stack([one.flatten(), (two - one).flatten()]))[0, 1])) < 0.15


@pytest.mark.parametrize("env", ["cartpole", "acrobot", "pendulum", "lunarlander:backend=envpool"])
def test_a_share_of_episodes_starts_in_a_state_of_the_agent(env):
    drawn = {}
    for spread in (0.0, 0.5, 1.0):
        federation, _ = federate(tiny(f"heterogeneous:of=starts,spread={spread}", env=env))
        batches = []
        for round in range(2):
            federation.begin(round, 0.0)
            batches.append(federation.sample(federation.theta0, 20).observations[:, 0].numpy())
        drawn[spread] = np.concatenate(batches, 1)
    num_distinct = {spread: [len(np.unique(rows, axis=0)) for rows in agents] for spread, agents in drawn.items()}
    assert num_distinct[0.0] == [40] * 5
    assert num_distinct[1.0] == [1] * 5
    assert len(np.unique(drawn[1.0][:, 0], axis=0)) == 5, "agents have different states"
    share = np.mean((drawn[0.5] == drawn[1.0]).all(2))
    assert 0.35 < share < 0.65
    if env != "lunarlander:backend=envpool":  # whose environments draw the rest of the episode, too
        plain = federate(tiny(env=env))[0]
        plain.begin(0, 0.0)
        assert np.array_equal(drawn[0.0][:, :20], plain.sample(plain.theta0, 20).observations[:, 0].numpy())


def test_own_starts_are_those_of_an_agent_in_every_batch_and_with_own_physics():
    text = "heterogeneous(spread=1.0)+heterogeneous(of=starts, spread=1.0)"
    whole, alone = (federate(tiny(text))[0] for _ in range(2))
    for federation in (whole, alone):
        federation.begin(0, 0.0)
    episodes, one = whole.sample(whole.theta0, 3), alone.sample(alone.theta0[:1], 2, [3])
    assert torch.equal(one.observations[0, 0, 0], episodes.observations[3, 0, 2])
    steps = min(episodes.mask.shape[1], one.mask.shape[1])
    assert torch.equal(one.rewards[0, :steps], episodes.rewards[3, :steps, :2])
    server = lockstep(whole.sample_at_server(whole.theta0[:1], 4)).observations[0, 0]
    assert len(server.unique(dim=0)) == 4, "a server has the task's own"


@pytest.mark.parametrize("algo", ["decbyzpg", "fedpg_br"])
def test_gradients_differ_between_agents_that_start_apart(algo):
    estimates = []
    for scenario in ("none", "heterogeneous(of=starts, spread=1.0)"):
        todo = tiny(scenario, algo, byzantine=0, evaluation_episodes=200, parameters={})
        training = Training(todo)
        training.federation.begin(0, 0.0)
        line = training.evaluate(1)
        estimates.append(line["gradient_dissimilarity"] / line["gradient_variance"])
    assert abs(estimates[0]) < 0.01
    assert estimates[1] > 0.005


def test_a_shared_game_starts_for_all():
    game = "pettingzoo:id=mpe2/simple_spread_v3,world=shared,steps=4"
    with pytest.raises(Undefined, match="no agent can have starts of its own"):
        tiny("heterogeneous:of=starts", env=game, agents=3, byzantine=0)


@pytest.mark.parametrize("attack", ["large_noise", "split_brain(large_noise)"])
def test_a_crashed_agent_is_expected_and_silent(attack):
    training = Training(tiny("churn:crash=0.5", attack=attack, agents=9, byzantine=2))
    scenarios, counters = training.federation.scenarios, training.federation.counters
    crashes, byzantine = scenarios.crashes, set(training.todo.members.byzantine_ids)
    assert 0 < len(crashes) < 7
    assert not byzantine & crashes.keys()
    passed = lines_of(training)
    for agent, at in crashes.items():
        for (progress, before, _), (_, after, _) in pairwise(passed):
            assert torch.equal(before["theta"][agent], after["theta"][agent]) == (at <= progress)
    assert counters.num_silent > 0
    assert counters.num_malformed == 0
    assert all(counters.trajectories[a] < 60 for a in crashes)
    assert set(training.present_agents(1.0).nonzero().flatten().tolist()) == set(range(9)) - byzantine - crashes.keys()
    assert passed[-1][2]["disagreement"] is not None


def test_the_inbox_of_others_shrinks_by_a_crashed_agent_but_not_their_bound():
    todo = tiny("churn:crash=0.5", agents=9, byzantine=2)
    federation, _ = federate(todo)
    crashed = sorted(federation.scenarios.crashes)
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    x[crashed] = torch.nan
    for reliable in (False, True):
        federation.begin(0, 1.0)
        silent, messages = federation.counters.num_silent, federation.counters.messages
        inbox = lockstep(federation.exchange("gradient", x, reliable=reliable))
        others = [a for a in range(9) if a not in crashed]
        assert set(inbox.n[others].tolist()) == {9 - len(crashed)}
        assert (inbox.f == 2).all()
        assert federation.counters.num_silent - silent == 8 * len(crashed)
        each = 8 * (1 + 2 * 9) if reliable else 8
        assert federation.counters.messages - messages == each * len(others)
    federation, _ = federate(tiny("churn:crash=0.5", "byzpg", agents=9, byzantine=2))
    federation.begin(0, 1.0)
    assert lockstep(federation.gather("gradient", x)).n.tolist() == [9 - len(crashed)]
    assert federation.counters.num_malformed == 0


def test_crashes_are_drawn_by_agent_and_move_no_other_draw():
    churn, crashing = (scenarios(f"churn:join=0.4,leave=0.3,crash={crash}", agents=500) for crash in (0.0, 0.4))
    assert churn.absences == crashing.absences
    assert not churn.crashes
    assert 0.3 < len(crashing.crashes) / 500 < 0.5
    few = scenarios("churn:crash=0.4", agents=50).crashes
    assert few == {agent: at for agent, at in crashing.crashes.items() if agent < 50}
    twice = scenarios("churn(crash=0.4)+churn(crash=0.4)", agents=50).crashes
    assert all(twice[agent] <= at for agent, at in few.items())


def test_crashes_are_refused_where_absences_are():
    for options in ({"relay": True, "topology": "torus", "agents": 9}, {"channel": "delay"}):
        with pytest.raises(Undefined, match="messages can be neither relayed nor late"):
            tiny("churn:crash=0.3", **options)


def test_bad_input_of_a_command_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for option, text, message in (
        ("--scenario", "nonstationary(physics='lenght=2')", "Did you mean 'length'?"),
        ("--scenario", "churn(crash=1.0)", "no honest agent is present"),
        ("--policy", "tabular", "policy 'tabular' needs a task with discrete observations; use mlp or linear"),
    ):
        assert main(monkeypatch, "run", option, text, "--agents", "5") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not any(tmp_path.iterdir())
