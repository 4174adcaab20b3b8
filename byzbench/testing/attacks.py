"""What every attack is held to, a property a function: for our zoo, and for the attacks of others.

    for check in CHECKS:
        check(attack, Case(seed=0))

A check raises `AssertionError` with a line that says what was wrong. The attack plays three rounds in a real federation
of 13 agents who all hear each other, 3 of whom lie; only the vectors that they exchange, and what the liars meet in
their environments, are made up. Which checks an attack is exempt from, and why, stands in the test that runs them: one
that repeats the agent with the least number depends on the order of the agents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from byzbench.contracts import Attack, Speech, State, Taps, Threat
from byzbench.errors import UndeclaredKnowledge
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread
from byzbench.federation.adversary import LiarsTap
from byzbench.federation.view import View
from byzbench.learning.policies import CategoricalMlp
from byzbench.randomness import Streams

AGENTS, LIARS, ROUNDS, EPISODES, STEPS = 13, 3, 3, 4, 9
TOPICS = ("gradient", "parameters")


@dataclass(frozen=True)
class Case:
    """The vectors of three rounds: honest noise around a mean that moves, of some scale and dtype."""

    seed: int = 0
    scale: float = 1.0
    dtype: torch.dtype = torch.float32

    def draw(self, name: str, round: int, *shape: int) -> Tensor:
        """Numbers of this case's own, the same whenever they are asked for."""
        return torch.from_numpy(Streams(self.seed).generator(name, round).standard_normal(shape))

    def x(self, topic: str, round: int, d: int) -> Tensor:
        """What everybody computed, [K, d]."""
        return (self.scale * (self.draw(topic, round, AGENTS, d) + self.draw("mean", round, d))).to(self.dtype)

    def rollout(self, round: int, observations: int, actions: int) -> tuple[Tensor, Tensor, Tensor]:
        """What everybody met: observations [T, K, N, o], actions [T, K, N], rewards [K, T, N], of unequal episodes."""
        seen = self.draw("observation", round, STEPS, AGENTS, EPISODES, observations).float()
        done = self.draw("action", round, STEPS, AGENTS, EPISODES).mul(1e3).long() % actions
        paid = self.scale * self.draw("reward", round, AGENTS, STEPS, EPISODES)
        lengths = torch.arange(STEPS - EPISODES + 1, STEPS + 1)
        return seen, done, (paid * (torch.arange(STEPS).unsqueeze(1) < lengths)).float()


@dataclass
class Call:
    """One call of an attack, and what it left behind.

    Attributes:
        method: start, speak or tap.
        view: what it was shown.
        memory: what it was given to remember.
        sought: what it looked for and was not shown.
        altered: what it wrote into: its view, its memory or itself.
        said: the speech or the taps.
    """

    method: str
    view: View
    memory: State
    sought: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    said: Any = None


@dataclass(frozen=True)
class Round:
    """One round: the adversary's state before it, what honest agents heard and liars met, and what is true of both."""

    memory: State
    met: dict[str, Tensor]
    truth: dict[str, Tensor]


Check: TypeAlias = Callable[[Attack, Case], None]


class _Window(View):
    """The same view, with a list of what was looked for in vain."""

    def __getattr__(self, name: str) -> Any:
        self.__dict__["_sought"].append(name)
        return super().__getattr__(name)


@dataclass(frozen=True)
class _Witness(Attack):
    """The attack, and a list of its calls."""

    attack: Attack
    calls: list[Any] = field(default_factory=list)

    @property
    def threat(self) -> Threat:
        return self.attack.threat

    def check(self, agents: int, byzantine: int) -> str | None:
        return self.attack.check(agents, byzantine)

    def speaks(self, topic: str) -> bool:
        return self.attack.speaks(topic)

    def start(self, view: View) -> State:
        return self._note("start", view, {}, lambda seen, _: (None, self.attack.start(seen)))[1]

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        return self._note("speak", view, memory, lambda seen, memory: self.attack.speak(seen, memory, rng))

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        taps, kept = self._note("tap", view, memory, lambda seen, memory: self.attack.tap(seen, memory, rng))
        assert isinstance(taps, Taps), f"`tap` gave a {type(taps).__name__} in place of Taps"
        formal = {name: tap and _formal(name, tap, view.task.action_count) for name, tap in vars(taps).items()}
        return Taps(**formal), kept

    def _note(self, method: str, view: View, memory: State, act: Callable[[View, State], tuple[Any, Any]]) -> Any:
        held = {"view": vars(view), "memory": memory, "attack": vars(self.attack)}
        before = {name: _copy(values) for name, values in held.items()}
        call = Call(method, view, before["memory"])
        self.calls.append(call)
        window = object.__new__(_Window)
        window.__dict__.update(vars(view), _sought=call.sought)
        call.said, kept = act(window, memory)
        assert isinstance(kept, dict), f"`{method}` gave a {type(kept).__name__} as its memory"
        for name, part in kept.items():
            assert isinstance(name, str), f"the memory has the key {name!r}"
            assert isinstance(part, Tensor), f"the memory's {name!r} is a {type(part).__name__}, not a tensor"
        call.altered += [name for name, values in held.items() if not _same(before[name], values)]
        return call.said, kept


