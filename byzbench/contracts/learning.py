"""What is learned, and how."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from pydantic import Field

from byzbench.contracts.component import Component, State
from byzbench.errors import InvalidParameter, Undefined
from byzbench.learning.policies import Actor, CategoricalMlp, GaussianMlp, Mlp, Policy

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.learning.rollouts import EnvironmentBatch

_ABSENCES = r"^(\d+:\d(\.\d+)?-\d(\.\d+)?( \d+:\d(\.\d+)?-\d(\.\d+)?)*)?$"
_SHIFTS = r"^(\w+=\d+(\.\d+)?( \w+=\d+(\.\d+)?)*)?$"


@dataclass(frozen=True)
class Task(Component):
    """An environment as a benchmark task.

    Class attributes, which may be properties:
        observation_size: of the flat observation.
        action_space: of one player, a Gymnasium `Discrete`, whose actions count from 0, or `Box` of one dimension.
        players: how many act for one agent; their observations stand side by side.
        shared: whether all agents live in one environment, so that it takes all of them to play.
        horizon: the most steps an episode can take.
        discount: gamma.
        reference: mean undiscounted returns of a uniformly `random` policy and of a `solved` task, as far as known.
        gymnasium_id: the Gymnasium environment that shows an episode; empty where there is none.
        budget: trajectories per agent of a run for which no number is given.
        suggested: values for the parameters that an algorithm leaves to the task (N, B, p, lr, baseline).
        dynamics: names of the physical constants that `alter` can change.

    Attributes:
        hidden: widths of the policy's hidden layers; none make it linear.
        squash: whether continuous actions go through tanh, rather than being cut off at the ends of their range.
        normalize: how many episodes of the first policy each agent spends on the mean and deviation of what it sees,
            which the federation agrees on by its rule, and in whose units everybody then sees; 0: not at all.
        heterogeneity: how far agents' physical constants lie apart: each is multiplied by 2^(heterogeneity u), with u
            uniform in (-1, 1).
        shift: constants that change for everybody, and what they are multiplied by: "length=2 gravity=1.5".
        shift_at: the share of the budget at which they do.
        absent: agents who are not there in a part of the budget: "3:0-0.5 4:0.2-1" for a third who joins at half of it,
            and a fourth who leaves at a fifth. They play, say and hear nothing, and return as they were; where there is
            a server, with what it has.
        reward_scale, reward_noise, reward_tail: what rewards are multiplied by, and the size and law of what is added
            to each, as agents are paid; the returns that are reported are without.
    """

    kind: ClassVar[str] = "task"
    observation_size: ClassVar[int]
    action_space: ClassVar[Space[Any]]
    players: ClassVar[int] = 1
    shared: ClassVar[bool] = False
    horizon: ClassVar[int]
    discount: ClassVar[float]
    reference: ClassVar[Mapping[str, float]]
    gymnasium_id: ClassVar[str] = ""
    budget: ClassVar[int] = 2000
    suggested: ClassVar[Mapping[str, float | str]] = {}
    dynamics: ClassVar[tuple[str, ...]] = ()

    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(description="widths of the policy's hidden layers")
    ] = field(default=(64, 64), kw_only=True)
    squash: Annotated[bool, Field(description="continuous actions through tanh, not cut off at their ends")] = field(
        default=False, kw_only=True
    )

    normalize: Annotated[
        int, Field(ge=0, le=10_000, description="episodes on statistics of observations that are agreed on; 0: none")
    ] = field(default=0, kw_only=True)
    heterogeneity: Annotated[float, Field(ge=0, le=1, description="how far agents' constants lie apart")] = field(
        default=0.0, kw_only=True
    )
    shift: Annotated[
        str, Field(pattern=_SHIFTS, description='constants that change at shift_at: "length=2 gravity=1.5"')
    ] = field(default="", kw_only=True)
    shift_at: Annotated[float, Field(gt=0, lt=1, description="share of the budget at which they do")] = field(
        default=0.5, kw_only=True
    )
    absent: Annotated[
        str, Field(pattern=_ABSENCES, description='agents who are not there in a part of the budget: "3:0-0.5 4:0.2-1"')
    ] = field(default="", kw_only=True)
    reward_scale: Annotated[float, Field(gt=0, description="what rewards are multiplied by")] = field(
        default=1.0, kw_only=True
    )
    reward_noise: Annotated[float, Field(ge=0, description="the size of what is added to each reward")] = field(
        default=0.0, kw_only=True
    )
    reward_tail: Annotated[
        Literal["normal", "student"], Field(description="its law: normal, or Student's with two degrees of freedom")
    ] = field(default="normal", kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what would change constants that the task does not have."""
        super().__post_init__()
        asked = set(self.shifts) | ({"any"} if self.heterogeneity else set())
        if missing := sorted(asked - set(self.dynamics) - ({"any"} if self.dynamics else set())):
            offers = f"its constants: {', '.join(self.dynamics)}" if self.dynamics else "it has none that can change"
            what = "heterogeneity" if missing == ["any"] else f"shift={self.shift!r}"
            raise InvalidParameter(f"{type(self).__name__}: {what}: {offers}")
        for agent, start, end in self.absences:
            if not start < end <= 1:
                part = f"absent={agent}:{start:g}-{end:g}"
                raise InvalidParameter(f"{type(self).__name__}: {part} is no part of the budget, from 0 to 1")
            if start == 0 and self.normalize:
                raise InvalidParameter(
                    f"{type(self).__name__}: normalize takes all agents, and {agent} is absent first"
                )

    @property
    def shifts(self) -> dict[str, float]:
        """`shift`, read."""
        pairs = (item.partition("=") for item in self.shift.split())
        return {name: float(factor) for name, _, factor in pairs}

    @property
    def absences(self) -> list[tuple[int, float, float]]:
        """`absent`, read: agent, and the shares of the budget from which and until which it is away."""
        parts = (item.replace("-", ":").split(":") for item in self.absent.split())
        return [(int(agent), float(start), float(end)) for agent, start, end in parts]

    @abstractmethod
    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """`count` fresh environments for each of `agents` rows."""

    def check(self, agents: int) -> None:
        """Raise `Undefined` where so many agents cannot have the task."""
        for agent, _, _ in self.absences:
            if agent >= agents:
                raise Undefined(f"absent: there is no agent {agent} among {agents}, who are counted from 0")

    def alter(self, environments: EnvironmentBatch, factors: Mapping[str, np.ndarray]) -> None:
        """Before a reset: multiply the physical constants of what `make` made, whatever was done to them before.

        Args:
            environments: `count` for each of `agents` rows.
            factors: by name, float64 [agents]; a constant of `dynamics` that is left out is as it was made.
        """
        raise NotImplementedError(f"{type(self).__name__} has no constants to change")

    def policy(self, squashed: bool = False) -> Policy:
        """The policy family that is trained on the task.

        Args:
            squashed: whether the logits of discrete actions go through tanh.
        """
        return self.family(self.observation_size, squashed)

    def family(self, inputs: int, squashed: bool) -> Mlp:
        """The policies of one player who sees `inputs` numbers and acts in `action_space`."""
        space = self.action_space
        if isinstance(space, Discrete):
            return CategoricalMlp((inputs, *self.hidden, int(space.n)), squashed)
        assert isinstance(space, Box)
        low, high = (tuple(map(float, end)) for end in (space.low, space.high))
        return GaussianMlp((inputs, *self.hidden, len(low)), self.squash, low, high)

    def worth(self, name: str) -> float:
        """The reference score of that name.

        Raises:
            Undefined: it is not known.
        """
        if name not in self.reference:
            raise Undefined(f"the task has no reference score {name!r}, which this needs: say env.{name}=")
        return self.reference[name]

    @property
    def action_count(self) -> int:
        """How many actions there are to choose from.

        Raises:
            Undefined: actions are continuous.
        """
        if isinstance(self.action_space, Discrete):
            return int(self.action_space.n)
        raise Undefined(f"task {type(self).__name__} has continuous actions, and this needs discrete ones")


