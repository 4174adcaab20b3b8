"""Conformance tests of attacks: one function for each property.

    for check in CHECKS:
        check(attack, GameCase(seed=0))

A check raises `AssertionError` with one line that describes the failure. An attack can be exempt from a check. For
example, an attack that repeats the vector of the agent with the lowest number depends on the order of the agents. The
test that runs the checks lists exemptions with reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from byzbench.core import Attack, ByzantineMessages, EnvHooks
from byzbench.core.context import AttackContext
from byzbench.errors import UndeclaredKnowledge
from byzbench.experiments.runner import federate, lockstep
from byzbench.testing.game import (
    AGENTS,
    ATTACKERS,
    EPISODES,
    ROUNDS,
    STEPS,
    TOPICS,
    Call,
    GameCase,
    Round,
    calls,
    equal,
    experiment,
    play,
    same,
)

Check: TypeAlias = Callable[[Attack, GameCase], None]


def it_reads_only_what_it_declares(attack: Attack, case: GameCase) -> None:
    """Check that the attack reads only declared attributes of its context, even if it handles the error."""
    try:
        recorded = calls(attack, case)
    except UndeclaredKnowledge as error:
        raise AssertionError(str(error)) from None
    for call in recorded:
        assert not call.sought, f"`{call.method}` reads context.{call.sought[0]}, which its threat does not declare"


def it_acts_only_on_its_surface(attack: Attack, case: GameCase) -> None:
    """Check that the attack crafts messages or hooks the environment only if its surface contains them."""
    topics, surface = [topic for topic in TOPICS if attack.targets(topic)], attack.threat.surface
    assert not topics or "messages" in surface, (
        f"it crafts messages of topic {topics[0]}, but its surface has no messages"
    )
    if "environment" not in surface:
        todo = experiment(attack, case)
        policy = todo.trained_policy
        public: dict[str, Any] = {
            "round": 0,
            "num_agents": AGENTS,
            "num_byzantine": ATTACKERS,
            "num_episodes": EPISODES,
        }
        public |= {"task": todo.task, "num_parameters": policy.dimension}
        context = AttackContext(attack.threat, public, {"policy": policy})
        hooks, _ = attack.hook_environment(context, attack.start(context), np.random.default_rng(case.seed))
        assert hooks == EnvHooks(), "it hooks its environment, which is not in its surface"


def messages_have_a_row_for_each_byzantine_agent(attack: Attack, case: GameCase) -> None:
    """Check the shape and the dtype of crafted messages.

    They have f rows, or one row a call without `byzantine`, or one row for each edge if the attack equivocates. The
    dtype is that of the honest vectors.
    """
    for dtype in (torch.float32, torch.float64):
        for call in calls(attack, replace(case, dtype=dtype), "craft_messages"):
            messages = call.output
            assert isinstance(messages, ByzantineMessages), (
                f"`craft_messages` returned a {type(messages).__name__} in place of a ByzantineMessages"
            )
            count = ATTACKERS if "byzantine" in attack.threat.knowledge else 1
            count = len(call.context.edges) if attack.threat.equivocates else count
            rows = "edge" if attack.threat.equivocates else "Byzantine agent"
            if isinstance(messages.vectors, Tensor):
                shape, expected = list(messages.vectors.shape), [count, call.context.num_parameters]
                text = f"craft_messages returned vectors of shape {shape}, expected {expected} (a row for each {rows})"
                assert shape == expected, text
                assert messages.vectors.dtype == dtype, f"vectors of {messages.vectors.dtype}, not {dtype}"
            else:
                text = (
                    f"craft_messages returned {len(messages.vectors)} vectors, expected {count} (one for each {rows})"
                )
                assert len(messages.vectors) == count, text
            if messages.silent is not None:
                valid = messages.silent.dtype == torch.bool and messages.silent.shape == (count,)
                assert valid, f"`silent` is {messages.silent.dtype} {list(messages.silent.shape)}, not bool [{count}]"


def messages_are_finite(attack: Attack, case: GameCase) -> None:
    """Check that crafted messages are finite, because other messages are malformed and expose their sender."""
    for call in calls(attack, case, "craft_messages"):
        for vector in call.output.vectors:
            assert vector is None or bool(torch.as_tensor(vector).isfinite().all()), "a vector is not finite"


def _apply_hooks(
    hooks: EnvHooks, observations: Tensor, actions: Tensor, rewards: Tensor
) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Yield the outputs of each hook for a rollout of f agents.

    Args:
        hooks: the hooks of the attack.
        observations: [f, T, N, o].
        actions: [f, T, N].
        rewards: [f, T, N].
    """
    for t in range(STEPS):
        if hooks.observation is not None:
            yield "observation", hooks.observation(t, observations[:, t].clone().numpy())
        if hooks.action is not None:
            yield "action", hooks.action(t, actions[:, t].clone().numpy())
    if hooks.reward is not None:
        yield "reward", hooks.reward(rewards.clone())


