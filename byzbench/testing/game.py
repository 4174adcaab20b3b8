"""The game that every attack is tried in: three rounds in a real federation, and a list of what the attack did.

The federation has 13 agents who all hear each other, 3 of whom lie; only the vectors that they exchange, and what the
liars meet in their environments, are made up.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Attack, Speech, State, Taps, Task, Threat
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread
from byzbench.federation.adversary import LiarsTap
from byzbench.federation.view import View
from byzbench.learning.rollouts import Trajectories
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

    def rollout(self, round: int, task: Task) -> Trajectories:
        """What everybody met, in episodes of unequal length."""
        seen = self.draw("observation", round, AGENTS, STEPS, EPISODES, task.observation_size).float()
        done = self.draw("action", round, AGENTS, STEPS, EPISODES).mul(1e3).long() % task.action_count
        paid = self.scale * self.draw("reward", round, AGENTS, STEPS, EPISODES)
        lasts = torch.arange(STEPS).unsqueeze(1) < torch.arange(STEPS - EPISODES + 1, STEPS + 1)
        mask = lasts.expand(AGENTS, STEPS, EPISODES)
        ended, count = torch.ones(AGENTS, EPISODES, dtype=torch.bool), torch.full((AGENTS,), EPISODES)
        beyond = torch.zeros(AGENTS, EPISODES, task.observation_size)
        return Trajectories(seen, done, (paid * mask).float(), mask, ended, count, beyond)


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
        for name, factors in (taps.dynamics or {}).items():
            assert name in view.task.dynamics, f"it changes {name!r}, which is no constant of the task"
            fits = isinstance(factors, np.ndarray) and factors.shape == (LIARS,) and bool((factors > 0).all())
            assert fits, f"it multiplies {name!r} by {factors!r}, not by {LIARS} positive numbers"
        taken = {name: tap for name in ("action", "observation", "reward") if (tap := getattr(taps, name))}
        eyed: dict[str, Any] = {n: _formal(n, tap, view.task.action_count) for n, tap in taken.items()}
        return replace(taps, **eyed), kept

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
        call.altered += [name for name, values in held.items() if not same(before[name], values)]
        return call.said, kept


def _formal(which: str, tap: Callable[..., Any], actions: int) -> Callable[..., Any]:
    """The tap, with an eye on the form of what it gives back."""

    def tapped(*given: Any) -> Any:
        due = _form(given[-1])
        told = tap(*given)
        assert _form(told) == due, f"the {which} tap made {_form(told)} of {due}"
        there = which != "action" or bool(((told >= 0) & (told < actions)).all())
        assert there, "the action tap chose an action that the task has not"
        return told

    return tapped


def _form(x: Any) -> str:
    return f"{type(x).__name__} {getattr(x, 'dtype', '')} {list(getattr(x, 'shape', ()))}"


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    """With copies of whatever can be written into."""
    return {k: deepcopy(v) if isinstance(v, Tensor | np.ndarray | dict | list) else v for k, v in values.items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """The same names, and under each what is `equal`."""
    return a.keys() == b.keys() and all(a[name] is b[name] or equal(a[name], b[name]) for name in a)


def equal(a: Any, b: Any) -> bool:
    """To the bit, and NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Trajectories):
        return same(vars(a), vars(b))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
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
    todo = experiment(witness, case)
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
        truth = case.rollout(round, todo.task)
        tap = adversary.taps(range(AGENTS), EPISODES, 1, federation.policy, federation.theta0)
        lived = truth if tap is None else _met(tap, truth)
        adversary.lived(range(AGENTS), lived)
        if tap is not None:
            done.met.update({name: x[liars] for name, x in vars(lived).items()})
            done.met.update({name: torch.from_numpy(x)[liars] for name, x in tap.dynamics().items()})
            done.truth.update({name: x[liars] for name, x in vars(truth).items()})
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


def experiment(attack: Attack, case: Case, byzantine: int = LIARS) -> Experiment:
    """The federation that the attack plays in."""
    return replace(_plain(), attack=attack, byzantine=byzantine, seed=case.seed)


@cache
def _plain() -> Experiment:
    return Experiment.create("decbyzpg", "none", "complete", aggregator="trimmed_mean", agents=AGENTS)


def _met(tap: LiarsTap, truth: Trajectories) -> Trajectories:
    """What comes of the tap where everything else happens as it did."""
    seen, done = truth.observations.clone(), truth.actions.clone()
    for t in range(STEPS):
        if tap.observe:
            tap.observe(t, seen.numpy()[:, t])
        if tap.act:
            tap.act(t, done.numpy()[:, t])
    return replace(truth, observations=seen, actions=done, rewards=tap.rewards(truth.rewards))


def calls(attack: Attack, case: Case, *methods: str) -> list[Call]:
    """The calls of three rounds, all or those of some methods; a tap is asked for only where it was declared."""
    if methods == ("tap",) and "environment" not in attack.threat.surface:
        return []
    return [call for call in play(attack, case)[1] if call.method in (methods or ("start", "speak", "tap"))]