@dataclass(frozen=True)
class Recommendation:
    """Parameters of an algorithm that are recommended on one task.

    Attributes:
        parameters: Values by name. They win over what the task suggests, and explicit values win over them.
        origin: The study or the command that they are from, in words.
    """

    parameters: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class Algorithm(Component):
    """A federated policy-gradient method, written for all K rows at once.

    It is row-local: each row of its state depends on that row alone and on what the federation hands it, so running
    K rows as one block or as K blocks gives the same result.

    Class attributes:
        needs: `peers` gossip among themselves, a `server` is trusted, `solo` is one agent, `nobody` sends anything.
        uses: which of the experiment's rules meet the messages of peers; gradients meet the aggregator, parameters the
            agreement.
        defaults: the topology, aggregator and agreement that stand where the user names none.
        groups: how many groups a server hears its agents in, each by itself; may be a field.
        server_samples: whether the trusted server has an environment of its own, which is more than most can have.
        suggested: by task, values for its parameters that win over what the task suggests.
        recommended: by task, parameters of the default preset `recommended`, with their origin. Without one that
            preset is `paper`.
        presets: by name, further defaults: parameters of the `algorithm`, and components as in `defaults`.
    """

    kind: ClassVar[str] = "algorithm"
    needs: ClassVar[Literal["peers", "server", "solo", "nobody"]] = "peers"
    uses: ClassVar[tuple[str, ...]] = ("aggregator", "agreement")
    defaults: ClassVar[Mapping[str, str]] = {}
    groups: ClassVar[int] = 1
    server_samples: ClassVar[bool] = False
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    recommended: ClassVar[Mapping[str, Recommendation]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}

    @property
    def squashed(self) -> bool:
        """Whether the policy's logits pass through tanh."""
        return False

    @property
    def fixed_streams(self) -> frozenset[str]:
        """Random streams that do not depend on the seed; only to imitate code that seeds badly."""
        return frozenset()

    def deployed(self, policy: Policy) -> Actor:
        """Who acts when a policy that was trained is used: its parameters are the rows of `theta`. Else the policy."""
        return policy

    @abstractmethod
    def start(self, fed: Federation) -> State:
        """The first state; `theta` [K, d] is in it, the parameters of who is `deployed`."""

    @abstractmethod
    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """One round: the new state, and metrics of the method's own (numbers that are the same at every agent)."""
