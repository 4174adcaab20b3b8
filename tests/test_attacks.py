"""Attacks: formulas by hand, golden numbers, and what holds for every one of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import byzbench
from byzbench.aggregators.krum import Krum
from byzbench.attacks.action_flip import ActionFlip
from byzbench.attacks.alie import Alie
from byzbench.attacks.anti_cge import AntiCge
from byzbench.attacks.avg_zero import AvgZero
from byzbench.attacks.fang import Fang
from byzbench.attacks.fedpg_attack import FedpgAttack
from byzbench.attacks.fixed_bias import FixedBias
from byzbench.attacks.gaussian import Gaussian
from byzbench.attacks.hidden_coordinate import HiddenCoordinate
from byzbench.attacks.ipm import Ipm
from byzbench.attacks.large_noise import LargeNoise
from byzbench.attacks.mimic import Mimic
from byzbench.attacks.min_max import MinMax
from byzbench.attacks.min_sum import MinSum
from byzbench.attacks.non_finite import NonFinite
from byzbench.attacks.observation_noise import ObservationNoise
from byzbench.attacks.orthogonal import Orthogonal
from byzbench.attacks.partial_drop import PartialDrop
from byzbench.attacks.random_action import RandomAction
from byzbench.attacks.replay import Replay
from byzbench.attacks.reward_flip import RewardFlip
from byzbench.attacks.reward_poison import RewardPoison
from byzbench.attacks.reward_shuffle import RewardShuffle
from byzbench.attacks.same_value import SameValue
from byzbench.attacks.sign_flip import SignFlip
from byzbench.attacks.silence import Silence
from byzbench.core import Attack, ByzantineMessages, EnvHooks, MessageAttack, Setting, State, ThreatModel
from byzbench.core.context import AttackContext
from byzbench.core.messages import validate_messages
from byzbench.errors import InvalidParameter, Undefined
from byzbench.federation.adversary import Adversary
from byzbench.randomness import Streams
from byzbench.registry import Spec, make, origins, parse_spec
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import CategoricalPolicy
from byzbench.testing.attacks import (
    CHECKS,
    Check,
    GameCase,
    an_ended_episode_pays_nothing,
    hooks_keep_the_form_of_what_they_change,
    hooks_of_an_agent_do_not_depend_on_others,
    it_acts_only_on_its_surface,
    it_does_something,
    it_reads_only_what_it_declares,
    its_memory_is_all_that_it_remembers,
    messages_are_finite,
    messages_have_a_row_for_each_byzantine_agent,
    nothing_is_written_into,
    the_memory_is_a_flat_dict_of_tensors,
    the_order_of_the_honest_does_not_matter,
    the_same_game_is_played_the_same,
    without_byzantine_agents_it_is_inert,
)

GOLDEN = Path(os.environ.get("BYZBENCH_GOLDEN", Path(__file__).parent / "golden" / "byzfl.json"))

ON_HONEST = "attacks_on_first_n_minus_f_rows"

ZOO = {name: origin for name, origin in origins("attack").items() if origin.module.startswith("byzbench.")}
VARIANTS = [
    "alie(whose=honest, sign=plus, ddof=1, rule=B)",
    "alie(z=1.5, on=both)",
    "action_flip(q=1)",
    "dynamics(constant=length, factor=0.5)",
    "fang(against=krum)",
    "gaussian(sd=3, mean=-1, relative=False)",
    "hidden_coordinate(coordinate=385, relative=False)",
    "large_noise(equivocate=False)",
    "large_noise(relative=False, on=gradient)",
    "mimic(copy=2)",
    "min_max(direction=unit)",
    "min_sum(direction=sign, bound=min)",
    "non_finite(value=inf, where=once)",
    "observation_noise(shape=gaussian)",
    "observation_noise(shape=sign)",
    "partial_drop(equivocate=True, on=both)",
    "random_action(constant=1)",
    "replay(delay=1, on=both)",
    "same_value(relative=False)",
    "sign_flip(of=honest_mean)",
    "silence(q=0.5)",
    "silence(q=0.5, equivocate=True)",
    "markov(fixed_bias, on=1, off=0.5)",
    "bandit(silence(q=0.5), large_noise, window=1, epsilon=1)",
    "rush(split_brain(min_max))",
    "slowdown(rush(silence(q=0.5)))",
    "staged_crash(first=1, every=1)",
    "staged_crash(split_brain(alie(z=1.5)), first=0)",
    "sleeper(mimic, after=1)",
    "sleeper(observation_noise, after=1)",
    "sleeper(v_bsa, after=1)",
    "split_brain(min_max)",
]
EXEMPT = {
    messages_are_finite: {
        "non_finite": "it is what it does",
        "non_finite(value=inf, where=once)": "it is what it does",
    },
    the_order_of_the_honest_does_not_matter: {
        "freeze": "its victim is the first of several agents",
        "mimic(copy=2)": "the agent has a number",
        "mda_fooling": "of several narrowest subsets it takes the first",
        "spectral_heterogeneity": "it queries the rule of one agent, the first",
    },
    it_does_something: {
        "none": "it is what it does",
        "markov": "it may be off for longer",
        "sleeper": "it sleeps for longer",
        "staged_crash": "no agent has crashed yet",
    },
}
FEWER_CALLS = {
    "agr_tailored": 120,
    "normalized": 81,
    "optimal_alie": 40,
    "optimal_ipm": 40,
    "spectral_heterogeneity": 40,
    "weight_search": 240,
}
"""By attack that queries the rule, the least number of calls, or nearly: the others only refine what these find."""
CASES = (GameCase(0, 1e-3), GameCase(1, 1e3))

each_attack = pytest.mark.parametrize("name", [*ZOO, *VARIANTS])


@each_attack
def test_every_attack(name: str) -> None:
    """One case for each check, of small and of large vectors in turn."""
    written = f"{name}(calls={FEWER_CALLS[name]})" if name in FEWER_CALLS else name
    for check, case in zip(CHECKS, cycle(CASES)):
        if name not in EXEMPT.get(check, {}):
            check(make("attack", written), case)  # type: ignore[arg-type]


@pytest.mark.slow
@each_attack
def test_every_attack_on_every_case(name: str) -> None:
    for check in CHECKS:
        for case in CASES if name not in EXEMPT.get(check, {}) else ():
            check(make("attack", name), case)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Bad(MessageAttack):
    """Says what it computed."""

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(knowledge=frozenset({"own"}))

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        return ByzantineMessages(context.own), memory


@dataclass(frozen=True)
class Writes(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(context.own.mul_(-1)), memory


@dataclass(frozen=True)
class Peeps(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(context.honest[:1]), memory


@dataclass(frozen=True)
class PeepsInSecret(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(getattr(context, "byzantine", -context.own)), memory


@dataclass(frozen=True)
class PeepsAtTheGraph(Bad):
    def start(self, context):
        return {"degree": torch.tensor(len(context.graph))}


@dataclass(frozen=True)
class Moody(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(torch.randn(context.own.shape, dtype=context.own.dtype)), memory


@dataclass(frozen=True)
class Wide(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(torch.cat([context.own, context.own], 1)), memory


@dataclass(frozen=True)
class Double(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(-context.own.double()), memory


@dataclass(frozen=True)
class SendsMany(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(
            torch.from_numpy(rng.standard_normal((12, context.own.shape[1]))).to(context.own)
        ), memory


@dataclass(frozen=True)
class SilentForTwo(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(context.own, silent=torch.ones(2, dtype=torch.bool)), memory


COUNTER = [0]


@dataclass(frozen=True)
class CountsInAModule(Bad):
    def craft_messages(self, context, memory, rng):
        COUNTER[0] += 1
        return ByzantineMessages(COUNTER[0] * context.own), memory


@dataclass(frozen=True)
class CountsInItself(Bad):
    def craft_messages(self, context, memory, rng):
        object.__setattr__(self, "count", getattr(self, "count", 0) + 1)
        return ByzantineMessages(self.count * context.own), memory


@dataclass(frozen=True)
class KeepsItsDirection(Bad):
    """The same whenever the same game is played, but not where it is resumed."""

    def craft_messages(self, context, memory, rng):
        if not hasattr(self, "way"):
            object.__setattr__(self, "way", torch.from_numpy(rng.standard_normal(context.own.shape[1])))
        return ByzantineMessages(context.own + self.way.to(context.own)), memory


@dataclass(frozen=True)
class WritesIntoItsMemory(Bad):
    def start(self, context):
        return {"seen": torch.zeros(1)}

    def craft_messages(self, context, memory, rng):
        memory["seen"] += 1
        return ByzantineMessages(-memory["seen"].to(context.own) * context.own), memory


@dataclass(frozen=True)
class RemembersANumber(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(-context.own), {**memory, "round": context.round}


@dataclass(frozen=True)
class RemembersNothing(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(-context.own), None


@dataclass(frozen=True)
class Infinite(Bad):
    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(context.own / 0), memory


@dataclass(frozen=True)
class HasAFavourite(Bad):
    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"own", "honest"}))

    def craft_messages(self, context, memory, rng):
        return ByzantineMessages(context.honest[:1]), memory


@dataclass(frozen=True)
class OnlyTalks(Bad):
    @property
    def threat(self):
        return ThreatModel(knowledge=frozenset({"own"}), surface=frozenset({"environment"}))


@dataclass(frozen=True)
class HookedEnvironment(Attack):
    """An attack on the environment with given hooks."""

    taps: Any = None
    declared: bool = True

    @property
    def threat(self):
        return ThreatModel(surface=frozenset({"environment"} if self.declared else ()))

    def hook_environment(self, context, memory, rng):
        return self.taps, memory


REJECTED: list[tuple[Check, Attack, str]] = [
    (nothing_is_written_into, Writes(), "`craft_messages` modified its context"),
    (nothing_is_written_into, WritesIntoItsMemory(), "`craft_messages` modified its memory"),
    (nothing_is_written_into, CountsInItself(), "`craft_messages` modified its attack"),
    (it_reads_only_what_it_declares, Peeps(), "read context.honest; its threat declares own"),
    (it_reads_only_what_it_declares, PeepsInSecret(), "`craft_messages` reads context.byzantine"),
    (it_reads_only_what_it_declares, PeepsAtTheGraph(), "read context.graph"),
    (the_same_game_is_played_the_same, Moody(), "draws from another generator"),
    (the_same_game_is_played_the_same, CountsInAModule(), "has hidden state"),
    (the_same_game_is_played_the_same, CountsInItself(), "has hidden state"),
    (its_memory_is_all_that_it_remembers, KeepsItsDirection(), "has hidden state"),
    (the_memory_is_a_flat_dict_of_tensors, RemembersNothing(), "NoneType as its memory"),
    (the_memory_is_a_flat_dict_of_tensors, RemembersANumber(), "'round' is a int"),
    (
        messages_have_a_row_for_each_byzantine_agent,
        Wide(),
        r"\[1, 772\], expected \[1, 386\] \(a row for each Byzantine agent\)",
    ),
    (messages_have_a_row_for_each_byzantine_agent, Double(), "float64, not torch.float32"),
    (messages_have_a_row_for_each_byzantine_agent, SendsMany(), r"of shape \[12, 386\], expected \[1, 386\]"),
    (messages_have_a_row_for_each_byzantine_agent, SilentForTwo(), "`silent` is"),
    (messages_are_finite, Infinite(), "not finite"),
    (the_order_of_the_honest_does_not_matter, HasAFavourite(), "permutation of the honest agents"),
    (it_does_something, Bad(), "were honest"),
    (it_does_something, HookedEnvironment(EnvHooks()), "were honest"),
    (it_acts_only_on_its_surface, OnlyTalks(), "surface has no messages"),
    (
        it_acts_only_on_its_surface,
        HookedEnvironment(EnvHooks(reward=torch.neg), declared=False),
        "hooks its environment",
    ),
    (
        hooks_keep_the_form_of_what_they_change,
        HookedEnvironment(EnvHooks(reward=Tensor.double)),
        "reward hook returned Tensor torch.float64",
    ),
    (
        hooks_keep_the_form_of_what_they_change,
        HookedEnvironment(EnvHooks(action=lambda t, a: a + 1)),
        "an action that the task does not have",
    ),
    (
        hooks_keep_the_form_of_what_they_change,
        HookedEnvironment(EnvHooks(action=lambda t, a: torch.from_numpy(a))),
        "returned Tensor .* in place of ndarray",
    ),
    (
        hooks_keep_the_form_of_what_they_change,
        HookedEnvironment(EnvHooks(observation=lambda t, o: o[..., :1])),
        "observation hook returned",
    ),
    (
        hooks_keep_the_form_of_what_they_change,
        HookedEnvironment(EnvHooks(dynamics={"wind": np.ones(3)})),
        "'wind', which is no constant",
    ),
    (
        hooks_keep_the_form_of_what_they_change,
        HookedEnvironment(EnvHooks(dynamics={"length": np.ones(2)})),
        "not by 3 positive numbers",
    ),
    (an_ended_episode_pays_nothing, HookedEnvironment(EnvHooks(reward=lambda r: r + 1)), "after the end"),
    (
        an_ended_episode_pays_nothing,
        HookedEnvironment(EnvHooks(reward=lambda r: r * r.shape[1])),
        "length of other episodes",
    ),
    (
        hooks_of_an_agent_do_not_depend_on_others,
        HookedEnvironment(EnvHooks(reward=lambda r: r - r.mean(0))),
        "reward hook mixes the rows",
    ),
    (
        hooks_of_an_agent_do_not_depend_on_others,
        HookedEnvironment(EnvHooks(observation=lambda t, o: o[::-1])),
        "observation hook mixes the rows",
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "check, attack, message", REJECTED, ids=lambda v: type(v).__name__ if isinstance(v, Attack) else None
)
def test_the_kit_rejects_what_breaks_the_contract(check: Check, attack: Attack, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(attack, GameCase())


def test_every_check_can_fail() -> None:
    """But for one, which is a promise of the federation: without attackers no attack is asked."""
    assert {check for check, *_ in REJECTED} == set(CHECKS) - {without_byzantine_agents_it_is_inert}


def test_hooks_without_byzantine_agents_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    without_byzantine_agents_it_is_inert(SignFlip(), GameCase())
    monkeypatch.setattr(Adversary, "make_hooks", lambda *_: EnvHooks())
    with pytest.raises(AssertionError, match="hooks an environment"):
        without_byzantine_agents_it_is_inert(SignFlip(), GameCase())


def rng(seed: int = 0) -> np.random.Generator:
    return Streams(seed).generator("attack")


def view_of(attack: Attack, honest: Tensor, attackers: Tensor) -> Any:
    """Return the context on the complete graph: what is declared, of one Byzantine agent unless they collude."""
    sees, f = attack.threat.knowledge, len(attackers)
    agents = len(honest) + f
    rows = attackers if "byzantine" in sees else attackers[:1]
    shown: dict[str, Any] = {"honest": honest, "byzantine": attackers, "own": rows}
    context = SimpleNamespace(round=3, topic="gradient", num_agents=agents, num_byzantine=f, num_episodes=5)
    context.updated = None
    context.num_parameters = CategoricalPolicy(FeedForward((2, 3, 4))).dimension
    space = Discrete(4)
    context.task = SimpleNamespace(action_space=space, action_shape=(), action_count=4, observation_size=2, horizon=7)
    if attack.threat.equivocates:
        context.edges = torch.tensor([(k, to) for k in range(len(rows)) for to in range(agents) if to != k])
    return SimpleNamespace(**vars(context), **{name: shown[name] for name in sees})


def cloud(h: int = 10, f: int = 3, d: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.random.default_rng(7).standard_normal((h + f, d)))
    return x[:h].to(dtype), x[h:].to(dtype)


def vectors(attack: Attack, honest: Tensor, attackers: Tensor, seed: int = 0) -> Tensor:
    messages, _ = attack.craft_messages(view_of(attack, honest, attackers), {}, rng(seed))
    assert isinstance(messages.vectors, Tensor)
    return messages.vectors


def cases() -> list[dict[str, Any]]:
    return json.loads(GOLDEN.read_text())["cases"]


def test_on_names_the_topic() -> None:
    assert [AvgZero(on="both").targets(topic) for topic in ("gradient", "parameters")] == [True, True]
    assert [AvgZero(on="parameters").targets(topic) for topic in ("gradient", "parameters")] == [False, True]


@pytest.mark.parametrize("cls", [LargeNoise, SignFlip, Ipm])
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_positive_and_finite(cls: type, scale: float) -> None:
    with pytest.raises(InvalidParameter):
        cls(scale=scale)


OURS: dict[str, dict[str, Any]] = {"alie": {"whose": "honest"}}
"""What an oracle's name leaves out: its statistics are those of the vectors that it is given."""