def _byzantine_rollout(call: Call, case: GameCase) -> tuple[Tensor, Tensor, Tensor]:
    """Return the observations [f, T, N, o], actions [f, T, N] and rewards [f, T, N] of the Byzantine agents."""
    rollout = case.rollout(call.context.round, call.context.task)
    return rollout.observations[:ATTACKERS], rollout.actions[:ATTACKERS], rollout.rewards[:ATTACKERS]


def hooks_keep_the_form_of_what_they_change(attack: Attack, case: GameCase) -> None:
    """Check that hooks keep shapes and dtypes, and return valid actions and constants of the task."""
    calls(attack, case)  # the recording attack checks what hooks return


def an_ended_episode_pays_nothing(attack: Attack, case: GameCase) -> None:
    """Check that the reward hook keeps the padding after an episode zero and does not depend on its length."""
    for call in calls(attack, case, "hook_environment"):
        if call.output.reward is not None:
            rewards = _byzantine_rollout(call, case)[-1]
            tapped = call.output.reward(rewards.clone())
            padded = call.output.reward(torch.nn.functional.pad(rewards, (0, 0, 0, 5)))
            assert not tapped[rewards == 0].any(), "it changes rewards after the end of an episode"
            assert equal(padded[:, :STEPS], tapped), "its rewards depend on the length of other episodes"


def hooks_of_an_agent_do_not_depend_on_others(attack: Attack, case: GameCase) -> None:
    """Check that the hooks of a Byzantine agent do not depend on other agents, which can be sampled separately."""
    for call, repeated in zip(
        calls(attack, case, "hook_environment"), calls(attack, case, "hook_environment"), strict=True
    ):
        observations, actions, rewards = _byzantine_rollout(call, case)
        tapped = list(_apply_hooks(call.output, observations, actions, rewards))
        for row in range(ATTACKERS):
            keep = torch.arange(ATTACKERS) == row
            single = (
                observations * keep.view(-1, 1, 1, 1),
                actions * keep.view(-1, 1, 1),
                rewards * keep.view(-1, 1, 1),
            )
            for (which, joint), (_, separate) in zip(tapped, _apply_hooks(repeated.output, *single), strict=True):
                assert equal(joint[row], separate[row]), (
                    f"the {which} hook mixes the rows of different Byzantine agents"
                )


def nothing_is_written_into(attack: Attack, case: GameCase) -> None:
    """Check that the attack modifies neither its context, nor the memory that it receives, nor itself."""
    for call in calls(attack, case):
        assert not call.altered, f"`{call.method}` modified its {call.altered[0]}"


def the_memory_is_a_flat_dict_of_tensors(attack: Attack, case: GameCase) -> None:
    """Check that the memory is a dict of tensors, which a checkpoint can hold."""
    calls(attack, case)  # the recording attack checks every memory


