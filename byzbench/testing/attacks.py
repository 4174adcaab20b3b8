"""What every attack is held to, a property a function: for our zoo, and for the attacks of others.

    for check in CHECKS:
        check(attack, Case(seed=0))

A check raises `AssertionError` with a line that says what was wrong. Which checks an attack is exempt from, and why,
stands in the test that runs them: one that repeats the agent with the least number depends on the order of the agents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from byzbench.contracts import Attack, Speech, Taps
from byzbench.errors import UndeclaredKnowledge
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.view import View
from byzbench.testing.game import (
    AGENTS,
    EPISODES,
    LIARS,
    ROUNDS,
    STEPS,
    TOPICS,
    Call,
    Case,
    Round,
    calls,
    equal,
    experiment,
    play,
    same,
)

Check: TypeAlias = Callable[[Attack, Case], None]


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
        facts = {"round": 0, "agents": AGENTS, "byzantine": LIARS, "task": experiment(attack, case).task}
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
                d = task.policy().dimension
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


def _through(taps: Taps, seen: Tensor, done: Tensor, paid: Tensor) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """What each tap makes of a rollout of f liars: observations [f, T, N, o], actions and rewards [f, T, N]."""
    for t in range(STEPS):
        if taps.observation is not None:
            yield "observation", taps.observation(t, seen[:, t].clone().numpy())
        if taps.action is not None:
            yield "action", taps.action(t, done[:, t].clone().numpy())
    if taps.reward is not None:
        yield "reward", taps.reward(paid.clone())


def _rollout_of_liars(call: Call, case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Observations [f, T, N, o], actions and rewards [f, T, N]."""
    lived = case.rollout(call.view.round, call.view.task)
    return lived.observations[:LIARS], lived.actions[:LIARS], lived.rewards[:LIARS]


def taps_keep_the_form_of_what_they_change(attack: Attack, case: Case) -> None:
    """Shapes and dtypes stay, actions are actions of the task, and constants that change are constants of the task."""
    calls(attack, case)  # whatever else a tap gives back ends the game


def an_ended_episode_pays_nothing(attack: Attack, case: Case) -> None:
    """The reward tap leaves the zeros after an episode, and does not depend on how many of them there are."""
    for call in calls(attack, case, "tap"):
        if call.said.reward is not None:
            paid = _rollout_of_liars(call, case)[-1]
            told = call.said.reward(paid.clone())
            longer = call.said.reward(torch.nn.functional.pad(paid, (0, 0, 0, 5)))
            assert not told[paid == 0].any(), "it pays after the end of an episode"
            assert equal(longer[:, :STEPS], told), "its rewards depend on how long other episodes are"


def each_liar_s_tap_is_its_own(attack: Attack, case: Case) -> None:
    """What a liar meets does not depend on what the others meet: they may be sampled apart from each other."""
    for together, alone in zip(calls(attack, case, "tap"), calls(attack, case, "tap"), strict=True):
        seen, done, paid = _rollout_of_liars(together, case)
        told = list(_through(together.said, seen, done, paid))
        for row in range(LIARS):
            mine = torch.arange(LIARS) == row
            apart = (seen * mine.view(-1, 1, 1, 1), done * mine.view(-1, 1, 1), paid * mine.view(-1, 1, 1))
            for (which, all_rows), (_, one) in zip(told, _through(alone.said, *apart), strict=True):
                assert equal(all_rows[row], one[row]), f"the {which} tap mixes the rows of different liars"


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
    assert same(one.met, other.met), said
    assert same(one.memory, other.memory), said


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
    federation, adversary = federate(experiment(attack, case, byzantine=0))
    federation.begin(0, 0.0)
    taps = adversary.taps(range(AGENTS), EPISODES, 1, federation.policy, federation.theta0)
    assert taps is None, "it taps an environment"
    for topic in TOPICS:
        x = case.x(topic, 0, federation.theta0.shape[1])
        inbox = lockstep(federation.exchange(topic, x))
        assert equal(inbox.base, x), "a message is not what was computed"
        assert bool((inbox.mask == (inbox.senders >= 0)).all()), "a message is missing"


def it_does_something(attack: Attack, case: Case) -> None:
    """In three rounds, a word or a step that is not the honest one."""
    assert any(not same(r.met, r.truth) for r in play(attack, case)[0]), "three rounds long everything was honest"


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