def oracle(written: str) -> Any:
    """Our attack of an oracle's name, such as `alie(z=1.3,sign=plus)`."""
    read = parse_spec(written.replace("(", ":", 1).removesuffix(")"))
    return make("attack", Spec(read.name, (), {**read.parameters, **OURS.get(read.name, {})}))


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"n={case['n']}")
@pytest.mark.parametrize("name", sorted({name for case in cases() for name in case[ON_HONEST]}))
def test_golden_numbers(case: dict[str, Any], name: str) -> None:
    x = torch.tensor(case["x"], dtype=torch.float64)
    h = case["n"] - case["f"]
    expected = torch.tensor(case[ON_HONEST][name], dtype=torch.float64)
    for vector in vectors(oracle(name), x[:h], x[h:]):
        torch.testing.assert_close(vector, expected, atol=1e-6, rtol=1e-6)


@given(h=st.integers(1, 12), f=st.integers(1, 12), d=st.integers(1, 9))
def test_avg_zero_makes_the_mean_of_all_zero(h: int, f: int, d: int) -> None:
    honest, attackers = cloud(h, f, d)
    everything = torch.cat([honest, vectors(AvgZero(), honest, attackers)])
    torch.testing.assert_close(everything.mean(0), torch.zeros(d), atol=1e-6, rtol=0)


