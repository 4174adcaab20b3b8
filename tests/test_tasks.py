"""Every task, on every back end: whole episodes from their seeds alone, and the returns that its file states."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.wrappers import ClipReward, TimeAwareObservation
from scipy.stats import ks_2samp

from byzbench import registry, run
from byzbench.core import JsonObject
from byzbench.core.environment_spec import EnvironmentSpec, environment_facts
from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.errors import BrokenPlugin, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, federate
from byzbench.randomness import Streams
from byzbench.registry import name_of
from byzbench.rl import seeded_numbers
from byzbench.rl.gradients import gpomdp
from byzbench.rl.networks import FeedForward
from byzbench.rl.parallel_games import TeamGames
from byzbench.rl.policies import CategoricalPolicy
from byzbench.rl.rollouts import draw_noise, rollout
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, plan_sweep
from byzbench.sweeps.sweep import run_sweep
from byzbench.tasks._references import random_returns, task_references
from byzbench.tasks.cartpole import CartPole
from byzbench.testing import tasks
from byzbench.testing.tasks import (
    TaskCase,
    agent_generators,
    default_policy,
    random_actions,
    same_episodes,
    sample_episodes,
)


def backends(name: str) -> tuple[str, ...]:
    hints = get_type_hints(registry.find("task", name))
    return get_args(hints["backend"]) if "backend" in hints else ("",)


QUICK = {"acrobot", "cartpole", "lqr", "lunarlander", "mountaincar", "pendulum", "riverswim"}
"""The others differ from these in their ids, and in what they cost."""

CATALOGUE = [name for name in registry.origins("task") if name not in {"gymnasium", "pettingzoo"}]


def written() -> Iterator[Any]:
    for name in CATALOGUE:
        for backend in backends(name):
            text = f"{name}:backend={backend}" if backend else name
            quick = name in QUICK and (backend != "envpool" or name == "lunarlander")
            yield pytest.param(text, marks=() if quick else pytest.mark.slow)


SEVERAL = [name for name in CATALOGUE if len(backends(name)) > 1]


@pytest.fixture(params=written())
def task(request):
    return registry.make("task", request.param)


@pytest.mark.parametrize("check", tasks.CHECKS, ids=lambda check: check.__name__)
def test_every_task_passes_every_check(task, check):
    check(task, TaskCase())


def test_every_episode_starts_in_another_state(task):
    starts = task.make(2, 7).reset(agent_generators(range(2), 0))
    assert len(np.unique(starts, axis=0)) == 14 or task.num_states is not None


def test_at_the_horizon_termination_and_truncation_differ(task):
    whole = sample_episodes(task, rows=5)
    lengths = whole.mask.sum(1)
    horizon = int(lengths.median())  # one episode ends by itself in this very step
    short = type("Short", (type(task),), {"horizon": horizon})(**vars(task))
    batch = sample_episodes(short, rows=5)
    assert torch.equal(batch.mask.sum(1), lengths.clamp(max=horizon))
    assert torch.equal(batch.terminated, whole.terminated & (lengths <= horizon))
    goes_on = (lengths > horizon).unsqueeze(-1)
    following = whole.observations[:, horizon] * goes_on if goes_on.any() else whole.final_observations
    assert torch.equal(batch.final_observations, following), (
        "what a critic's value is taken of where an episode is cut off"
    )
    assert torch.equal(batch.final_observations.any(-1), ~batch.terminated)

    environments, alive = short.make(3, 5), np.ones(15, bool)
    environments.reset(agent_generators(range(3), 0))
    for t in range(horizon):
        _, _, ended, cut = environments.step(default_policy(task).to_env_actions(batch.actions[:, t].numpy()))
        assert t == horizon - 1 or not cut[alive].any()
        alive &= ~(ended | cut)
    assert not alive.any()


def test_the_random_policy_scores_what_is_stated(task):
    episodes = 1000 if task.horizon < 200 else 300 if task.horizon < 1000 or name_of(task) == "lunarlander" else 100
    returns = random_returns(task, episodes, np.random.default_rng(7))
    error = np.hypot(returns.std() / len(returns) ** 0.5, task_references().get(name_of(task), {}).get("error", 0))
    assert abs(returns.mean() - task.reference_score("random")) <= 3.5 * error
    assert task.reference_score("random") < task.reference_score("solved")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "lunarlander" else pytest.mark.slow) for n in SEVERAL]
)
def test_back_ends_agree_in_distribution(name):
    samples = []
    for backend in backends(name):
        batch = sample_episodes(registry.make("task", name, backend=backend), agents=[0], rows=200)
        samples.append((batch.rewards.sum(1).flatten(), batch.mask.sum(1).flatten()))
    for first, second in zip(*samples, strict=True):
        assert not torch.equal(first, second) or first.unique().numel() == 1
        assert ks_2samp(first, second).pvalue > 0.05


@pytest.mark.parametrize("name", SEVERAL)
def test_a_back_end_is_part_of_the_description(name):
    described = [registry.describe(registry.make("task", name, backend=backend)) for backend in backends(name)]
    assert described[0] != described[1]


@pytest.mark.parametrize("backend", backends("lunarlander"))
def test_a_lander_that_has_come_down_is_left_alone(backend):
    environments = registry.make("task", "lunarlander", backend=backend).make(1, 6)
    environments.reset(agent_generators([0], 0))
    down, last = np.zeros(6, bool), None
    for _ in range(300):
        shown, rewards, terminated, _ = environments.step(np.zeros(6, np.int64))
        assert (rewards[down] == 0).all()
        assert not terminated[down].any()
        assert last is None or np.array_equal(shown[down], last[down])
        down, last = down | terminated, shown
    assert down.all()


@pytest.mark.parametrize(
    "backend, missing, extra", [("gymnasium", "Box2D", "box2d"), ("gymnasium", "pygame", "box2d"), ("envpool",) * 3]
)
def test_a_missing_back_end_is_one_line_that_names_the_extra(backend, missing, extra, monkeypatch):
    environment_facts.cache_clear()
    for module in [m for m in sys.modules if m.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError) as caught:
        registry.make("task", "lunarlander", backend=backend)
    assert str(caught.value).endswith(f"pip install 'byzbench[{extra}]'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("gymnasium:Nope-v0", "Gymnasium has no environment 'Nope-v0' here"),
        ("gymnasium:CarRacing-v3", "observations of images, of shape [96, 96, 3], which no policy here reads; a task"),
        ("acrobot:backend=unity", "must be 'gymnasium' or 'envpool'"),
        ("pettingzoo:mpe2/nope_v3", "no parallel game 'mpe2/nope_v3' here"),
        ("pettingzoo:mpe2/simple_tag_v3", "the players of 'mpe2/simple_tag_v3' have unequal observations"),
        ("pettingzoo:mpe2/simple_spread_v3,options=M=2", "unexpected keyword argument 'M'"),
        ("pettingzoo:nothing", "match pattern"),
    ],
)
def test_what_is_not_supported_is_one_line(text, message):
    with pytest.raises(UserError) as caught:
        registry.make("task", text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_environment_without_a_horizon_needs_one(monkeypatch):
    facts = environment_facts(EnvironmentSpec("Acrobot-v1"))
    monkeypatch.setattr(
        "byzbench.core.gymnasium_task.environment_facts", lambda spec: replace(facts, horizon=spec.max_episode_steps)
    )
    with pytest.raises(UserError, match="no fixed horizon: set steps="):
        registry.make("task", "gymnasium:Acrobot-v1")
    assert registry.make("task", "gymnasium:Acrobot-v1,steps=7").horizon == 7


@pytest.mark.parametrize("factors", [{}, {"length": [0.6, 1.7], "gravity": [0.5, 2.0], "masspole": [1.1, 0.9]}])
def test_cart_poles_are_gymnasiums(factors):
    ours, theirs = CartPole().make(2, 30), CartPoleVectorEnv(60)
    altered = {name: np.repeat(by, 30) * getattr(theirs, name) for name, by in factors.items()}
    ours.scale_dynamics({name: np.array(by) for name, by in factors.items()})
    vars(theirs).update(altered)
    theirs.total_mass, theirs.polemass_length = theirs.masspole + theirs.masscart, theirs.masspole * theirs.length
    ours.reset(agent_generators(range(2), 0))
    theirs.reset(seed=0)
    alive, lengths, rng = np.ones(60, bool), np.zeros(60, int), np.random.default_rng(1)
    for _ in range(500):
        # From the same states: what is rounded otherwise does not stay small.
        theirs.state = ours.states.T.copy()
        # Towards where the pole leans, mostly, so that episodes end all the way to the horizon.
        lean = theirs.state[2] + 0.5 * theirs.state[3] + 0.05 * theirs.state[1] > 0
        actions = np.where(rng.random(60) < np.linspace(0, 0.6, 60), rng.integers(0, 2, 60), lean)
        (shown, *facts), (other, *their_facts) = ours.step(actions), theirs.step(actions)[:4]
        np.testing.assert_allclose(shown[alive], other[alive], rtol=1e-6, atol=1e-7)
        for own_facts, fact in zip(facts, their_facts, strict=True):
            assert own_facts.dtype == fact.dtype
            assert np.array_equal(own_facts[alive], fact[alive])
        lengths += alive
        alive &= ~theirs.prev_done
    assert not alive.any()
    assert len(set(lengths)) > 10
    assert lengths.max() == 500


@pytest.mark.parametrize(
    "name, factors, swing",
    [
        ("acrobot", {}, lambda shown: 2 * (shown[:, 4] < 0)),
        ("mountaincar", {"gravity": [1.0, 0.9], "force": [1.0, 1.2]}, lambda shown: 2 * (shown[:, 1] >= 0)),
        ("mountaincar_continuous", {"power": [1.0, 1.3]}, lambda shown: np.float32(0.9) * np.sign(shown[:, 1:])),
        ("pendulum", {"g": [1.0, 0.9], "m": [1.0, 1.1], "l": [1.0, 1.2]}, lambda shown: shown[:, :1] * shown[:, 2:]),
    ],
)
def test_simulations_are_gymnasiums(name, factors, swing):
    task = registry.make("task", name)
    ours, theirs = task.make(2, 20), GymnasiumTask.make(task, 2, 20)
    ours.scale_dynamics({constant: np.array(by) for constant, by in factors.items()})
    theirs.scale_dynamics(task.dynamics, {constant: np.array(by) for constant, by in factors.items()})
    shown, other = (environments.reset(agent_generators(range(2), 0)) for environments in (ours, theirs))
    np.testing.assert_allclose(shown, other, rtol=1e-6)
    rng, lengths = np.random.default_rng(1), np.zeros(40, int)
    for t in range(task.horizon):
        # With the swing, mostly, so that episodes end all the way to the horizon.
        drawn, swung = random_actions(task, 40, rng), swing(shown)
        is_drawn = (rng.random(40) < np.linspace(0, 1, 40)).reshape(-1, *[1] * (drawn.ndim - 1))
        actions = np.where(is_drawn, drawn, swung)
        running = theirs._running
        lengths[running] = t + 1
        if name == "acrobot":
            # From the same states: double pendulums are chaotic, and what is rounded otherwise does not stay small.
            for own, environment in zip(ours.states, theirs._simulators._environments, strict=True):
                environment.state = own.copy()
        (shown, *facts), (other, *their_facts) = ours.step(actions), theirs.step(actions)
        np.testing.assert_allclose(shown[running], other[running], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(facts[0][running], their_facts[0][running], rtol=1e-6)
        for own_ends, ends in zip(facts[1:], their_facts[1:], strict=True):
            assert np.array_equal(own_ends[running], ends[running])
    assert name == "pendulum" or len(set(lengths)) > 10
    assert lengths.max() == task.horizon


@pytest.mark.parametrize("name", ["cartpole", "acrobot", "mountaincar"])
@pytest.mark.parametrize("squashed", [False, True])
@pytest.mark.parametrize("greedy", [False, True])
def test_machine_code_acts_as_policies_do_and_steps_as_alone(name, squashed, greedy):
    task = registry.make("task", name)
    policy, rng = default_policy(task, squashed), np.random.default_rng(3)
    theta = 3 * torch.stack([policy.initial(rng) for _ in range(3)])
    noise, count = torch.from_numpy(rng.random((3, task.horizon, 4), dtype=np.float32)), torch.tensor([4, 0, 2])
    environments = task.make(3, 4)
    batch = rollout(policy, theta, environments, agent_generators(range(3), 0), noise, count, greedy=greedy)
    assert batch.mask.any(1).sum(1).tolist() == count.tolist()

    # What they saw, shown to the same policies as NumPy has them: actions differ only where a draw is at an edge.
    sample = policy.sampler(theta, None if greedy else noise)
    steps = range(batch.mask.shape[1])
    chosen = np.stack([sample(t, batch.observations[:, t].numpy()) for t in steps], 1)
    other = (chosen != batch.actions.numpy())[batch.mask.numpy()]
    assert other.mean() < 1e-3

    # What they did, done again: the same code steps one row or many, and stops nowhere else.
    alive, observed = (
        (torch.arange(4) < count.unsqueeze(1)).numpy().copy(),
        environments.reset(agent_generators(range(3), 0)),
    )
    for t in steps:
        mask = batch.mask[:, t].numpy()
        assert np.array_equal(alive, mask)
        assert np.array_equal(observed.reshape(3, 4, -1)[mask], batch.observations[:, t].numpy()[mask])
        observed, paid, ended, cut = environments.step(batch.actions[:, t].numpy().ravel())
        assert np.array_equal(paid.reshape(3, 4)[mask], batch.rewards[:, t].numpy()[mask])
        over = (ended | cut).reshape(3, 4) & alive
        assert np.array_equal(batch.terminated.numpy()[over], ended.reshape(3, 4)[over])
        stopped = over & ~ended.reshape(3, 4)
        assert np.array_equal(observed.reshape(3, 4, -1)[stopped], batch.final_observations.numpy()[stopped])
        alive &= ~over
    assert not alive.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", ["cartpole", "acrobot"])
def test_machine_code_survives_any_parameters(name, value):
    task = registry.make("task", name)
    policy = default_policy(task)
    theta = torch.full((2, policy.dimension), value)
    noise = torch.from_numpy(np.random.default_rng(0).random((2, task.horizon, 3), dtype=np.float32))
    for greedy in (False, True):
        count = torch.tensor([3, 3])
        batch = rollout(policy, theta, task.make(2, 3), agent_generators(range(2), 0), noise, count, greedy=greedy)
        assert batch.observations.isfinite().all()
        assert all(task.action_space.contains(action) for action in batch.actions[batch.mask].numpy())


def test_machine_code_draws_the_numbers_of_seeded_generators():
    seeds = np.append(np.random.default_rng(0).integers(1 << 31, size=500), [0, 1, (1 << 31) - 1])
    numbers = np.empty((503, 20))
    seeded_numbers.fill_uniforms(seeds, numbers)
    assert np.array_equal(numbers, [np.random.default_rng(seed).random(20) for seed in seeds])


@pytest.mark.parametrize("count", [1, 7, 8, 1003])
def test_machine_code_draws_the_numbers_of_streams(count):
    agents = [3, 0, 12]
    for streams in (Streams(0), Streams(2**40, frozenset({"action"})), Streams(-3)):
        for name, number in (("action", 0), ("action/1", 2**40)):
            numbers = np.empty((3, 2, count), np.float32)
            draw_noise(CategoricalPolicy(FeedForward((4, 2))), streams, name, number, agents, numbers)
            expected = [streams.generator(name, number, agent).random((2, count), np.float32) for agent in agents]
            assert np.array_equal(numbers, expected)


@pytest.mark.parametrize("hidden", ["[]", "[1]", "[15]", "[16]", "[17,33]", "[64,64,5]"])
def test_machine_code_has_networks_of_any_widths(hidden):
    task = registry.make("task", "acrobot")
    policy, rng = registry.make("policy", f"mlp:hidden={hidden}").build(task), np.random.default_rng(3)
    theta = 2 * torch.stack([policy.initial(rng) for _ in range(2)])
    noise = torch.from_numpy(rng.random((2, task.horizon, 3), dtype=np.float32))
    batch = rollout(policy, theta, task.make(2, 3), agent_generators(range(2), 0), noise, torch.tensor([3, 3]))
    sample = policy.sampler(theta, noise)
    chosen = np.stack([sample(t, batch.observations[:, t].numpy()) for t in range(batch.mask.shape[1])], 1)
    assert (chosen != batch.actions.numpy())[batch.mask.numpy()].mean() < 1e-3


def test_machine_code_leaves_other_families_of_policies_alone():
    class Backwards(CategoricalPolicy):
        def sampler(self, theta, noise):
            act = super().sampler(theta, noise)
            return lambda t, observed: 1 - act(t, observed)

    task, noise = CartPole(), torch.zeros(1, 500, 1)
    theta = torch.zeros(1, default_policy(task).dimension)
    for family, action in ((CategoricalPolicy, 0), (Backwards, 1)):
        policy = family(FeedForward((4, 16, 16, 2)))
        batch = rollout(policy, theta, task.make(1, 1), agent_generators([0], 0), noise, torch.tensor([1]))
        assert (batch.actions[batch.mask] == action).all()


def test_a_step_that_cannot_be_compiled_is_named_in_one_line():
    def step(state, action, constants):
        return open("state"), True

    with pytest.raises(BrokenPlugin, match=r"step cannot be compiled: Untyped global name 'open'") as error:
        Simulated(Simulation(lambda rng, n: np.zeros((n, 1)), step, step, 1), 1, 1, 5)
    assert "\n" not in str(error.value)


def test_observations_of_several_parts_are_flattened():
    task = registry.make("task", "gymnasium:Blackjack-v1,steps=20")
    assert task.observation_size == 32 + 11 + 2
    observations = task.make(2, 3).reset(agent_generators([0, 1], 0))
    assert observations.dtype == np.float32
    assert (observations[:, :32].sum(1) == 1).all()
    assert (observations.sum(1) == 3).all()


WALKS = """
import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, size=3):
        if size < 1:
            raise ValueError(f"size must be positive,\\ngot {size}")
        self.size = size
        self.observation_space = gymnasium.spaces.Box(-size, size, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.integers(2)
        return np.float32([self.place]), {}

    def step(self, action):
        self.place += 2 * action - 1
        return np.float32([self.place]), float(action), abs(self.place) == self.size, False, {}


class Scaled(gymnasium.RewardWrapper):
    def __init__(self, env, by):
        super().__init__(env)
        self.by = by

    def reward(self, reward):
        return self.by * reward


def nothing(environment):
    return None


gymnasium.register("Walk-v0", Walk, max_episode_steps=6)
gymnasium.register("walks/Endless-v0", Walk)
"""


@pytest.fixture
def walks(tmp_path, monkeypatch):
    """A module that registers environments and has wrappers."""
    (tmp_path / "walks.py").write_text(WALKS)
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "walks.py"
    sys.modules.pop("walks", None)
    for id in ("Walk-v0", "walks/Endless-v0"):
        gymnasium.registry.pop(id, None)
    environment_facts.cache_clear()


@pytest.mark.parametrize(
    "text",
    [
        "gymnasium:walks:Walk-v0",
        "gymnasium(id='walks:Walk-v0')",
        "gymnasium:id=walks:Walk-v0,steps=6",
        "gymnasium:walks:walks/Endless-v0,steps=6",
    ],
)
def test_an_environment_is_registered_by_its_module(text, walks):
    task = registry.make("task", text)
    assert (task.horizon, task.observation_size, task.data) == (6, 1, (walks,))
    assert registry.make("task", registry.written_form(task)) == task
    assert registry.from_description("task", registry.describe(task)) == task


def test_an_environment_of_a_module_runs_from_a_file_and_from_its_record(walks, tmp_path):
    (tmp_path / "suite.toml").write_text("""
        algo = "gpomdp"
        attack = "none"
        env = ["gymnasium:walks:Walk-v0"]
        agents = 2
        trajectories = 2
        [parameters.algo]
        N = 1
        [parameters.env]
        options = {size = 2}
        wrappers = ["TimeAwareObservation", "walks:Scaled(by=3)"]
    """)
    (todo,) = plan_sweep(SweepGrid.read(tmp_path / "suite.toml")).cells.values()
    env = "gymnasium:walks:Walk-v0,options={'size': 2},wrappers=['TimeAwareObservation','walks:Scaled(by=3)']"
    written = Experiment.create("gpomdp", env=env, agents=2, trajectories=2, parameters={"algo": {"N": 1}})
    assert written == todo
    assert hash(written.task) == hash(todo.task)
    run(todo, out=tmp_path / "runs")
    record = json.loads((tmp_path / "runs" / todo.hash / "experiment.json").read_text())
    assert record["experiment"]["task"]["parameters"]["options"] == {"size": 2}
    again = Experiment.from_description(record["experiment"])
    assert (again, again.hash) == (todo, todo.hash)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "nowhere:Walk-v0",
            "module 'nowhere' of environment 'nowhere:Walk-v0' cannot be imported: ModuleNotFoundError",
        ),
        ("broken:Walk-v0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("walks:Run-v0", "Gymnasium has no environment 'walks:Run-v0' here"),
        ("walks:walks/Endless-v0", "no fixed horizon: set steps="),
        ("walks:Walk-v0,options={'size': 0}", "cannot be made: ValueError: size must be positive, got 0"),
        ("walks:Walk-v0,options={'sise': 4}", "unexpected keyword argument 'sise'"),
        ("walks:Walk-v0,options={'size': (4, 4)}", "not a valid JSON value"),
        ("walks:Walk-v0,options=size", "must be a valid dictionary"),
        (
            "walks:Walk-v0,options={'max_episode_steps': 4}",
            "max_episode_steps is no option of an environment: set steps=",
        ),
        ("walks:Walk-v0,options={'render_mode': 'human'}", "render_mode is no option of an environment"),
        ("FrozenLake-v1,options={'map_name': '9x9'}", "'FrozenLake-v1' cannot be made: KeyError: '9x9'"),
        ("walks:Walk-v0,wrappers=['walks:Scaled']", "wrapper 'walks:Scaled': TypeError"),
        ("walks:Walk-v0,wrappers=['walks:Nope']", "has no attribute 'Nope'"),
        ("walks:Walk-v0,wrappers=['nowhere:Nope']", "No module named 'nowhere'"),
        ("walks:Walk-v0,wrappers=['walks:nothing']", "it returns a NoneType, not an environment"),
        ("walks:Walk-v0,wrappers=['TimeAware']", "Did you mean 'TimeAwareObservation'"),
        ("walks:Walk-v0,wrappers=['TransformReward']", "missing 1 required positional argument: 'func'"),
        (
            "walks:Walk-v0,wrappers=['a b']",
            "cannot read wrapper 'a b': write Name, module:Name or Name(key=value, ...)",
        ),
        ("walks:Walk-v0,wrappers=['ClipReward(1)']", "cannot read wrapper 'ClipReward(1)'"),
        (
            "walks:Walk-v0,wrappers=['NormalizeObservation']",
            "is refused: its statistics span episodes; --scenario norm",
        ),
        ("walks:Walk-v0,wrappers=['NormalizeReward(gamma=0.9)']", "is refused: its statistics span episodes"),
        ("walks:Walk-v0,wrappers=['RecordEpisodeStatistics']", "is refused: its records span episodes"),
        ("walks:Walk-v0,wrappers=['TimeLimit(max_episode_steps=4)']", "is refused: set steps= instead"),
        ("LunarLander-v3,backend=envpool,wrappers=['ClipAction']", "backend=envpool takes no options and no wrappers"),
        ("LunarLander-v3,backend=envpool,options={'gravity': -9.0}", "backend=envpool takes no options"),
    ],
)
def test_what_gymnasium_cannot_make_is_one_line(text, message, walks):
    with pytest.raises(UserError) as caught:
        registry.make("task", f"gymnasium:{text}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_those_of_the_environment():
    text = "gymnasium(id='FrozenLake-v1', options={'is_slippery': False, 'map_name': '8x8'})"
    task = registry.make("task", text)
    assert task.num_states == 64
    assert not task.reference, "the threshold is that of the environment as it is registered"
    environments = task.make(1, 5)
    environments.reset(agent_generators([0], 0))
    observations, *_ = environments.step(np.full(5, 2))
    assert observations[:, 1].all(), "nothing slips"


def test_options_and_wrappers_at_their_defaults_move_no_hash():
    def hash_with(**parameters):
        env = registry.make("task", "gymnasium:FrozenLake-v1", **parameters)
        return Experiment.create(env=env, agents=2, trajectories=4, evaluations=20, evaluation_episodes=10).hash

    plain = hash_with()
    assert plain == hash_with(options={}, wrappers=[])
    assert plain == "ea2fe68bf13e8476"
    one, other = (
        hash_with(options={"is_slippery": False, "map_name": "8x8"}),
        hash_with(wrappers=["TimeAwareObservation()"]),
    )
    assert len({plain, one, other, hash_with(options={"is_slippery": False})}) == 4
    assert one == hash_with(options={"map_name": "8x8", "is_slippery": False})
    assert other == hash_with(wrappers=["TimeAwareObservation"])


def test_a_json_object_is_exact_and_does_not_change():
    values = {"a": [1, {"b": None}]}
    frozen = JsonObject(values)
    values["a"].append(2)
    frozen["a"].append(3)
    assert dict(frozen) == {"a": [1, {"b": None}]}
    assert len({JsonObject({"a": value}) for value in (1, 1.0, True)}) == 3
    assert pickle.loads(pickle.dumps(frozen)) == frozen


def test_wrappers_are_those_of_gymnasium():
    wrappers = ["ClipReward(max_reward=0.5)", "TimeAwareObservation(normalize_time=True)"]
    task = registry.make("task", "gymnasium:CartPole-v1,steps=9", wrappers=wrappers)
    environments = task.make(1, 1)
    observations = environments.reset([np.random.default_rng(3)])
    theirs = TimeAwareObservation(ClipReward(gymnasium.make("CartPole-v1", 9), max_reward=0.5), normalize_time=True)
    expected, _ = theirs.reset(seed=int(np.random.default_rng(3).integers(1 << 31, size=1)[0]))
    assert np.array_equal(observations[0], expected)
    for t in range(9):
        outputs = [part[0] for part in environments.step(np.array([t % 2]))]
        expected, *others = theirs.step(t % 2)[:4]
        assert np.array_equal(outputs[0], expected)
        assert outputs[1:] == others
    assert others == [0.5, False, True]


@pytest.mark.parametrize(
    "text",
    [
        "gymnasium:CartPole-v1,wrappers=['TimeAwareObservation']",
        "gymnasium:Taxi-v4,steps=30,wrappers=['StickyAction(repeat_action_probability=0.3)']",
    ],
)
def test_wrapped_environments_pass_every_check(text):
    task = registry.make("task", text)
    for check in tasks.CHECKS:
        check(task, TaskCase())


class Steering(gymnasium.Env):
    """An environment with many states, and actions of another type than float32."""

    observation_space = gymnasium.spaces.Discrete(5000, start=10)
    action_space = gymnasium.spaces.Box(np.float16(-0.1), np.float16(0.1), (2,), np.float16)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return 10 + int(self.np_random.integers(5000)), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return 5009, 1.0, False, False, {}


@pytest.fixture
def steering():
    gymnasium.register("Steering-v0", Steering, max_episode_steps=3)
    yield registry.make("task", "gymnasium:Steering-v0")
    del gymnasium.registry["Steering-v0"]


@pytest.mark.parametrize("family", ["mlp:hidden=[3]", "linear", "tabular"])
def test_many_states_are_indices(steering, family):
    """No policy has a vector of all of them, and actions are of the environment's type."""
    assert (steering.observation_size, steering.num_states) == (1, 5000)
    policy = registry.make("policy", family).build(steering)
    theta = torch.stack([policy.initial(np.random.default_rng(k)) for k in range(2)])
    noise = torch.full((2, 3, 4, 2), 9.0)
    batch = rollout(policy, theta, steering.make(2, 4), agent_generators([0, 1], 0), noise, torch.tensor([4, 4]))
    assert batch.observations.shape == (2, 3, 4, 1)
    assert (batch.observations[:, 1:] == 4999).all()
    assert batch.observations[:, 0].unique().numel() > 4
    gradient = gpomdp(policy, theta, batch, 0.9)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_kinds_are_shown_as_unit_vectors():
    task = registry.make("task", "gymnasium:FrozenLake-v1,steps=20,gamma=0.9,random=0.0,solved=0.7")
    assert (task.observation_size, task.horizon, task.discount) == (16, 20, 0.9)
    batch = sample_episodes(task)
    assert (batch.observations[batch.mask].sum(-1) == 1).all()
    assert (batch.observations[:, 0, :, 0] == 1).all()
    assert same_episodes(batch, sample_episodes(task))


@pytest.mark.parametrize(
    "written, kind",
    [
        ("options='N=5'", Simulated),
        ("options='N=5 local_ratio=0.8 max_cycles=40 continuous_actions=True',steps=30", Simulated),
        ("options='N=4 local_ratio=0.0'", Simulated),
        ("options='N=4 curriculum=True'", TeamGames),
        ("steps=30", TeamGames),
    ],
)
def test_a_team_sees_what_its_players_see_and_is_paid_their_mean(written, kind):
    task = registry.make("task", f"pettingzoo:mpe2/simple_spread_v3,{written}")
    environments, games = task.make(2, 3), [task._start() for _ in range(6)]
    assert type(environments) is kind
    shown = environments.reset(agent_generators(range(2), 0))
    seeds = np.concatenate([rng.integers(1 << 31, size=3) for rng in agent_generators(range(2), 0)])
    observed = [game.reset(seed=seed)[0] for game, seed in zip(games, seeds.tolist(), strict=True)]
    players, rng, touched = games[0].possible_agents, np.random.default_rng(1), 0
    horizon = min(task.horizon, games[0].unwrapped.max_cycles)
    for step in range(horizon):
        for row, by_player in zip(shown, observed, strict=True):
            np.testing.assert_allclose(row, np.concatenate([by_player[p] for p in players]), rtol=1e-6, atol=1e-6)
        others = shown.reshape(6, task.players, -1)[..., 4 + 2 * task.players : 2 + 4 * task.players]
        touched += (np.linalg.norm(others.reshape(-1, 2), axis=1) < 0.3).sum()
        actions = random_actions(task, 6, rng)
        shown, rewards, ended, cut = environments.step(actions)
        steps = [game.step(dict(zip(players, row, strict=True))) for game, row in zip(games, actions, strict=True)]
        observed = [observations for observations, *_ in steps]
        means = [np.mean(list(by_player.values())) for _, by_player, *_ in steps]
        np.testing.assert_allclose(rewards, means, rtol=1e-6)
        assert (cut == (step == horizon - 1)).all()
        assert not ended.any()
    assert touched > 5, "players collide"


@pytest.mark.slow
def test_a_team_learns_in_a_federation(tmp_path):
    todo = Experiment.create(
        "decbyzpg",
        "sign_flip",
        env="pettingzoo:mpe2/simple_spread_v3,options=N=2",
        agents=5,
        trajectories=8,
        parameters={"algo": {"N": 4, "B": 2}},
    )
    result = run(todo, out=tmp_path)
    assert result.steps == 5 * 25 * result.trajectories
    assert result.verdict.threshold is None
    assert run(todo, out=tmp_path / "again").final == result.final


SPREAD = "pettingzoo:mpe2/simple_spread_v3,options='N=3 local_ratio=0.5'"


def test_in_a_shared_game_every_agent_is_a_player():
    from mpe2 import simple_spread_v3

    task = registry.make("task", SPREAD + ",world=shared")
    assert (task.players, task.observation_size) == (1, registry.make("task", SPREAD).observation_size // 3)
    seed = int(np.random.default_rng(5).integers(1 << 31, size=2)[1])
    environments = task.make(3, 2)
    shown = environments.reset([np.random.default_rng(k) for k in (5, 6, 7)])
    game = simple_spread_v3.parallel_env(N=3, local_ratio=0.5)
    observed, _ = game.reset(seed=seed)
    for step in range(25):
        second = shown.reshape(3, 2, -1)[:, 1]
        assert np.array_equal(second, np.stack([observed[f"agent_{k}"] for k in range(3)]))
        actions = np.array([[1, 2], [3, step % 5], [0, 4]])  # an agent's in both games
        shown, rewards, ended, cut = environments.step(actions.flatten())
        observed, paid, *_ = game.step({f"agent_{k}": actions[k, 1] for k in range(3)})
        np.testing.assert_allclose(rewards.reshape(3, 2)[:, 1], list(paid.values()), rtol=1e-6)
        assert (cut == (step == 24)).all()
        assert not ended.any()


def first_batch(env, attack):
    todo = Experiment.create("decbyzpg", attack, env=env, agents=3, byzantine=1, parameters={"algo": {"N": 2}})
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    return federation.sample(federation.theta0, torch.tensor([2, 3, 3])), ~todo.members.byzantine


def test_byzantine_actions_in_a_shared_game_affect_everybody():
    for world, untouched in (("own", True), ("shared", False)):
        (clean, honest), (attacked, _) = (first_batch(f"{SPREAD},world={world}", a) for a in ("none", "random_action"))
        assert torch.equal(clean.observations[honest], attacked.observations[honest]) == untouched
        assert torch.equal(clean.observations[honest][:, 0], attacked.observations[honest][:, 0])
        assert torch.equal(attacked.mask.sum((1, 2)), 25 * torch.tensor([2, 3, 3]))


@pytest.mark.slow
def test_a_shared_game_is_learned(tmp_path):
    todo = Experiment.create(
        "byzpg", "random_action", env=SPREAD + ",world=shared", agents=3, byzantine=1, trajectories=8,
        parameters={"algo": {"N": 4, "B": 2}},
    )  # fmt: skip
    result = run(todo, out=tmp_path)
    assert result.steps == 3 * 25 * result.trajectories
    assert run(todo, out=tmp_path / "again").final == result.final
    training = Training(todo)
    honest = training.evaluate(1)
    training.state["theta"][todo.members.byzantine] *= -3
    assert training.evaluate(1)["evaluation"] != honest["evaluation"], "attackers are there"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"agents": 4}, "has 3 players here, and 4 agents would share it"),
        ({"agents": 3, "algo": "fedpg_br"}, "fedpg_br samples episodes of single agents"),
        ({"agents": 3, "agreement": "gossip+ubar"}, "samples episodes of single agents"),
    ],
)
def test_what_a_shared_game_cannot_have_is_one_line(options, message):
    with pytest.raises(UserError, match=message):
        Experiment.create(env=SPREAD + ",world=shared", **options)


@pytest.mark.slow
def test_one_process_and_two_give_the_same_bytes_for_every_task(tmp_path):
    """The first steps of every task but the cart pole, which is quick, as all of them would take minutes."""
    ids = {name: registry.find("task", name).gymnasium_id for name in CATALOGUE if name != "cartpole"}
    short = [f"gymnasium:{id},steps=25" if id else name for name, id in ids.items()]
    suite = SweepGrid.of({"algo": "decbyzpg", "attack": "none", "env": ["cartpole", SPREAD, *short], "agents": 2,
                      "byzantine": 0, "trajectories": 4, "preset": "paper",
                      "parameters": {"algo": {"N": 2, "B": 1}}})  # fmt: skip
    metrics = []
    for jobs in (1, 2):
        with make_executor("process", tmp_path / str(jobs), jobs=jobs) as workers:
            run_sweep(plan_sweep(suite), tmp_path / str(jobs), workers)
        metrics.append({f.parent.name: f.read_bytes() for f in (tmp_path / str(jobs)).glob("*/metrics.jsonl")})
    assert len(metrics[0]) == len(CATALOGUE) + 1
    assert metrics[0] == metrics[1]
