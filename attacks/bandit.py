"""Bandit: an online choice among attacks, by the fall of the return that the Byzantine agents measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
import torch
from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.attacks.avg_zero import AvgZero
from byzbench.attacks.ipm import Ipm
from byzbench.attacks.sign_flip import SignFlip
from byzbench.core import Attack, AttackContext, ByzantineMessages, FloatRange, Setting, State, ThreatModel
from byzbench.core.threat_model import Knowledge, Surface
from byzbench.core.timing import Timing
from byzbench.core.wrapped_attack import honest_messages, with_form_of
from byzbench.errors import InvalidParameter

Arm: TypeAlias = Annotated[Attack | None, Field(description="an attack that may be played")]
"""Type of the fields that hold the arms."""


@dataclass(frozen=True)
class Bandit(Attack):
    """Online attack that plays one of several attacks in each window of rounds, by an epsilon-greedy rule.

        R_w = mean return of the Byzantine agents' episodes in the rounds that follow the messages of window w
        r_w = R_{w-1} - R_w,    Q[a_w] <- Q[a_w] + (r_w - Q[a_w]) / min(n[a_w], recent)
        a_{w+1}: each arm once, in their order; then argmax_a Q[a], or with probability epsilon any arm

    n[a] counts the windows of arm a. Before the first window, R is the return of the first episodes. Byzantine agents
    run the honest protocol, so their own returns fall with those of honest agents; they see no others. The reward has
    the scale of the task, of which the greedy rule needs nothing. Old windows fade, as one attack does other harm to a
    better policy. Arms craft messages only: hooks would change the returns that are measured.

    Written `bandit(alie(z=1.5), ipm, sign_flip)`, with up to six arms; by default alie(z=1.5), ipm, avg_zero and
    sign_flip. An arm that does not craft messages of a topic sends honest ones. Under an asynchronous schedule, a round
    is the latest of any Byzantine agent.

    Source: Sutton, Barto 2018, "Reinforcement learning", sections 2.2 to 2.5; as an attack of this project.

    Memory: `value` and `plays` [arms], the arm, the round at which its window ends, the last round that was measured,
    the sum and the number of its measurements, and the last mean return; and under `arm0.`, `arm1.`, ... that of each
    arm, which changes only while it is played.
    """

    source: ClassVar[str] = "Sutton, Barto 2018, sections 2.2 to 2.5"
    arm1: Arm = None
    arm2: Arm = None
    arm3: Arm = None
    arm4: Arm = None
    arm5: Arm = None
    arm6: Arm = None
    window: Annotated[int, Field(ge=1, description="rounds for which an arm is played"), FloatRange(1, 50)] = 5
    epsilon: Annotated[float, Field(ge=0, le=1, description="probability of a random arm"), FloatRange(0.0, 0.5)] = 0.1
    recent: Annotated[
        int, Field(ge=1, description="windows over which the value of an arm is averaged"), FloatRange(1, 20)
    ] = 5

    def __post_init__(self) -> None:
        """Set the default arms if none is given, and leave no gap between arms."""
        arms = self.arms or [Alie(z=1.5), Ipm(), AvgZero(), SignFlip()]
        names = [f.name for f in fields(self) if f.name.startswith("arm")]
        for name, arm in zip(names, [*arms, *[None] * len(names)], strict=False):
            object.__setattr__(self, name, arm)
        super().__post_init__()
        if len(arms) < 2:
            raise InvalidParameter("Bandit: give at least two arms, or none for the default")
        if any("environment" in arm.threat.surface for arm in arms):
            raise InvalidParameter("Bandit: no arm may change environments, by whose returns arms are compared")
        if any(arm.timing != arms[0].timing for arm in arms):
            raise InvalidParameter("Bandit: its arms have different times; wrap the bandit instead: rush(bandit(...))")

    @property
    def arms(self) -> Sequence[Attack]:
        """Return the arms."""
        slots = (self.arm1, self.arm2, self.arm3, self.arm4, self.arm5, self.arm6)
        return [arm for arm in slots if arm is not None]

    @property
    def threat(self) -> ThreatModel:
        """Return the union of the arms' threat models, with the Byzantine agents' own vectors and episodes."""
        threats = [arm.threat for arm in self.arms]
        knowledge: frozenset[Knowledge] = frozenset({"own", "byzantine", "rollouts"})
        surface: frozenset[Surface] = frozenset({"messages"})
        return ThreatModel(
            knowledge.union(*(threat.knowledge for threat in threats)),
            surface.union(*(threat.surface for threat in threats)),
            any(threat.equivocates for threat in threats),
            max(threat.query_budget for threat in threats),
        )

    @property
    def timing(self) -> Timing:
        """Return the timing, which all arms have."""
        return self.arms[0].timing

    def check(self, setting: Setting) -> None:
        """Check the arms."""
        for arm in self.arms:
            arm.check(setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return the remarks of the arms."""
        return [line for arm in self.arms for line in arm.notes(setting)]

    def targets(self, topic: str) -> bool:
        """Return True: the return is measured in every exchange."""
        return True

    def start(self, context: AttackContext) -> State:
        """Return the initial state of the bandit and of all arms."""
        count = len(self.arms)
        state = {
            "value": torch.zeros(count, dtype=torch.float64),
            "plays": torch.zeros(count, dtype=torch.int64),
            "arm": torch.tensor(0),
            "end": torch.tensor(self.window),
            "measured": torch.tensor(-1),
            "returns": torch.zeros(2, dtype=torch.float64),
            "before": torch.tensor(torch.nan, dtype=torch.float64),
        }
        return {**state, **{k: v for i, arm in enumerate(self.arms) for k, v in _named(i, arm.start(context)).items()}}

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Measure the return, choose an arm at the end of a window, and craft the messages of the arm."""
        memory = self._measured(context, memory, rng)
        number = int(memory["arm"])
        arm = self.arms[number]
        if not arm.targets(context.topic):
            return honest_messages(context, self.threat), memory
        messages, inner = arm.craft_messages(context, _state_of(number, memory), rng)
        if arm.threat.equivocates != self.threat.equivocates:
            messages = with_form_of(self.threat, messages, arm.threat, context)
        return messages, _with_state_of(number, memory, inner)

    def _measured(self, context: AttackContext, memory: State, rng: np.random.Generator) -> State:
        """Return the memory after the first exchange of a round, whose episodes show the harm of earlier messages."""
        episodes = [batch for batch in context.rollouts if batch is not None]
        if context.round <= int(memory["measured"]) or not episodes:
            return memory
        mean = sum(float(batch.rewards.double().sum(1).mean()) for batch in episodes) / len(episodes)
        memory = {**memory, "measured": torch.tensor(context.round)}
        if memory["before"].isnan():
            return {**memory, "before": torch.tensor(mean, dtype=torch.float64)}
        memory["returns"] = memory["returns"] + torch.tensor([mean, 1.0], dtype=torch.float64)
        return self._chosen(context, memory, rng) if context.round >= int(memory["end"]) else memory

    def _chosen(self, context: AttackContext, memory: State, rng: np.random.Generator) -> State:
        """Return the memory after the end of a window: with the reward of its arm, and the next arm."""
        arm, count = int(memory["arm"]), len(self.arms)
        value, plays = memory["value"].clone(), memory["plays"].clone()
        mean = memory["returns"][0] / memory["returns"][1]
        plays[arm] += 1
        value[arm] += (memory["before"] - mean - value[arm]) / min(int(plays[arm]), self.recent)
        unplayed = (plays == 0).nonzero().squeeze(1).tolist()
        explored = int(rng.integers(count)) if rng.random() < self.epsilon else int(value.argmax())
        return {
            **memory,
            "value": value,
            "plays": plays,
            "arm": torch.tensor(unplayed[0] if unplayed else explored),
            "end": torch.tensor(context.round + self.window),
            "returns": torch.zeros(2, dtype=torch.float64),
            "before": mean,
        }


def _named(number: int, state: State) -> State:
    """Return the state of an arm under the keys of the bandit's memory."""
    return {f"arm{number}.{name}": part for name, part in state.items()}


def _state_of(number: int, memory: State) -> State:
    """Return the state of an arm under its own keys."""
    prefix = f"arm{number}."
    return {name.removeprefix(prefix): part for name, part in memory.items() if name.startswith(prefix)}


def _with_state_of(number: int, memory: State, state: State) -> State:
    """Return the bandit's memory with a new state of an arm."""
    others = {name: part for name, part in memory.items() if not name.startswith(f"arm{number}.")}
    return {**others, **_named(number, state)}