def test_sign_flip_negates_each_attackers_own_vector() -> None:
    honest, attackers = cloud()
    assert torch.equal(vectors(SignFlip(scale=2.5), honest, attackers), -2.5 * attackers[:1])


def test_alie_by_hand() -> None:
    attackers = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    sent = vectors(Alie(z=0.5), torch.zeros(10, 2), attackers)
    expected = torch.tensor([3 - 0.5 * (8 / 3) ** 0.5, 2 - 0.5 * 8**0.5])
    torch.testing.assert_close(sent, expected.expand(3, 2))


@pytest.mark.parametrize(
    "agents, byzantine, z",
    [(10, 3, 0.180), (13, 3, 0.253), (20, 4, 0.157), (30, 9, 0.431), (50, 12, 0.336), (50, 24, 1.426)],
)
def test_alie_rule_a(agents: int, byzantine: int, z: float) -> None:
    assert Alie().deviations(agents, byzantine) == pytest.approx(z, abs=5e-4)
    assert Alie().notes(Setting(agents, byzantine)) == [f"alie: z = {z:.3f} by rule A for K={agents}, f={byzantine}"]


@pytest.mark.parametrize("agents, byzantine, z", [(13, 3, 0.502), (50, 24, 1.751)])
def test_alie_rule_b(agents: int, byzantine: int, z: float) -> None:
    assert Alie(rule="B").deviations(agents, byzantine) == pytest.approx(z, abs=5e-4)


