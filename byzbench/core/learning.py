"""Base classes of tasks and algorithms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium.spaces import Discrete, Space
from torch import Tensor

from byzbench.core.communication import Communication
from byzbench.core.component import Component, State
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core.federation import Federation
    from byzbench.core.setting import Setting
    from byzbench.rl.policies import Actor, Policy
    from byzbench.rl.rollouts import EnvironmentBatch
    from byzbench.rl.transition_table import ExactReturns

MAX_UNIT_VECTOR = 1024
"""The largest number of states that are observed as unit vectors."""


@dataclass(frozen=True)
class Task(Component):
    """An environment as a benchmark task; deviations from it are scenarios.

    The class attributes may be properties.

    Class attributes:
        observation_size: the length of the flat observation.
        action_space: the action space of one player: a Gymnasium `Discrete`, whose actions start at 0, or a `Box` of
            one dimension.
        players: the number of players that one agent controls; their observations are concatenated.
        shared: whether all agents act in one environment, so that an episode needs all of them.
        horizon: the largest number of steps in an episode.
        discount: gamma.
        reference: mean undiscounted returns of a uniformly `random` policy and of a `solved` task, as far as they are
            known.
        gymnasium_id: the Gymnasium environment that renders an episode; empty if there is none.
        budget: trajectories per agent of a run for which no number is given.
        suggested: values for the parameters that an algorithm leaves to the task (N, B, p, lr, baseline).
        dynamics: names of the physical constants that `scale_dynamics` can change.
        default_policy: the policy family of runs for which none is given, in written form.
        num_states: the number of states where an observation is a state; None where observations are vectors. A state
            is observed as a unit vector [num_states] up to `MAX_UNIT_VECTOR` states, and else as its index [1].
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
    default_policy: ClassVar[str] = "mlp"
    num_states: ClassVar[int | None] = None

    @abstractmethod
    def make(self, agents: int, count: int) -> EnvironmentBatch:
        """Return `count` new environments for each of `agents` rows."""

    def check(self, setting: Setting) -> None:
        """Check that a shared environment always has all agents; see `Component.check`."""
        if self.shared and setting.samples_single_agents:
            raise Undefined(
                f"{setting.name('algorithm')} samples episodes of single agents, which a shared game does not allow"
            )

    def scale_dynamics(self, environments: EnvironmentBatch, factors: Mapping[str, np.ndarray]) -> None:
        """Multiply physical constants of environments; called before a reset.

        The factors apply to the constants as `make` set them, not to those of an earlier call.

        Args:
            environments: `count` environments for each of `agents` rows.
            factors: by name, float64 [agents]. A constant of `dynamics` that is left out has its original value.
        """
        raise NotImplementedError(f"{type(self).__name__} has no constants to change")

    def exact(self, policy: Policy, theta: Tensor, dynamics: Mapping[str, np.ndarray] | None = None) -> ExactReturns:
        """Compute the expected discounted returns of K policies, and their gradients, without sampling.

        The return is the sum over j of gamma^j r_j of an episode, whose gradient `byzbench.rl.gradients.gpomdp`
        estimates without bias. A row depends on its parameters and factors alone.

        Args:
            policy: the policy.
            theta: the parameters, [K, d].
            dynamics: the factors of physical constants of each row, as `scale_dynamics` takes them: float64 [K].

        Raises:
            Undefined: the task has no exact return, or not for this policy.
        """
        raise Undefined(f"task {type(self).__name__} has no exact return")

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return the shape of an agent's action: that of a player, or [players, ...] for a team."""
        shape = self.action_space.shape or ()
        return shape if self.players == 1 else (self.players, *shape)

    def reference_score(self, name: str) -> float:
        """Return the reference score of a name.

        Args:
            name: `random` or `solved`.

        Raises:
            Undefined: the score is not known.
        """
        if name not in self.reference:
            raise Undefined(f"the task has no reference score {name!r}; give env.{name}=")
        return self.reference[name]

    @property
    def action_count(self) -> int:
        """Return the number of discrete actions.

        Raises:
            Undefined: actions are continuous.
        """
        if isinstance(self.action_space, Discrete):
            return int(self.action_space.n)
        raise Undefined(f"task {type(self).__name__} has continuous actions; this needs discrete actions")