def _formal(which: str, tap: Callable[..., Tensor], actions: int) -> Callable[..., Tensor]:
    """The tap, with an eye on the form of what it gives back."""

    def tapped(*given: Any) -> Tensor:
        before, x = [deepcopy(value) for value in given], given[-1]
        told = tap(*given)
        form = f"the {which} tap made {told.dtype} {list(told.shape)} of {x.dtype} {list(x.shape)}"
        assert (told.shape, told.dtype) == (x.shape, x.dtype), form
        there = which != "action" or bool(((told >= 0) & (told < actions)).all())
        assert there, "the action tap chose an action that the task has not"
        assert all(map(_equal, before, given)), f"the {which} tap wrote into what it was handed"
        return told

    return tapped


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    """With copies of whatever can be written into."""
    return {k: deepcopy(v) if isinstance(v, Tensor | np.ndarray | dict | list) else v for k, v in values.items()}


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(a[name] is b[name] or _equal(a[name], b[name]) for name in a)


def _equal(a: Any, b: Any) -> bool:
    """To the bit, and NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Tensor):
        return (a.shape, a.dtype) == (b.shape, b.dtype) and bool(((a == b) | ((a != a) & (b != b))).all())
    return bool(a == b)


def play(
    attack: Attack, case: Case, *, start: int = 0, memory: State | None = None, order: Tensor | None = None
) -> tuple[list[Round], list[Call]]:
    """The rounds from `start` on, and the calls made in them.

    Args:
        attack: who plays.
        case: with what.
        start: the first round.
        memory: the adversary's state before it; by default as it starts.
        order: of the honest agents: the i-th computes what the order[i]-th would have.
    """
    with one_thread():
        return _play(_Witness(attack), case, start, memory, order)


def _play(
    witness: _Witness, case: Case, start: int, memory: State | None, order: Tensor | None
) -> tuple[list[Round], list[Call]]:
    todo = _experiment(witness, case)
    federation, adversary = federate(todo)
    adversary.memory = memory or adversary.memory
    liars = torch.tensor(todo.members.liars)
    honest = (~todo.members.byzantine).nonzero().squeeze(1)
    seats = torch.arange(AGENTS)
    if order is not None:
        seats[honest] = honest[order]
    rounds = []
    for round in range(start, ROUNDS):
        federation.begin(round, round / ROUNDS)
        lockstep(federation.common("coin", lambda rng: float(rng.random() < 0.5)))
        done = Round({k: v.clone() for k, v in adversary.memory.items()}, {}, {})
        rounds.append(done)
        if (tap := adversary.taps(range(AGENTS), EPISODES, 1)) is not None:
            inputs = case.rollout(round, todo.task.observation_size, todo.task.action_count)
            done.met.update((name, x[liars]) for name, x in _rollout(tap, *inputs).items())
            done.truth.update((name, x[liars]) for name, x in _rollout(None, *inputs).items())
        for topic in filter(witness.speaks, TOPICS):
            x = case.x(topic, round, federation.theta0.shape[1])[seats]
            inbox = lockstep(federation.exchange(topic, x))
            # In a complete graph an agent's column is its number.
            words, heard = inbox.base[inbox.senders[honest][:, liars]], inbox.mask[honest][:, liars]
            done.met.update({topic: words, f"{topic} heard": heard})
            done.truth.update({topic: x[liars].expand_as(words), f"{topic} heard": torch.ones_like(heard)})
            if topic == "gradient":
                federation.aggregate(inbox, {})
    return rounds, witness.calls


def _experiment(attack: Attack, case: Case, byzantine: int = LIARS) -> Experiment:
    return replace(_plain(), attack=attack, byzantine=byzantine, seed=case.seed)


@cache
def _plain() -> Experiment:
    return Experiment.create("decbyzpg", "none", "complete", aggregator="trimmed_mean", agents=AGENTS)


def _rollout(tap: LiarsTap | None, seen: Tensor, done: Tensor, paid: Tensor) -> dict[str, Tensor]:
    """With the tap: observations [K, T, N, o], actions and rewards [K, T, N]."""
    seen, done = seen.clone(), done.clone()
    for t in range(len(seen)):
        if tap is not None:
            tap.observe(t, seen[t])
            tap.act(t, seen[t], done[t])
    told = paid if tap is None else tap.rewards(paid)
    return {"observations": seen.transpose(0, 1), "actions": done.transpose(0, 1), "rewards": told}


def calls(attack: Attack, case: Case, *methods: str) -> list[Call]:
    """The calls of three rounds, all or those of some methods; a tap is asked for only where it was declared."""
    if methods == ("tap",) and "environment" not in attack.threat.surface:
        return []
    return [call for call in play(attack, case)[1] if call.method in (methods or ("start", "speak", "tap"))]


def it_reads_only_what_it_declares(attack: Attack, case: Case) -> None:
    """No look at what its threat does not declare, not even one that it recovers from."""
    try:
        made = calls(attack, case)
    except UndeclaredKnowledge as error:
        raise AssertionError(str(error)) from None
    for call in made:
        assert not call.sought, f"`{call.method}` looked for view.{call.sought[0]}, which its threat does not declare"


def it_uses_only_the_doors_that_it_declares(attack: Attack, case: Case) -> None:
    """It speaks only where its surface has messages, and taps only where it has the environment."""
    spoken, surface = [topic for topic in TOPICS if attack.speaks(topic)], attack.threat.surface
    assert not spoken or "messages" in surface, f"it speaks about {spoken[0]}, and its surface has no messages"
    if "environment" not in surface:
        facts = {"round": 0, "agents": AGENTS, "byzantine": LIARS, "task": _experiment(attack, case).task}
        view = View(attack.threat, {**facts, "episodes": EPISODES}, {})
        taps, _ = attack.tap(view, attack.start(view), np.random.default_rng(case.seed))
        assert taps == Taps(), "it taps its environment, which is not in its surface"


def speech_has_a_row_for_each_liar(attack: Attack, case: Case) -> None:
    """[f, d] in the dtype of what is heard, one row a call without `colluders`; [E, d] where it may equivocate."""
    for dtype in (torch.float32, torch.float64):
        for call in calls(attack, replace(case, dtype=dtype), "speak"):
            said, task = call.said, call.view.task
            assert isinstance(said, Speech), f"`speak` gave a {type(said).__name__} in place of a Speech"
            due = LIARS if "colluders" in attack.threat.sees else 1
            due = len(call.view.edges) if attack.threat.equivocates else due
            assert len(said.vectors) == due, f"{len(said.vectors)} vectors where {due} were due"
            if isinstance(said.vectors, Tensor):
                d = CategoricalMlp((task.observation_size, *task.hidden, task.action_count)).dimension
                assert said.vectors.shape == (due, d), f"vectors {list(said.vectors.shape)}, not [{due}, {d}]"
                assert said.vectors.dtype == dtype, f"vectors of {said.vectors.dtype} among those of {dtype}"
            if said.silent is not None:
                right = said.silent.dtype == torch.bool and said.silent.shape == (due,)
                assert right, f"`silent` is {said.silent.dtype} {list(said.silent.shape)}, not bool [{due}]"


def speech_is_finite(attack: Attack, case: Case) -> None:
    """No NaN and no infinity: a liar who is screened out is known by it."""
    for call in calls(attack, case, "speak"):
        for vector in call.said.vectors:
            assert vector is None or bool(torch.as_tensor(vector).isfinite().all()), "a vector is not finite"


def _through(taps: Taps, seen: Tensor, done: Tensor, paid: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What each tap makes of a rollout, a row a liar."""
    for t in range(len(seen)):
        if taps.observation is not None:
            yield "observation", taps.observation(t, seen[t])
        if taps.action is not None:
            yield "action", taps.action(t, seen[t], done[t])
    if taps.reward is not None:
        yield "reward", taps.reward(paid)


