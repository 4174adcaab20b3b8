"""Churn: agents that join late, leave early, crash, or are inactive in a part of the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from byzbench.core import Absence, Scenario, State, Task
from byzbench.errors import InvalidParameter, Undefined

if TYPE_CHECKING:
    from byzbench.core import Setting

_ABSENCES = r"^([0-9]+:[0-9](\.[0-9]+)?-[0-9](\.[0-9]+)?( [0-9]+:[0-9](\.[0-9]+)?-[0-9](\.[0-9]+)?)*)?$"


@dataclass(frozen=True)
class Churn(Scenario):
    """Agents that are inactive in a part of the budget, or that crash.

    An inactive agent collects no episodes and neither sends nor receives messages, and the others know it. It returns
    with the parameters that it left with, or with the server's where there is a server. Each agent draws from a stream
    of its own whether and when it joins late or leaves early, both uniformly over the budget; of an agent that does
    both, the earlier time is that of joining.

    An agent that crashes stops at a time that is uniform over the budget, and does not return. The others do not know
    it: they still expect its messages, which count as missing (`num_silent`) and lower the n of their inboxes, but not
    f. Byzantine agents do not crash.

    Attributes:
        join: the probability that an agent joins late.
        leave: the probability that an agent leaves early.
        crash: the probability that an agent crashes.
        absent: agents that are inactive, and in which part of the budget: "3:0-0.5 4:0.2-1" for agent 3, which joins at
            half of it, and agent 4, which leaves at a fifth.

    Example:
        >>> from byzbench.registry import make
        >>> make("scenario", "churn(absent='3:0-0.5')").listed
        [(3, 0.0, 0.5)]
    """

    join: Annotated[float, Field(ge=0, le=1, description="probability that an agent joins late")] = 0.0
    leave: Annotated[float, Field(ge=0, le=1, description="probability that an agent leaves early")] = 0.0
    crash: Annotated[
        float, Field(ge=0, le=1, description="probability that an agent crashes: it stops, and the others expect it")
    ] = 0.0
    absent: Annotated[
        str, Field(pattern=_ABSENCES, description='agents that are inactive in a part of the budget: "3:0-0.5 4:0.2-1"')
    ] = ""

    def __post_init__(self) -> None:
        """Reject absences outside of the budget."""
        super().__post_init__()
        for agent, start, end in self.listed:
            if not start < end <= 1:
                interval = f"absent={agent}:{start:g}-{end:g}"
                raise InvalidParameter(
                    f"{type(self).__name__}: {interval} is no part of the budget: give 0 <= start < end <= 1"
                )

    @property
    def listed(self) -> list[Absence]:
        """Return `absent` as a list of agents and the shares of the budget at which their absences start and end."""
        parts = (item.replace("-", ":").split(":") for item in self.absent.split())
        return [(int(agent), float(start), float(end)) for agent, start, end in parts]

    @property
    def has_absences(self) -> bool:
        """Return whether agents can be inactive in a part of the budget, or crash."""
        return bool(self.absent or self.join or self.leave or self.crash)

    @property
    def stream(self) -> str:
        """Return the name of the random streams."""
        return "churn"

    def check(self, setting: Setting) -> None:
        """Check that the absent agents exist; see `Component.check`."""
        super().check(setting)
        for agent, _, _ in self.listed:
            if agent >= setting.num_agents:
                raise Undefined(f"churn: absent: there is no agent {agent}; give 0 to {setting.num_agents - 1}")

    def start(self, task: Task, num_agents: int, generator: Callable[[int], np.random.Generator]) -> State:
        """Draw when agents join, leave and crash, float64 [K + 1] each.

        An agent that is always present joins at 0; infinity stands for one that never leaves or crashes.
        """
        joins, never = torch.zeros(num_agents + 1).double(), torch.full((num_agents + 1,), math.inf).double()
        leaves, crashes = never.clone(), never.clone()
        for k in range(num_agents if self.join or self.leave or self.crash else 0):
            is_late, is_early, *times, is_crashing, crash_time = generator(k).random(6)
            first, last = sorted(times)
            if is_crashing < self.crash:
                crashes[k] = crash_time
            both = is_late < self.join and is_early < self.leave
            if is_late < self.join:
                joins[k] = first if both else times[0]
            if is_early < self.leave:
                leaves[k] = last if both else times[1]
        return {"joins": joins, "leaves": leaves, "crashes": crashes}

    def absences(self, state: State) -> Sequence[Absence]:
        """Return when agents are inactive: see `Scenario.absences`."""
        times = list(enumerate(zip(state["joins"].tolist(), state["leaves"].tolist(), strict=True)))
        late = [(agent, 0.0, join) for agent, (join, _) in times if join > 0]
        early = [(agent, leave, 1.0) for agent, (_, leave) in times if leave < 1]
        return [*self.listed, *late, *early]

    def crashes(self, state: State) -> Mapping[int, float]:
        """Return when agents crash: see `Scenario.crashes`."""
        return {agent: at for agent, at in enumerate(state["crashes"].tolist()) if at < math.inf}