@dataclass(frozen=True)
class Recommendation:
    """Parameters of an algorithm that are recommended on one task.

    Attributes:
        parameters: values by name. They take precedence over the task's suggestions, and explicit values over them.
        origin: the study or the command that they are from.
    """

    parameters: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class Algorithm(Component):
    """A federated policy-gradient method, written for all K rows at once.

    A method is row-local: each row of its state depends only on that row and on what the federation passes to it. K
    rows run as one block give the same result as K blocks.

    Class attributes:
        communication: the agents with which an agent exchanges messages.
        uses: the rules of the experiment that process the messages of peers. Gradients go through the aggregator,
            parameters through the agreement.
        defaults: the topology, aggregator and agreement that are used where the user names none. Of those that it
            leaves out, the topology is `complete`, or `star` around a server, the aggregator `mean`, and the agreement
            `none`.
        handles_messages: whether a server handles the message of every agent by itself (`Federation.serve`), so that
            the schedule `asynchronous` is defined; see `byzbench.core.reactive_server`.
        groups: the number of groups into which a server divides its agents, each aggregated separately; may be a field.
        server_samples: whether the trusted server has its own environment, which few applications offer.
        unbiased: whether in the first round the expectation of an agent's gradient estimate, before any rule, is the
            gradient of its expected discounted return (`Task.exact`); may be a property.
        suggested: by task, values for its parameters that take precedence over the task's suggestions.
        recommended: by task, parameters of the default preset `recommended`, with their origin. Without them the
            default preset is `paper`.
        presets: by name, further defaults: parameters of the `algorithm`, components as in `defaults`, and a `policy`;
            under `tasks`, by task, those that take precedence on it.
    """

    kind: ClassVar[str] = "algorithm"
    communication: ClassVar[Communication] = Communication.DECENTRALIZED
    handles_messages: ClassVar[bool] = False
    uses: ClassVar[tuple[str, ...]] = ("aggregator", "agreement")
    defaults: ClassVar[Mapping[str, str]] = {}
    groups: ClassVar[int] = 1
    server_samples: ClassVar[bool] = False
    unbiased: ClassVar[bool] = False
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    recommended: ClassVar[Mapping[str, Recommendation]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}

    @property
    def squashed(self) -> bool:
        """Return whether the policy's logits pass through tanh."""
        return False

    def num_means(self, assumed_byzantine: int) -> int:
        """Return the number of means of messages that a server aggregates, if it averages messages in buffers before.

        Args:
            assumed_byzantine: The number of agents that it assumes to be Byzantine.

        Returns:
            The number of vectors in its inbox; 0 if the server aggregates the messages themselves.
        """
        return 0

    def check(self, setting: Setting) -> None:
        """Check that the graph has the server, and the server the groups of agents, that the method needs."""
        name = setting.name(self.kind)
        if self.communication == Communication.SERVER and not setting.has_server:
            raise Undefined(
                f"{name} needs a trusted server, and topology {setting.name('topology')!r} has none: "
                "use --topology star"
            )
        if self.groups > setting.num_agents:
            raise Undefined(f"{name} has {self.groups} groups, and there are only {setting.num_agents} agents")

    def notes(self, setting: Setting) -> list[str]:
        """Return a remark on the episodes of a trusted server, if the method has such a server."""
        if not self.server_samples:
            return []
        return [
            f"{setting.name(self.kind)}: the trusted server samples episodes in its own environment, "
            "which count like those of an agent"
        ]

    @property
    def fixed_streams(self) -> frozenset[str]:
        """Return the random streams that do not depend on the seed.

        Only for methods that reproduce code with fixed seeds.
        """
        return frozenset()

    def deployed_policy(self, policy: Policy) -> Actor:
        """Return the actor that uses the trained parameters, the rows of `theta`; by default the policy.

        Args:
            policy: the family that was trained.
        """
        return policy

    @abstractmethod
    def start(self, fed: Federation) -> State:
        """Return the initial state.

        It contains `theta` [K, d], the parameters of the actor that `deployed` returns.
        """

    @abstractmethod
    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Run one round.

        Args:
            fed: the federation, by which agents sample episodes and exchange messages.
            state: the state that the last round returned.

        Returns:
            The new state, and metrics of the method (numbers that are equal at all agents).
        """