def _rollout_of_liars(call: Call, case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Observations [T, f, N, o], actions [T, f, N], rewards [f, T, N]."""
    task = call.view.task
    seen, done, paid = case.rollout(call.view.round, task.observation_size, task.action_count)
    return seen[:, :LIARS].contiguous(), done[:, :LIARS].contiguous(), paid[:LIARS].contiguous()


def taps_keep_the_form_of_what_they_change(attack: Attack, case: Case) -> None:
    """Shapes and dtypes stay, actions are actions of the task, and nothing is written into what was handed in."""
    calls(attack, case)  # whatever else a tap gives back ends the game


def an_ended_episode_pays_nothing(attack: Attack, case: Case) -> None:
    """The reward tap leaves the zeros after an episode, and does not depend on how many of them there are."""
    for call in calls(attack, case, "tap"):
        if call.said.reward is not None:
            paid = _rollout_of_liars(call, case)[-1]
            told = call.said.reward(paid)
            longer = call.said.reward(torch.nn.functional.pad(paid, (0, 0, 0, 5)))
            assert not told[paid == 0].any(), "it pays after the end of an episode"
            assert _equal(longer[:, :STEPS], told), "its rewards depend on how long other episodes are"


def each_liar_s_tap_is_its_own(attack: Attack, case: Case) -> None:
    """What a liar meets does not depend on what the others meet: they may be sampled apart from each other."""
    for together, alone in zip(calls(attack, case, "tap"), calls(attack, case, "tap"), strict=True):
        seen, done, paid = _rollout_of_liars(together, case)
        told = list(_through(together.said, seen, done, paid))
        for row in range(LIARS):
            mine = torch.arange(LIARS) == row
            apart = (seen * mine.view(1, -1, 1, 1), done * mine.view(1, -1, 1), paid * mine.view(-1, 1, 1))
            for (which, all_rows), (_, one) in zip(told, _through(alone.said, *apart), strict=True):
                assert _equal(all_rows[row], one[row]), f"the {which} tap mixes the rows of different liars"


def nothing_is_written_into(attack: Attack, case: Case) -> None:
    """Not into the view, not into the memory that it was given, not into the attack itself."""
    for call in calls(attack, case):
        assert not call.altered, f"`{call.method}` wrote into its {call.altered[0]}"


def the_memory_is_a_flat_dict_of_tensors(attack: Attack, case: Case) -> None:
    """Which is what a checkpoint can hold."""
    calls(attack, case)  # any other memory ends the game


def the_same_game_is_played_the_same(attack: Attack, case: Case) -> None:
    """Given the same generators. What else it could depend on is a global generator, or a state that it hides."""
    first, again = play(attack, case)[0], play(attack, case)[0]
    for one, other in zip(first, again, strict=True):
        _assert_same(
            one, other, "the same game ended differently: it draws elsewhere than from `rng`, or hides a state"
        )


def its_memory_is_all_that_it_remembers(attack: Attack, case: Case) -> None:
    """Resumed at any round from a file, as a fresh copy, it goes on as it would have."""
    fresh = deepcopy(attack)
    whole = play(attack, case)[0]
    for start in reversed(range(ROUNDS)):
        kept = safetensors.torch.load(
            safetensors.torch.save({k: v.contiguous() for k, v in whole[start].memory.items()})
        )
        resumed = play(deepcopy(fresh), case, start=start, memory=kept)[0]
        for one, other in zip(whole[start:], resumed, strict=True):
            _assert_same(one, other, "resumed from its memory it goes on differently: it hides a state")


def _assert_same(one: Round, other: Round, said: str) -> None:
    assert _same(one.met, other.met), said
    assert _same(one.memory, other.memory), said


def the_order_of_the_honest_does_not_matter(attack: Attack, case: Case) -> None:
    """Honest agents change places: the liars say the same to each place, or the same to each agent."""
    order = case.draw("order", 0, AGENTS - LIARS).argsort()
    for one, other in zip(play(attack, case)[0], play(attack, case, order=order)[0], strict=True):
        for topic in filter(attack.speaks, TOPICS):
            bound = 1e-4 * float(one.met[topic].abs().max())
            gaps = [(other.met[topic] - told).abs().max() for told in (one.met[topic], one.met[topic][order])]
            assert min(map(float, gaps)) <= bound, "it says something else when honest agents change places"


def without_liars_it_is_inert(attack: Attack, case: Case) -> None:
    """With f = 0 nobody says or does anything but what is honest."""
    federation, adversary = federate(_experiment(attack, case, byzantine=0))
    federation.begin(0, 0.0)
    assert adversary.taps(range(AGENTS), EPISODES, 1) is None, "it taps an environment"
    for topic in TOPICS:
        x = case.x(topic, 0, federation.theta0.shape[1])
        inbox = lockstep(federation.exchange(topic, x))
        assert _equal(inbox.base, x), "a message is not what was computed"
        assert bool((inbox.mask == (inbox.senders >= 0)).all()), "a message is missing"


def it_does_something(attack: Attack, case: Case) -> None:
    """In three rounds, a word or a step that is not the honest one."""
    assert any(not _same(r.met, r.truth) for r in play(attack, case)[0]), "three rounds long everything was honest"


CHECKS: tuple[Check, ...] = (
    it_reads_only_what_it_declares,
    it_uses_only_the_doors_that_it_declares,
    speech_has_a_row_for_each_liar,
    speech_is_finite,
    taps_keep_the_form_of_what_they_change,
    an_ended_episode_pays_nothing,
    each_liar_s_tap_is_its_own,
    nothing_is_written_into,
    the_memory_is_a_flat_dict_of_tensors,
    the_same_game_is_played_the_same,
    its_memory_is_all_that_it_remembers,
    the_order_of_the_honest_does_not_matter,
    without_liars_it_is_inert,
    it_does_something,
)