@pytest.mark.parametrize(
    "agents, byzantine, z",
    [(4, 1, -0.431), (5, 1, 0), (7, 1, 0), (10, 1, -0.140), (10, 2, 0), (13, 1, 0), (20, 2, 0)],
)
def test_alie_refuses_a_rule_that_helps(agents: int, byzantine: int, z: float) -> None:
    assert Alie().deviations(agents, byzantine) == pytest.approx(z, abs=5e-4)
    with pytest.raises(Undefined, match=r"alie:z=1\.5") as error:
        Alie().check(Setting(agents, byzantine))
    assert "\n" not in str(error.value)
    Alie(z=1.5).check(Setting(agents, byzantine))
    assert "z = 1.500 as given" in Alie(z=1.5).notes(Setting(agents, byzantine))[0]


@given(agents=st.integers(1, 60), data=st.data())
def test_alie_decides_for_every_size(agents: int, data: st.DataObject) -> None:
    byzantine = data.draw(st.integers(1, agents))
    for attack in (Alie(), Alie(rule="B"), Alie(whose="honest", ddof=1)):
        try:
            attack.check(Setting(agents, byzantine))
        except Undefined:
            continue
        assert "z = " in attack.notes(Setting(agents, byzantine))[0]
        assert 0 < attack.deviations(agents, byzantine) < 10


def test_alie_says_when_there_is_no_spread() -> None:
    assert "no spread" in Alie(z=1.5).notes(Setting(5, 1))[0]
    assert "no spread" not in Alie(z=1.5, whose="honest").notes(Setting(5, 1))[0]
    with pytest.raises(Undefined, match="ddof=0"):
        Alie(z=1.5, ddof=1).check(Setting(5, 1))


def test_large_noise_sends_each_receiver_another_vector_within_its_bounds() -> None:
    sent = vectors(LargeNoise(scale=10, relative=False), *cloud(d=500))
    assert len(sent.unique(dim=0)) == len(sent) == 12
    assert sent.abs().max() <= 10
    assert abs(float(sent.mean())) < 0.5
    assert abs(float(sent.std()) - 10 / 3**0.5) < 0.2
    assert LargeNoise(relative=False).threat.knowledge == {"own"}


@pytest.mark.parametrize("cls", [LargeNoise, SameValue])
def test_a_relative_strength_follows_the_length_of_honest_vectors(cls: Any) -> None:
    honest, attackers = cloud(d=500)
    usual = float(honest.norm(dim=1).quantile(0.5))
    for scale in (1e-20, 1.0, 1e25):
        sent = vectors(cls(scale=10), scale * honest, scale * attackers).double()
        unit = scale * usual / 500**0.5
        absolute = vectors(cls(scale=10, relative=False), honest, attackers).double()
        torch.testing.assert_close(sent / unit, absolute, rtol=1e-5, atol=0)


def test_random_action_plays_every_action_and_keeps_to_its_table() -> None:
    attack = RandomAction()
    context = view_of(attack, *cloud())
    context.num_episodes = 400
    actions = np.zeros((3, 400), np.int64)
    first, again = (attack.hook_environment(context, {}, rng())[0].action for _ in range(2))
    assert first is not None
    assert again is not None
    played = np.stack([first(t, actions.copy()) for t in range(70)])
    assert played.shape == (70, 3, 400)
    assert played.dtype == np.int64
    assert np.array_equal(first(2, actions), played[2])
    # Noise is drawn some steps at a time, in the order of the steps and of nothing else.
    assert np.array_equal(again(69, actions), played[69])
    assert abs(np.bincount(played.ravel(), minlength=4) / played.size - 0.25).max() < 0.01


