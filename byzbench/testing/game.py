"""Test harness for attacks: three rounds in a real federation, with a record of all calls of the attack.

The federation is a complete graph of 13 agents, of which 3 are Byzantine. Only the exchanged vectors and the rollouts
are synthetic.
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

from byzbench.core import Attack, ByzantineMessages, EnvHooks, Setting, State, Task, ThreatModel
from byzbench.core.context import AttackContext
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.adversary import ByzantineEnvHooks
from byzbench.randomness import Streams
from byzbench.rl.rollouts import Trajectories
from byzbench.threads import one_thread

AGENTS, ATTACKERS, ROUNDS, EPISODES, STEPS = 13, 3, 3, 4, 9
TOPICS = ("gradient", "parameters")


@dataclass(frozen=True)
class GameCase:
    """Synthetic vectors and rollouts of three rounds: honest noise around a mean that changes every round.

    Attributes:
        seed: the seed of all draws.
        scale: the scale of vectors and rewards.
        dtype: the dtype of vectors.
    """

    seed: int = 0
    scale: float = 1.0
    dtype: torch.dtype = torch.float32

    def draw(self, name: str, round: int, *shape: int) -> Tensor:
        """Draw Gaussian numbers, which are the same at every call with the same arguments."""
        return torch.from_numpy(Streams(self.seed).generator(name, round).standard_normal(shape))

    def x(self, topic: str, round: int, d: int) -> Tensor:
        """Return the vectors that all agents computed: [K, d]."""
        return (self.scale * (self.draw(topic, round, AGENTS, d) + self.draw("mean", round, d))).to(self.dtype)

    def rollout(self, round: int, task: Task) -> Trajectories:
        """Return the rollouts of all agents, with episodes of different lengths."""
        observations = self.draw("observation", round, AGENTS, STEPS, EPISODES, task.observation_size).float()
        actions = self.draw("action", round, AGENTS, STEPS, EPISODES).mul(1e3).long() % task.action_count
        rewards = self.scale * self.draw("reward", round, AGENTS, STEPS, EPISODES)
        running = torch.arange(STEPS).unsqueeze(1) < torch.arange(STEPS - EPISODES + 1, STEPS + 1)
        mask = running.expand(AGENTS, STEPS, EPISODES)
        terminated, count = torch.ones(AGENTS, EPISODES, dtype=torch.bool), torch.full((AGENTS,), EPISODES)
        final_observations = torch.zeros(AGENTS, EPISODES, task.observation_size)
        return Trajectories(
            observations, actions, (rewards * mask).float(), mask, terminated, count, final_observations
        )


@dataclass
class Call:
    """Record of one call of an attack.

    Attributes:
        method: the method that was called: start, craft_messages or hook_environment.
        context: the context of the call.
        memory: a copy of the memory that the attack received.
        sought: the attributes of the context that the attack read without declaring them.
        altered: the objects that the attack modified: its context, its memory or itself.
        output: the crafted messages or the hooks.
    """

    method: str
    context: AttackContext
    memory: State
    sought: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    output: Any = None


@dataclass(frozen=True)
class Round:
    """Record of one round.

    Attributes:
        memory: the state of the adversary before the round.
        met: the messages that honest agents received and the rollouts of the Byzantine agents.
        truth: the same without the attack.
    """

    memory: State
    met: dict[str, Tensor]
    truth: dict[str, Tensor]


class _RecordingView(AttackContext):
    """View that records the names of undeclared attributes that are read."""

    def __getattr__(self, name: str) -> Any:
        self.__dict__["_undeclared_reads"].append(name)
        return super().__getattr__(name)


@dataclass(frozen=True)
class _RecordingAttack(Attack):
    """Attack that passes every call to another attack, checks what it returns and records it."""

    attack: Attack
    calls: list[Any] = field(default_factory=list)

    @property
    def threat(self) -> ThreatModel:
        return self.attack.threat

    def check(self, setting: Setting) -> None:
        self.attack.check(setting)

    def notes(self, setting: Setting) -> list[str]:
        return self.attack.notes(setting)

    def targets(self, topic: str) -> bool:
        return self.attack.targets(topic)

    def start(self, context: AttackContext) -> State:
        return self._record("start", context, {}, lambda context, _: (None, self.attack.start(context)))[1]

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        return self._record(
            "craft_messages", context, memory, lambda context, memory: self.attack.craft_messages(context, memory, rng)
        )

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        env_hooks, new_memory = self._record(
            "hook_environment",
            context,
            memory,
            lambda context, memory: self.attack.hook_environment(context, memory, rng),
        )
        assert isinstance(env_hooks, EnvHooks), (
            f"`hook_environment` returned a {type(env_hooks).__name__} in place of EnvHooks"
        )
        for name, factors in (env_hooks.dynamics or {}).items():
            assert name in context.task.dynamics, f"it changes {name!r}, which is no constant of the task"
            valid = isinstance(factors, np.ndarray) and factors.shape == (ATTACKERS,) and bool((factors > 0).all())
            assert valid, f"it multiplies {name!r} by {factors!r}, not by {ATTACKERS} positive numbers"
        hooks = {name: hook for name in ("action", "observation", "reward") if (hook := getattr(env_hooks, name))}
        checked: dict[str, Any] = {n: _checked_hook(n, hook, context.task.action_count) for n, hook in hooks.items()}
        return replace(env_hooks, **checked), new_memory

    def _record(
        self, method: str, context: AttackContext, memory: State, act: Callable[[AttackContext, State], tuple[Any, Any]]
    ) -> Any:
        """Call a method of the attack with a recording context, and record the call."""
        context.read_all()
        inputs = {"context": vars(context), "memory": memory, "attack": vars(self.attack)}
        before = {name: _copy(values) for name, values in inputs.items()}
        call = Call(method, context, before["memory"])
        self.calls.append(call)
        recording = object.__new__(_RecordingView)
        recording.__dict__.update(vars(context), _undeclared_reads=call.sought)
        output = act(recording, memory)
        pair = isinstance(output, tuple) and len(output) == 2
        what = "hooks" if method == "hook_environment" else "messages"
        assert pair, f"{method} returned a {type(output).__name__}, expected ({what}, memory)"
        call.output, new_memory = output
        assert isinstance(new_memory, dict), f"`{method}` returned a {type(new_memory).__name__} as its memory"
        for name, part in new_memory.items():
            assert isinstance(name, str), f"the memory has the key {name!r}"
            assert isinstance(part, Tensor), f"the memory's {name!r} is a {type(part).__name__}, not a tensor"
        call.altered += [name for name, values in inputs.items() if not same(before[name], values)]
        return call.output, new_memory


def _checked_hook(which: str, hook: Callable[..., Any], actions: int) -> Callable[..., Any]:
    """Return a hook that checks the type, dtype, shape and range of the output of another hook."""

    def checked(*inputs: Any) -> Any:
        expected = _signature(inputs[-1])
        output = hook(*inputs)
        assert _signature(output) == expected, f"the {which} hook returned {_signature(output)} in place of {expected}"
        valid = which != "action" or bool(((output >= 0) & (output < actions)).all())
        assert valid, "the action hook chose an action that the task does not have"
        return output

    return checked


def _signature(x: Any) -> str:
    """Return the type, dtype and shape of an array as text."""
    return f"{type(x).__name__} {getattr(x, 'dtype', '')} {list(getattr(x, 'shape', ()))}"


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with copies of all mutable ones."""
    return {k: deepcopy(v) if isinstance(v, Tensor | np.ndarray | dict | list) else v for k, v in values.items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether two dicts have the same keys with identical or `equal` values."""
    return a.keys() == b.keys() and all(a[name] is b[name] or equal(a[name], b[name]) for name in a)


def equal(a: Any, b: Any) -> bool:
    """Return whether two values are equal in type, dtype, shape and every element; NaN equals NaN.

    Example:
        >>> equal(torch.tensor([torch.nan]), torch.tensor([torch.nan])), equal(torch.zeros(1), torch.zeros(1, 1))
        (True, False)
    """
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
    attack: Attack, case: GameCase, *, start: int = 0, memory: State | None = None, order: Tensor | None = None
) -> tuple[list[Round], list[Call]]:
    """Run the rounds from `start` on.

    Args:
        attack: the attack.
        case: the vectors and rollouts.
        start: the first round.
        memory: the state of the adversary before this round; by default the initial one.
        order: a permutation of the honest agents: agent i computes the vector of agent order[i].

    Returns:
        The records of the rounds, and those of all calls of the attack.
    """
    with one_thread():
        return _play(_RecordingAttack(attack), case, start, memory, order)


def _play(
    recorder: _RecordingAttack, case: GameCase, start: int, memory: State | None, order: Tensor | None
) -> tuple[list[Round], list[Call]]:
    todo = experiment(recorder, case)
    federation, adversary = federate(todo)
    adversary.load_state_dict(memory or adversary.state_dict())
    byzantine = torch.tensor(todo.members.byzantine_ids)
    honest = (~todo.members.byzantine).nonzero().squeeze(1)
    owners = torch.arange(AGENTS)
    if order is not None:
        owners[honest] = honest[order]
    rounds = []
    for round in range(start, ROUNDS):
        federation.begin(round, round / ROUNDS)
        lockstep(federation.common("coin", lambda rng: float(rng.random() < 0.5)))
        record = Round({k: v.clone() for k, v in adversary.state_dict().items()}, {}, {})
        rounds.append(record)
        truth = case.rollout(round, todo.task)
        hooks = adversary.make_hooks(range(AGENTS), EPISODES, 1, federation.theta0)
        rollout = truth if hooks is None else _apply_hooks(hooks, truth)
        adversary.record_rollout(range(AGENTS), rollout)
        if hooks is not None:
            record.met.update({name: x[byzantine] for name, x in vars(rollout).items()})
            record.met.update({name: torch.from_numpy(x)[byzantine] for name, x in hooks.dynamics().items()})
            record.truth.update({name: x[byzantine] for name, x in vars(truth).items()})
        for topic in filter(recorder.targets, TOPICS):
            x = case.x(topic, round, federation.theta0.shape[1])[owners]
            inbox = lockstep(federation.exchange(topic, x))
            # In a complete graph an agent's column is its number.
            messages, valid = inbox.base[inbox.senders[honest][:, byzantine]], inbox.mask[honest][:, byzantine]
            record.met.update({topic: messages, f"{topic} heard": valid})
            record.truth.update({topic: x[byzantine].expand_as(messages), f"{topic} heard": torch.ones_like(valid)})
            if topic == "gradient":
                federation.aggregate(inbox, {})
    return rounds, recorder.calls


def experiment(attack: Attack, case: GameCase, byzantine: int = ATTACKERS) -> Experiment:
    """Return the experiment of the harness with an attack."""
    return replace(_base_experiment(), attack=attack, byzantine=byzantine, seed=case.seed)


@cache
def _base_experiment() -> Experiment:
    return Experiment.create("decbyzpg", "none", "complete", aggregator="trimmed_mean", agents=AGENTS)


def _apply_hooks(hooks: ByzantineEnvHooks, truth: Trajectories) -> Trajectories:
    """Return the rollouts after the hooks, with otherwise unchanged dynamics."""
    observations, actions = truth.observations.clone(), truth.actions.clone()
    for t in range(STEPS):
        if hooks.observe:
            hooks.observe(t, observations.numpy()[:, t])
        if hooks.act:
            hooks.act(t, actions.numpy()[:, t])
    return replace(truth, observations=observations, actions=actions, rewards=hooks.rewards(truth.rewards))


def calls(attack: Attack, case: GameCase, *methods: str) -> list[Call]:
    """Return the records of the calls in three rounds.

    Args:
        attack: the attack.
        case: the vectors and rollouts.
        methods: the methods whose calls are returned; by default all. `hook_environment` alone returns no calls if
            the surface of the attack does not contain the environment.
    """
    if methods == ("hook_environment",) and "environment" not in attack.threat.surface:
        return []
    return [
        call
        for call in play(attack, case)[1]
        if call.method in (methods or ("start", "craft_messages", "hook_environment"))
    ]