def the_same_game_is_played_the_same(attack: Attack, case: GameCase) -> None:
    """Check that two runs with equal generators are equal: no global generator and no hidden state is used."""
    first, second = play(attack, case)[0], play(attack, case)[0]
    for expected, actual in zip(first, second, strict=True):
        _assert_same(
            expected, actual, "two equal runs differ: it draws from another generator than `rng`, or has hidden state"
        )


def its_memory_is_all_that_it_remembers(attack: Attack, case: GameCase) -> None:
    """Check that a new copy, resumed at any round from a saved memory, continues as the original."""
    fresh = deepcopy(attack)
    uninterrupted = play(attack, case)[0]
    for start in reversed(range(ROUNDS)):
        saved = safetensors.torch.load(
            safetensors.torch.save({k: v.contiguous() for k, v in uninterrupted[start].memory.items()})
        )
        resumed = play(deepcopy(fresh), case, start=start, memory=saved)[0]
        for expected, actual in zip(uninterrupted[start:], resumed, strict=True):
            _assert_same(expected, actual, "resumed from its memory it continues differently: it has hidden state")


def _assert_same(expected: Round, actual: Round, message: str) -> None:
    assert same(expected.met, actual.met), message
    assert same(expected.memory, actual.memory), message


def the_order_of_the_honest_does_not_matter(attack: Attack, case: GameCase) -> None:
    """Check that a permutation of the honest agents does not change the messages by position or by agent."""
    order = case.draw("order", 0, AGENTS - ATTACKERS).argsort()
    for original, permuted in zip(play(attack, case)[0], play(attack, case, order=order)[0], strict=True):
        for topic in filter(attack.targets, TOPICS):
            bound = 1e-4 * float(original.met[topic].abs().max())
            gaps = [(permuted.met[topic] - x).abs().max() for x in (original.met[topic], original.met[topic][order])]
            assert min(map(float, gaps)) <= bound, "it sends other messages after a permutation of the honest agents"


def without_byzantine_agents_it_is_inert(attack: Attack, case: GameCase) -> None:
    """Check that with f = 0 all messages and environments are honest."""
    federation, adversary = federate(experiment(attack, case, byzantine=0))
    federation.begin(0, 0.0)
    hooks = adversary.make_hooks(range(AGENTS), EPISODES, 1, federation.theta0)
    assert hooks is None, "it hooks an environment"
    for topic in TOPICS:
        x = case.x(topic, 0, federation.theta0.shape[1])
        inbox = lockstep(federation.exchange(topic, x))
        assert equal(inbox.base, x), "a message is not the vector that its sender computed"
        assert bool((inbox.mask == (inbox.senders >= 0)).all()), "a message is missing"


def it_does_something(attack: Attack, case: GameCase) -> None:
    """Check that at least one message or environment step in three rounds is not honest."""
    assert any(not same(r.met, r.truth) for r in play(attack, case)[0]), (
        "all messages and environment steps of three rounds were honest"
    )


CASES = (GameCase(0), GameCase(1, 1e-3), GameCase(2, 1e3))
CHECKS: tuple[Check, ...] = (
    it_reads_only_what_it_declares,
    it_acts_only_on_its_surface,
    messages_have_a_row_for_each_byzantine_agent,
    messages_are_finite,
    hooks_keep_the_form_of_what_they_change,
    an_ended_episode_pays_nothing,
    hooks_of_an_agent_do_not_depend_on_others,
    nothing_is_written_into,
    the_memory_is_a_flat_dict_of_tensors,
    the_same_game_is_played_the_same,
    its_memory_is_all_that_it_remembers,
    the_order_of_the_honest_does_not_matter,
    without_byzantine_agents_it_is_inert,
    it_does_something,
)
FORM: tuple[Check, ...] = (messages_have_a_row_for_each_byzantine_agent,)
"""The checks of shapes and types, without which the others cannot run."""