def test_random_action_constant() -> None:
    attack = RandomAction(constant=1)
    context = view_of(attack, *cloud())
    assert attack.start(context) == {}
    action = attack.hook_environment(context, {}, rng())[0].action
    assert action is not None
    assert np.array_equal(action(0, np.zeros((3, 5), np.int64)), np.ones((3, 5), np.int64))
    with pytest.raises(Undefined, match="0 to 3"):
        RandomAction(constant=4).start(context)


def test_gaussian_has_the_length_of_an_honest_vector_or_its_parameter() -> None:
    honest, attackers = cloud(d=2000)
    for scale in (1e-6, 1.0, 1e6):
        sent = vectors(Gaussian(sd=2), scale * honest, scale * attackers)
        assert float(sent.norm()) == pytest.approx(2 * scale * float(honest.norm(dim=1).median()), rel=0.1)
    absolute = vectors(Gaussian(mean=5, sd=3, relative=False), honest, attackers)
    assert float(absolute.mean()) == pytest.approx(5, abs=0.3)
    assert float(absolute.std()) == pytest.approx(3, abs=0.2)
    assert Gaussian(relative=False).threat.knowledge == {"own"}


def in_an_exchange(attack: Attack, honest: Tensor, topic: str = "gradient") -> Any:
    context = view_of(attack, honest, honest[:3])
    context.topic = topic
    return context


def test_mimic_finds_the_direction_of_largest_variance_and_stays_with_its_choice() -> None:
    attack, draw = Mimic(warmup=30), np.random.default_rng(0)
    memory: dict[str, Tensor] = {}

    def honest() -> Tensor:
        x = 1e-6 * torch.from_numpy(draw.standard_normal((10, 6)))
        x[7, 2] += 2e-5
        x[3, 2] -= 1e-5
        return x + 3

    for t in range(40):
        x = honest()
        messages, memory = attack.craft_messages(in_an_exchange(attack, x), memory, rng())
        assert int(memory["gradient.seen"]) == min(t + 1, 30)
    assert memory["gradient.direction"][2].abs() > 0.99
    assert float(memory["gradient.direction"].norm()) == pytest.approx(1)
    assert torch.equal(torch.as_tensor(messages.vectors), x[7].expand(3, 6))
    for other in (-honest(), honest().flip(0)):
        messages, after = attack.craft_messages(in_an_exchange(attack, other), memory, rng())
        assert torch.equal(torch.as_tensor(messages.vectors)[0], other[7])
        assert after.keys() == memory.keys()


def test_mimic_remembers_by_topic_what_a_file_can_hold(tmp_path: Path) -> None:
    attack, x = Mimic(), torch.from_numpy(np.random.default_rng(0).standard_normal((5, 10, 6)))
    memory: dict[str, Tensor] = {}
    for t in range(3):
        for topic, part in (("gradient", x[t]), ("parameters", -x[t + 1])):
            messages, new_memory = attack.craft_messages(in_an_exchange(attack, part, topic), memory, rng())
            before, memory = memory, new_memory
            if before:
                save_file(before, tmp_path / "memory")
                again, restored = attack.craft_messages(
                    in_an_exchange(attack, part, topic), load_file(tmp_path / "memory"), rng()
                )
                assert torch.equal(torch.as_tensor(again.vectors), torch.as_tensor(messages.vectors))
                assert all(torch.equal(restored[name], memory[name]) for name in memory)
    assert {name.split(".")[0] for name in memory} == {"gradient", "parameters"}
    alone: dict[str, Tensor] = {}
    for t in range(3):
        _, alone = attack.craft_messages(in_an_exchange(attack, x[t]), alone, rng())
    assert all(torch.equal(alone[name], memory[name]) for name in alone)


def test_mimic_copies_who_is_there() -> None:
    Mimic(copy=9).check(Setting(13, 3))
    with pytest.raises(Undefined, match="give 0 to 9"):
        Mimic(copy=10).check(Setting(13, 3))
    same = torch.ones(4, 6)
    assert torch.equal(vectors(Mimic(), same, same), same)


SETBACKS = [
    cls(direction=direction, **more)
    for cls, more in ((MinMax, {}), (MinSum, {}), (MinSum, {"bound": "min"}))
    for direction in ("std", "unit", "sign")
]


def farthest_by_bisection(attack: Any, x: Tensor) -> Tensor:
    """The lie by its definition: of the points mean - g p, the last that keeps within the bound."""
    mean = x.mean(0)
    p = {"std": x.std(0), "unit": mean / mean.norm(), "sign": mean.sign()}[attack.direction]
    squares = (x.unsqueeze(0) - x.unsqueeze(1)).square().sum(-1)
    sums = squares.sum(1)
    bound = squares.max() if isinstance(attack, MinMax) else sums.max() if attack.bound == "max" else sums.min()

    def fits(g: float) -> bool:
        gaps = (mean - g * p - x).square().sum(1)
        return bool((gaps.max() if isinstance(attack, MinMax) else gaps.sum()) <= bound)

    low, high = 0.0, 1.0
    while fits(high):
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return mean - low * p


@pytest.mark.parametrize("inputs", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("attack", SETBACKS, ids=repr)
def test_a_setback_goes_as_far_as_bisection(attack: Any, inputs: int) -> None:
    for seed in range(inputs):
        draw = np.random.default_rng(seed)
        h, d = int(draw.integers(2, 15)), int(draw.integers(1, 12))
        x = torch.from_numpy(draw.standard_t(3, (h, d)) * 10.0 ** draw.uniform(-3, 3) + draw.standard_normal(d))
        vector, expected = vectors(attack, x, x[:1])[0], farthest_by_bisection(attack, x)
        scale = float((x - x.mean(0)).norm(dim=1).max())
        assert float((vector - expected).norm()) <= 1e-9 * scale


@pytest.mark.parametrize("attack", SETBACKS, ids=repr)
def test_a_setback_needs_a_spread(attack: Any) -> None:
    attack.check(Setting(5, 3))
    with pytest.raises(Undefined, match="degenerate") as error:
        attack.check(Setting(5, 4))
    assert "\n" not in str(error.value)
    same = torch.full((4, 3), 2.0)
    assert torch.equal(vectors(attack, same, same), same)


def test_min_sum_with_the_least_sum_is_the_weaker() -> None:
    honest, attackers = cloud()
    far = [float((vectors(MinSum(bound=b), honest, attackers)[0] - honest.mean(0)).norm()) for b in ("max", "min")]  # type: ignore[arg-type]
    assert far[0] > far[1] > 0


def test_same_value_has_the_length_of_its_parameter() -> None:
    honest, attackers = cloud(9)
    sent = vectors(SameValue(scale=3), honest, attackers)
    assert len(sent.unique()) == 1
    assert float(sent.norm()) == pytest.approx(3 * float(honest.norm(dim=1).median()))
    assert torch.equal(vectors(SameValue(scale=2, relative=False), honest, attackers), torch.full((1, 6), 2.0))


def test_fang_draws_beyond_the_last_honest_value() -> None:
    """By hand: both values above zero, both below, and on either side with the mean above, below and at zero."""
    columns = torch.tensor([[1.0, -2.0, -1.0, 1.0, -2.0], [3.0, -4.0, 5.0, -5.0, 2.0]])
    low = torch.tensor([1 / 3, -2.0, -3.0, 1.0, -6.0])
    high = torch.tensor([1.0, -2 / 3, -1.0, 3.0, -2.0])
    sent = vectors(Fang(b=3), columns.repeat(1, 2000), columns.repeat(1, 2000)).view(2000, 5)
    assert ((sent >= low) & (sent <= high)).all()
    torch.testing.assert_close(sent.mean(0), (low + high) / 2, atol=0.05, rtol=0)
    torch.testing.assert_close(sent.amin(0), low, atol=0.01, rtol=0)
    torch.testing.assert_close(sent.amax(0), high, atol=0.01, rtol=0)


@pytest.mark.parametrize("inputs", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_fang_goes_as_far_as_krum_lets_it(inputs: int) -> None:
    num_selected = 0
    for seed in range(inputs):
        draw = np.random.default_rng(seed)
        f, d = int(draw.integers(1, 4)), int(draw.integers(1, 9))
        h = int(draw.integers(f + 3, 12))
        x = torch.from_numpy(draw.standard_normal((h, d)) + draw.uniform(0, 2) * draw.standard_normal(d))
        message, sign = vectors(Fang(against="krum"), x, x[:f])[0], x.mean(0).sign()
        step = float(message.norm() / sign.norm())
        torch.testing.assert_close(message, -step * sign)

        def selected(step: float, x: Tensor = x, f: int = f, sign: Tensor = sign) -> bool:
            value, _, _ = Krum()(torch.cat([x, (-step * sign).expand(f, -1)]), f)
            return torch.equal(value, -step * sign)

        near = [(x - row).square().sum(1).sort().values[1 : h - 1].sum() for row in x]
        score = float(torch.stack(near).min())
        first = ((score / (h - f - 1)) ** 0.5 + float(x.norm(dim=1).max())) / float(sign.norm())
        halvings = round(np.log2(first / step))
        assert step == pytest.approx(first / 2**halvings)
        assert not any(selected(first / 2**k) for k in range(halvings))
        assert not any(selected(first * more) for more in (1.001, 2, 10))
        num_selected += selected(step)
        assert selected(step) or halvings == 50
    assert num_selected > inputs / 3
    zero = torch.zeros(6, 2)
    assert torch.equal(vectors(Fang(against="krum"), zero, zero[:2]), zero[:2])


def test_fang_refuses_what_krum_refuses() -> None:
    Fang(against="krum").check(Setting(9, 3))
    Fang().check(Setting(4, 3))
    with pytest.raises(Undefined, match="K > 2f \\+ 2"):
        Fang(against="krum").check(Setting(8, 3))


def test_fedpg_attack_stands_three_deviations_away() -> None:
    _, attackers = cloud(f=4)
    attackers = attackers.double()
    sent = vectors(FedpgAttack(), attackers, attackers)
    diameter = max(float((a - b).norm()) for a in attackers for b in attackers)
    assert float((sent[0] - attackers.mean(0)).norm()) == pytest.approx(1.5 * diameter)
    assert torch.equal(sent, sent[:1].expand(4, -1))
    assert not torch.allclose(sent, vectors(FedpgAttack(), attackers, attackers, seed=1))
    with pytest.raises(Undefined, match="degenerate"):
        FedpgAttack().check(Setting(5, 1))


def test_partial_drop_loses_a_share() -> None:
    honest, attackers = cloud(d=4000)
    for equivocate, rows in ((False, 1), (True, 12)):
        sent = vectors(PartialDrop(share=0.3, equivocate=equivocate), honest, attackers)
        assert len(sent) == rows
        assert ((sent == 0) | (sent == attackers[:1])).all()
        assert ((sent == 0).float().mean(1) - 0.3).abs().max() < 0.04
        assert len(sent.unique(dim=0)) == rows
    assert not vectors(PartialDrop(share=1), honest, attackers).any()


@given(d=st.integers(2, 30), scale=st.sampled_from([1e-12, 1.0, 1e12]), seed=st.integers(0, 99))
def test_orthogonal_is_orthogonal_and_as_long(d: int, scale: float, seed: int) -> None:
    own = scale * cloud(1, 1, d, torch.float64)[1]
    sent = vectors(Orthogonal(), own, own, seed)
    assert abs(float(sent[0] @ own[0])) <= 1e-12 * float(own.norm()) ** 2
    assert float(sent.norm()) == pytest.approx(float(own.norm()))
    single = vectors(Orthogonal(), own.float(), own.float(), seed)
    assert abs(float(single[0].double() @ own[0])) <= 1e-6 * float(own.norm()) ** 2


def test_orthogonal_where_there_is_no_such_direction() -> None:
    assert torch.equal(vectors(Orthogonal(), torch.ones(1, 1), torch.ones(1, 1)), torch.zeros(1, 1))
    assert torch.equal(vectors(Orthogonal(), torch.zeros(1, 3), torch.zeros(1, 3)), torch.zeros(1, 3))


def test_anti_cge_by_hand() -> None:
    honest = torch.tensor([[3.0], [-1.0], [10.0], [2.0], [4.0]], dtype=torch.float64)
    # Of five, with two attackers, the three shortest: -1, 2, 3. The next, 4, is as long as a lie must not be.
    torch.testing.assert_close(
        vectors(AntiCge(), honest, honest[:2]), torch.full((2, 1), -4.0).double(), rtol=2e-6, atol=0
    )


@given(h=st.integers(2, 12), f=st.integers(1, 5), d=st.integers(1, 6), seed=st.integers(0, 99))
def test_anti_cge_is_kept_by_elimination(h: int, f: int, d: int, seed: int) -> None:
    if h <= f:
        with pytest.raises(Undefined, match="K > 2f"):
            AntiCge().check(Setting(h + f, f))
        return
    honest = torch.from_numpy(np.random.default_rng(seed).standard_normal((h, d))).float()
    sent = vectors(AntiCge(), honest, honest[:1].expand(f, -1))
    everybody = torch.cat([honest, sent])
    shortest = everybody.norm(dim=1).argsort(stable=True)[:h]
    assert set(range(h, h + f)) <= set(shortest.tolist())
    others = honest[[i for i in shortest.tolist() if i < h]].sum(0)
    torch.testing.assert_close(sent[0], -others / others.norm() * sent[0].norm())
    longer = torch.cat([honest, sent * 1.00001])
    assert not set(range(h, h + f)) <= set(longer.norm(dim=1).argsort(stable=True)[:h].tolist())


def test_a_hidden_coordinate_by_hand() -> None:
    honest = torch.tensor([[0.0, 3.0], [0.0, -3.0], [4.0, 0.0], [-4.0, 0.0]])
    assert torch.equal(
        vectors(HiddenCoordinate(scale=2, coordinate=1), honest, honest[:2])[1], torch.tensor([0.0, 7.0])
    )
    absolute = HiddenCoordinate(scale=2, coordinate=1, relative=False)
    assert torch.equal(vectors(absolute, honest + 1, honest[:2])[0], torch.tensor([1.0, 3.0]))
    with pytest.raises(Undefined, match="degenerate"):
        HiddenCoordinate().check(Setting(4, 3))
    absolute.check(Setting(4, 3))
    context = view_of(absolute, *cloud())
    assert HiddenCoordinate(coordinate=24).start(context) == {}
    with pytest.raises(Undefined, match="0 to 24"):
        HiddenCoordinate(coordinate=25).start(context)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_is_screened(value: Any) -> None:
    honest, attackers = cloud()
    everywhere, once = (vectors(NonFinite(value=value, where=w), honest, attackers) for w in ("everywhere", "once"))  # type: ignore[arg-type]
    assert not everywhere.isfinite().any()
    assert (once == attackers[:1]).sum() == 5
    assert torch.equal(everywhere[0, :1].isnan(), torch.tensor([value == "nan"]))
    for vector in (everywhere, once):
        assert validate_messages(ByzantineMessages(vector), 1, 6).malformed.all()


def test_replay_is_late() -> None:
    draws = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 3, 6)))
    attack, memory = Replay(delay=3), dict[str, Tensor]()
    for t, own in enumerate(draws):
        for topic, sign in (("gradient", 1), ("parameters", -1)):
            context = view_of(attack, own, sign * own)
            context.topic = topic
            messages, memory = attack.craft_messages(context, memory, rng())
            assert torch.equal(torch.as_tensor(messages.vectors), sign * draws[max(t - 3, 0)])
    assert {name: len(past) for name, past in memory.items()} == {"gradient.past": 4, "parameters.past": 4}


def test_silence_has_the_frequency_of_its_parameter() -> None:
    honest, attackers = cloud()
    for attack, rows in ((Silence(q=0.3), 1), (Silence(q=0.3, equivocate=True), 12)):
        speeches = [attack.craft_messages(view_of(attack, honest, attackers), {}, rng(seed))[0] for seed in range(600)]
        silent = torch.stack([torch.as_tensor(s.silent) for s in speeches]).float()
        assert silent.shape == (600, rows)
        assert (silent.mean(0) - 0.3).abs().max() < 0.08
        assert torch.equal(torch.as_tensor(speeches[0].vectors), attackers[:1].expand(rows, -1))
    assert torch.as_tensor(Silence().craft_messages(view_of(Silence(), honest, attackers), {}, rng())[0].silent).all()


def test_a_fixed_bias_stays() -> None:
    attack, memory = FixedBias(strength=2), dict[str, Tensor]()
    biases = []
    for t in range(3):
        attackers = (10.0**t) * cloud(dtype=torch.float64)[1]
        messages, memory = attack.craft_messages(view_of(attack, attackers, attackers), memory, rng(t))
        biases.append(torch.as_tensor(messages.vectors) - attackers)
    usual = float(cloud(dtype=torch.float64)[1].norm(dim=1).median())
    torch.testing.assert_close(torch.stack(biases), biases[0][0].expand(3, 3, 6))
    assert float(biases[0][0].norm()) == pytest.approx(2 * usual)
    absolute = vectors(FixedBias(strength=2, relative=False), attackers, attackers)
    torch.testing.assert_close((absolute - attackers).norm(dim=1), torch.full((3,), 2.0).double())


def received_by(attack: Attack, rewards: Tensor, seed: int = 0) -> Tensor:
    context = view_of(attack, *cloud())
    context.num_episodes = rewards.shape[2]
    hook = attack.hook_environment(context, {}, rng(seed))[0].reward
    assert hook is not None
    return hook(rewards)


def episodes(f: int = 3, t: int = 7, n: int = 40) -> Tensor:
    """Rewards [f, T, N] of episodes that last 1 to T steps."""
    draw = np.random.default_rng(3)
    lengths = torch.from_numpy(draw.integers(1, t + 1, (f, 1, n)))
    return torch.from_numpy(draw.standard_normal((f, t, n))).float() * (torch.arange(t).view(1, -1, 1) < lengths)


def test_flipped_rewards() -> None:
    assert torch.equal(received_by(RewardFlip(), episodes()), -episodes())
    assert torch.equal(received_by(RewardFlip(scale=2), episodes()), -2 * episodes())


def test_shuffled_rewards_stay_in_their_episode() -> None:
    paid = episodes()
    shuffled = received_by(RewardShuffle(), paid)
    torch.testing.assert_close(shuffled.sort(1).values, paid.sort(1).values)
    assert torch.equal(shuffled == 0, paid == 0)
    lasting = (paid != 0).sum(1) > 4
    assert ((shuffled != paid).any(1)[lasting]).float().mean() > 0.9
    full = torch.arange(1.0, 8).view(1, 7, 1).expand(3, 7, 4000)
    places = received_by(RewardShuffle(), full)
    torch.testing.assert_close(places.mean(2), torch.full((3, 7), 4.0), atol=0.15, rtol=0)
    assert torch.equal(received_by(RewardShuffle(), torch.ones(3, 7, 5)), torch.ones(3, 7, 5))


def test_poisoned_rewards_are_the_worst_within_the_budget() -> None:
    """No change of at most epsilon a step takes the covariance of what was earned with what is told any lower."""
    paid, draw = episodes(n=6).double(), np.random.default_rng(0)

    def covariance(rewards: Tensor) -> Tensor:
        earned = paid.sum(1)
        return ((earned - earned.mean(1, keepdim=True)) * rewards.sum(1)).mean(1)

    poisoned = received_by(RewardPoison(epsilon=0.5), paid)
    assert ((poisoned - paid).abs() <= 0.5 + 1e-9).all()
    assert torch.equal(poisoned == 0, paid == 0)
    assert (covariance(poisoned) < covariance(paid)).all()
    corners = torch.from_numpy(draw.choice([-0.5, 0.5], (3000, *paid.shape))) * (paid != 0)
    assert (
        torch.stack([covariance(paid + corner) for corner in corners]).amin(0) >= covariance(poisoned) - 1e-12
    ).all()


def test_poisoned_rewards_by_hand() -> None:
    paid = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    # Episodes of 3 and 1 steps, and one that was not played: the usual return is 2.
    expected = torch.tensor([[[0.5, 1.5, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]])
    assert torch.equal(received_by(RewardPoison(epsilon=0.5), paid), expected)


def test_observation_noise_keeps_to_its_size() -> None:
    points = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 500, 2))).float()
    off = {}
    for shape in ("gaussian", "uniform", "sign"):
        attack = ObservationNoise(epsilon=0.25, shape=shape)  # type: ignore[arg-type]
        context = view_of(attack, *cloud())
        context.num_episodes = 500
        hook = attack.hook_environment(context, {}, rng())[0].observation
        assert hook is not None
        off[shape] = torch.from_numpy(np.stack([hook(t, points.clone().numpy()) for t in range(7)])) - points
    assert float(off["gaussian"].std()) == pytest.approx(0.25, rel=0.03)
    assert off["uniform"].abs().max() <= 0.25 + 1e-6
    assert float(off["uniform"].std()) == pytest.approx(0.25 / 3**0.5, rel=0.03)
    torch.testing.assert_close(off["sign"], -0.25 * points.sign().expand(7, -1, -1, -1))
    for shape in ("gaussian", "uniform"):
        assert abs(float(off[shape].mean())) < 0.01
        assert len(off[shape].unique(dim=0)) == 7


def test_flipped_actions_are_others() -> None:
    for q in (0.25, 1.0):
        attack = ActionFlip(q=q)
        context = view_of(attack, *cloud())
        context.num_episodes = 900
        action = attack.hook_environment(context, {}, rng())[0].action
        assert action is not None
        for chosen in range(4):
            after = np.stack([action(t, np.full((3, 900), chosen)) for t in range(7)])
            expected = np.full(4, q / 3)
            expected[chosen] = 1 - q
            np.testing.assert_allclose(np.bincount(after.ravel(), minlength=4) / after.size, expected, atol=0.02)


NEW = ["same_value", "fang", "fang(against=krum)", "fedpg_attack", "partial_drop(equivocate=True)", "orthogonal"]
NEW += ["anti_cge", "hidden_coordinate", "non_finite(on=both)", "replay(on=both)", "silence(on=both)", "fixed_bias"]
NEW += ["reward_flip", "reward_shuffle", "reward_poison", "observation_noise", "action_flip", "large_noise"]


@pytest.mark.parametrize("attack", NEW)
def test_it_runs(attack: str, tmp_path: Path) -> None:
    parameters = {"algo": {"N": 6, "B": 2}}
    result = byzbench.run(attack=attack, agents=9, byzantine=2, trajectories=20, parameters=parameters, out=tmp_path)
    assert result.trajectories >= 20
    assert (result.num_malformed > 0) == attack.startswith("non_finite")
